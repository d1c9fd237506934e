"""What Airflow loads: operators, hooks and params. Thin shells around `include.pipeline`.

`include` is found where a deployment has put it on the path (the Astro layout, ``PYTHONPATH``); in a stock Airflow,
whose path holds the plugins folder only, the folder that holds both is appended here, so that nothing depends on the
working directory. `include` is a namespace package, so a team's own `include` folder goes on working beside it.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("include") is None or importlib.util.find_spec("include.pipeline") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    importlib.invalidate_caches()

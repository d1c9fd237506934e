"""The DAGs that the documentation shows, as files that a running Airflow parses."""

from __future__ import annotations

import re
from pathlib import Path

from include.local.airflow import ROOT

SHOWN = re.compile(r"<!-- example dag: (\w+) -->\n```python\n(.*?)```", re.DOTALL)


def write_documented_dags(folder: Path) -> Path:
    """Write each code block of docs/ that is marked as an example DAG into a file of its name; return the folder."""
    folder.mkdir()
    for page in sorted((ROOT / "docs").glob("*.md")):
        for name, code in SHOWN.findall(page.read_text(encoding="utf-8")):
            (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return folder

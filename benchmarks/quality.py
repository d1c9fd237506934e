"""SSIMULACRA2 of pairs of files: `python -m benchmarks.quality` reads a JSON list of pairs and answers with a list."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from ssimulacra2 import compute_ssimulacra2


def score(pair: tuple[str, str]) -> float:
    """100 is the same picture; 90 is no visible difference; 70 is high quality."""
    return float(compute_ssimulacra2(*pair))


if __name__ == "__main__":
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        print(json.dumps(list(pool.map(score, json.load(sys.stdin)))))

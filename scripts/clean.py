"""`make clean`: stop what a killed run may have left, and remove what runs made; refused while one is going on."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

from include.local.laptop import MADE, VAR, LaptopBusy, LaptopUnusable, stop_leftovers


def main() -> int:
    """Return 0 when everything is gone, 2 when a run is still going on or the folder cannot be written."""
    try:
        stop_leftovers(VAR)
    except (LaptopBusy, LaptopUnusable) as error:
        print(error)
        return 2
    remove_what_runs_made(VAR)
    return 0


def remove_what_runs_made(var: Path) -> None:
    """Remove nothing else: a person may have named a folder of their own with ``VAR_DIR``."""
    for path in [path for pattern in MADE for path in var.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or never made
        var.rmdir()


if __name__ == "__main__":
    sys.exit(main())

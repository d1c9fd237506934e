"""`make clean`: stop what a killed run may have left, and remove what runs made; refused while one is going on."""

from __future__ import annotations

import shutil
import sys

from include.local.laptop import VAR, LaptopBusy, LaptopUnusable, stop_leftovers


def main() -> int:
    """Return 0 when everything is gone, 2 when a run is still going on or the folder cannot be written."""
    try:
        stop_leftovers(VAR)
    except (LaptopBusy, LaptopUnusable) as error:
        print(error)
        return 2
    shutil.rmtree(VAR, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A file system of a few kilobytes, for what happens when a disk fills."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import missing


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """An empty file system of so many kilobytes, in memory. Where mounting is not permitted the test is skipped by
    name, and on CI it fails."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        missing("there is no mount command here")
    if mounted.returncode:
        missing(f"mounting a small file system is not permitted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=True)


def grow(disk: Path, kilobytes: int) -> None:
    """Somebody frees some space."""
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], capture_output=True, check=True)

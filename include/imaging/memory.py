"""How much memory a worker may still use, for decoders that do not survive a refusal."""

from __future__ import annotations

import math
import resource
from pathlib import Path

from include.imaging.errors import MemoryLimit


def address_space_left() -> float:
    """Bytes that this process may still map; infinite without a limit, or where the system does not tell."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else limit - pages * resource.getpagesize()


def check_room(needed: int) -> None:
    """Raise MemoryLimit when so many bytes cannot be had at once."""
    if needed > address_space_left():
        raise MemoryLimit(f"decoding needs {needed >> 20} MB at once, more than memory_bytes allows; raise the limit")

"""A preview: the original in a few hundred pixels, for people who look through a catalog. Never given to Nova.

It is taken from the pixels that become the proxy, upright and in sRGB, before the proxy is encoded: a second decode
only where no proxy pixels were made.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from PIL import Image

from include.imaging.errors import ProxyError
from include.imaging.geometry import calculate_target_dimensions
from include.imaging.inspection import opened
from include.imaging.output import writing
from include.imaging.recipe import Limits, PreviewRequest
from include.imaging.records import Preview
from include.imaging.steps import Plan

_QUALITY = 78


def preview_size(width: int, height: int, longest_side: int) -> tuple[int, int]:
    """Width and height of a preview of `width` x `height` pixels; never larger than the picture."""
    return calculate_target_dimensions(width, height, longest_side, longest_side)


def write_preview(image: Image.Image, request: PreviewRequest) -> Preview:
    """Write a finished picture (upright, sRGB, eight bits) as a preview: JPEG, or WebP where it is transparent.

    Its longer side is between half of `request.longest_side` and all of it: the means of whole blocks of pixels cost a
    tenth of what a resampling filter to the very size does.
    Raises DiskFull, Unwritable.
    """
    started = time.perf_counter()
    small = image.reduce(math.ceil(max(image.size) / request.longest_side))
    path = Path(request.output)
    name = "webp" if image.mode in ("LA", "RGBA") else "jpeg"
    with writing(), path.open("wb") as file:
        small.save(file, format=name.upper(), quality=_QUALITY)
    return Preview(name, small.width, small.height, path.stat().st_size, time.perf_counter() - started)


def try_preview(image: Image.Image, request: PreviewRequest | None) -> Preview | None:
    """As `write_preview`, but None where that fails: a preview is never worth a proxy."""
    if request is None:
        return None
    try:
        return write_preview(image, request)
    except (ProxyError, OSError, ValueError, MemoryError):
        Path(request.output).unlink(missing_ok=True)
        return None


def create_preview(source_path: str | Path, request: PreviewRequest, limits: Limits) -> Preview:
    """A preview by a decode of its own, at the smallest scale that serves. Raises a ProxyError."""
    from include.imaging.proxy import finished_picture

    with opened(source_path, limits) as (_, header, info):
        size = preview_size(info.width, info.height, request.longest_side)
        plan = Plan(info, size, header.info.get("icc_profile"))
        return write_preview(finished_picture(header, plan), request)

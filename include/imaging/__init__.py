"""Bytes in, proxy out: the picture that Amazon Nova would see, in as few bytes as it takes.

`create_proxy` works in this process. `DecodeWorkers` does the same in child processes with limits that the operating
system enforces, and is what to use on files from elsewhere. Importing this package does not import Pillow: that happens
with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from include.imaging.errors import RESOURCE_CODES, TRANSIENT_CODES, ProxyError, TooManyPixels, WorkersStopped
from include.imaging.geometry import calculate_target_dimensions, needs_proxy
from include.imaging.recipe import Limits, PreviewRequest, ProxyOptions
from include.imaging.records import HeaderInfo, ImageInfo, Preview, ProxyResult
from include.imaging.workers import DecodeWorkers

if TYPE_CHECKING:
    from include.imaging.inspection import inspect_image
    from include.imaging.proxy import create_proxy, get_optimal_format

__all__ = [
    "RESOURCE_CODES",
    "TRANSIENT_CODES",
    "DecodeWorkers",
    "HeaderInfo",
    "ImageInfo",
    "Limits",
    "Preview",
    "PreviewRequest",
    "ProxyError",
    "ProxyOptions",
    "ProxyResult",
    "TooManyPixels",
    "WorkersStopped",
    "calculate_target_dimensions",
    "create_proxy",
    "get_optimal_format",
    "inspect_image",
    "needs_proxy",
]

_NEEDS_PILLOW = {
    "create_proxy": "include.imaging.proxy",
    "get_optimal_format": "include.imaging.proxy",
    "inspect_image": "include.imaging.inspection",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_PILLOW:
        return getattr(importlib.import_module(_NEEDS_PILLOW[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

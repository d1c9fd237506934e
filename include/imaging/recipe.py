"""What a proxy is made by (`ProxyOptions`) and what a decode may cost (`Limits`). Frozen, checked, cheap to import."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

# Raised whenever the same options and the same source would give other bytes: it is part of every proxy's key.
CORE_VERSION = 2

# Nova refuses a side longer than this (Amazon Nova user guide, "Image understanding").
NOVA_MAX_SIDE = 8000

# Nova scales its input so that the shorter side has this many pixels, unless it had more (same page).
NOVA_SHORT_SIDE = 896

GraphicsFormat = Literal["png", "webp"]
Detail = Literal["fixed", "auto"]


def _check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise ValueError, naming the field and its bounds, unless `value` is a whole number within them."""
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be a whole number {bounds}, not {value!r}")


@dataclass(frozen=True)
class ProxyOptions:
    """How proxies are made. Lengths in pixels; `quality` is libjpeg's scale and applies to photographs only.

    `graphics_format` is what graphics, text and transparency are written as; both are lossless. WebP files are smaller
    (27 to 43 % on screenshots), PNG is read by everything.

    `detail="auto"` lets a picture of small text keep more pixels than `target_short_side`, as many as its text needs to
    stay readable (`detail.py`); other pictures are as under "fixed".

    Raises ValueError, naming the field and its bounds.
    """

    target_short_side: int = NOVA_SHORT_SIDE
    quality: int = 85
    graphics_format: GraphicsFormat = "png"
    max_side: int = NOVA_MAX_SIDE
    detail: Detail = "fixed"

    def __post_init__(self) -> None:
        _check_whole("target_short_side", self.target_short_side, 256, NOVA_MAX_SIDE)
        _check_whole("quality", self.quality, 50, 95)
        _check_whole("max_side", self.max_side, 256, NOVA_MAX_SIDE)
        if self.graphics_format not in ("png", "webp"):
            raise ValueError(f"graphics_format must be 'png' or 'webp', not {self.graphics_format!r}")
        if self.detail not in ("fixed", "auto"):
            raise ValueError(f"detail must be 'fixed' or 'auto', not {self.detail!r}")

    @property
    def version(self) -> str:
        """12 hexadecimal characters that name this recipe: other options or another core give another name."""
        named = json.dumps({"core": CORE_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PreviewRequest:
    """Where to leave a preview beside a proxy, and the pixels of its longer side. Raises ValueError."""

    output: str
    longest_side: int

    def __post_init__(self) -> None:
        _check_whole("longest_side", self.longest_side, 1, 1024)


@dataclass(frozen=True)
class Limits:
    """What one image may cost. The first four are checked from the headers, before anything is decoded; `seconds` and
    `memory_bytes` are enforced by the operating system, and only in a decode worker (see `DecodeWorkers`).

    - `max_pixels`: the largest telephone sensors give 16320 x 12240, just under 200 million.
    - `max_bytes`: a 50-megapixel TIFF of 16 bits and three channels is 300 MB.
    - `max_frames`: only the first is decoded, but finding their number costs time in proportion.
    - `max_scans`: encoders write 1 (baseline) to about 15 (progressive); every scan is a pass over all of the picture,
      so that a small file with thousands of them burns minutes of CPU.
    - `seconds`: wall clock. A 48-megapixel photograph takes 0.2 s; 30 s leaves room for a busy machine.
    - `memory_bytes`: address space of a worker, its libraries (about 0.2 GB) included. Two copies of 200 million RGBA
      pixels fit.

    Raises ValueError, naming the field and its bounds.
    """

    max_pixels: int = 200_000_000
    max_bytes: int = 500_000_000
    max_frames: int = 10_000
    seconds: float = 30.0
    memory_bytes: int = 2 * 1024**3
    max_scans: int = 100

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes", "max_frames", "max_scans"):
            _check_whole(name, getattr(self, name), 1)
        _check_whole("memory_bytes", self.memory_bytes, 256 * 1024**2)
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float) or not 0 < self.seconds <= 3600:  # noqa: PLR2004
            raise ValueError(f"seconds must be a number above 0 and at most 3600, not {self.seconds!r}")

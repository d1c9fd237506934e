"""A proxy: the picture that Nova would see, in as few bytes as it takes. This page is the whole algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image

from include.imaging.classify import is_graphic
from include.imaging.encoding import encode
from include.imaging.errors import MemoryLimit
from include.imaging.geometry import calculate_target_dimensions
from include.imaging.inspection import decoding, opened
from include.imaging.output import atomic_output, check_whole, writing
from include.imaging.recipe import Limits, ProxyOptions
from include.imaging.records import Action, ImageInfo, ProxyResult
from include.imaging.steps import (
    Plan,
    decode,
    drop_opaque_alpha,
    forget_metadata,
    hide_hidden_colour,
    resize,
    to_eight_bits,
    to_srgb,
    turn_upright,
)
from include.imaging.strip import STRIPPERS, strip_metadata

Step = Callable[[Image.Image, Plan], Image.Image]

# In this order. The format is chosen between the two: after resizing, a graphic's colours are no longer flat.
DECODE: tuple[Step, ...] = (decode, to_eight_bits, drop_opaque_alpha)
FINISH: tuple[Step, ...] = (resize, turn_upright, to_srgb, hide_hidden_colour, forget_metadata)


def _run(steps: tuple[Step, ...], image: Image.Image, plan: Plan) -> Image.Image:
    for step in steps:
        image = step(image, plan)
    return image


def _plan(image: Image.Image, info: ImageInfo, options: ProxyOptions) -> Plan:
    target = calculate_target_dimensions(info.width, info.height, options.target_short_side, options.max_side)
    return Plan(info, target, image.info.get("icc_profile"))


def create_proxy(
    source_path: str | Path,
    output_path: str | Path,
    options: ProxyOptions | None = None,
    limits: Limits | None = None,
) -> ProxyResult:
    """Leave a file that Nova takes exactly at `output_path`, or leave nothing and raise.

    The file appears whole or not at all, under the name given, whatever its format turns out to be (`result.format`).
    It is upright, sRGB, eight bits, without metadata, its shorter side at most `options.target_short_side`. A picture
    that is all this already is `stripped`: its metadata goes, its pixels are not encoded again.

    `limits.seconds` and `limits.memory_bytes` hold in a worker only: see `DecodeWorkers`.
    Raises a ProxyError, whatever is wrong with the image, the disk or the paths.
    """
    try:
        with atomic_output(output_path) as temporary:
            return write_proxy(source_path, temporary, options or ProxyOptions(), limits or Limits())
    except MemoryError as error:
        raise MemoryLimit("this process has no memory left for the picture; use a decode worker") from error


def write_proxy(source_path: str | Path, path: Path, options: ProxyOptions, limits: Limits) -> ProxyResult:
    """As `create_proxy`, but straight to `path`, of which a failure may leave a part."""
    started = time.perf_counter()
    with opened(source_path, limits) as (file, header, info):
        plan = _plan(header, info, options)
        size_kept = plan.target == (info.width, info.height)
        action: Action
        if size_kept and info.nova_ready and info.frames == 1 and info.format in STRIPPERS:
            action, proxy_format = "stripped", info.format
            _strip(file, header, plan, path)
        else:
            action = "converted" if size_kept else "resized"
            image = _run(DECODE, header, plan)
            proxy_format = options.graphics_format if is_graphic(image, info.format) else "jpeg"
            image = _run(FINISH, image, plan)
            with writing():
                encode(image, path, proxy_format, options)
    size_bytes = check_whole(path, proxy_format)
    seconds = time.perf_counter() - started
    dimensions = (info.width, info.height)
    return ProxyResult(action, proxy_format, dimensions, plan.target, info.size_bytes, size_bytes, seconds)


def _strip(file: BinaryIO, image: Image.Image, plan: Plan, path: Path) -> None:
    """Copy the picture without its metadata, once it is known that it can be decoded."""
    with decoding():
        image.draft(None, (1, 1))  # all of a JPEG's data is read, an eighth of its pixels made
        image.load()
    with writing(), path.open("wb") as target:
        strip_metadata(plan.info.format, file, target)


def get_optimal_format(source_path: str | Path, options: ProxyOptions | None = None) -> Literal["JPEG", "PNG"]:
    """What `create_proxy` decides by content: "PNG" for graphics, text and transparency, "JPEG" for photographs.

    "PNG" stands for lossless, whatever `options.graphics_format` is. What was a JPEG stays one.
    Raises a ProxyError.
    """
    with opened(source_path, Limits()) as (_, header, info):
        image = _run(DECODE, header, _plan(header, info, options or ProxyOptions()))
        return "PNG" if is_graphic(image, info.format) else "JPEG"

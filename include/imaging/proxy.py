"""A proxy: the picture that Nova would see, in as few bytes as it takes. This page is the whole algorithm."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image

from include.imaging.classify import is_graphic
from include.imaging.detail import short_side_for_text
from include.imaging.encoding import encode
from include.imaging.errors import MemoryLimit, ProxyError
from include.imaging.geometry import calculate_target_dimensions
from include.imaging.inspection import decoding, opened
from include.imaging.output import atomic_output, check_whole, writing
from include.imaging.preview import create_preview, try_preview
from include.imaging.recipe import Limits, PreviewRequest, ProxyOptions
from include.imaging.records import Action, ImageInfo, Preview, ProxyResult
from include.imaging.steps import (
    Plan,
    check_last_row,
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


def _with_short_side(plan: Plan, short_side: int, options: ProxyOptions) -> Plan:
    size = (plan.info.width, plan.info.height)
    return replace(plan, target=calculate_target_dimensions(*size, short_side, options.max_side))


def _may_strip(plan: Plan) -> bool:
    """Whether the picture's own bytes serve, without its metadata."""
    info = plan.info
    same_size = plan.target == (info.width, info.height)
    return same_size and info.nova_ready and info.frames == 1 and info.format in STRIPPERS


def _keep_small_text(
    image: Image.Image, plan: Plan, options: ProxyOptions, decode_again: Callable[[Plan], Image.Image]
) -> tuple[Image.Image | None, Plan]:
    """The plan with as large a target as the text in a decoded picture needs, and the picture decoded for that: None
    when its own bytes serve. Before resizing, when small text is still there."""
    short_side = short_side_for_text(image, plan.info, options.target_short_side, plan.sideways)
    larger = _with_short_side(plan, short_side, options)
    if larger == plan:
        return image, plan
    if _may_strip(larger) and (plan.info.format == "jpeg" or is_graphic(image, plan.info.format)):
        return None, larger  # a photograph kept as PNG would be far larger than as JPEG
    scaled_by_decoder = image.size != plan.size_as_decoded
    return decode_again(larger) if scaled_by_decoder else image, larger


def create_proxy(
    source_path: str | Path,
    output_path: str | Path,
    options: ProxyOptions | None = None,
    limits: Limits | None = None,
) -> ProxyResult:
    """Leave a file that Nova takes exactly at `output_path`, or leave nothing and raise.

    The file appears whole or not at all, under the name given, whatever its format turns out to be (`result.format`).
    It is upright, sRGB, eight bits, without metadata, its shorter side at most `options.target_short_side` (more for
    small text under `detail="auto"`). A picture that is all this already is `stripped`: its metadata goes, its pixels
    are not encoded again.

    `limits.seconds` and `limits.memory_bytes` hold in a worker only: see `DecodeWorkers`.
    Raises a ProxyError, whatever is wrong with the image, the disk or the paths.
    """
    try:
        with atomic_output(output_path) as temporary:
            return write_proxy(source_path, temporary, options or ProxyOptions(), limits or Limits())
    except MemoryError as error:
        raise MemoryLimit("this process has no memory left for the picture; use a decode worker") from error


def write_proxy(
    source_path: str | Path, path: Path, options: ProxyOptions, limits: Limits, preview: PreviewRequest | None = None
) -> ProxyResult:
    """As `create_proxy`, but straight to `path`, of which a failure may leave a part; and a preview where asked for."""
    started = time.perf_counter()
    previewed: Preview | None = None
    with opened(source_path, limits) as (file, header, info):
        plan = _plan(header, info, options)
        image = None if _may_strip(plan) else _run(DECODE, header, plan)
        if image is not None and options.detail == "auto":
            image, plan = _keep_small_text(image, plan, options, partial(_decode_again, source_path, limits))
        if image is not None:
            action, proxy_format, finished = _finish(image, plan, path, options)
            previewed = try_preview(finished, preview)
            whole = _with_short_side(plan, min(info.width, info.height), options)
            if options.detail == "auto" and _may_strip(whole) and path.stat().st_size >= info.size_bytes:
                image, plan = None, whole  # flat colours do not shrink well: all pixels are fewer bytes
        if image is None:
            action, proxy_format = "stripped", info.format
            _strip(file, header, plan, path)
    size_bytes = check_whole(path, proxy_format)
    seconds = time.perf_counter() - started
    if preview is not None and previewed is None:
        previewed = _preview_of_stripped(source_path, preview, limits)
    return ProxyResult(info, action, proxy_format, plan.target, size_bytes, seconds, previewed)


def _preview_of_stripped(source_path: str | Path, preview: PreviewRequest, limits: Limits) -> Preview | None:
    """A preview of a picture whose own bytes serve, so that none of its pixels were made."""
    try:
        return create_preview(source_path, preview, limits)
    except (ProxyError, MemoryError):
        return None


def finished_picture(image: Image.Image, plan: Plan) -> Image.Image:
    """All steps but the encoder: upright, sRGB, eight bits, of the plan's size. Raises a ProxyError."""
    return _run(FINISH, _run(DECODE, image, plan), plan)


def _decode_again(source_path: str | Path, limits: Limits, plan: Plan) -> Image.Image:
    with opened(source_path, limits) as (_, header, _):
        return _run(DECODE, header, plan)


def _finish(image: Image.Image, plan: Plan, path: Path, options: ProxyOptions) -> tuple[Action, str, Image.Image]:
    """Make a decoded picture the proxy at `path`; returns what was done to it, the format and the pixels it has."""
    action: Action = "converted" if plan.target == (plan.info.width, plan.info.height) else "resized"
    proxy_format = options.graphics_format if is_graphic(image, plan.info.format) else "jpeg"
    image = _run(FINISH, image, plan)
    with writing():
        encode(image, path, proxy_format, options)
    return action, proxy_format, image


def _strip(file: BinaryIO, image: Image.Image, plan: Plan, path: Path) -> None:
    """Copy the picture without its metadata, once it is known that it can be decoded."""
    with decoding():
        image.draft(None, (1, 1))  # all of a JPEG's data is read, an eighth of its pixels made
        image.load()
        if plan.info.format == "png":
            check_last_row(image, file)
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

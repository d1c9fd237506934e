"""Hostile files by the thousand: whatever goes in, a valid proxy comes out or a typed refusal does.

Pictures of every format are made on the fly and damaged in ways that a seed reproduces: bytes flipped, cut, doubled,
spliced from other formats, lengths and dimensions edited, checksums mended so that the damage gets past them.

    python -m tests.imaging.fuzz --minutes 30 --seed 7          # a long run; findings are kept in a folder it names
    python -m tests.imaging.fuzz --seed 7 --case 1234           # one case again

`tests/imaging/test_fuzz.py` runs some seconds of it with a fixed seed, `make fuzz` a minute.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pillow_heif
import psutil
from PIL import Image, ImageDraw, features

from include.imaging import DecodeWorkers, Limits, ProxyError, ProxyOptions, calculate_target_dimensions
from tests.imaging import pictures

# Tight, so that a bomb is a refusal within a second and not a wait.
LIMITS = Limits(
    max_pixels=4_000_000, max_bytes=5_000_000, max_frames=50, max_scans=30, seconds=5, memory_bytes=640 * 1024**2
)
_SLACK_SECONDS = 10  # for starting children on a busy machine
_SUSPICIOUS = frozenset({"decoder_crashed", "time_limit", "unwritable", "unreadable", "disk_full"})


# -- seeds -------------------------------------------------------------------------------------------------------------


def _photo(width: int, height: int) -> Image.Image:
    """Grain over a gradient, the same in every run."""
    grain = Image.frombytes("L", (width, height), random.Random(width * height).randbytes(width * height))  # noqa: S311
    ramp = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (Image.blend(ramp, grain, 0.2), ramp.rotate(180), grain))


def _drawing(width: int, height: int) -> Image.Image:
    image = pictures.corners(width, height)
    ImageDraw.Draw(image).line((0, 0, width, height), fill="black", width=3)
    return image


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _heif(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def seeds() -> dict[str, bytes]:
    """Honest files by name, each of a kind of its own."""
    photo, drawing, small = _photo(400, 300), _drawing(400, 300), _photo(60, 40)
    clear = drawing.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    more = {"save_all": True, "append_images": [drawing, photo]}
    text = pictures.png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(5000)))
    found = {
        "jpeg": _saved(photo, "JPEG"),
        "jpeg-small": _saved(small, "JPEG", exif=pictures.exif(1), comment=b"hello"),
        "jpeg-progressive": _saved(photo, "JPEG", progressive=True, exif=pictures.exif(6)),
        "jpeg-restarts": _saved(drawing, "JPEG", restart_marker_blocks=5, icc_profile=pictures.display_p3()),
        "jpeg-cmyk": _saved(photo.convert("CMYK"), "JPEG"),
        "jpeg-gray": _saved(photo.convert("L"), "JPEG", icc_profile=pictures.gray_profile(1.8)),
        "jpeg-everything": pictures.jpeg_with_everything(drawing, 3),
        "mpo": _saved(photo, "MPO", **more),
        "png": _saved(photo, "PNG"),
        "png-small": pictures.png_bytes(_drawing(60, 40), text),
        "png-alpha": _saved(clear, "PNG", icc_profile=pictures.adobe_rgb()),
        "png-palette": _saved(drawing.quantize(8), "PNG", transparency=2, exif=pictures.exif(8)),
        "png-16": _saved(Image.linear_gradient("L").convert("I;16"), "PNG"),
        "apng": _saved(drawing, "PNG", **more),
        "webp": _saved(photo, "WEBP", exif=pictures.exif(5)),
        "webp-small": _saved(small, "WEBP", xmp=b"<x/>"),
        "webp-lossless": _saved(clear, "WEBP", lossless=True, icc_profile=pictures.display_p3()),
        "webp-animated": _saved(drawing, "WEBP", **more),
        "gif": _saved(drawing, "GIF"),
        "gif-animated": _saved(drawing, "GIF", comment=b"hello", **more),
        "tiff": _saved(photo, "TIFF", exif=pictures.exif(7)),
        "tiff-lzw": _saved(drawing, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": _saved(clear, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-jpeg": _saved(photo, "TIFF", compression="jpeg"),
        "tiff-fax": _saved(drawing.convert("1"), "TIFF", compression="group4"),
        "tiff-16": _saved(Image.linear_gradient("L").convert("I;16"), "TIFF"),
        "tiff-float": _saved(Image.linear_gradient("L").convert("F"), "TIFF"),
        "tiff-cmyk": _saved(photo.convert("CMYK"), "TIFF"),
        "tiff-pages": _saved(drawing, "TIFF", **more),
        "bmp": _saved(photo, "BMP"),
        "bmp-palette": _saved(drawing.quantize(16), "BMP"),
        "ico": _saved(clear, "ICO", sizes=[(16, 16), (256, 256)]),
        "ico-bitmap": _saved(clear, "ICO", sizes=[(32, 32), (48, 48)], bitmap_format="bmp"),
        "jp2": _saved(photo, "JPEG2000", quality_layers=[20], quality_mode="rates"),
        "j2k": _saved(clear, "JPEG2000", no_jp2=True, tile_size=(128, 128)),
        "heif": _heif(photo, quality=60, exif=pictures.exif(6).tobytes()),
        "heif-alpha": _heif(clear, quality=60, icc_profile=pictures.display_p3()),
    }
    if features.check("avif"):
        found["avif"] = _saved(photo, "AVIF", speed=10, exif=pictures.exif(6))
        found["avif-alpha"] = _saved(clear, "AVIF", speed=10)
    found |= {f"jxl-{name}": data for name, data in pictures.jxl_files(photo, clear).items()}
    return found


# -- damage ------------------------------------------------------------------------------------------------------------

_SIZES = (
    0,
    1,
    2,
    7,
    8,
    255,
    256,
    300,
    399,
    401,
    2000,
    8001,
    32_767,
    65_535,
    100_000,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
Damage = Callable[[bytearray, random.Random], None]


def _place(data: bytearray, rng: random.Random) -> int:
    """A position, every other time near the beginning, where the headers are."""
    return rng.randrange(max(1, min(len(data), rng.choice((64, 512, len(data), len(data))))))


def _flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set_bytes(data: bytearray, rng: random.Random) -> None:
    at, count = _place(data, rng), rng.choice((1, 2, 8, 200))
    data[at : at + count] = rng.choice((bytes(count), b"\xff" * count, rng.randbytes(count)))


def _cut_off(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _cut_out(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 50, 1000))]


def _double(data: bytearray, rng: random.Random) -> None:
    at, count = _place(data, rng), rng.choice((1, 4, 12, 100, 2000))
    data[at:at] = data[at : at + count] * rng.choice((1, 1, 2, 50))


def _splice(data: bytearray, rng: random.Random) -> None:
    other = seeds()[rng.choice(sorted(seeds()))]
    start = rng.randrange(len(other))
    at = _place(data, rng)
    data[at : at + rng.choice((0, 0, 100))] = other[start : start + rng.choice((4, 30, 500, 5000))]


def _edit_number(data: bytearray, rng: random.Random) -> None:
    at, width, order = _place(data, rng), rng.choice((1, 2, 4, 8)), rng.choice(("big", "little"))
    value = rng.choice((rng.choice(_SIZES), len(data) + rng.randrange(-8, 9)))
    data[at : at + width] = (value % 256**width).to_bytes(width, order)  # type: ignore[arg-type]


_JPEG_PARTS, _PNG_PARTS = (b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xdb", b"\xff\xda", b"\xff\xe1"), (
    b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"IEND", b"zTXt",
)  # fmt: skip
_BOX_PARTS = (
    b"ftyp",
    b"meta",
    b"iloc",
    b"ispe",
    b"ipma",
    b"iinf",
    b"colr",
    b"mdat",
    b"jp2h",
    b"ihdr",
    b"jp2c",
    b"jxlp",
)
_OTHER_PARTS = (
    b"VP8X",
    b"VP8 ",
    b"VP8L",
    b"ANMF",
    b"ALPH",
    b"\xff\x51",
    b"\xff\x52",
    b"\xff\x90",
    b"\x00\x2c",
    b"!\xf9",
)
_PARTS = (*_JPEG_PARTS, *_PNG_PARTS, *_BOX_PARTS, *_OTHER_PARTS)


def _edit_beside_a_name(data: bytearray, rng: random.Random) -> None:
    """Lengths, dimensions and counts stand just before or behind the name of a segment, chunk or box."""
    present = [name for name in _PARTS if name in data]
    if not present:
        return _edit_number(data, rng)
    name = rng.choice(present)
    at = rng.choice([n for n in range(len(data)) if data.startswith(name, n)][:20])
    offset, width = at + rng.choice((-4, -2, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16)), rng.choice((1, 2, 4))
    if 0 <= offset < len(data) - width:
        order = rng.choice(("big", "little"))
        data[offset : offset + width] = (rng.choice(_SIZES) % 256**width).to_bytes(width, order)  # type: ignore[arg-type]
    return None


def _multiply_a_part(data: bytearray, rng: random.Random) -> None:
    """A whole segment or chunk, again and again, or moved to where it does not belong."""
    present = [name for name in _PARTS if name in data]
    if not present:
        return _double(data, rng)
    at = max(0, data.index(rng.choice(present)) - rng.choice((0, 4)))
    part = bytes(data[at : at + rng.choice((8, 30, 300))])
    to = rng.choice((at, _place(data, rng)))
    data[to:to] = part * rng.choice((1, 1, 5, 200))
    return None


def _edit_tiff_tag(data: bytearray, rng: random.Random) -> None:
    """Another type, count or value for a tag of a directory, in TIFF or EXIF."""
    if data[:2] not in (b"II", b"MM"):
        return _edit_beside_a_name(data, rng)
    order = "<" if data[:2] == b"II" else ">"
    offset = struct.unpack(order + "I", data[4:8].ljust(4, b"\0"))[0]
    if not 8 <= offset < len(data) - 14:
        return _edit_number(data, rng)
    entry = offset + 2 + 12 * rng.randrange(max(1, min(20, data[offset] + data[offset + 1])))
    kind, start = rng.choice((("H", 0), ("H", 2), ("I", 4), ("I", 8)))
    width = struct.calcsize(kind)
    if entry + 12 <= len(data):
        value = rng.choice((*_SIZES, 3, 4, 5, 6, 32_773, 34_712, offset)) % 256**width
        data[entry + start : entry + start + width] = struct.pack(order + kind, value)
    return None


DAMAGES: tuple[Damage, ...] = (
    _flip_bits, _set_bytes, _cut_off, _cut_out, _double, _splice, _edit_number,
    _edit_beside_a_name, _edit_beside_a_name, _edit_beside_a_name, _multiply_a_part, _edit_tiff_tag, _edit_tiff_tag,
)  # fmt: skip


def _mend_png(data: bytearray) -> None:
    """Right checksums, or every damage would be found by them and none by what is behind."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def damaged(seed: int, case: int) -> tuple[str, bytes]:
    """The seed picture's name and the damaged bytes of one case of a run."""
    rng = random.Random(f"{seed}/{case}")  # noqa: S311 - reproducible is what it is to be
    name = rng.choice(sorted(seeds()))
    data = bytearray(seeds()[name])
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            rng.choice(DAMAGES)(data, rng)
    if data.startswith(b"\x89PNG") and rng.random() < 0.8:
        _mend_png(data)
    return name, bytes(data)


# -- what must hold ----------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What came of a run."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    by_seed: dict[str, Counter[str]] = field(default_factory=dict)
    suspicious: list[str] = field(default_factory=list)  # to be looked at: crashes and hangs that cost one image
    broken: list[str] = field(default_factory=list)  # what must never be


class BrokenRule(AssertionError):
    """A rule that holds for every input does not hold for this one."""


def _require(condition: bool, said: str) -> None:
    if not condition:
        raise BrokenRule(said)


def try_one(pool: DecodeWorkers, data: bytes, options: ProxyOptions, folder: Path) -> str:
    """The action or the refusal's code for one file. Raises BrokenRule, or what should not have been raised."""
    folder.mkdir()
    source, output, again = folder / "source", folder / "output", folder / "again"
    source.write_bytes(data)
    started = time.monotonic()
    try:
        result = pool.create_proxy(source, output, options)
    except ProxyError as error:
        _require(not output.exists(), "a refusal left a file")
        _require(len(str(error)) > 10, f"{error.code} does not say what to do")
        outcome = error.code
    else:
        _check_proxy(pool, output, again, options)
        target = calculate_target_dimensions(*result.original_dimensions, options.target_short_side)
        _require(result.proxy_dimensions == target, f"{result.proxy_dimensions} instead of {target}")
        info = pool.inspect(output)
        _require((info.width, info.height) == target, f"the file is {info.width} x {info.height}, not {target}")
        _require(info.format == result.format, f"the file is {info.format}, not {result.format}")
        outcome = result.action
    took = time.monotonic() - started
    _require(took < 2 * LIMITS.seconds + _SLACK_SECONDS, f"it took {took:.1f} s")
    left = {path.name for path in folder.iterdir()} - {"source", "output", "again"}
    _require(not left, f"left over: {left}")
    _require(source.read_bytes() == data, "the source was changed")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return outcome


def _check_proxy(pool: DecodeWorkers, output: Path, again: Path, options: ProxyOptions) -> None:
    """Nova takes it, nothing private is left, and it decodes: a proxy of a proxy is the same picture."""
    info = pool.inspect(output)
    _require(info.nova_ready, f"Nova does not take it: {info}")
    _require(info.clean, f"metadata is left: {info}")
    second = pool.create_proxy(output, again, options)
    _require(second.action == "stripped", f"a proxy of the proxy was {second.action}")


def _greedy(limit: int) -> list[int]:
    """The decode processes that ever held more memory than that."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            peak = [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
            if "include.imaging.worker" in child.cmdline() and peak and peak[0] > limit:
                found.append(child.pid)
    return found


def _cases(first: int, until: float, most: int | None) -> Iterator[int]:
    case = first
    while time.monotonic() < until and (most is None or case < first + most):
        yield case
        case += 1


def fuzz(
    seed: int, seconds: float, workers: int = 2, first: int = 0, most: int | None = None, keep: Path | None = None
) -> Report:
    """Run cases of a seed for so long, or so many. Findings are written to `keep`, one file a case."""
    report = Report()
    seeds()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as scratch,
        DecodeWorkers(workers, LIMITS) as pool,
        ThreadPoolExecutor(workers) as threads,
    ):

        def one(case: int) -> tuple[int, str, bytes, str, bool]:
            name, data = damaged(seed, case)
            options = ProxyOptions(target_short_side=256, graphics_format="webp" if case % 7 == 0 else "png")
            try:
                return case, name, data, try_one(pool, data, options, Path(scratch) / str(case)), False
            except Exception as error:
                return case, name, data, f"{type(error).__name__}: {error}", True

        cases = _cases(first, time.monotonic() + seconds, most)
        while batch := [case for case, _ in zip(cases, range(40 * workers), strict=False)]:
            for case, name, data, outcome, is_broken in threads.map(one, batch):
                _note(report, f"seed {seed} case {case} ({name}): {outcome}", name, outcome, is_broken)
                if keep and (is_broken or outcome in _SUSPICIOUS):
                    (keep / f"{seed}-{case}-{name}-{outcome.split(':')[0]}").write_bytes(data)
            if _greedy(LIMITS.memory_bytes):
                report.broken.append(f"seed {seed}, up to case {case}: a worker took more memory than its limit")
        left = list(Path(scratch).glob("*/.*"))
        if left:
            report.broken.append(f"left over: {left}")
    return report


def _note(report: Report, line: str, name: str, outcome: str, is_broken: bool) -> None:
    report.cases += 1
    report.outcomes["BROKEN" if is_broken else outcome] += 1
    report.by_seed.setdefault(name, Counter())[outcome] += 1
    if is_broken:
        report.broken.append(line)
    elif outcome in _SUSPICIOUS:
        report.suspicious.append(line)


def main() -> int:
    """Fuzz from a terminal; 1 when a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--case", type=int, help="run this case alone")
    parser.add_argument("--first", type=int, default=0, help="the case to begin with")
    asked = parser.parse_args()
    keep = Path(tempfile.mkdtemp(prefix="fuzz-findings-"))
    if asked.case is not None:
        report = fuzz(asked.seed, 3600, 1, asked.case, 1, keep)
    else:
        report = fuzz(asked.seed, asked.minutes * 60, asked.workers, asked.first, None, keep)
    lines = [f"{report.cases} cases", *(f"{count:8} {outcome}" for outcome, count in report.outcomes.most_common())]
    lines += ["to be looked at:", *report.suspicious, "broken:", *report.broken, f"findings: {keep}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())

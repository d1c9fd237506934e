"""The samples of a first run: photographs that come with the package, and the odd files that an archive holds.

Made where they are wanted instead of stored, in about a second, and only when they are not there yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image, ImageFilter

from include.local import drawings

PHOTOGRAPHS: Final = Path(__file__).parents[1] / "samples"

_VERSION: Final = "1"  # raised when a picture is drawn differently, so that older folders are made anew


def make_samples(folder: Path) -> Path:
    """Fill `folder` with the photographs and six made files; returns it.

    What was made by this version is left as it is, with its time, so that a second run finds nothing changed. Files
    appear under their names only when whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / ".version"
    current = stamp.is_file() and stamp.read_text() == _VERSION
    for photograph in sorted(PHOTOGRAPHS.glob("*.jpg")):
        _put(folder / photograph.name, partial(_copy, photograph), keep=current)
    for name, make in _MADE.items():
        _put(folder / name, make, keep=current)
    stamp.write_text(_VERSION)
    return folder


def _put(target: Path, make: Callable[[Path], None], keep: bool) -> None:
    if keep and target.exists():
        return
    draft = target.with_name(f".{target.name}")  # hidden, so that a listing in between does not find it
    make(draft)
    draft.replace(target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _screenshot(target: Path) -> None:
    drawings.screenshot().save(target, "PNG", compress_level=6)


def _logo(target: Path) -> None:
    drawings.logo().save(target, "PNG", compress_level=6)


def _scan(target: Path) -> None:
    drawings.scanned_letter().save(target, "TIFF", dpi=(200, 200))


def _rotated_phone(target: Path) -> None:
    """A photograph as a telephone stores it: the sensor's rows sideways, and a tag that says so. Make and place too."""
    with Image.open(PHOTOGRAPHS / "seeding.jpg") as photograph:
        upright = photograph.crop((420, 0, 2661, 2988))
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Lumen", "Lumen Phone 7"  # make, model
    exif[0x0112] = 6  # orientation: turn clockwise to see it upright
    exif[0x0132] = "2026:05:11 19:42:08"
    exif.get_ifd(0x8825).update(
        {1: "N", 2: (48.0, 8.0, 14.6), 3: "E", 4: (11.0, 34.0, 31.9), 29: "2026:05:11"}  # GPS
    )
    exif.get_ifd(0x8769).update({0x829A: 1 / 640, 0x829D: 1.8, 0x8827: 64, 0x9003: "2026:05:11 19:42:08"})
    upright.transpose(Image.Transpose.ROTATE_90).save(target, "JPEG", quality=92, exif=exif)


def _small_photograph(target: Path) -> None:
    """Small, upright, sRGB without a word of metadata: Nova takes it as it is."""
    with Image.open(PHOTOGRAPHS / "sunset.jpg") as photograph:
        photograph.draft("RGB", (1068, 712))
        small = photograph.resize((640, 427), Image.Resampling.LANCZOS).filter(ImageFilter.UnsharpMask(1, 60, 2))
    Image.frombytes("RGB", small.size, small.tobytes()).save(target, "JPEG", quality=88)


def _broken_upload(target: Path) -> None:
    """The first half of a photograph, as a broken connection leaves it."""
    whole = (PHOTOGRAPHS / "kleiber.jpg").read_bytes()
    target.write_bytes(whole[: len(whole) // 2])


_MADE: Final[dict[str, Callable[[Path], None]]] = {
    "screenshot-4k.png": _screenshot,
    "transparent-logo.png": _logo,
    "rotated-phone.jpg": _rotated_phone,
    "small-icon-photo.jpg": _small_photograph,
    "scan.tif": _scan,
    "broken-upload.jpg": _broken_upload,
}

"""The files that are measured, made from the package's own samples, and for each the picture that a perfect proxy
would show: a full decode, resized by Lanczos, without loss. `python -m benchmarks.corpus FOLDER [--quick]`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.report import PLAN
from include.imaging.geometry import calculate_target_dimensions
from include.local.drawings import scanned_letter, screenshot
from include.local.samples import PHOTOGRAPHS

MEGAPIXELS = (2, 8, 12, 24, 48)
_PHOTOS = ("kleiber", "picosdeeuropa", "seeding", "wine")  # fur, rocks, fields, a table in a restaurant
# The shapes of real cameras and screens. Half of the photographs have the second one.
_SHAPES = {
    2: ((1920, 1080), (1632, 1224)),
    8: ((3840, 2160), (3264, 2448)),
    12: ((4272, 2848), (4000, 3000)),
    24: ((6000, 4000), (6000, 4000)),
    48: ((8000, 6000), (8000, 6000)),
}
_LARGEST_SAMPLE = 24  # above it, a photograph is its own mirror images: enlarged ones would have no detail


def _sample(name: str) -> Image.Image:
    with Image.open(PHOTOGRAPHS / f"{name}.jpg") as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _photo(name: str, megapixels: int) -> Image.Image:
    """A sample, cropped to the shape of its class and resized."""
    sample = _sample(name)
    width, height = _SHAPES[megapixels][_PHOTOS.index(name) % 2]
    if megapixels > _LARGEST_SAMPLE:
        return _mirrored(ImageOps.fit(sample, (width // 2, height // 2), Image.Resampling.LANCZOS))
    size = (width, height) if sample.width > sample.height else (height, width)
    return ImageOps.fit(sample, size, Image.Resampling.LANCZOS)


def _mirrored(tile: Image.Image) -> Image.Image:
    """Twice as wide and high: the tile and its mirror images, without seams."""
    whole = Image.new("RGB", (tile.width * 2, tile.height * 2))
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = ImageOps.mirror(tile) if x else tile
        whole.paste(ImageOps.flip(part) if y else part, (x * tile.width, y * tile.height))
    return whole


def _jpeg(path: Path, image: Image.Image, subsampling: str = "4:2:0") -> None:
    image.save(path, "JPEG", quality=92, subsampling=subsampling)


def _gold(source: Path, path: Path) -> None:
    with Image.open(source) as image:
        target = calculate_target_dimensions(*image.size)
        image.convert("RGB").resize(target, Image.Resampling.LANCZOS).save(path, "PNG", compress_level=1)


def _of_size(image: Image.Image, size_bytes: int) -> bytes:
    """The picture as a JPEG of about this many bytes."""
    best = b""
    for quality in range(50, 101, 3):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if not best or abs(len(buffer.getvalue()) - size_bytes) < abs(len(best) - size_bytes):
            best = buffer.getvalue()
    return best


def make(folder: Path, quick: bool) -> None:
    """FOLDER/sources/CLASS/NAME, FOLDER/gold/CLASS/NAME.png and FOLDER/plan/N.jpg; what is there already is kept."""
    jobs: list[tuple[str, Callable[[Path], None]]] = []
    for megapixels in (2, 12) if quick else MEGAPIXELS:
        for name in _PHOTOS[:2] if quick else _PHOTOS:
            path = f"photo {megapixels} MP/{name}.jpg"
            jobs.append((path, lambda to, name=name, mp=megapixels: _jpeg(to, _photo(name, mp))))  # type: ignore[misc]
    screen = screenshot()
    jobs += [
        ("screenshot PNG/4k.png", screen.save),
        ("screenshot PNG/1440p.png", lambda to: screen.crop((400, 0, 2960, 1440)).save(to)),
        ("screenshot JPEG/420.jpg", lambda to: _jpeg(to, screen)),
        ("screenshot JPEG/444.jpg", lambda to: _jpeg(to, screen, "4:4:4")),
        ("text page/200dpi.jpg", lambda to: _jpeg(to, _letter(1))),
        ("text page/300dpi.jpg", lambda to: _jpeg(to, _letter(1.5))),
    ]
    for name, job in jobs:
        source, gold = folder / "sources" / name, folder / "gold" / f"{name}.png"
        source.parent.mkdir(parents=True, exist_ok=True)
        gold.parent.mkdir(parents=True, exist_ok=True)
        if not gold.exists():
            job(source)
            _gold(source, gold)
    for index, (size_bytes, dimensions, _, _) in enumerate(PLAN):
        path = folder / "plan" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(_of_size(ImageOps.fit(_sample("seeding"), dimensions), size_bytes))


def _letter(scale: float) -> Image.Image:
    letter = scanned_letter()
    eight = letter.convert("I").point(lambda value: value * (1 / 256) + 0).convert("L")  # 16 bits are never clipped
    return eight.resize((int(eight.width * scale), int(eight.height * scale)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    make(Path(sys.argv[1]), "--quick" in sys.argv)

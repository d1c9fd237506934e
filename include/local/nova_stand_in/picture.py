"""What the stand-in sees in a picture: plain measurements of its pixels. It recognises nothing and reads nothing."""

from __future__ import annotations

import colorsys
from collections import Counter
from dataclasses import dataclass
from typing import Final

from PIL import ExifTags, Image, ImageFilter, ImageOps, ImageStat

_LOOK_PX: Final = 256  # longest side that is looked at
_COLOURED: Final = 16  # pixels a side of which each gets the name of its colour
_GRID: Final = 4  # cells a side in which detail is looked for
_EDGE: Final = 48  # of 255: a step in brightness that counts as an edge
_HUES: Final = (  # end of the hue in degrees
    (15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (200, "cyan"), (260, "blue"), (290, "purple"),
    (345, "pink"), (361, "red"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """Measurements of one picture; shares and degrees are 0..1, boxes `(x1, y1, x2, y2)` in 0..1000 of its sides."""

    format: str
    width: int
    height: int
    colours: tuple[tuple[str, float], ...]  # name and share, largest first
    brightness: float
    contrast: float
    edges: float  # share of pixels on an edge
    text_like: float  # how much it looks like print: many edges on an even ground
    boxes: tuple[tuple[int, int, int, int], ...]  # cells with most detail, most detailed first

    @property
    def orientation(self) -> str:
        """landscape, portrait or square."""
        if self.width == self.height:
            return "square"
        return "landscape" if self.width > self.height else "portrait"

    @property
    def words(self) -> tuple[str, ...]:
        """Labels, most telling first, none twice."""
        return (
            *(name for name, _ in self.colours[:3]),
            self.orientation,
            "bright" if self.brightness > 0.5 else "dark",  # noqa: PLR2004
            "high contrast" if self.contrast > 0.4 else "low contrast",  # noqa: PLR2004
            "detailed" if self.edges > 0.1 else "smooth",  # noqa: PLR2004
            "text-like" if self.text_like > 0.4 else "photo-like",  # noqa: PLR2004
        )


NOTHING: Final = Picture("none", 0, 0, (("no image", 1.0),), 0.0, 0.0, 0.0, 0.0, ((0, 0, 1000, 1000),))
"""Stands where a request has no image."""


def measure(image: Image.Image, name: str) -> Picture:
    """Measure an opened picture, its first frame, upright. Raises what Pillow raises for broken pixels."""
    width, height = _upright_size(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow neither reduces nor turns into 8 without cutting them off
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    # With no gap a JPEG is decoded at the smallest fraction of its size that will do.
    image.thumbnail((_LOOK_PX, _LOOK_PX), Image.Resampling.BOX, reducing_gap=1.0)
    small = _on_white(ImageOps.exif_transpose(image))
    grey = small.convert("L")
    edges = grey.filter(ImageFilter.FIND_EDGES).point([255 * (value > _EDGE) for value in range(256)])
    share = ImageStat.Stat(edges).mean[0] / 255
    even_ground = max(grey.histogram()) / (grey.width * grey.height)
    statistics = ImageStat.Stat(grey)
    return Picture(
        format=name,
        width=width,
        height=height,
        colours=_colours(small),
        brightness=round(statistics.mean[0] / 255, 3),
        contrast=round(min(1.0, statistics.stddev[0] / 128), 3),
        edges=round(share, 3),
        text_like=round(min(1.0, 8 * share) * min(1.0, 2 * even_ground), 3),
        boxes=_boxes(edges),
    )


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)  # a quarter turn
    return (height, width) if turned else (width, height)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        ground = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(ground, clear).convert("RGB")
    return image.convert("RGB")


def _colours(image: Image.Image) -> tuple[tuple[str, float], ...]:
    small = image.resize((_COLOURED, _COLOURED), Image.Resampling.BOX)
    raw = small.tobytes()
    counted = Counter(_colour_name(*raw[at : at + 3]) for at in range(0, len(raw), 3))
    total = counted.total()
    ranked = sorted(
        counted.items(), key=lambda one: (-one[1], one[0])
    )  # ties by name: the same picture, the same answer
    return tuple((name, round(count / total, 3)) for name, count in ranked)


def _colour_name(red: int, green: int, blue: int) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.15:  # noqa: PLR2004
        return "black"
    if saturation < 0.15:  # noqa: PLR2004
        return "white" if value > 0.85 else "grey"  # noqa: PLR2004
    name = next(name for end, name in _HUES if hue * 360 < end)
    return "brown" if name == "orange" and value < 0.6 else name  # noqa: PLR2004


def _boxes(edges: Image.Image) -> tuple[tuple[int, int, int, int], ...]:
    cells = edges.resize((_GRID, _GRID), Image.Resampling.BOX).tobytes()
    ranked = sorted(range(len(cells)), key=lambda cell: (-cells[cell], cell))
    side = 1000 // _GRID
    corners = [(cell % _GRID * side, cell // _GRID * side) for cell in ranked]
    return tuple((left, top, left + side, top + side) for left, top in corners)

"""How many pixels small text needs: the rule behind `detail="auto"`. docs/detail.md has the measurements.

Looked at are tiles on a grid over the picture as decoded. In a tile of text, rows with letters alternate with rows that
have none, so the changes of brightness along each row, summed, rise and fall with the lines; the height of the rises is
the height of a lower-case x. It does not depend on typeface, weight, contrast or how full the tile is, and is whole
pixels, so that the same picture always gives the same answer. Photographs have no such rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from PIL import Image, ImageChops

from include.imaging.records import ImageInfo

# Height of an x, in pixels of the proxy, at which an OCR engine still reads what it reads in the original. From 7 on it
# recognises all of the letters, from 9 on it also finds all of the lines.
READABLE_X_HEIGHT = 9
# From this share of the original's shorter side on, all of its pixels stay: resampling text costs more bytes than the
# last pixels do, for a lossless format no longer finds flat colours in it.
_KEEP_ALL = 0.8

_TILES = 100
# The height holds two lines wherever they begin, of all text that could be too small on a 4K screen (32 px, 48 apart).
_TILE_WIDTH, _TILE_HEIGHT = 64, 128
_GROUND_SHARE, _GROUND_LEVELS = 0.35, 8  # text stands on one colour or two: so much of a tile, in so many levels
_FAINTEST = 8  # changes of brightness, mean of a row, below which there is nothing to read
_IN_LINE, _BETWEEN_LINES = 0.4, 0.2  # of the strongest row
_FEWEST_LINES = 2
_SMALLEST = 3  # pixels: below, letters cannot be told from grain
# What so many tiles need is what the picture gets: a share of all, for less is a caption, and of those with text, for a
# few of them are misread.
_TEXT_SHARE, _SMALL_TEXT = 0.02, 0.1


def short_side_for_text(image: Image.Image, info: ImageInfo, at_least: int, sideways: bool) -> int:
    """The shorter side at which a picture's small text stays readable: at least `at_least`, at most the original's.

    `image` is the picture as decoded, at eight bits and possibly scaled down by its decoder; `sideways` when it is not
    turned upright yet, its lines of text running from top to bottom.
    """
    original = min(info.width, info.height)
    height = small_text(image, sideways)
    if height is None or original <= at_least:
        return at_least
    needed = math.ceil(min(image.size) * READABLE_X_HEIGHT / height)
    return original if needed >= _KEEP_ALL * original else max(needed, at_least)


def small_text(image: Image.Image, sideways: bool = False) -> int | None:
    """The height of an x in the picture's small text, in pixels; None where there is hardly any text."""
    heights: list[int] = []
    tiles = 0
    for tile in _tiles(image, sideways):
        tiles += 1
        height = _x_height(tile)
        if height is not None:
            heights.append(height)
    enough = math.ceil(max(_TEXT_SHARE * tiles, _SMALL_TEXT * len(heights)))
    return sorted(heights)[enough - 1] if len(heights) >= enough else None


def _tiles(image: Image.Image, sideways: bool) -> Iterator[Image.Image]:
    """About `_TILES` upright parts on an even grid, in gray; what is transparent is gray, so any ink stands out."""
    width, height = image.size
    wide, high = (_TILE_HEIGHT, _TILE_WIDTH) if sideways else (_TILE_WIDTH, _TILE_HEIGHT)
    across = max(1, min(width // wide, round(math.sqrt(_TILES * width / height))))
    down = max(1, min(height // high, round(_TILES / across)))
    for row in range(down):
        top = (2 * row + 1) * height // (2 * down) - high // 2
        for column in range(across):
            left = (2 * column + 1) * width // (2 * across) - wide // 2
            tile = image.crop((left, top, left + wide, top + high))
            if tile.mode in ("LA", "RGBA"):
                tile = Image.alpha_composite(Image.new("RGBA", tile.size, (128, 128, 128, 255)), tile.convert("RGBA"))
            tile = tile.convert("L")
            yield tile.transpose(Image.Transpose.ROTATE_90) if sideways else tile


def _x_height(tile: Image.Image) -> int | None:
    """The height of an x in a gray tile, or None when it holds no lines of text."""
    levels = tile.histogram()
    ground = levels.index(max(levels))
    near = sum(levels[max(0, ground - _GROUND_LEVELS) : ground + _GROUND_LEVELS + 1])
    if near < _GROUND_SHARE * _TILE_WIDTH * _TILE_HEIGHT:
        return None
    left, right = tile.crop((0, 0, _TILE_WIDTH - 1, _TILE_HEIGHT)), tile.crop((1, 0, _TILE_WIDTH, _TILE_HEIGHT))
    rows = ImageChops.difference(left, right).resize((1, _TILE_HEIGHT), Image.Resampling.BOX).tobytes()
    lines = sorted(_line_heights(rows))
    if len(lines) < _FEWEST_LINES:
        return None
    height = lines[len(lines) // 2]
    alike = sum(abs(other - height) <= 1 + height // 8 for other in lines)
    return height if height >= _SMALLEST and alike >= _FEWEST_LINES else None


def _line_heights(rows: bytes) -> list[int]:
    """The heights of the rises in a tile's rows that begin and end inside it."""
    strongest = max(rows)
    if strongest < _FAINTEST:
        return []
    line, gap = strongest * _IN_LINE, strongest * _BETWEEN_LINES
    heights: list[int] = []
    begun, apart = None, False
    for at, value in enumerate(rows):
        if value >= line:
            if begun is None and apart:
                begun, apart = at, False
        else:
            if begun is not None:
                heights.append(at - begun)
                begun = None
            apart = apart or value < gap
    return heights

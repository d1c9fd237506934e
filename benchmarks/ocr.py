"""What an OCR engine reads of a known screenshot: recall of its text's 4-grams, at any size of the picture."""

# ruff: noqa: E501 - measures of drawings, and tables

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

import numpy
from PIL import Image

from benchmarks.screens import HEIGHT, WIDTH, Box, Screen

GRAM = 4
WINDOW = (960, 540)
ENOUGH = 200  # characters, below which a window is not chosen


@cache
def engine() -> Any:
    """RapidOCR, kept from rescaling what it is given.

    `limit_type="max"` and a high `max_side_len` switch off its own enlargement of small pictures and reduction of large
    ones, which would hide what a smaller picture has lost. Lines are upright, so the direction classifier is off.
    """
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(max_side_len=100_000, det_limit_type="max", use_cls=False, intra_op_num_threads=1)


def windows(screen: Screen, seed: int, count: int) -> list[Box]:
    """`count` of the windows of 960 x 540 in which there is text, chosen by the seed. In coordinates of the original."""
    step_x, step_y = WINDOW[0] // 2, WINDOW[1] // 2
    grid = [
        (x, y, x + WINDOW[0], y + WINDOW[1])
        for y in range(0, HEIGHT - WINDOW[1] + 1, step_y)
        for x in range(0, WIDTH - WINDOW[0] + 1, step_x)
    ]
    written = [box for box in grid if sum(len(text) for text in inside(screen, box)) >= ENOUGH]
    written = written or [max(grid, key=lambda box: sum(len(text) for text in inside(screen, box)))]
    return random.Random(seed).sample(written, min(count, len(written)))  # noqa: S311


def inside(screen: Screen, box: Box) -> list[str]:
    """The text that lies wholly in `box`, line by line."""
    return [text for line in screen.lines if (text := line.inside(box))]


def grams(lines: list[str]) -> Counter[str]:
    """Runs of 4 characters within a line, without spaces (the engine drops some); a shorter line is one gram."""
    found: Counter[str] = Counter()
    for line in lines:
        text = "".join(unicodedata.normalize("NFKC", line).split())
        found.update(text[at : at + GRAM] for at in range(max(1, len(text) - GRAM + 1)) if text)
    return found


def read(picture: Image.Image, box: Box) -> list[str]:
    """The lines that the engine reads in `box` (coordinates of the 4K original) of a picture of any size."""
    across, down = picture.width / WIDTH, picture.height / HEIGHT
    part = picture.crop(
        (int(box[0] * across), int(box[1] * down), -int(-box[2] * across // 1), -int(-box[3] * down // 1))
    )
    result, _ = engine()(numpy.asarray(part.convert("RGB"))[:, :, ::-1])
    return [entry[1] for entry in result or ()]


def recall(screen: Screen, picture: Image.Image, boxes: list[Box]) -> tuple[int, int]:
    """How many 4-grams of the known text in these windows were read, and of how many."""
    hit = total = 0
    for box in boxes:
        known, seen = grams(inside(screen, box)), grams(read(picture, box))
        hit, total = hit + (known & seen).total(), total + known.total()
    return hit, total

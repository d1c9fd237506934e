"""Pictures that no camera took, drawn for the samples: a dashboard's screenshot, a logo, a scanned letter.

Drawn instead of stored, because they are then nobody's but ours, and a 4K screenshot need not sit in the repository.
The same Pillow draws the same bytes each time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Box = tuple[int, int, int, int]

_INK: Final = "#e6edf3"
_MUTED: Final = "#8b949e"
_PANEL: Final = "#161b22"
_LINE: Final = "#30363d"
_BLUE: Final = "#58a6ff"
_GREEN: Final = "#3fb950"
_AMBER: Final = "#d29922"
_RED: Final = "#f85149"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def screenshot() -> Image.Image:
    """A monitoring dashboard as a 4K screen shows it, 3840 x 2160, RGB: much small text, flat colours, thin lines."""
    image = Image.new("RGB", (3840, 2160), "#0d1117")
    draw = ImageDraw.Draw(image)
    numbers = random.Random(896)  # noqa: S311
    _side_bar(draw)
    draw.text((520, 52), "Ingest overview", _INK, _font(64))
    draw.text((520, 132), "Region eu-central-1   ·   last 24 hours   ·   refreshed 14:32:07 UTC", _MUTED, _font(30))
    cards = (
        ("Images received", "48,213", "+6.4 % since yesterday", _GREEN),
        ("Median latency", "182 ms", "p95 641 ms, p99 1.21 s", _BLUE),
        ("Failed uploads", "37", "0.08 %, budget 0.50 %", _AMBER),
        ("Storage used", "11.84 TB", "71 % of 16.5 TB", _BLUE),
    )
    for index, (*texts, colour) in enumerate(cards):
        _card(draw, (520 + index * 820, 210, 1300 + index * 820, 440), texts, colour)
    _line_chart(draw, (520, 480, 2120, 1180), numbers)
    _bar_chart(draw, (2160, 480, 3760, 1180), numbers)
    _job_table(draw, (520, 1220, 2480, 2100), numbers)
    _log_panel(draw, (2520, 1220, 3760, 2100), numbers)
    return image


def _panel(draw: ImageDraw.ImageDraw, box: Box, title: str) -> None:
    draw.rounded_rectangle(box, 16, _PANEL, _LINE, 2)
    draw.text((box[0] + 36, box[1] + 28), title, _INK, _font(36))


def _side_bar(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, 440, 2160), _PANEL)
    draw.line((440, 0, 440, 2160), _LINE, 2)
    draw.rounded_rectangle((48, 48, 112, 112), 16, _BLUE)
    draw.polygon([(62, 96), (80, 66), (98, 96)], _PANEL)
    draw.text((136, 56), "Archive", _INK, _font(44))
    entries = ("Overview", "Uploads", "Catalog", "Pipelines", "Storage", "Alerts", "Costs", "Access", "Settings")
    for index, entry in enumerate(entries):
        top = 190 + index * 84
        if index == 0:
            draw.rounded_rectangle((32, top - 16, 408, top + 54), 12, "#1f6feb")
        draw.ellipse((60, top + 8, 82, top + 30), _INK if index == 0 else _MUTED)
        draw.text((112, top), entry, _INK if index == 0 else _MUTED, _font(34))
    draw.text((60, 2060), "v4.12.0 · build 7f3a91c", _MUTED, _font(26))


def _card(draw: ImageDraw.ImageDraw, box: Box, texts: Sequence[str], colour: str) -> None:
    title, value, note = texts
    draw.rounded_rectangle(box, 16, _PANEL, _LINE, 2)
    draw.text((box[0] + 36, box[1] + 28), title, _MUTED, _font(32))
    draw.text((box[0] + 36, box[1] + 72), value, _INK, _font(80))
    draw.text((box[0] + 36, box[1] + 176), note, colour, _font(28))


def _grid(draw: ImageDraw.ImageDraw, box: Box, labels: Sequence[str]) -> Box:
    """Horizontal lines with their labels; returns the area that is left for the plot."""
    left, top, right, bottom = box[0] + 150, box[1] + 120, box[2] - 50, box[3] - 90
    for index, label in enumerate(labels):
        y = bottom - index * (bottom - top) // (len(labels) - 1)
        draw.line((left, y, right, y), _LINE, 2)
        draw.text((left - 24, y), label, _MUTED, _font(26), anchor="rm")
    return left, top, right, bottom


def _line_chart(draw: ImageDraw.ImageDraw, box: Box, numbers: random.Random) -> None:
    _panel(draw, box, "Requests per minute")
    left, top, right, bottom = _grid(draw, box, ("0", "500", "1,000", "1,500", "2,000", "2,500"))
    for name, colour, base, legend in (
        ("GET", _BLUE, 0.62, 1500),
        ("PUT", _GREEN, 0.34, 1660),
        ("LIST", _AMBER, 0.14, 1820),
    ):
        points = []
        for x in range(left, right + 1, 10):
            day = math.sin((x - left) / (right - left) * 2 * math.pi - 1.2)
            height = base + base * 0.4 * day + numbers.gauss(0, 0.012)
            points.append((x, bottom - int(height * (bottom - top))))
        draw.line(points, colour, 5, joint="curve")
        draw.ellipse((box[0] + legend - 700, box[1] + 40, box[0] + legend - 680, box[1] + 60), colour)
        draw.text((box[0] + legend - 664, box[1] + 32), name, _MUTED, _font(28))
    for hour in range(0, 25, 3):
        draw.text((left + hour * (right - left) // 24, bottom + 46), f"{hour:02}:00", _MUTED, _font(26), anchor="ms")


def _bar_chart(draw: ImageDraw.ImageDraw, box: Box, numbers: random.Random) -> None:
    _panel(draw, box, "Bytes stored by bucket, GB")
    left, top, right, bottom = _grid(draw, box, ("0", "800", "1,600", "2,400", "3,200"))
    buckets = ("raw", "web", "thumbs", "print", "legal", "video", "press", "maps", "scans", "backup")
    step = (right - left) // len(buckets)
    for index, bucket in enumerate(buckets):
        share = numbers.uniform(0.12, 0.95)
        x = left + index * step + 24
        peak = bottom - int(share * (bottom - top))
        draw.rounded_rectangle((x, peak, x + step - 48, bottom), 8, "#1f6feb")
        draw.text((x + (step - 48) // 2, peak - 12), f"{share * 3200:,.0f}", _INK, _font(26), anchor="mb")
        draw.text((x + (step - 48) // 2, bottom + 46), bucket, _MUTED, _font(26), anchor="ms")


def _job_table(draw: ImageDraw.ImageDraw, box: Box, numbers: random.Random) -> None:
    _panel(draw, box, "Recent jobs")
    columns = ((36, "JOB"), (360, "SOURCE"), (980, "STATE"), (1220, "ITEMS"), (1440, "DURATION"), (1700, "STARTED"))
    for offset, title in columns:
        draw.text((box[0] + offset, box[1] + 100), title, _MUTED, _font(24))
    states = (("succeeded", _GREEN),) * 7 + (("running", _BLUE),) * 2 + (("failed", _RED),)
    for row in range(15):
        y = box[1] + 146 + row * 48
        draw.line((box[0] + 2, y, box[2] - 2, y), _LINE, 1)
        state, colour = numbers.choice(states)
        bucket = numbers.choice(("raw", "press", "maps", "scans", "legal"))
        cells = (
            f"job-{numbers.randrange(16**6):06x}",
            f"s3://archive-{bucket}/2026/{numbers.randrange(1, 13):02}/{numbers.randrange(1, 29):02}/",
            state,
            f"{numbers.randrange(40, 9000):,}",
            f"{numbers.randrange(0, 14)} min {numbers.randrange(60):02} s",
            f"{13 - row // 2:02}:{numbers.randrange(60):02}:{numbers.randrange(60):02}",
        )
        for (offset, _), cell in zip(columns, cells, strict=True):
            draw.text((box[0] + offset, y + 10), cell, colour if cell == state else _INK, _font(26))


def _log_panel(draw: ImageDraw.ImageDraw, box: Box, numbers: random.Random) -> None:
    _panel(draw, box, "Live log")
    lines = (
        ("INFO", _BLUE, "worker-{n}: listed {k} objects below 2026/11/"),
        ("INFO", _BLUE, "worker-{n}: stored proxy of IMG_{k}.JPG, 118 kB in 84 ms"),
        ("WARN", _AMBER, "worker-{n}: SlowDown from storage, waiting {n} s"),
        ("INFO", _BLUE, "scheduler: batch {k} queued, 50 images"),
        ("ERROR", _RED, "worker-{n}: IMG_{k}.JPG ends before its last scan line"),
        ("INFO", _BLUE, "catalog: {k} rows committed in {n}1 ms"),
    )
    for row in range(19):
        y = box[1] + 104 + row * 40
        level, colour, text = numbers.choices(lines, weights=(6, 8, 2, 4, 1, 4))[0]
        stamp = f"14:{12 + row:02}:{numbers.randrange(60):02}.{numbers.randrange(1000):03}"
        draw.text((box[0] + 36, y), stamp, _MUTED, _font(24))
        draw.text((box[0] + 210, y), level, colour, _font(24))
        message = text.format(n=numbers.randrange(1, 9), k=numbers.randrange(1000, 9999))
        draw.text((box[0] + 310, y), message, _INK, _font(24))


def logo() -> Image.Image:
    """A logo on nothing, 1600 x 1200, RGBA: clear background, overlapping translucent petals, a soft shadow."""
    size, petals = (1600, 1200), ("#ff6b6b", "#feca57", "#1dd1a1", "#48dbfb", "#5f6cff", "#c56cf0")
    mark = Image.new("RGBA", size, (0, 0, 0, 0))
    for index, colour in enumerate(petals):
        angle = index * 2 * math.pi / len(petals) - math.pi / 2
        x, y = 800 + 165 * math.cos(angle), 450 + 165 * math.sin(angle)
        mark.alpha_composite(_disc(size, (x, y), 200, colour, 150))
    hole = _disc(size, (800, 450), 84, "#000000", 255).getchannel("A")
    mark.putalpha(ImageChops.subtract(mark.getchannel("A"), hole))  # one sees through its middle
    ImageDraw.Draw(mark).text((800, 1010), "lumen archive", "#273043", _font(190), anchor="mm")
    shadow = Image.new("RGBA", size, "#273043")
    shadow.putalpha(mark.getchannel("A").point(lambda alpha: alpha * 0.35).filter(ImageFilter.GaussianBlur(16)))
    result = Image.new("RGBA", size, (0, 0, 0, 0))
    result.alpha_composite(shadow, (0, 14))
    result.alpha_composite(mark)
    return result


def _disc(size: tuple[int, int], centre: tuple[float, float], radius: float, colour: str, alpha: int) -> Image.Image:
    """A disc with a smooth edge: drawn four times too large, as Pillow draws without antialiasing."""
    side = int(radius * 2) + 4
    mask = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(mask).ellipse((8, 8, side * 4 - 8, side * 4 - 8), alpha)
    layer, disc = Image.new("RGBA", size, (0, 0, 0, 0)), Image.new("RGBA", (side, side), colour)
    disc.putalpha(mask.resize((side, side), Image.Resampling.LANCZOS))
    layer.alpha_composite(disc, (int(centre[0]) - side // 2, int(centre[1]) - side // 2))
    return layer


_LETTER: Final = """Dear Ms Lindqvist,

Thank you for your letter of 14 March and for the three boxes of glass negatives, which
reached us undamaged on the 22nd. We have counted 412 plates. Some forty show the harbour
before the fire of 1908; these are, to our knowledge, the only views of the old customs house.

We propose to proceed as follows. Every plate is cleaned, numbered and scanned at 1200 dpi.
The negatives go back to you by courier, insured at the value that we agreed upon. You keep
all rights in them; the archive may show the scans in its reading room and on its pages, with
your family's name beneath each picture.







The council bears the cost. If you agree, please sign the second copy of this letter and send
it back in the enclosed envelope before the end of April, so that the work can begin in May.

Should you come across the notebooks that your grandfather mentions in his diary, we should
be very glad to see them. Dates and places are what our catalog lacks most.

With kind regards,"""


_BILL: Final = (
    ("1.  Cleaning and numbering", "412 plates", "EUR 1,648.00"),
    ("2.  Scanning, 16 bit, TIFF", "412 plates", "EUR 2,266.00"),
    ("3.  Courier and insurance", "3 boxes", "EUR 385.50"),
    ("", "Total", "EUR 4,299.50"),
)


def scanned_letter() -> Image.Image:
    """A typed page as an archive's scanner delivers it, A4 at 200 dpi (1654 x 2339), 16-bit grey, slightly askew."""
    size = (1654, 2339)
    page = Image.new("L", size, 238)
    draw = ImageDraw.Draw(page)
    draw.text((160, 150), "MUNICIPAL ARCHIVE", 40, _font(54))
    draw.text((160, 216), "Department of Photographs  ·  12 Harbour Street  ·  Tel. 41 60", 80, _font(28))
    draw.line((160, 268, 1494, 268), 70, 4)
    draw.text((160, 320), "Ref. PH/1962/0417", 60, _font(30))
    draw.text((1494, 320), "2 April 1962", 60, _font(30), anchor="ra")
    draw.multiline_text((160, 430), _LETTER, 45, _font(31), spacing=16)
    for row, (work, amount, price) in enumerate(_BILL):
        y = 956 + row * 47
        draw.text((210, y), work, 45, _font(31))
        draw.text((920, y), amount, 45, _font(31), anchor="ra")
        draw.text((1250, y), price, 45, _font(31), anchor="ra")
    _signature(draw, 190, 1770)
    draw.text((160, 1860), "H. Aldering, Head of Photographs", 50, _font(30))
    draw.ellipse((1130, 1690, 1430, 1990), outline=120, width=6)
    draw.ellipse((1160, 1720, 1400, 1960), outline=120, width=3)
    draw.multiline_text((1280, 1840), "RECEIVED\n5 APR 1962", 120, _font(36), anchor="mm", align="center")
    askew = page.rotate(-0.6, Image.Resampling.BICUBIC, fillcolor=238).filter(ImageFilter.GaussianBlur(0.7))
    light = Image.linear_gradient("L").resize(size).point(lambda value: 232 + value // 11)
    scan = Image.composite(askew, Image.new("L", size, 0), light)
    return _with_sensor_noise(scan)


def _signature(draw: ImageDraw.ImageDraw, left: int, base: int) -> None:
    """A looping line that leans to the right, tall where a name has capitals."""
    points = []
    for step in range(900):
        t = step / 900
        height = 70 * math.exp(-((t * 9) ** 2)) + 60 * math.exp(-(((t - 0.42) * 12) ** 2)) + 16 * (1 - t)
        turn = t * 2 * math.pi * 9
        up = height * (1 - math.cos(turn))
        points.append((left + 430 * t + 14 * math.sin(turn) + 0.3 * up, base - 0.75 * up - 18 * t))
    draw.line([*points, (left + 500, base - 60), (left + 60, base + 22)], 60, 4, joint="curve")


def _with_sensor_noise(image: Image.Image) -> Image.Image:
    # 16 bits are two bytes, the lower first: noise below, the picture above.
    noise = random.Random(1962).randbytes(image.width * image.height)  # noqa: S311
    lower = Image.frombytes("L", image.size, noise)
    return Image.frombytes("I;16", image.size, Image.merge("LA", (lower, image)).tobytes())

"""Drawn 4K screenshots whose every line of text is known: what `ocr_recall.py` reads back.

Two sets that share no layout: FITTING, on which the rule of `detail="auto"` was fitted (its last 24 were held out at
first, and showed that the readable height wanted a margin), and HELD_OUT, which played no part in it and has other
layouts, other faces and other seeds. The same seed draws the same picture.
"""

# ruff: noqa: E501, PLR2004, PLW2901, S101, SIM905 - measures of drawings, and tables

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 3840, 2160
SAMPLES = Path(__file__).parents[1] / "include" / "samples"
Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

WORDS = (
    "account archive balance between billing branch budget cabinet capital carrier channel chapter climate column "
    "comment company compare context control convert country courier current customer database deadline delivery "
    "department describe detail device discount district document domain download economy editor element engine "
    "estimate evening example export factory feature figure filter folder forward fragment gallery gateway general "
    "harbour history holiday hospital image import improve index industry invoice journal journey kernel keyboard "
    "language layout leather library license machine manager margin market measure memory message method minute "
    "mobile module monitor morning mountain museum network notice number object office option orange order origin "
    "package palace pattern payment pencil people picture pipeline planet player pocket policy position printer "
    "problem process product profile project quality quarter query random reader reason record region release "
    "remote report request research reserve resource response result review river sample schedule science screen "
    "season section segment service session shadow signal silver simple station storage street student summary "
    "supply surface system table target temple theatre thread ticket timber total traffic travel update upload "
    "vehicle version village visitor volume warehouse weather weekend window winter worker yellow"
).split()


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font from the wheels of requirements-ocr.txt, or Pillow's own ("aileron")."""
    if name == "aileron":
        return ImageFont.load_default(size)  # type: ignore[return-value]
    package, folder, file = {
        "dejavu": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSans.ttf"),
        "dejavu-mono": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSansMono.ttf"),
        "dejavu-serif": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSerif.ttf"),
        "dejavu-bold": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSans-Bold.ttf"),
        "stix": ("matplotlib", "mpl-data/fonts/ttf", "STIXGeneral.ttf"),
        "typewriter": ("matplotlib", "mpl-data/fonts/ttf", "cmtt10.ttf"),
        "roboto": ("font_roboto", "files", "Roboto-Regular.ttf"),
        "roboto-light": ("font_roboto", "files", "Roboto-Light.ttf"),
        "roboto-bold": ("font_roboto", "files", "Roboto-Bold.ttf"),
        "source-sans": ("font_source_sans_pro", "files", "SourceSansPro-Regular.ttf"),
        "source-sans-semibold": ("font_source_sans_pro", "files", "SourceSansPro-Semibold.ttf"),
        "source-serif": ("font_source_serif_pro", "files", "SourceSerifPro-Regular.ttf"),
        "manrope": ("font_manrope", "files", "Manrope-Regular.ttf"),
        "manrope-bold": ("font_manrope", "files", "Manrope-Bold.ttf"),
        "hanken": ("font_hanken_grotesk", "files", "HankenGrotesk-Regular.otf"),
        "hanken-light": ("font_hanken_grotesk", "files", "HankenGrotesk-Light.otf"),
        "caladea": ("font_caladea", "files", "Caladea-Regular.ttf"),
        "caladea-italic": ("font_caladea", "files", "Caladea-Italic.ttf"),
        "manrope-light": ("font_manrope", "files", "Manrope-Light.ttf"),
        "hanken-italic": ("font_hanken_grotesk", "files", "HankenGrotesk-Italic.otf"),
        "caladea-bold": ("font_caladea", "files", "Caladea-Bold.ttf"),
        "roboto-medium": ("font_roboto", "files", "Roboto-Medium.ttf"),
        "source-sans-light": ("font_source_sans_pro", "files", "SourceSansPro-Light.ttf"),
        "source-serif-bold": ("font_source_serif_pro", "files", "SourceSerifPro-Bold.ttf"),
        "stix-italic": ("matplotlib", "mpl-data/fonts/ttf", "STIXGeneralItalic.ttf"),
        "dejavu-serif-bold": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSerif-Bold.ttf"),
        "mono-oblique": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSansMono-Oblique.ttf"),
        "mono-bold": ("matplotlib", "mpl-data/fonts/ttf", "DejaVuSansMono-Bold.ttf"),
    }[name]
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / folder / file, size)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of `one` over `other`."""
    return tuple(round(a * share + b * (1 - share)) for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class Line:
    """A line of text as it was drawn."""

    text: str
    box: Box
    face: ImageFont.FreeTypeFont

    def inside(self, box: Box) -> str:
        """Those of its words that lie wholly in `box`."""
        left, top, right, bottom = self.box
        if top < box[1] or bottom > box[3] or right <= box[0] or left >= box[2]:
            return ""
        if left >= box[0] and right <= box[2]:
            return self.text
        kept, at = [], 0
        for word in self.text.split(" "):
            start, end = (left + self.face.getlength(self.text[:to]) for to in (at, at + len(word)))
            if start >= box[0] and end <= box[2]:
                kept.append(word)
            at += len(word) + 1
        return " ".join(kept)


@dataclass
class Screen:
    """A picture in the making, and the lines of text on it."""

    rng: random.Random
    ground: Colour
    ink: Colour
    face: str
    size: int
    image: Image.Image = field(init=False)
    lines: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), self.ground)
        self.draw = ImageDraw.Draw(self.image)

    @property
    def leading(self) -> int:
        return round(self.size * 1.5)

    def text(
        self, x: int, y: int, text: str, *, ink: Colour | None = None, face: str | None = None, size: int | None = None
    ) -> int:
        """Draw one line, remember it, and return where it ends."""
        chosen = font(face or self.face, size or self.size)
        left, top, right, bottom = (round(side) for side in self.draw.textbbox((x, y), text, font=chosen))
        if right < WIDTH and bottom < HEIGHT:
            self.draw.text((x, y), text, fill=ink or self.ink, font=chosen)
            self.lines.append(Line(text, (left, top, right, bottom), chosen))
        return right

    def fit(self, text: str, width: int, face: str | None = None, size: int | None = None) -> str:
        """As many leading words as fit into `width`."""
        chosen, words = font(face or self.face, size or self.size), text.split(" ")
        while len(words) > 1 and chosen.getlength(" ".join(words)) > width:
            words.pop()
        return " ".join(words) if chosen.getlength(" ".join(words)) <= width else ""

    def paragraph(
        self, box: Box, *, face: str | None = None, size: int | None = None, ink: Colour | None = None
    ) -> int:
        """Fill a box with prose; returns the first free y."""
        size = size or self.size
        y = box[1]
        while y + size * 1.5 < box[3]:
            line = self.fit(self.prose(40), box[2] - box[0], face, size)
            if self.rng.random() < 0.15:
                line = self.fit(line, (box[2] - box[0]) // 2, face, size)
                self.text(box[0], y, line, face=face, size=size, ink=ink)
                y += round(size * 0.8)
            else:
                self.text(box[0], y, line, face=face, size=size, ink=ink)
            y += round(size * 1.5)
        return y

    def prose(self, count: int) -> str:
        return " ".join(self.rng.choice(WORDS) for _ in range(count)).capitalize()

    def name(self) -> str:
        return "_".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(1, 3)))

    def amount(self) -> str:
        return f"{self.rng.uniform(1, 99999):,.2f}"

    def clock(self) -> str:
        return f"{self.rng.randint(0, 23):02}:{self.rng.randint(0, 59):02}:{self.rng.randint(0, 59):02}"

    def photo(self, box: Box, name: str | None = None) -> None:
        name = name or self.rng.choice(("kleiber", "life", "sunset", "seeding", "wine", "friends", "picosdeeuropa"))
        wanted = (box[2] - box[0], box[3] - box[1])
        with Image.open(SAMPLES / f"{name}.jpg") as picture:
            picture.draft("RGB", wanted)
            scale = max(wanted[0] / picture.width, wanted[1] / picture.height)
            picture = picture.resize(
                (max(wanted[0], round(picture.width * scale)), max(wanted[1], round(picture.height * scale)))
            )
        self.image.paste(picture.crop((0, 0, *wanted)), box)

    def code(self, x: int, y: int, right: int, bottom: int, hues: list[Colour]) -> None:
        """Lines of source code, coloured by token."""
        indent, advance = 0, font(self.face, self.size).getlength("m")
        while y + self.leading < bottom:
            kind = self.rng.random()
            at = round(x + indent * 4 * advance)
            if kind < 0.12:
                text = ""
                indent = max(0, indent - 1)
            elif kind < 0.3:
                text = self.rng.choice(
                    (
                        f"if {self.name()} > {self.rng.randint(0, 999)}:",
                        f"for {self.name()} in {self.name()}:",
                        f"def {self.name()}(self, {self.name()}):",
                    )
                )
                indent = min(5, indent + 1)
            elif kind < 0.45:
                text = f"# {self.prose(self.rng.randint(4, 11))}"
            else:
                text = f"{self.name()} = {self.name()}.{self.name()}({self.rng.choice(WORDS)!r}, {self.rng.randint(1, 5000)})"
            if text and at + len(text) * advance < right:
                self.text(at, y, text, ink=self.rng.choice(hues))
            y += self.leading


def _screen(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    ground, full = ((24, 26, 32), (240, 242, 246)) if dark else ((252, 252, 250), (16, 18, 22))
    return Screen(random.Random(seed), ground, mix(full, ground, contrast), face, size)  # noqa: S311


# -- fitting -----------------------------------------------------------------------------------------------------------


def editor(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    side = 520
    s.draw.rectangle((0, 0, side, HEIGHT), fill=mix(s.ink, s.ground, 0.06))
    for y in range(60, HEIGHT - 60, s.leading):
        if s.rng.random() < 0.8:
            s.text(30 + 24 * s.rng.randint(0, 3), y, f"{s.name()}.py", face="dejavu", ink=mix(s.ink, s.ground, 0.7))
    hues = [s.ink, mix(s.ink, (90, 140, 240), 0.5), mix(s.ink, (60, 170, 90), 0.5), mix(s.ink, s.ground, 0.6)]
    for number, y in enumerate(range(60, HEIGHT - 60, s.leading)):
        s.text(side + 20, y, str(number + 1), ink=mix(s.ink, s.ground, 0.45))
    s.code(side + 120, 60, 2200, HEIGHT - 60, hues)
    s.draw.line((2230, 0, 2230, HEIGHT), fill=mix(s.ink, s.ground, 0.2))
    s.code(2300, 60, WIDTH - 40, HEIGHT - 60, hues)
    return s


def terminal(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    hues = [s.ink, s.ink, mix(s.ink, (80, 200, 90), 0.4), mix(s.ink, (220, 180, 60), 0.4)]
    for y in range(30, HEIGHT - 40, round(s.size * 1.25)):
        if s.rng.random() < 0.9:
            text = f"{s.clock()} {s.rng.choice(('INFO', 'WARN', 'DEBUG'))} {s.name()}: {s.prose(s.rng.randint(3, 14))} {s.rng.randint(1, 90000)} ms"
            s.text(30, y, text, ink=s.rng.choice(hues))
    return s


def spreadsheet(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    grid, row = mix(s.ink, s.ground, 0.18), round(s.size * 1.7)
    s.draw.rectangle((0, 0, WIDTH, 150), fill=mix(s.ink, s.ground, 0.08))
    for y in range(150, HEIGHT, row):
        s.draw.line((0, y, WIDTH, y), fill=grid)
    column = s.size * 11
    for x in range(80, WIDTH - column, column):
        s.draw.line((x, 150, x, HEIGHT), fill=grid)
        for y in range(150, HEIGHT - row, row):
            if s.rng.random() < 0.75:
                words = s.amount() if (x // column) % 3 else s.fit(s.prose(3), column - 16)
                s.text(x + 8, y + round(s.size * 0.25), words)
    return s


def document(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((0, 0, WIDTH, HEIGHT), fill=mix(s.ink, s.ground, 0.3))
    for left in (420, 2040):
        s.draw.rectangle((left, 120, left + 1400, HEIGHT), fill=s.ground)
        s.text(left + 120, 220, s.prose(4), size=s.size * 2)
        s.paragraph((left + 120, 320, left + 1280, HEIGHT - 40))
    return s


def desktop(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.photo((0, 0, WIDTH, HEIGHT), "picosdeeuropa" if seed % 2 else "sunset")
    for _ in range(3):
        left, top = s.rng.randint(40, 2300), s.rng.randint(60, 1100)
        box = (left, top, left + s.rng.randint(900, 1500), top + s.rng.randint(600, 1000))
        s.lines = [entry for entry in s.lines if not _overlap(entry.box, box)]
        s.draw.rectangle(box, fill=s.ground)
        s.draw.rectangle((box[0], box[1], box[2], box[1] + 50), fill=mix(s.ink, s.ground, 0.12))
        s.text(box[0] + 20, box[1] + 12, s.prose(3), size=20)
        s.paragraph((box[0] + 30, box[1] + 80, box[2] - 30, box[3] - 30))
    return s


def dashboard(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    panel = mix(s.ink, s.ground, 0.05)
    for index in range(4):
        left = 60 + index * 940
        s.draw.rounded_rectangle((left, 80, left + 880, 360), 16, fill=panel)
        s.text(left + 30, 100, s.prose(3), ink=mix(s.ink, s.ground, 0.7))
        s.text(left + 30, 160, s.amount(), size=72)
        s.text(left + 30, 300, f"{s.rng.uniform(-9, 9):+.1f} % since {s.rng.choice(WORDS)}", ink=(70, 150, 90))
    for index in range(2):
        box = (60 + index * 1880, 420, 1860 + index * 1880, 1180)
        s.draw.rounded_rectangle(box, 16, fill=panel)
        s.text(box[0] + 30, box[1] + 20, s.prose(5))
        points = [(x, s.rng.randint(box[1] + 150, box[3] - 120)) for x in range(box[0] + 140, box[2] - 40, 40)]
        s.draw.line(points, fill=(80, 140, 230), width=4)
        for tick in range(8):
            y = box[3] - 90 - tick * 70
            s.draw.line((box[0] + 130, y, box[2] - 30, y), fill=mix(s.ink, s.ground, 0.15))
            s.text(box[0] + 30, y - s.size // 2, f"{tick * 12.5:.1f} k")
        for x in range(box[0] + 140, box[2] - 160, 190):
            s.text(x, box[3] - 60, s.clock())
    for y in range(1260, HEIGHT - 60, round(s.size * 1.9)):
        s.text(80, y, s.fit(s.prose(4), 600))
        for column in range(6):
            s.text(760 + column * 500, y, s.amount() if column % 2 else s.name()[:22])
    return s


def chat(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((0, 0, 800, HEIGHT), fill=mix(s.ink, s.ground, 0.07))
    for y in range(60, HEIGHT - 120, 130):
        s.draw.ellipse((40, y, 120, y + 80), fill=tuple(s.rng.randint(60, 200) for _ in range(3)))
        s.text(150, y + 4, s.prose(2))
        s.text(150, y + 48, s.fit(s.prose(8), 600), ink=mix(s.ink, s.ground, 0.6))
    y = 80
    while y < HEIGHT - 500:
        left = 900 if s.rng.random() < 0.5 else 2000
        if s.rng.random() < 0.2:
            s.photo((left, y, left + 640, y + 400))
            y += 440
            continue
        height = s.rng.randint(2, 7) * s.leading + 40
        s.draw.rounded_rectangle((left, y, left + 1600, y + height), 24, fill=mix((90, 140, 220), s.ground, 0.15))
        s.paragraph((left + 30, y + 20, left + 1560, y + height))
        y += height + 40
    return s


def city_map(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((0, 0, WIDTH, HEIGHT), fill=mix((200, 215, 190), s.ground, 0.4))
    for _ in range(26):
        x, y = s.rng.randint(0, WIDTH), s.rng.randint(0, HEIGHT)
        shape = [(x + s.rng.randint(-320, 320), y + s.rng.randint(-260, 260)) for _ in range(6)]
        s.draw.polygon(shape, fill=mix(tuple(s.rng.randint(120, 220) for _ in range(3)), s.ground, 0.4))  # type: ignore[arg-type]
    for _ in range(60):
        ends = [(s.rng.randint(0, WIDTH), s.rng.randint(0, HEIGHT)) for _ in range(2)]
        width = s.rng.choice((3, 6, 14))
        s.draw.line(ends, fill=mix((180, 170, 150), s.ground, 0.9), width=width + 2)
        s.draw.line(ends, fill=s.ground, width=width)
    taken: list[Box] = []
    for _ in range(900):
        x, y, label = s.rng.randint(10, WIDTH - 400), s.rng.randint(10, HEIGHT - 60), s.prose(s.rng.randint(1, 3))
        size = s.size if s.rng.random() < 0.85 else s.size * 2
        box = (x - 8, y - 8, round(x + font(s.face, size).getlength(label)) + 8, y + size * 2)
        if not any(_overlap(box, other) for other in taken):
            taken.append(box)
            s.text(x, y, label, size=size)
    return s


def mail(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for y in range(40, 900, s.leading * 2):
        s.text(40, y, f"{s.rng.choice(WORDS).capitalize()} ({s.rng.randint(1, 400)})")
    s.draw.line((520, 0, 520, HEIGHT), fill=mix(s.ink, s.ground, 0.2))
    for row, y in enumerate(range(30, HEIGHT - 120, s.leading * 3 + 20)):
        if row % 5 == 2:
            s.draw.rectangle((524, y - 8, 1676, y + s.leading * 3), fill=mix((90, 140, 230), s.ground, 0.25))
        s.text(550, y, s.prose(2))
        s.text(1500, y, s.clock()[:5])
        s.text(550, y + s.leading, s.fit(s.prose(12), 1080))
        s.text(550, y + 2 * s.leading, s.fit(s.prose(16), 1080), ink=mix(s.ink, s.ground, 0.6))
    s.draw.line((1680, 0, 1680, HEIGHT), fill=mix(s.ink, s.ground, 0.2))
    s.text(1740, 40, s.fit(s.prose(5), 1900, size=36), size=36)
    y = s.paragraph((1740, 160, 3700, 1200))
    s.photo((1740, y + 40, 2640, y + 640))
    s.paragraph((1740, y + 700, 3700, HEIGHT - 40))
    return s


def article(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.photo((0, 0, WIDTH, 620))
    for column in range(3):
        left = 160 + column * 1200
        s.text(left, 680, s.fit(s.prose(6), 1080, size=s.size * 2), size=s.size * 2)
        s.paragraph((left, 780, left + 1100, 1440))
        if column == 1:
            s.photo((left, 1480, left + 1100, 2100))
        else:
            s.paragraph((left, 1480, left + 1100, HEIGHT - 60), ink=mix(s.ink, s.ground, 0.75))
    return s


def review(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for left in (40, 1940):
        for y in range(140, HEIGHT - 60, s.leading):
            kind = s.rng.random()
            if kind < 0.3:
                hue = (60, 160, 80) if left > 1000 else (200, 70, 70)
                s.draw.rectangle((left, y - 3, left + 1860, y + s.leading - 3), fill=mix(hue, s.ground, 0.2))
        s.code(
            left + 60,
            140,
            left + 1840,
            HEIGHT - 60,
            [s.ink, mix(s.ink, s.ground, 0.7), mix(s.ink, (150, 80, 200), 0.5)],
        )
        s.text(left, 60, f"{s.name()}/{s.name()}.py", face="roboto-bold", size=24)
    return s


def calendar(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for week in range(5):
        for day in range(7):
            box = (100 + day * 520, 160 + week * 390, 620 + day * 520, 550 + week * 390)
            s.draw.rectangle(box, outline=mix(s.ink, s.ground, 0.25))
            s.text(box[0] + 16, box[1] + 10, str(week * 7 + day + 1), size=28)
            for entry in range(s.rng.randint(0, 5)):
                y = box[1] + 60 + entry * (s.size + 22)
                s.draw.rounded_rectangle(
                    (box[0] + 10, y, box[2] - 10, y + s.size + 14),
                    6,
                    fill=mix(tuple(s.rng.randint(60, 220) for _ in range(3)), s.ground, 0.3),
                )  # type: ignore[arg-type]
                s.text(box[0] + 18, y + 4, s.fit(f"{s.clock()[:5]} {s.prose(4)}", 480))
    return s


def settings(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for y in range(80, HEIGHT - 80, 84):
        s.text(80, y, s.fit(s.prose(3), 560), size=max(s.size, 20))
    s.draw.line((700, 0, 700, HEIGHT), fill=mix(s.ink, s.ground, 0.2))
    for y in range(80, HEIGHT - 160, 150):
        s.text(800, y, s.fit(s.prose(5), 1200))
        s.text(800, y + s.leading, s.fit(s.prose(22), 1900), ink=mix(s.ink, s.ground, 0.6))
        s.draw.rounded_rectangle((2900, y, 3600, y + 64), 10, outline=mix(s.ink, s.ground, 0.3), width=2)
        s.text(2924, y + 18, s.fit(s.prose(3), 600))
    return s


def panes(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for left, top, right, bottom in (
        (0, 0, 1900, 1060),
        (1930, 0, WIDTH, 1060),
        (0, 1090, 1900, HEIGHT),
        (1930, 1090, WIDTH, HEIGHT),
    ):
        s.draw.rectangle((left, top, right, bottom), outline=mix(s.ink, s.ground, 0.4), width=3)
        advance = font(s.face, s.size).getlength("m")
        for y in range(top + 20, bottom - s.leading, round(s.size * 1.35)):
            text = f"{s.rng.randint(1, 99999):>6} {s.name()} {s.rng.uniform(0, 99):.1f} {s.clock()} /{s.name()}/{s.name()} --{s.name()}"
            if s.rng.random() < 0.85:
                s.text(
                    left + 20,
                    y,
                    text[: int((right - left - 40) / advance)],
                    ink=s.rng.choice((s.ink, mix(s.ink, (90, 200, 200), 0.4))),
                )
    return s


def ledger(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    row = round(s.size * 1.8)
    for index, y in enumerate(range(120, HEIGHT - row, row)):
        if index % 2:
            s.draw.rectangle((60, y, WIDTH - 60, y + row), fill=mix(s.ink, s.ground, 0.06))
        s.text(80, y + 4, f"{s.rng.randint(2019, 2026)}-{s.rng.randint(1, 12):02}-{s.rng.randint(1, 28):02}")
        s.text(80 + s.size * 10, y + 4, s.fit(s.prose(6), 900))
        for column in range(7):
            s.text(1400 + column * 330, y + 4, s.amount())
    return s


def photo_editor(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.photo((500, 120, 3000, 1800))
    for y in range(120, HEIGHT - 60, round(s.leading * 1.3)):
        s.text(40, y, s.fit(s.prose(4), 420))
        s.text(3060, y, s.fit(s.prose(3), 420))
        s.text(3520, y, f"{s.rng.uniform(-100, 100):+.2f}")
        s.draw.line((3060, y + s.leading, 3780, y + s.leading), fill=mix(s.ink, s.ground, 0.3), width=3)
    for index in range(6):
        s.photo((520 + index * 410, 1840, 910 + index * 410, 2100))
    return s


def board(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for column in range(5):
        left, y = 60 + column * 750, 160
        s.text(left, 80, s.prose(2), size=32)
        while y < HEIGHT - 400:
            height = s.rng.randint(4, 10) * s.leading
            s.draw.rounded_rectangle(
                (left, y, left + 700, y + height),
                12,
                fill=mix(s.ink, s.ground, 0.06),
                outline=mix(s.ink, s.ground, 0.2),
            )
            s.paragraph((left + 24, y + 20, left + 680, y + height - 10))
            y += height + 30
    return s


def shop(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for x in range(200, 3000, 420):
        s.text(x, 50, s.fit(s.prose(2), 400))
    for row in range(3):
        for column in range(6):
            left, top = 120 + column * 610, 140 + row * 680
            s.photo((left, top, left + 560, top + 380))
            s.text(left, top + 400, s.fit(s.prose(5), 540))
            s.text(left, top + 400 + s.leading, s.fit(s.prose(9), 540), ink=mix(s.ink, s.ground, 0.65))
            s.text(left, top + 400 + 2 * s.leading, f"EUR {s.amount()} ({s.rng.randint(2, 900)} in stock)")
            s.text(
                left, top + 400 + 3 * s.leading, s.fit(f"Delivery {s.prose(6)}", 540), ink=mix(s.ink, s.ground, 0.65)
            )
    return s


def form(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((900, 0, 2940, HEIGHT), fill=mix(s.ink, s.ground, 0.03))
    for y in range(80, HEIGHT - 180, s.leading * 4):
        for left in (960, 1980):
            s.text(left, y, s.fit(s.prose(5), 880), ink=mix(s.ink, s.ground, 0.75))
            box = (left, y + s.leading, left + 900, y + round(s.leading * 2.6))
            s.draw.rectangle(box, fill=s.ground, outline=mix(s.ink, s.ground, 0.4), width=2)
            s.text(left + 14, y + round(s.leading * 1.4), s.fit(f"{s.prose(3)} {s.rng.randint(1, 9999)}", 860))
    return s


def notebook(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    y = 60
    while y < HEIGHT - 300:
        height = s.rng.randint(4, 9) * s.leading
        s.draw.rectangle((300, y, 3500, y + height), fill=mix(s.ink, s.ground, 0.07))
        s.text(120, y + 10, f"In [{s.rng.randint(1, 99)}]:", ink=mix((80, 110, 220), s.ground, 0.8))
        s.code(330, y + 10, 3460, min(y + height, HEIGHT - 20), [s.ink, mix(s.ink, (40, 150, 90), 0.5)])
        y += height + 30
        if s.rng.random() < 0.5:
            points = [(x, y + s.rng.randint(20, 260)) for x in range(360, 1700, 30)]
            s.draw.line(points, fill=(210, 120, 50), width=3)
            for tick in range(0, 240, 60):
                s.text(1740, y + tick, f"{s.rng.uniform(0, 9):.3f} {s.prose(3)}")
            y += 300
        else:
            for _ in range(5):
                s.text(330, y, "   ".join(s.amount() for _ in range(12)))
                y += s.leading
            y += 30
    return s


def wiki(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for y in range(200, 1500, s.leading):
        s.text(60, y, s.fit(s.prose(3), 500), ink=mix((60, 100, 220), s.ground, 0.85))
    s.text(680, 60, s.prose(3), size=48)
    s.draw.line((680, 130, 3780, 130), fill=mix(s.ink, s.ground, 0.3), width=2)
    s.draw.rectangle(
        (2960, 170, 3780, 1600), outline=mix(s.ink, s.ground, 0.3), fill=mix(s.ink, s.ground, 0.04), width=2
    )
    s.photo((2980, 190, 3760, 700))
    for y in range(740, 1560, round(s.leading * 1.2)):
        s.text(2990, y, s.fit(s.prose(2), 300))
        s.text(3320, y, s.fit(s.prose(3), 420))
    y = 170
    while y < HEIGHT - 200:
        y = s.paragraph((680, y, 2900, min(y + s.rng.randint(6, 12) * s.leading, HEIGHT - 60)))
        s.text(680, y + 10, s.fit(s.prose(3), 1800, size=round(s.size * 1.5)), size=round(s.size * 1.5))
        y += 3 * s.leading
    return s


def file_manager(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.photo((0, 0, WIDTH, HEIGHT), "seeding")
    s.draw.rounded_rectangle((700, 300, 3300, 1900), 24, fill=s.ground)
    s.draw.rectangle((700, 380, 1160, 1880), fill=mix(s.ink, s.ground, 0.06))
    for y in range(420, 1300, round(s.leading * 1.4)):
        s.text(740, y, s.fit(s.prose(2), 400))
    for y in range(420, 1840, round(s.leading * 1.3)):
        s.draw.rectangle((1190, y, 1190 + s.size, y + s.size), fill=(220, 180, 90))
        s.text(1190 + 2 * s.size, y, f"{s.name()}.{s.rng.choice(('pdf', 'jpg', 'txt', 'docx'))}")
        s.text(2200, y, f"{s.rng.randint(1, 999)} kB", ink=mix(s.ink, s.ground, 0.6))
        s.text(
            2600, y, f"{s.rng.randint(1, 28)}.{s.rng.randint(1, 12)}.2026 {s.clock()}", ink=mix(s.ink, s.ground, 0.6)
        )
    return s


def gantt(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for x in range(900, WIDTH, 210):
        s.draw.line((x, 80, x, HEIGHT), fill=mix(s.ink, s.ground, 0.12))
        s.text(x + 8, 40, f"{s.rng.randint(1, 28)} {s.rng.choice(WORDS)[:3]}")
    row = round(s.size * 2.1)
    for y in range(120, HEIGHT - row, row):
        s.text(60, y + 4, s.fit(s.prose(6), 780))
        start = s.rng.randint(900, 2800)
        end = start + s.rng.randint(400, 900)
        hue = tuple(s.rng.randint(60, 220) for _ in range(3))
        s.draw.rounded_rectangle((start, y, end, y + round(s.size * 1.5)), 8, fill=mix(hue, s.ground, 0.35))  # type: ignore[arg-type]
        s.text(start + 12, y + 2, s.fit(s.prose(6), end - start - 24))
    return s


def paper(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((0, 0, WIDTH, HEIGHT), fill=mix(s.ink, s.ground, 0.5))
    for left in (300, 2000):
        s.draw.rectangle((left, 60, left + 1560, HEIGHT), fill=s.ground)
        for column in (left + 90, left + 810):
            y = s.paragraph((column, 160, column + 660, 900))
            if column > left + 100:
                s.photo((column, y + 20, column + 660, y + 420))
                y += 460
                s.text(
                    column, y - 20, s.fit(f"Figure {s.rng.randint(1, 9)}: {s.prose(9)}", 640), size=max(10, s.size - 2)
                )
            s.paragraph((column, y + 40, column + 660, HEIGHT - 30))
    return s


def debugger(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    line = mix(s.ink, s.ground, 0.25)
    s.code(60, 60, 2360, 1400, [s.ink, mix(s.ink, (200, 90, 160), 0.5), mix(s.ink, s.ground, 0.65)])
    s.draw.rectangle((40, 700, 2400, 700 + s.leading), outline=(230, 190, 60), width=2)
    s.draw.line((2420, 0, 2420, HEIGHT), fill=line, width=3)
    s.draw.line((0, 1430, 2420, 1430), fill=line, width=3)
    for y in range(60, 1300, s.leading):
        s.text(2460, y, f"{s.name()} = {s.rng.choice((s.amount(), repr(s.prose(2)), 'None', 'True'))}")
    for y in range(1400, HEIGHT - 60, s.leading):
        s.text(2460, y, f"{s.name()} at line {s.rng.randint(1, 2000)}", face="hanken")
    for y in range(1460, HEIGHT - 40, round(s.size * 1.3)):
        s.text(60, y, f"> {s.clock()} {s.prose(s.rng.randint(4, 12))}", ink=mix(s.ink, s.ground, 0.8))
    return s


def departures(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for column, left in enumerate((60, 1960)):
        for number, y in enumerate(range(160, HEIGHT - 60, round(s.size * 1.9))):
            if number % 2 == column:
                s.draw.rectangle(
                    (left - 20, y - 6, left + 1840, y + round(s.size * 1.6)), fill=mix(s.ink, s.ground, 0.1)
                )
            s.text(left, y, s.clock()[:5])
            s.text(left + 8 * s.size, y, s.fit(s.prose(3), 620))
            s.text(left + 1000, y, f"{s.rng.choice(WORDS)[:2].upper()} {s.rng.randint(100, 9999)}")
            s.text(
                left + 1400,
                y,
                s.rng.choice(("on time", "boarding", "delayed", "gate closed")),
                ink=mix((230, 150, 40), s.ground, 0.8),
            )
    return s


def feed(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((0, 0, WIDTH, HEIGHT), fill=mix(s.ink, s.ground, 0.1))
    for left in (420, 1940):
        y = 40
        while y < HEIGHT - 760:
            s.draw.rounded_rectangle((left, y, left + 1440, y + 720), 20, fill=s.ground)
            s.draw.ellipse((left + 30, y + 24, left + 110, y + 104), fill=(120, 160, 200))
            s.text(left + 140, y + 30, s.prose(2), face="manrope-bold")
            s.text(left + 140, y + 30 + s.leading, f"{s.rng.randint(2, 23)} hours ago", ink=mix(s.ink, s.ground, 0.6))
            s.paragraph((left + 30, y + 130, left + 1410, y + 130 + 4 * s.leading))
            s.photo((left, y + 150 + 4 * s.leading, left + 1440, y + 640))
            s.text(left + 30, y + 660, f"{s.rng.randint(2, 999)} likes, {s.rng.randint(2, 99)} comments, {s.prose(4)}")
            y += 750
    return s


def slides(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((0, 0, WIDTH, HEIGHT), fill=mix(s.ink, s.ground, 0.4))
    for row in range(3):
        for column in range(4):
            left, top = 60 + column * 940, 60 + row * 690
            s.draw.rectangle((left, top, left + 890, top + 600), fill=s.ground)
            s.text(left + 50, top + 40, s.fit(s.prose(4), 800, size=s.size * 2), size=s.size * 2)
            if (row + column) % 4 == 0:
                s.photo((left + 460, top + 140, left + 850, top + 560))
            for y in range(top + 150, top + 560, round(s.size * 2.2)):
                s.draw.ellipse((left + 50, y + 4, left + 50 + s.size // 2, y + 4 + s.size // 2), fill=s.ink)
                s.text(left + 50 + s.size, y, s.fit(s.prose(6), 380 if (row + column) % 4 == 0 else 780))
    return s


def flowchart(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for row in range(8):
        for column in range(8):
            left, top = 60 + column * 475 + s.rng.randint(0, 40), 50 + row * 262 + s.rng.randint(0, 30)
            hue = tuple(s.rng.randint(80, 230) for _ in range(3))
            if column < 7:
                s.draw.line((left + 360, top + 80, left + 500, top + 80 + s.rng.randint(-60, 60)), fill=s.ink, width=2)
            s.draw.rounded_rectangle(
                (left, top, left + 360, top + 170), 14, fill=mix(hue, s.ground, 0.2), outline=s.ink, width=2
            )  # type: ignore[arg-type]
            for line in range(min(4, 150 // s.leading)):
                s.text(left + 16, top + 14 + line * s.leading, s.fit(s.prose(4), 330))
    return s


# -- held out ----------------------------------------------------------------------------------------------------------


def menu_card(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.draw.rectangle((60, 60, WIDTH - 60, HEIGHT - 60), outline=mix(s.ink, s.ground, 0.5), width=6)
    for left in (160, 1380, 2600):
        y = 140
        while y < HEIGHT - 5 * s.leading - 80:
            if s.rng.random() < 0.12:
                s.text(left + 300, y, s.prose(1), size=s.size * 2)
                y += s.size * 4
            end = s.text(left, y, s.fit(s.prose(4), 700))
            s.draw.line((end + 12, y + s.size, left + 900, y + s.size), fill=mix(s.ink, s.ground, 0.3))
            s.text(left + 920, y, s.amount())
            s.text(left, y + s.leading, s.fit(s.prose(12), 860), ink=mix(s.ink, s.ground, 0.7))
            y += round(s.leading * 2.8)
    return s


def survey(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    row = round(s.size * 2.4)
    for number, y in enumerate(range(100, HEIGHT - row, row)):
        s.draw.rectangle((300, y - 6, 3540, y + row - 8), fill=mix(s.ink, s.ground, 0.04 if number % 2 else 0.09))
        s.text(330, y, s.fit(f"{number + 1}. {s.prose(14)}?", 1700))
        for answer in range(5):
            left = 2120 + answer * 280
            s.draw.ellipse((left, y, left + s.size, y + s.size), outline=s.ink, width=2)
            s.text(left + s.size + 12, y, s.rng.choice(("always", "often", "seldom", "never", "unsure")))
    return s


def player(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.photo((80, 80, 2600, 1500))
    s.text(80, 1540, s.fit(s.prose(6), 2400, size=40), size=40)
    s.paragraph((80, 1640, 2560, HEIGHT - 60), ink=mix(s.ink, s.ground, 0.8))
    for y in range(80, HEIGHT - 2 * s.leading, round(s.leading * 1.1)):
        s.text(2680, y, s.clock(), ink=mix((80, 120, 230), s.ground, 0.8))
        s.text(2680 + 6 * s.size, y, s.fit(s.prose(14), 1020 - 5 * s.size))
    return s


def newspaper(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    s.text(1200, 40, f"The {s.prose(2)}", size=110)
    s.draw.line((60, 220, WIDTH - 60, 220), fill=s.ink, width=4)
    for column in range(6):
        left, y = 70 + column * 630, 250
        while y < HEIGHT - 400:
            heading = s.rng.choice((2, 3)) * s.size
            s.text(left, y, s.fit(s.prose(4), 570, size=heading), size=heading)
            y += round(heading * 1.5)
            if s.rng.random() < 0.25 and y < HEIGHT - 600:
                s.photo((left, y, left + 570, y + 320))
                y += 340
            y = s.paragraph((left, y, left + 570, min(HEIGHT - 40, y + s.rng.randint(8, 20) * s.leading))) + s.size
        s.draw.line((left + 600, 250, left + 600, HEIGHT - 40), fill=mix(s.ink, s.ground, 0.3))
    return s


def heat_map(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    row, column = round(s.size * 1.9), s.size * 7
    for y in range(120, HEIGHT - row, row):
        s.text(40, y + 4, s.fit(s.prose(3), 560))
        for x in range(640, WIDTH - column, column):
            warmth = s.rng.random()
            hue = (round(230 * warmth), 120, round(230 * (1 - warmth)))
            s.draw.rectangle((x, y, x + column - 3, y + row - 3), fill=mix(hue, s.ground, 0.35))
            s.text(x + 8, y + 4, f"{s.rng.uniform(0, 9999):.1f}")
    return s


def forum(seed: int, face: str, size: int, dark: bool, contrast: float) -> Screen:
    s = _screen(seed, face, size, dark, contrast)
    for start in (60, 1980):
        y = 60
        while y < HEIGHT - 6 * s.leading:
            left = start + 90 * s.rng.randint(0, 4)
            s.draw.line((left - 20, y, left - 20, y + 3 * s.leading), fill=mix(s.ink, s.ground, 0.3), width=4)
            hue = tuple(s.rng.randint(60, 220) for _ in range(3))
            s.draw.rectangle((left, y, left + 2 * s.size, y + 2 * s.size), fill=hue)
            s.text(
                left + 3 * s.size, y, f"{s.name()}, {s.rng.randint(1, 23)} hours ago", ink=mix(s.ink, s.ground, 0.65)
            )
            y = (
                s.paragraph((left + 3 * s.size, y + s.leading, start + 1780, y + s.rng.randint(3, 7) * s.leading))
                + s.leading
            )
    return s


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


Layout = Callable[[int, str, int, bool, float], Screen]


@dataclass(frozen=True)
class Spec:
    """How one screenshot is drawn."""

    layout: Layout
    seed: int
    face: str
    size: int
    dark: bool
    contrast: float

    @property
    def name(self) -> str:
        return (
            f"{self.layout.__name__}-{self.face}-{self.size}px-{'dark' if self.dark else 'light'}-{self.contrast:.2f}"
        )

    def draw(self) -> Screen:
        return self.layout(self.seed, self.face, self.size, self.dark, self.contrast)


def _specs(
    first_seed: int, layouts: tuple[Layout, ...], faces: tuple[tuple[str, ...], ...], sizes: tuple[int, ...]
) -> tuple[Spec, ...]:
    """One screenshot for each layout and round, with the sizes going through all layouts in turn."""
    specs = []
    rounds = len(faces[0])
    for index, layout in enumerate(layouts):
        for turn in range(rounds):
            number = index * rounds + turn
            specs.append(
                Spec(
                    layout,
                    first_seed + number,
                    faces[index][turn],
                    sizes[(number * 5) % len(sizes)],
                    dark=(index + turn) % 2 == 0,
                    contrast=(1.0, 0.7, 0.85, 0.55)[(index + turn * 3) % 4],
                )
            )
    return tuple(specs)


FITTING = _specs(
    1000,
    (editor, terminal, spreadsheet, document, desktop),
    (
        ("dejavu-mono", "dejavu-mono", "dejavu-mono", "dejavu-mono"),
        ("dejavu-mono", "dejavu-mono", "dejavu-mono", "dejavu-mono"),
        ("dejavu", "dejavu", "dejavu-bold", "dejavu"),
        ("dejavu-serif", "dejavu", "dejavu-serif", "dejavu"),
        ("dejavu", "dejavu-serif", "dejavu", "dejavu-bold"),
    ),
    (10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 28),
)
FITTING += _specs(
    7000,
    (dashboard, chat, city_map, mail, article, review, calendar, settings, panes, ledger, photo_editor, board),
    (
        ("roboto", "source-sans"),
        ("source-sans", "aileron"),
        ("roboto-bold", "source-sans-semibold"),
        ("aileron", "roboto"),
        ("source-serif", "stix"),
        ("typewriter", "dejavu-mono"),
        ("roboto", "source-sans"),
        ("source-sans", "roboto-light"),
        ("dejavu-mono", "typewriter"),
        ("roboto", "source-sans-semibold"),
        ("roboto", "aileron"),
        ("source-sans", "stix"),
    ),
    (10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 28),
)
FITTING += _specs(
    40_000,
    (shop, form, notebook, wiki, file_manager, gantt, paper, debugger, departures, feed, slides, flowchart),
    (
        ("manrope", "hanken"),
        ("hanken", "manrope"),
        ("mono-oblique", "mono-bold"),
        ("caladea", "hanken-light"),
        ("manrope", "hanken"),
        ("hanken", "caladea"),
        ("caladea", "caladea-italic"),
        ("mono-bold", "mono-oblique"),
        ("manrope-bold", "hanken"),
        ("hanken", "manrope"),
        ("caladea", "manrope"),
        ("hanken-light", "manrope-bold"),
    ),
    (28, 12, 16, 10, 20, 14, 24, 11, 18, 13, 15),
)
HELD_OUT = _specs(
    90_000,
    (menu_card, survey, player, newspaper, heat_map, forum),
    (
        ("stix-italic", "caladea-bold", "hanken-italic", "source-serif-bold"),
        ("roboto-medium", "source-sans-light", "manrope-light", "hanken-italic"),
        ("source-sans-light", "roboto-medium", "dejavu-serif-bold", "manrope-light"),
        ("source-serif-bold", "stix-italic", "caladea-bold", "dejavu-serif-bold"),
        ("manrope-light", "hanken-italic", "roboto-medium", "source-sans-light"),
        ("hanken-italic", "manrope-light", "source-sans-light", "roboto-medium"),
    ),
    (24, 11, 18, 28, 13, 16, 10, 22, 14, 20, 26),
)

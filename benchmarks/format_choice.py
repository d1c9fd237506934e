"""Photograph or graphic: how often the choice of format by content is right, on pictures it was not fitted on.

    python -m benchmarks.format_choice [--packages FOLDER]

FOLDER holds Debian packages, unpacked and not kept here:

    apt-get download lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 gnome-backgrounds mate-backgrounds gimp-help-en gnome-user-docs
    for package in *.deb; do dpkg -x "$package" FOLDER; done

Split by source: the threshold was fitted on the repository's own photographs and on drawings (`fitting`); everything from
the packages, and the drawings of `screens.HELD_OUT`, is held out. Labels are by folder or name, checked by eye. Every
picture is judged as decoded, as if it came from a lossless file (what was a JPEG stays one anyway), and without alpha
(which alone decides for PNG). Writes benchmarks/results/format_choice.md and .json.
"""

# ruff: noqa: E501, PLR2004 - tables of patterns, and measures of drawings

from __future__ import annotations

import argparse
import fnmatch
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from benchmarks.screens import FITTING, HELD_OUT, SAMPLES
from include.imaging.classify import is_graphic

RESULTS = Path(__file__).parent / "results"
WITH_PHOTOS = (
    "desktop",
    "chat",
    "mail",
    "article",
    "photo_editor",
    "shop",
    "wiki",
    "file_manager",
    "paper",
    "feed",
    "slides",
    "player",
    "newspaper",
)
EVERY = 6  # of the hundreds of screenshots of one manual's folder

# Patterns below usr/share, what the pictures are, and how many of them to skip for one taken.
PACKAGES = (
    ("photo", "wallpapers", "backgrounds/", "Bridge_* Dragonfly_* Picture_* aitzgorri_* free_* greentock_* mate/nature/*.jpg", 1),
    ("graphic", "wallpapers", "backgrounds/", "Painting-Colors_* mate/desktop/GreenTraditional* gnome/symbolic-* gnome/vnc-*", 1),
    ("photo", "manual: photographs, filtered", "gimp/2.0/help/en/images/filters/examples/", "blur-taj-* noise-taj-* light-taj-* enhance-taj-* generic-taj-dilate* generic-taj-erode* taj_orig* taj_grayscale* artistic-taj-oil* tone-mapping-* distort-taj-ripple* distort-taj-shift* color-taj-sepia* color-taj-channel*", 1),
    ("photo", "manual: photographs", "gimp/2.0/help/en/images/tutorials/", "apple-orchard-* tone-mapping/*.jpg", 1),
    ("graphic", "manual: drawings", "gimp/2.0/help/en/images/filters/examples/", "depthmerge-results* depthmerge-source1* ifscompose-tut[123]* whirlpinch-* wind[0123]* unsharp-mask-2* render-checkerboard* optimize-* render-grid-detail*", 1),
    ("graphic", "manual: screenshots", "gimp/2.0/help/en/images/", "dialogs/*.png menus/*.png menus/*/*.png preferences/*.png tool-options/*.png", EVERY),
    ("graphic", "manual: icons", "gimp/2.0/help/en/images/", "toolbox/*.png", 2 * EVERY),
    ("graphic", "manual: formulas", "gimp/2.0/help/en/images/", "math/*.png", 2),
    ("graphic", "desktop help: screenshots", "help/C/gnome-help/figures/", "*.png", 1),
)  # fmt: skip

# Seen by eye to be something else than their folder says.
SEEN = {
    "photo": "*/regcolor-black.png *-red-globe.png */round-rect-02.png */draw-mask-ex1.png */clip-crop.png */shear-example.png color-camera.png color-display.png color-printer.png",
    "graphic": "tone-mapping/add-* tone-mapping/auto-stretch-* tone-mapping/histogram-specular-* tone-mapping/orchard-truck-layer-*",
    "mixed": "*/brush-gradient-* */gradient-clock-* */gradient-repeat-* */sight-defects_* */transform-guides.png */decompose_ex2.png */ColorToAlpha-ex8.png */fill-feathered-*",
}  # fmt: skip


def seen(name: str, label: str) -> str:
    for other, patterns in SEEN.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split()):
            return other
    return label


@dataclass(frozen=True)
class Labelled:
    """A picture and what it is: "photo", "graphic", or "mixed" where both formats can be argued for."""

    split: str
    source: str
    name: str
    label: str
    image: Image.Image


def opaque(image: Image.Image) -> Image.Image:
    """As the classifier gets it: L or RGB, transparent pixels on white."""
    if image.mode in ("1", "L", "I;16"):
        return image.convert("L")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def variants(photo: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """One photograph as people have it: small, cropped, gray, pale, dark, grainy."""
    medium = photo.copy()
    medium.thumbnail((1600, 1600))
    yield "1600 px", medium
    small = photo.copy()
    small.thumbnail((320, 320))
    yield "320 px", small
    width, height = medium.size
    yield "crop", medium.crop((width // 3, height // 3, width // 3 + width // 4, height // 3 + height // 4))
    yield "gray", medium.convert("L")
    yield "gray as RGB", medium.convert("L").convert("RGB")
    yield "pale", ImageEnhance.Color(medium).enhance(0.3)
    yield "dark", ImageEnhance.Brightness(medium).enhance(0.35)
    yield "dark gray", ImageEnhance.Brightness(medium.convert("L")).enhance(0.35)


def scans(size: int, seed: int) -> Iterator[tuple[str, str, Image.Image]]:
    """A typed page as scanners leave it: bitonal and cleaned up (a graphic), or gray with its grain (a photograph)."""
    page = Image.new("L", (1240, 1754), 244)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for y in range(100, 1650, round(size * 1.6)):
        draw.text((100, y), f"{y * seed} the quick brown fox jumps over the lazy dog and on", fill=40, font=font)
    yield f"bitonal scan {size}", "graphic", page.point(lambda level: 255 if level > 128 else 0)
    yield f"clean gray scan {size}", "graphic", page
    grain = Image.effect_noise(page.size, 24)
    yield f"grainy scan {size}", "photo", ImageChops.add(page.filter(ImageFilter.GaussianBlur(0.8)), grain, 1, -128)


def own() -> Iterator[Labelled]:
    """The repository's photographs and drawings: what the threshold was fitted on, and the held-out screenshots."""
    for path in sorted(SAMPLES.glob("*.jpg")):
        with Image.open(path) as photo:
            for name, image in variants(photo.convert("RGB")):
                yield Labelled("fitting", "samples", f"{path.stem}, {name}", "photo", image)
    for split, specs in (("fitting", FITTING), ("held-out", HELD_OUT)):
        for spec in specs:
            label = "mixed" if spec.layout.__name__ in WITH_PHOTOS else "graphic"
            yield Labelled(split, "drawn screenshots", spec.name, label, spec.draw().image)
    for split, size in (("fitting", 18), ("fitting", 30), ("held-out", 24), ("held-out", 40)):
        for name, label, image in scans(size, size):
            yield Labelled(split, "scans", name, label, image)


def packaged(folder: Path) -> Iterator[Labelled]:
    """Held out: pictures from Debian packages."""
    for label, source, base, patterns, every in PACKAGES:
        root = folder / "usr/share" / base
        files = sorted(path for path in root.rglob("*") if path.suffix in (".png", ".jpg", ".webp") and path.is_file())
        chosen = [
            path
            for path in files
            if any(fnmatch.fnmatch(str(path.relative_to(root)), pattern) for pattern in patterns.split())
        ]
        for path in chosen[::every]:
            with Image.open(path) as picture:
                image = opaque(picture)
            name = str(path.relative_to(root))
            yield Labelled("held-out", source, name, seen(name, label), image)
            if label == "photo" and source == "wallpapers":
                for variant, changed in variants(image):
                    if variant in ("320 px", "gray", "dark"):
                        yield Labelled("held-out", f"wallpapers, {variant}", f"{name}, {variant}", label, changed)


def report(rows: list[dict[str, str]], command: str) -> str:
    lines = [
        "# Photograph or graphic",
        "",
        f"Made by `{command}`; how, and where the pictures come from: its module docstring.",
        "",
    ]
    for split in ("held-out", "fitting"):
        judged = [row for row in rows if row["split"] == split and row["label"] != "mixed"]
        right = sum(row["label"] == row["chosen"] for row in judged)
        confusion = Counter((row["label"], row["chosen"]) for row in judged)
        lines += [
            f"## {split.capitalize()}: {right} of {len(judged)} right, {right / len(judged):.1%}",
            "",
            "| | written as JPEG | written losslessly |",
            "|---|---|---|",
            *(
                f"| {label} | {confusion[label, 'photo']} | {confusion[label, 'graphic']} |"
                for label in ("photo", "graphic")
            ),
            "",
            "| source | pictures | right |",
            "|---|---|---|",
        ]
        for source in dict.fromkeys(row["source"] for row in judged):
            of_it = [row for row in judged if row["source"] == source]
            lines.append(f"| {source} | {len(of_it)} | {sum(row['label'] == row['chosen'] for row in of_it)} |")
        wrong = [
            f"- {row['label']} taken for a {row['chosen']}: {row['source']}, {row['name']}"
            for row in judged
            if row["label"] != row["chosen"]
        ]
        mixed = Counter(row["chosen"] for row in rows if row["split"] == split and row["label"] == "mixed")
        lines += ["", "Wrong:", "", *(wrong or ["- none"]), ""]
        lines += [
            f"With photographs in a screenshot, or gradients, not counted: {mixed['photo']} as JPEG, {mixed['graphic']} losslessly.",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--packages", type=Path)
    asked = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    rows = []
    for pictures in (own(), packaged(asked.packages) if asked.packages else ()):
        for one in pictures:
            chosen = "graphic" if is_graphic(one.image, "png") else "photo"
            rows.append(
                {"split": one.split, "source": one.source, "name": one.name, "label": one.label, "chosen": chosen}
            )
    text = report(rows, "python -m benchmarks.format_choice --packages FOLDER")
    print(text)
    if asked.packages:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "format_choice.md").write_text(text)
        (RESULTS / "format_choice.json").write_text(json.dumps(rows, indent=0) + "\n")


if __name__ == "__main__":
    main()

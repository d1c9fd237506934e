"""Pictures made for the tests: each says in its pixels what a test needs to find again."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageChops, ImageCms, ImageDraw

from include.imaging.jxl import extension

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (250, 250, 250)
CORNERS = {"top left": RED, "top right": GREEN, "bottom left": BLUE, "bottom right": WHITE}

# What has to be done to an upright picture to store it so that this EXIF orientation turns it upright again.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_SHIFTS = itertools.count()


def corners(width: int, height: int) -> Image.Image:
    """Red, green, blue and white quarters: shows which way is up and whether it is mirrored."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill=RED)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=BLUE)
    return image


def stored(upright: Image.Image, orientation: int) -> Image.Image:
    """The picture as a camera held that way stores it."""
    operation = STORED_AS[orientation]
    return upright if operation is None else upright.transpose(operation)


def noise(width: int, height: int, sigma: float) -> Image.Image:
    """Grey noise, other than the last ``width * height`` of its size: made once, as that takes long, and shifted."""
    down, right = divmod(next(_SHIFTS), width)
    return ImageChops.offset(_noise(width, height, sigma), right, down % height)


@lru_cache(maxsize=8)
def _noise(width: int, height: int, sigma: float) -> Image.Image:
    return Image.effect_noise((width, height), sigma)


def photo(width: int, height: int) -> Image.Image:
    """Soft shapes under grain, with thousands of colours, as photographs have."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    grain = noise(width, height, 40)
    return Image.merge("RGB", (Image.blend(across, grain, 0.3), Image.blend(down, grain, 0.3), grain))


def text_page(width: int, height: int) -> Image.Image:
    """Black lines of text on white."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for line in range(20, height - 20, 24):
        draw.text((20, line), "The quick brown fox jumps over the lazy dog. " * (width // 280 + 1), fill="black")
    return image


def exif(orientation: int = 1, **texts: str) -> Image.Exif:
    """EXIF with an orientation, a camera and a place."""
    data = Image.Exif()
    data[274] = orientation
    data[271] = texts.get("make", "SECRET-CAMERA")
    data.get_ifd(0x8825)[1] = "N"  # GPS latitude reference
    data.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)
    return data


def jpeg_with_everything(image: Image.Image, orientation: int = 1) -> bytes:
    """A JPEG with EXIF and GPS, a comment, XMP, IPTC, a JFIF thumbnail and something hidden behind its end."""
    plain = io.BytesIO()
    image.save(plain, "JPEG", quality=92, exif=exif(orientation), comment=b"SECRET-COMMENT")
    data = plain.getvalue()
    jfif_end = 4 + struct.unpack(">H", data[4:6])[0]
    thumbnail = b"\xff\xe0" + struct.pack(">H", 2 + 14 + 3) + b"JFIF\0\x01\x02\0\0\x01\0\x01\x01\x01" + b"SEC"
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>SECRET-XMP</x:xmpmeta>"
    iptc = b"Photoshop 3.0\0SECRET-IPTC"
    extra = b"".join(
        marker + struct.pack(">H", len(body) + 2) + body for marker, body in ((b"\xff\xe1", xmp), (b"\xff\xed", iptc))
    )
    return data[:2] + thumbnail + extra + data[jfif_end:] + b"SECRET-TRAILER"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bytes(image: Image.Image, before_pixels: bytes = b"", after_pixels: bytes = b"", **save: object) -> bytes:
    """A PNG with further chunks in front of and behind its pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **save)
    data = buffer.getvalue()
    first, end = data.index(b"IDAT") - 4, data.rindex(b"IEND") - 4
    return data[:first] + before_pixels + data[first:end] + after_pixels + data[end:]


def raw_png(size: tuple[int, int], depth: int, colour_type: int, rows: bytes, chunks: bytes = b"") -> bytes:
    """A PNG from raw rows (each with its filter byte), for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + body + png_chunk(b"IEND", b"")


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _icc(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", to: bytes = b"XYZ ") -> bytes:
    """A version 2 profile from its tags, of a display unless said otherwise."""
    table, bodies = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        body = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", start + len(bodies), len(body))
        bodies += body
    white = _fixed(0.9642) + _fixed(1.0) + _fixed(0.8249)
    header = struct.pack(">I", start + len(bodies)) + b"\0\0\0\0" + bytes.fromhex("02100000") + kind + space
    header += to + bytes(12) + b"acsp" + bytes(28) + white
    return header.ljust(128, b"\0") + table + bodies


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


_DESCRIPTION = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
_COPYRIGHT = b"text\0\0\0\0none\0"


def rgb_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], gamma: float) -> bytes:
    """A profile with these primaries (XYZ, D50) and gamma."""
    white = _xyz(0.9642, 1.0, 0.8249)
    curve = _gamma(gamma)
    return _icc(
        b"RGB ",
        {
            b"desc": _DESCRIPTION, b"cprt": _COPYRIGHT, b"wtpt": white,
            b"rXYZ": _xyz(*red), b"gXYZ": _xyz(*green), b"bXYZ": _xyz(*blue),
            b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
        },
    )  # fmt: skip


def adobe_rgb() -> bytes:
    """Adobe RGB (1998): primaries from its specification, adapted to D50; gamma 563/256."""
    return rgb_profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 563 / 256)


def display_p3() -> bytes:
    """Display P3's primaries, adapted to D50, with a plain gamma of 2.2."""
    return rgb_profile((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407), 2.2)


def gray_profile(gamma: float) -> bytes:
    white = _xyz(0.9642, 1.0, 0.8249)
    return _icc(b"GRAY", {b"desc": _DESCRIPTION, b"cprt": _COPYRIGHT, b"wtpt": white, b"kTRC": _gamma(gamma)})


CMYK_PAPER, CMYK_CYAN, CMYK_BLACK = (255, 128, 128), (140, 91, 78), (41, 128, 128)  # Lab, as 8-bit profiles write it


def cmyk_profile() -> bytes:
    """A press profile in small: two grid points an ink, whose cyan is a printed one and whose black is no hole."""
    grid = b""
    for corner in range(16):
        cyan, black = corner & 8, corner & 1
        grid += bytes(CMYK_BLACK if black else CMYK_CYAN if cyan else CMYK_PAPER)
    ramp = bytes(range(256))
    unity = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + unity + ramp * 4 + grid + ramp * 3
    white = _xyz(0.9642, 1.0, 0.8249)
    tags = {b"desc": _DESCRIPTION, b"cprt": _COPYRIGHT, b"wtpt": white, b"A2B0": table}
    return _icc(b"CMYK", tags, b"prtr", b"Lab ")


def tiff_bytes(size: tuple[int, int], samples: int, pixels: list[bytes], **tags: object) -> bytes:
    """A TIFF, for what Pillow does not write: little-endian and uncompressed unless said otherwise. `pixels` are its
    strips, or its tiles."""
    width, height = size
    depth, photometric, tile = tags.get("depth", 8), tags.get("photometric", 2), tags.get("tile")
    order, more = tags.get("order", "<"), tags.get("more", {})
    lengths, starts, at = [len(part) for part in pixels], [], 8
    for length in lengths:
        starts.append(at)
        at += length
    entries: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [depth] * samples),
        259: ("H", [tags.get("compression", 1)]),
        262: ("H", [photometric]), 277: ("H", [samples]), 339: ("H", [tags.get("sample_format", 1)] * samples),
        284: ("H", [tags.get("planar", 1)]),
    }  # type: ignore[assignment,dict-item,list-item]  # fmt: skip
    if tile:
        entries |= {322: ("I", [tile]), 323: ("I", [tile]), 324: ("I", starts), 325: ("I", lengths)}  # type: ignore[list-item]
    else:
        entries |= {273: ("I", starts), 278: ("I", [tags.get("rows", height)]), 279: ("I", lengths)}
    entries |= more  # type: ignore[operator]
    directory, values, behind = b"", b"", at + 2 + 12 * len(entries) + 4
    for tag, (kind, numbers) in sorted(entries.items()):
        body = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
        head = struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(numbers))
        if len(body) > 4:
            directory += head + struct.pack(f"{order}I", behind + len(values))
            values += body
        else:
            directory += head + body.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + b"".join(pixels) + struct.pack(f"{order}H", len(entries)) + directory + bytes(4) + values


def icon(*pictures: tuple[tuple[int, int], int, bytes]) -> bytes:
    """An icon from the stated size, the stated depth and the content of each of its pictures."""
    directory, bodies, start = struct.pack("<HHH", 0, 1, len(pictures)), b"", 6 + 16 * len(pictures)
    for (width, height), depth, content in pictures:
        entry = (width % 256, height % 256, 0, 0, 1, depth, len(content), start + len(bodies))
        directory += struct.pack("<BBBBHHII", *entry)
        bodies += content
    return directory + bodies


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def near(actual: object, expected: tuple[int, ...] | int, tolerance: int = 3) -> bool:
    """Whether two pixels are equal within a tolerance in levels."""
    one = actual if isinstance(actual, tuple) else (actual,)
    other = expected if isinstance(expected, tuple) else (expected,)
    return len(one) == len(other) and all(abs(x - y) <= tolerance for x, y in zip(one, other, strict=True))


def corner_colours(image: Image.Image) -> dict[str, object]:
    """The pixel in the middle of each quarter."""
    width, height = image.size
    return {
        "top left": image.getpixel((width // 4, height // 4)),
        "top right": image.getpixel((3 * width // 4, height // 4)),
        "bottom left": image.getpixel((width // 4, 3 * height // 4)),
        "bottom right": image.getpixel((3 * width // 4, 3 * height // 4)),
    }


def jxl_files(photo: Image.Image, clear: Image.Image) -> dict[str, bytes]:
    """JPEG XL as it comes: a codestream, a container with EXIF, one with transparency, one that was a JPEG."""
    encoder = extension()
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG", exif=exif(6))
    plain = encoder.Encoder(mode="RGB", lossless=False, quality=80.0, num_threads=0)
    boxed = encoder.Encoder(mode="RGB", lossless=False, quality=80.0, use_container=True, num_threads=0)
    alpha = encoder.Encoder(mode="RGBA", lossless=True, quality=100.0, num_threads=0)
    again = encoder.Encoder(mode="RGB", lossless=False, quality=90.0, num_threads=0)
    texts = {"exif": exif(6).tobytes()[6:], "jumb": None, "xmp": b"<SECRET/>", "compress": False}
    return {
        "plain": plain(photo.tobytes(), *photo.size, jpeg_encode=False),
        "boxed": boxed(photo.tobytes(), *photo.size, jpeg_encode=False, **texts),
        "alpha": alpha(clear.tobytes(), *clear.size, jpeg_encode=False),
        "jpeg": again(jpeg.getvalue(), *photo.size, jpeg_encode=True),
    }

"""Which formats are read, told apart by their first bytes and never by their name.

Pillow is only ever asked for the one decoder that the content named. Left to itself it would also try EPS, and start
Ghostscript on a file that calls itself .jpg.
"""

from __future__ import annotations

from dataclasses import dataclass

from include.imaging.errors import UnsupportedFormat


@dataclass(frozen=True)
class Format:
    """A format on the allow-list: our name for it, its media type, and the module and the class of its decoder."""

    name: str
    media_type: str
    module: str
    decoder: str


_ALL = (
    Format("jpeg", "image/jpeg", "PIL.JpegImagePlugin", "JpegImageFile"),
    Format("png", "image/png", "PIL.PngImagePlugin", "PngImageFile"),
    Format("webp", "image/webp", "PIL.WebPImagePlugin", "WebPImageFile"),
    Format("gif", "image/gif", "PIL.GifImagePlugin", "GifImageFile"),
    Format("tiff", "image/tiff", "PIL.TiffImagePlugin", "TiffImageFile"),
    Format("bmp", "image/bmp", "PIL.BmpImagePlugin", "BmpImageFile"),
    Format("avif", "image/avif", "PIL.AvifImagePlugin", "AvifImageFile"),
    # The class itself, as of all others: registering it would change Pillow for everybody in this process.
    Format("heif", "image/heic", "pillow_heif.as_plugin", "HeifImageFile"),
    Format("ico", "image/x-icon", "PIL.IcoImagePlugin", "IcoImageFile"),
    Format("jp2", "image/jp2", "PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    Format("jxl", "image/jxl", "include.imaging.jxl", "open_jxl"),
)
FORMATS = {entry.name: entry for entry in _ALL}

# What Nova reads (Amazon Nova user guide, "Image understanding").
NOVA_FORMATS = frozenset({"jpeg", "png", "gif", "webp"})

SNIFF_BYTES = 512  # enough for any signature below and for the root element of an SVG

_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF, which Pillow reads in this byte order only
    (b"BM", "bmp"),
    (b"\0\0\1\0", "ico"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),  # the codestream alone
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),  # the codestream alone
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})

# Named in the refusal, so that a person knows what the file is.
_REFUSED = (
    (b"%!PS", "EPS or PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"MM\0+", "a big-endian BigTIFF"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\2\0", "a Windows cursor"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"\1\0\0\0", "a Windows metafile"),
    (b"gimp xcf", "a GIMP document"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"DDS ", "a DirectDraw texture"),
    (b"SIMPLE  =", "FITS"),
    (b"icns", "a macOS icon"),
    (b"FUJIFILM", "a Fuji raw file"),
    (b"IIRO", "an Olympus raw file"),
    (b"IIU\0", "a Panasonic raw file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
)


def _brands(head: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO base media file (the first box, `ftyp`)."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}


def _known_as(head: bytes) -> str | None:
    """The name of the format that these first bytes announce, or None."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & _AVIF_BRANDS:
            return "avif"
        if brands & _HEIF_BRANDS:
            return "heif"
    return None


def _refused_as(head: bytes) -> str:
    """What to call content that is not on the allow-list."""
    for signature, name in _REFUSED:
        if head.startswith(signature):
            return name
    if head[4:8] == b"ftyp":
        return "a Canon raw file" if head[8:12] == b"crx " else "a video"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<?xml", b"<svg", b"<!doctype", b"<html")):
        return "SVG" if b"<svg" in text else "XML or HTML"
    return "no known image format"


def sniff(head: bytes) -> Format:
    """The format of a file that begins with `head` (its first `SNIFF_BYTES` bytes, or all of a shorter file).

    Raises UnsupportedFormat, naming what the content looks like, when it is not on the allow-list.
    """
    name = _known_as(head)
    if name == "tiff" and head[8:10] == b"CR":
        raise UnsupportedFormat("the content is a Canon raw file; export it as JPEG, TIFF or HEIC")
    if name is None:
        names = ", ".join(FORMATS)
        raise UnsupportedFormat(f"the content is {_refused_as(head)}; the formats read are {names}")
    return FORMATS[name]

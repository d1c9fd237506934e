"""What a file is, from its first bytes and else from its name."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath
from typing import Final

SNIFF_BYTES: Final = 32

# (offset, bytes, media type), first match wins. Sources: PNG 3rd edition 5.2, JFIF/ITU T.81 B.1.1.3, GIF89a 17,
# RFC 9649 2.4 (WebP), TIFF 6.0 section 2, ISO/IEC 18181-2 (JPEG XL), ITU T.800 I.5.1 (JPEG 2000), QOI 1.0, PSD.
_MAGIC: Final = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP8", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),
    (0, b"MM\0+", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypheix", "image/heic"),
    (4, b"ftyphevc", "image/heic-sequence"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypmsf1", "image/heif-sequence"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"\xff\x0a", "image/jxl"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (0, b"qoif", "image/qoi"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
)

# Python's own table differs between versions and machines on these.
_MORE_TYPES: Final = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jfif": "image/jpeg",
    ".jp2": "image/jp2",
    ".jxl": "image/jxl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".psd": "image/vnd.adobe.photoshop",
    ".qoi": "image/qoi",
    ".tga": "image/x-tga",
    ".webp": "image/webp",
}

# Camera raw files are TIFF on the outside; read as such they give a thumbnail, so here the name has the last word.
_RAW_TYPES: Final = {
    ".arw": "image/x-sony-arw",
    ".cr2": "image/x-canon-cr2",
    ".dng": "image/x-adobe-dng",
    ".nef": "image/x-nikon-nef",
    ".orf": "image/x-olympus-orf",
    ".pef": "image/x-pentax-pef",
    ".rw2": "image/x-panasonic-rw2",
}

_TYPES_BY_NAME: Final = mimetypes.MimeTypes()  # the table built into Python, without the machine's own files
for _suffix, _type in {**_MORE_TYPES, **_RAW_TYPES}.items():
    _TYPES_BY_NAME.add_type(_type, _suffix)


def media_type_of(filename: str, head: bytes) -> str:
    """The media type that the first `SNIFF_BYTES` of the content give, else the name, else application/octet-stream."""
    suffix = PurePosixPath(filename).suffix.lower()
    if suffix in _RAW_TYPES:
        return _RAW_TYPES[suffix]
    by_content = next((kind for offset, magic, kind in _MAGIC if head.startswith(magic, offset)), None)
    return by_content or _TYPES_BY_NAME.guess_type(f"name{suffix}")[0] or "application/octet-stream"

"""The plain records that leave this room. Frozen, without Pillow. Lengths in pixels, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from include.imaging.formats import FORMATS, NOVA_FORMATS
from include.imaging.recipe import NOVA_MAX_SIDE

Action = Literal["resized", "converted", "stripped"]


@dataclass(frozen=True)
class ImageInfo:
    """What an image file is, read from its header."""

    format: str  # jpeg, png, webp, gif, tiff, bmp, avif, heif, ico, jp2, jxl: by content
    width: int  # as a person sees it, after orientation
    height: int
    stored_width: int  # as stored
    stored_height: int
    orientation: int  # EXIF: 1 is upright, 1 also where decoding itself rotates (HEIF, JPEG XL)
    mode: str  # Pillow's name for the pixels: RGB, L, P, CMYK, I;16, ...
    bits: int  # a channel, as stored
    frames: int  # frames or pages; only the first is ever used
    has_alpha: bool  # may be transparent somewhere; whether it is, only decoding tells
    has_metadata: bool  # EXIF, GPS, XMP, IPTC, comments, thumbnails, or bytes behind the picture
    srgb: bool  # no colour profile, or one that means sRGB
    size_bytes: int
    whole: bool = True  # False: its end marker is missing, and only decoding tells whether pixels are too

    @property
    def media_type(self) -> str:
        """The IANA media type of the content."""
        return FORMATS[self.format].media_type

    @property
    def nova_ready(self) -> bool:
        """Whether Nova takes this file exactly as it is, and sees in it what a person sees.

        Of an animation Nova reads the first frame, as we do.
        """
        return (
            self.format in NOVA_FORMATS
            and self.whole
            and self.orientation == 1
            and self.srgb
            and self.bits <= 8  # noqa: PLR2004
            and self.mode != "CMYK"
            and max(self.width, self.height) <= NOVA_MAX_SIDE
        )

    @property
    def clean(self) -> bool:
        """Whether nothing private can leave with this file."""
        return not self.has_metadata


@dataclass(frozen=True)
class HeaderInfo:
    """What the first bytes of an image file tell."""

    format: str  # as in ImageInfo
    width: int  # as a person sees it, after orientation
    height: int

    @property
    def media_type(self) -> str:
        """The IANA media type of the content."""
        return FORMATS[self.format].media_type


@dataclass(frozen=True)
class Preview:
    """A preview that was written, for people to look at."""

    format: str  # jpeg, webp
    width: int
    height: int
    size_bytes: int
    seconds: float  # wall clock, without a decode


@dataclass(frozen=True)
class ProxyResult:
    """A proxy that was made: how, and what it saved. Dimensions are (width, height), upright."""

    original: ImageInfo
    action: Action  # resized; converted: same size, other bytes; stripped: pixels untouched, metadata dropped
    format: str  # jpeg, png, webp
    proxy_dimensions: tuple[int, int]
    proxy_size_bytes: int
    seconds: float  # wall clock, reading and writing included
    preview: Preview | None = None  # what was asked for beside it; None also when it could not be made

    @property
    def original_dimensions(self) -> tuple[int, int]:
        """Of the picture that the proxy was made of."""
        return (self.original.width, self.original.height)

    @property
    def original_size_bytes(self) -> int:
        """Of the file that the proxy was made of."""
        return self.original.size_bytes

    @property
    def media_type(self) -> str:
        """The IANA media type of the proxy."""
        return FORMATS[self.format].media_type

"""Which codecs this Pillow was built with."""

from __future__ import annotations

from PIL import features

# What the formats on our list stand on; their names are Pillow's.
NEEDED = ("jpg", "zlib", "webp", "libtiff", "avif", "jpg_2000", "littlecms2")
PACKAGES = {"heif": "pillow_heif", "jxl": "pillow_jxl"}


def codec_versions() -> dict[str, str | None]:
    """Version by codec; None for one that is missing, so that its formats would be refused."""
    found = {name: _version(name) for name in NEEDED}
    return {**found, **{name: _package_version(package) for name, package in PACKAGES.items()}}


def _version(name: str) -> str | None:
    return str(features.version(name) or "yes") if features.check(name) else None


def _package_version(package: str) -> str | None:
    try:
        module = __import__(package)
    except ImportError:
        return None
    return str(getattr(module, "__version__", "yes"))

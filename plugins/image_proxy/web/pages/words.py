"""How figures and states read on a page. Plain functions from values to text; templates use them as filters."""

from __future__ import annotations

from datetime import UTC, datetime

from include.catalog.browse_records import FileEntry, ImageStatus

NONE = "–"  # noqa: RUF001 - an en dash: a figure that there is none of
_KILO = 1000
_MINUTE, _HOUR = 60, 3600

STATUS = {
    ImageStatus.PENDING: ("No proxy", ""),
    ImageStatus.IN_PROGRESS: ("In progress", "busy"),
    ImageStatus.PROXIED: ("Proxy", "good"),
    ImageStatus.KEPT: ("Original kept", "good"),
    ImageStatus.FAILED: ("Failed", "bad"),
    ImageStatus.NOT_AN_IMAGE: ("Not an image", ""),
}

REASONS = {
    "truncated": "The file ends before the picture does",
    "corrupt": "The picture cannot be decoded",
    "empty": "The file is empty",
    "unsupported_format": "Not a format that is read",
    "too_many_pixels": "More pixels than the limit",
    "too_large_file": "Larger than the limit",
    "too_many_frames": "More frames than the limit",
    "too_many_scans": "More JPEG scans than the limit",
    "time_limit": "Decoding took too long",
    "memory_limit": "Decoding needs more memory than allowed",
    "decoder_crashed": "The decoder died on this picture",
    "disk_full": "No room for the proxy",
    "source_missing": "The original is not there",
    "source_unreadable": "The original cannot be read",
    "source_access_denied": "No permission to read the original",
    "unsupported_uri": "An address that is not read",
}


def size(count: float | None) -> str:
    """Return bytes in decimal units: 4.38 MB."""
    if count is None:
        return NONE
    amount, unit = abs(float(count)), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < _KILO:
            break
        amount, unit = amount / _KILO, larger
    sign = "-" if count < 0 else ""
    digits = 0 if unit in ("B", "kB") or amount >= 100 else 2 if amount < 10 else 1  # noqa: PLR2004
    return f"{sign}{amount:,.{digits}f} {unit}"


def dimensions(width: int | None, height: int | None) -> str:
    """Return 6028 x 3391, with the proper sign."""
    return f"{width} × {height}" if width and height else "size unknown"  # noqa: RUF001 - the sign for "by"


def percent(ratio: float | None, digits: int = 1) -> str:
    """Return a ratio as a percentage."""
    return NONE if ratio is None else f"{100 * ratio:.{digits}f} %"


def money(amount: float | None) -> str:
    """Return US dollars with as many digits as small sums need."""
    if amount is None:
        return NONE
    if amount and abs(amount) < 1:
        return f"${amount:.4f}"
    return f"${amount:,.2f}"


def number(count: float | None) -> str:
    """Return a whole number with thousands apart."""
    return NONE if count is None else f"{count:,.0f}"


def duration(seconds: float | None) -> str:
    """Return 0.19 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return NONE
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def moment(value: datetime | None) -> str:
    """Return a time to the minute, in UTC."""
    return NONE if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def status(entry: FileEntry) -> tuple[str, str]:
    """Return a state's word and the kind of its badge."""
    return STATUS[entry.status]


def reason(code: str | None) -> str:
    """Return a failure's code in words; the code itself where there are none."""
    return REASONS.get(code or "", code or "unknown")

"""Colour profiles for what files say about their colours in numbers: gamma, primaries, code points of ITU-T H.273.

Standard library only. Each function gives the bytes of an ICC profile, or None where the numbers mean sRGB or nothing,
so that everything behind this speaks of one thing: a profile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

_Vector = tuple[float, float, float]
_Matrix = tuple[_Vector, _Vector, _Vector]

_D50 = (0.9642, 1.0, 0.8249)
_D65_XY = (0.3127, 0.3290)
_BRADFORD: _Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_SRGB_XY = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_ADOBE_XY = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060)
_PRIMARIES = {  # ITU-T H.273, table 2: red, green, blue; all with D65
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_GAMMA_22, _GAMMA_28, _LINEAR, _PQ, _HLG = 4, 5, 8, 16, 18  # ITU-T H.273, table 3; the others are shown as sRGB is
_SRGB_GAMMA, _GAMMA_TOLERANCE = 45_455, 1_000  # 100 000 / 2.2, as a PNG writes it
_CURVE_POINTS = 1024


def _multiply(matrix: _Matrix, vector: Sequence[float]) -> _Vector:
    x, y, z = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return x, y, z


def _inverse(matrix: _Matrix) -> _Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    rows = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    first, second, third = ((x / determinant, y / determinant, z / determinant) for x, y, z in rows)
    return first, second, third


def _xyz(x: float, y: float) -> _Vector:
    return x / y, 1.0, (1 - x - y) / y


def _columns(primaries: Sequence[float], white: Sequence[float]) -> tuple[_Vector, ...]:
    """XYZ of red, green and blue, adapted to D50 as profiles want them."""
    red, green, blue = (_xyz(*primaries[at : at + 2]) for at in (0, 2, 4))
    as_rows: _Matrix = ((red[0], green[0], blue[0]), (red[1], green[1], blue[1]), (red[2], green[2], blue[2]))
    white_xyz = _xyz(white[0], white[1])
    amounts = _multiply(_inverse(as_rows), white_xyz)
    scale = [to / of for to, of in zip(_multiply(_BRADFORD, _D50), _multiply(_BRADFORD, white_xyz), strict=True)]

    def adapted(colour: _Vector, amount: float) -> _Vector:
        cone = [value * factor for value, factor in zip(_multiply(_BRADFORD, colour), scale, strict=True)]
        x, y, z = _multiply(_inverse(_BRADFORD), cone)
        return x * amount, y * amount, z * amount

    return tuple(adapted(colour, amount) for colour, amount in zip((red, green, blue), amounts, strict=True))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz_tag(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _gamma_curve(gamma: float) -> bytes:
    return b"para\0\0\0\0\0\0\0\0" + _fixed(gamma)


def _srgb_curve() -> bytes:
    return b"para\0\0\0\0\0\3\0\0" + b"".join(map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))


def _sampled(function: Callable[[float], float]) -> bytes:
    points = [min(1.0, max(0.0, function(n / (_CURVE_POINTS - 1)))) for n in range(_CURVE_POINTS)]
    return b"curv\0\0\0\0" + struct.pack(f">I{_CURVE_POINTS}H", _CURVE_POINTS, *(round(x * 65535) for x in points))


def _rolled_off(light: float) -> float:
    """Light relative to a sheet of white paper, 0 to 49, as 0 to 1: paper becomes 0.8, what is brighter the rest."""
    return light * (1 + light / 49**2) / (1 + light) * 1.6


def _pq(signal: float) -> float:
    """SMPTE ST 2084, with white paper at 203 candelas (ITU-R BT.2408)."""
    power: float = signal ** (1 / 78.84375)
    light = max(0.0, power - 0.8359375) / (18.8515625 - 18.6875 * power)
    return _rolled_off(float(light ** (1 / 0.1593017578125)) * 10_000 / 203)


def _hlg(signal: float) -> float:
    """The gamma that ITU-R BT.2100 made HLG compatible with: shown on an ordinary display it is to look right."""
    return float(signal**2.2)


def _profile(primaries: Sequence[float], white: Sequence[float], curve: bytes) -> bytes:
    """A version 4 display profile of three primaries and one curve."""
    description = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2, 28) + "x".encode("utf-16-be")
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {b"desc": description, b"cprt": description, b"wtpt": _xyz_tag(_D50)}
    tags |= {name: _xyz_tag(column) for name, column in zip(names, _columns(primaries, white), strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    start = 128 + 4 + 12 * len(tags)
    table, bodies, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(bodies)
            bodies += content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    header = struct.pack(">I4sI4s4s4s", start + len(bodies), b"", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + table + bodies


@lru_cache(maxsize=64)
def from_gamma(gamma: int, chromaticities: tuple[int, ...] | None) -> bytes | None:
    """A profile from a PNG's gAMA (100 000 times the encoding exponent) and cHRM (100 000 times white, red, green and
    blue), or None when they amount to sRGB or to nothing that makes sense."""
    white, primaries = list(_D65_XY), list(_SRGB_XY)
    if chromaticities is not None:
        points = [value / 100_000 for value in chromaticities]
        white, primaries = points[:2], points[2:]
    ordinary = abs(gamma - _SRGB_GAMMA) <= _GAMMA_TOLERANCE
    near = all(abs(a - b) < 0.002 for a, b in zip((*white, *primaries), (*_D65_XY, *_SRGB_XY), strict=True))  # noqa: PLR2004
    if (ordinary and near) or not 10_000 <= gamma <= 200_000:  # noqa: PLR2004
        return None
    try:
        return _profile(primaries, white, _srgb_curve() if ordinary else _gamma_curve(100_000 / gamma))
    except (ZeroDivisionError, struct.error, OverflowError):
        return None


@lru_cache(maxsize=64)
def from_code_points(primaries: int, transfer: int) -> bytes | None:
    """A profile from code points of ITU-T H.273 (AVIF, HEIF, PNG's cICP), or None when they mean sRGB or nothing."""
    curves: dict[int, Callable[[], bytes]] = {
        _GAMMA_22: lambda: _gamma_curve(2.2),
        _GAMMA_28: lambda: _gamma_curve(2.8),
        _LINEAR: lambda: _gamma_curve(1.0),
        _PQ: lambda: _sampled(_pq),
        _HLG: lambda: _sampled(_hlg),
    }
    points = _PRIMARIES.get(primaries)
    if points is None and transfer not in (_LINEAR, _PQ, _HLG):
        return None
    return _profile(points or _SRGB_XY, _D65_XY, curves.get(transfer, _srgb_curve)())


@lru_cache(maxsize=1)
def adobe_rgb() -> bytes:
    """Adobe RGB (1998), which cameras announce in EXIF without a profile."""
    return _profile(_ADOBE_XY, _D65_XY, _gamma_curve(563 / 256))

"""How large a proxy is. Whole numbers only: floating point gives 895 instead of 896 for one shorter side in twelve."""

from __future__ import annotations

from include.imaging.recipe import NOVA_MAX_SIDE, NOVA_SHORT_SIDE


def _scaled(side: int, numerator: int, denominator: int) -> int:
    """`side * numerator / denominator`, rounded to nearest (half up), never less than one pixel."""
    return max(1, (2 * side * numerator + denominator) // (2 * denominator))


def calculate_target_dimensions(
    width: int, height: int, target_short_side: int = NOVA_SHORT_SIDE, max_side: int = NOVA_MAX_SIDE
) -> tuple[int, int]:
    """The proxy's (width, height) in pixels for an upright picture of `width` x `height`.

    The shorter side is exactly `target_short_side` when it was longer, the other side is rounded to nearest. Nothing is
    ever enlarged. No side is longer than `max_side`, and that cap wins: a panorama shrinks until it fits.

    Raises ValueError when a length is not positive.
    """
    if min(width, height, target_short_side, max_side) < 1:
        raise ValueError(f"lengths must be positive, not {width} x {height} to {target_short_side}, at most {max_side}")
    short, long = sorted((width, height))
    new_short, new_long = short, long
    if short > target_short_side:
        new_short, new_long = target_short_side, _scaled(long, target_short_side, short)
    if new_long > max_side:  # from the original lengths again, so that rounding happens once
        new_short, new_long = _scaled(short, max_side, long), max_side
    return (new_short, new_long) if width <= height else (new_long, new_short)


def needs_proxy(
    width: int, height: int, target_short_side: int = NOVA_SHORT_SIDE, max_side: int = NOVA_MAX_SIDE
) -> bool:
    """Whether a picture of this size has pixels that Nova would not use, or a side that Nova refuses.

    Raises ValueError when a length is not positive.
    """
    return calculate_target_dimensions(width, height, target_short_side, max_side) != (width, height)

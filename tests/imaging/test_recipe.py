"""A recipe that is silently clamped, or two recipes with one name, would serve proxies that nobody asked for."""

from __future__ import annotations

import dataclasses
import re

import pytest

from include.imaging import RESOURCE_CODES, TRANSIENT_CODES, Limits, ProxyOptions, recipe
from include.imaging.errors import ERRORS, DecoderCrashed, error_for


@pytest.mark.parametrize(
    ("field", "value", "bounds"),
    [
        ("target_short_side", 255, "between 256 and 8000"),
        ("target_short_side", 8001, "between 256 and 8000"),
        ("target_short_side", 896.0, "between 256 and 8000"),
        ("quality", 49, "between 50 and 95"),
        ("quality", 96, "between 50 and 95"),
        ("quality", True, "between 50 and 95"),
        ("max_side", 8001, "between 256 and 8000"),
        ("graphics_format", "gif", "'png' or 'webp'"),
        ("detail", "high", "'fixed' or 'auto'"),
    ],
)
def test_options_out_of_bounds_are_refused_by_name(field: str, value: object, bounds: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*{bounds}"):
        ProxyOptions(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_pixels", 0), ("seconds", 0), ("seconds", 3601), ("memory_bytes", 1024), ("max_scans", -1)],
)
def test_limits_out_of_bounds_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})  # type: ignore[arg-type]


def test_version_names_the_recipe() -> None:
    assert re.fullmatch("[0-9a-f]{12}", ProxyOptions().version)
    assert ProxyOptions().version == ProxyOptions(quality=85).version
    variants = [
        ProxyOptions(),
        ProxyOptions(target_short_side=897),
        ProxyOptions(quality=84),
        ProxyOptions(graphics_format="webp"),
        ProxyOptions(max_side=7999),
        ProxyOptions(detail="auto"),
    ]
    assert len({variant.version for variant in variants}) == len(dataclasses.fields(ProxyOptions)) + 1


def test_a_new_core_gives_new_names(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ProxyOptions().version
    monkeypatch.setattr(recipe, "CORE_VERSION", recipe.CORE_VERSION + 1)
    assert ProxyOptions().version != before


def test_codes_are_what_is_stored_on_rows() -> None:
    assert {error.code for error in ERRORS} == {
        "unsupported_format", "corrupt", "truncated", "empty", "too_many_pixels", "too_large_file", "too_many_frames",
        "too_many_scans", "time_limit", "memory_limit", "disk_full", "unwritable", "unreadable", "decoder_crashed",
    }  # fmt: skip
    assert {"time_limit", "memory_limit", "disk_full"} == RESOURCE_CODES
    assert {"disk_full", "unwritable"} == TRANSIENT_CODES


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_survives_the_process_boundary(kind: type[Exception]) -> None:
    raised = error_for(kind.code, "why")  # type: ignore[attr-defined]
    assert type(raised) is kind
    assert str(raised) == "why"


def test_an_unknown_code_is_still_typed() -> None:
    assert isinstance(error_for("from the future", "why"), DecoderCrashed)

"""The projection: a cost limit that trusts it must not be told less than may come."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.catalog.records import SourceImage
from include.pipeline.params import parse_params
from include.pipeline.plan import proxy_dimensions, proxy_options


def image(name: str, width: int | None = 3840, height: int | None = 2160) -> SourceImage:
    return SourceImage(
        1, f"s3://b/{name}", name, "", 900_000, "v", name, width, height, datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("name", "detail", "size"),
    [
        ("png", "fixed", (1593, 896)),
        ("jpeg", "fixed", (1593, 896)),
        ("png", "auto", (3840, 2160)),
        ("jpeg", "auto", (1593, 896)),
    ],
)
def test_a_likely_graphic_counts_whole_under_auto(name: str, detail: str, size: tuple[int, int]) -> None:
    assert proxy_dimensions(image(name), parse_params({"detail": detail})) == size


def test_no_side_passes_novas_limit() -> None:
    assert proxy_dimensions(image("png", 16000, 2000), parse_params({"detail": "auto"})) == (8000, 1000)


def test_without_dimensions_it_is_a_photograph() -> None:
    assert proxy_dimensions(image("png", None, None), parse_params({"detail": "auto"})) == (1195, 896)


def test_detail_is_part_of_the_recipe() -> None:
    fixed, auto = (proxy_options(parse_params({"detail": detail})) for detail in ("fixed", "auto"))
    assert (fixed.detail, auto.detail) == ("fixed", "auto")
    assert fixed.version != auto.version

"""Targets, storage dollars and token estimates, against figures worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from include.catalog.records import DayCalls, DayFigures, StorageBytes
from include.savings import ImageTokens, build_day_report, build_report, storage_price
from include.savings.storage import s3_reduction_percent
from tests.savings.test_report import FIGURES, image

GIB = 1024**3


def verdicts(**changes: object) -> dict[str, bool | None]:
    return {target.name: target.met for target in build_report(replace(FIGURES, **changes), []).targets}  # type: ignore[arg-type]


def test_each_target_is_met_missed_or_not_measured() -> None:
    good = verdicts(storage=StorageBytes(original_elsewhere=1000, uploaded_for_elsewhere=299))
    assert good == {"size_reduction": True, "proxy_seconds": True, "s3_storage": True, "nova_latency": None}
    exactly = verdicts(
        mean_saving_ratio_over_1mb=0.8,
        proxy_seconds=(2.0,),
        storage=StorageBytes(original_elsewhere=1000, uploaded_for_elsewhere=300),
    )
    assert set(exactly.values()) == {False, None}, "over and under mean what they say"
    nothing = verdicts(mean_saving_ratio_over_1mb=None, proxy_seconds=())
    assert set(nothing.values()) == {None}


def test_latency_is_never_claimed_by_a_run() -> None:
    assert "not measured" in build_report(FIGURES, []).text().splitlines()[-1]


def test_a_proxy_beside_an_original_in_s3_adds_storage_and_misses_the_target() -> None:
    both = StorageBytes(original_in_s3=1000, uploaded_for_s3=100, original_elsewhere=3000, uploaded_for_elsewhere=300)
    assert s3_reduction_percent(both) == pytest.approx(100 * (1 - 1400 / 4000))
    in_s3 = StorageBytes(original_in_s3=1000, uploaded_for_s3=100)
    assert s3_reduction_percent(in_s3) == pytest.approx(-10)
    assert verdicts(storage=in_s3)["s3_storage"] is False
    assert s3_reduction_percent(StorageBytes()) is None


def test_storage_dollars_are_estimates_with_the_prices_date() -> None:
    """Ten GiB on disk became one in S3: nine are avoided; two GiB beside originals in S3 are added."""
    storage = StorageBytes(20 * GIB, 2 * GIB, 10 * GIB, 1 * GIB)
    estimated = build_report(replace(FIGURES, storage=storage), []).estimated
    assert estimated.storage_usd_month_avoided == pytest.approx(9 * 0.023)
    assert estimated.storage_usd_month_added == pytest.approx(2 * 0.023)
    assert (estimated.storage_price_date, "aws.amazon.com" in estimated.storage_price_source) == ("2026-11-22", True)
    own = build_report(replace(FIGURES, storage=storage), [], price=storage_price(0.01)).estimated
    assert own.storage_usd_month_avoided == pytest.approx(0.09)
    assert own.storage_price_source == "settings"


def test_measured_and_estimated_stand_in_different_places() -> None:
    tokens = ImageTokens("Amazon Nova 2 Lite", "flat", 5000, 1300, 230, 230)
    written = json.loads(build_report(FIGURES, [image(1, None)], tokens).as_json())  # type: ignore[arg-type]
    assert written["estimated"]["image_tokens"]["processed_original"] == 5000
    measured = set(written) - {"estimated", "definitions"}
    assert not {name for name in measured if "storage_usd" in name or "image_tokens" in name or "billed" in name}
    assert written["targets"][0]["name"] == "size_reduction"
    assert written["definitions"].keys() >= {"estimated", "request_bytes", "s3_reduction_percent", "cost_usd_per_image"}


def test_the_summary_says_what_an_image_costs() -> None:
    said = build_report(replace(FIGURES, tiers=("flex",)), []).text()
    assert "nothing was paid; on AWS about $0.0026 (projected), $0.000880 an analysed image, tier flex" in said
    paid = build_report(replace(FIGURES, nova_endpoint="aws", cost_usd=0.003), []).text()
    assert "Nova cost $0.0030, $0.001000 an analysed image" in paid


def test_a_day_keeps_what_was_measured_apart_from_what_follows_by_estimate() -> None:
    calls = (DayCalls("stand-in", "default", 2, 600, 500, 200, 1800, None, 0.5),)
    storage = StorageBytes(original_elsewhere=2 * GIB, uploaded_for_elsewhere=GIB)
    day = DayFigures(date(2026, 11, 22), 2, 0, 0, 2, 0, 2 * GIB, GIB, GIB, storage, calls)
    report = build_day_report(day, storage_price())
    assert report.day == "2026-11-22"
    assert report.measured["bytes_served"] == GIB
    assert report.measured["calls"] == [
        {
            "endpoint": "stand-in",
            "tier": "default",
            "nova_calls": 2,
            "input_tokens": 600,
            "output_tokens": 200,
            "request_bytes": 1800,
            "cost_usd": None,
        }
    ]
    assert report.estimated["storage_usd_month_avoided"] == pytest.approx(0.023)
    assert report.estimated["calls"][0]["cost_usd_projected"] == 0.5

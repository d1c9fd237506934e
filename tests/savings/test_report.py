"""The report's arithmetic, against figures worked out by hand."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.catalog.records import ImageReport, Outcome, RunFigures
from include.savings import build_report, percentile, write_report

FIGURES = RunFigures(
    run_id="image_proxy_pipeline/manual__1",
    dag_id="image_proxy_pipeline",
    dag_run_id="manual__1",
    nova_endpoint="stand-in",
    started_at=datetime(2026, 11, 1, tzinfo=UTC),
    finished_at=datetime(2026, 11, 1, 0, 0, 12, tzinfo=UTC),
    images_listed=4,
    proxies_created=2,
    originals_kept=1,
    failed=1,
    skipped=0,
    returned=0,
    undecided=0,
    analyses_written=3,
    nova_calls=4,
    bytes_original=5_000_000 + 1_000_000 + 50_000,
    bytes_served=250_000 + 200_000 + 50_000,
    bytes_uploaded=450_000,
    bytes_original_over_1mb=5_000_000,
    bytes_served_over_1mb=250_000,
    mean_saving_ratio=(0.95 + 0.8 + 0.0) / 3,
    mean_saving_ratio_over_1mb=0.95,
    proxy_seconds=(0.1, 0.2, 0.4),
    input_tokens=3000,
    output_tokens=600,
    cost_usd=None,
    cost_usd_projected=0.00264,
)


def image(file_id: int, outcome: Outcome, code: str | None = None) -> ImageReport:
    known = {"file_id": file_id, "uri": f"file:///{file_id}.jpg", "filename": f"{file_id}.jpg", "outcome": outcome}
    unknown = dict.fromkeys(field.name for field in fields(ImageReport))
    return ImageReport(**{**unknown, **known, "original_bytes": 1, "code": code, "message": code and "cut short"})


REPORT = build_report(FIGURES, [image(1, Outcome.ANALYSED), image(2, Outcome.FAILED, "truncated")])


def test_savings_are_the_ratio_of_sums_and_the_mean_of_ratios() -> None:
    assert REPORT.savings_percent == pytest.approx(100 * (1 - 500_000 / 6_050_000), abs=0.01)
    assert REPORT.savings_percent_mean == pytest.approx(58.33, abs=0.01)
    assert REPORT.savings_percent_over_1mb == 95.0


def test_the_stand_in_costs_nothing_and_has_its_projection_beside() -> None:
    assert REPORT.cost_usd is None
    assert REPORT.cost_usd_projected == 0.00264


def test_failures_carry_uri_code_and_message() -> None:
    assert [(f.uri, f.code, f.message) for f in REPORT.failures] == [("file:///2.jpg", "truncated", "cut short")]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ((), 0.5, None),
        ((7.0,), 0.95, 7.0),
        ((1.0, 2.0, 3.0, 4.0), 0.5, 2.0),
        (tuple(map(float, range(1, 21))), 0.95, 19.0),
    ],
)
def test_percentiles_are_nearest_rank(values: tuple[float, ...], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


def test_the_file_holds_every_promised_key_and_the_definitions(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "latest.json"
    write_report(REPORT, path)
    written = json.loads(path.read_text())
    promised = {
        "run_id",
        "images_listed",
        "proxies_created",
        "originals_kept",
        "failed",
        "failures",
        "analyses_written",
        "nova_calls",
        "bytes_original",
        "bytes_uploaded",
        "savings_percent",
        "savings_percent_over_1mb",
        "proxy_seconds_p50",
        "proxy_seconds_p95",
        "cost_usd",
        "cost_usd_projected",
        "nova_endpoint",
        "seconds",
        "definitions",
    }
    assert promised <= written.keys()
    assert written["seconds"] == 12.0
    assert "failed ones out" in written["definitions"]["savings_percent"]
    assert [file.name for file in path.parent.iterdir()] == ["latest.json"]


def test_a_run_with_nothing_to_do_has_no_saving_to_boast_of() -> None:
    empty = build_report(
        RunFigures(**{
            **{field: getattr(FIGURES, field) for field in FIGURES.__dataclass_fields__},
            "bytes_original": 0, "bytes_served": 0, "bytes_original_over_1mb": 0, "bytes_served_over_1mb": 0,
            "mean_saving_ratio": None, "mean_saving_ratio_over_1mb": None, "proxy_seconds": (),
        }),
        [],
    )  # fmt: skip
    assert empty.savings_percent is empty.savings_percent_over_1mb is empty.proxy_seconds_p50 is None

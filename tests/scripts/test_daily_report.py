"""The command that prints what each day came to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.catalog.catalog import Catalog
from scripts.daily_report import main
from tests.catalog.conftest import Clock
from tests.catalog.making import add, process
from tests.catalog.migrated import migrated_catalog


@pytest.fixture
def url(tmp_path: Path) -> str:
    engine = migrated_catalog(tmp_path / "catalog.db")
    catalog = Catalog(engine, clock=Clock(datetime(2026, 11, 5, 12, tzinfo=UTC)))
    process(catalog, "run", *add(catalog, 2))
    engine.dispose()
    return str(engine.url)


def test_json_has_every_day_asked_for(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--catalog", url, "--from", "2026-11-04", "--to", "2026-11-06", "--json"]) == 0
    days = json.loads(capsys.readouterr().out)
    assert [day["day"] for day in days] == ["2026-11-04", "2026-11-05", "2026-11-06"]
    assert [day["measured"]["analyses_written"] for day in days] == [0, 2, 0]
    assert days[1]["measured"]["calls"][0]["cost_usd"] is None
    assert days[1]["estimated"]["calls"][0]["cost_usd_projected"] == 1.0
    assert days[1]["estimated"]["storage_usd_month_added"] > 0, "these originals lie in S3"


def test_the_text_names_who_answered_and_that_nobody_paid(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--catalog", url, "--from", "2026-11-04", "--to", "2026-11-05"]) == 0
    said = capsys.readouterr().out
    assert "2026-11-05  2 proxies made, 0 kept, 2 analysed, 0 refused" in said
    assert "stand-in, tier default: 2 calls, 600 tokens in, 200 out" in said
    assert "nothing paid, about $1.0000 on AWS (projected)" in said
    assert "1 of 2 days without work" in said


@pytest.mark.parametrize("days", [["--from", "2026-11-06", "--to", "2026-11-05"]])
def test_what_cannot_be_asked_is_said(url: str, days: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--catalog", url, *days]) == 2
    assert "before the first" in capsys.readouterr().out


def test_a_catalog_that_is_not_there_is_said_with_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--catalog", f"sqlite:///{tmp_path / 'none.db'}"]) == 2
    assert "include.catalog.migrate" in capsys.readouterr().out.replace("\n", "")

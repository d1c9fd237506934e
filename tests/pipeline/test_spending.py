"""Spending limits, by run and by day: the plan takes what they pay for, the tasks stop where they are reached."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from include.catalog.records import Outcome
from include.local.nova_stand_in import NovaStandIn
from include.nova import load_prompt, projected_cost_usd
from include.pipeline.gate import check_run
from include.pipeline.plan import CostLimitExceeded
from include.pipeline.settings import SettingsError, load_settings
from include.pipeline.summary import summarise
from tests.pipeline.conftest import Ground
from tests.pipeline.test_throttling import SIDE, analyse_at_once, gallery, plan

MODEL = "us.amazon.nova-2-lite-v1:0"
IMAGES = 12


def projected(tier: str = "default") -> float:
    return projected_cost_usd(MODEL, SIDE, SIDE, load_prompt(), tier)


@pytest.fixture
def pictures(ground: Ground) -> Ground:
    gallery(ground, IMAGES)
    return ground


def per_day(monkeypatch: pytest.MonkeyPatch, dollars: float) -> None:
    monkeypatch.setenv("IMAGE_PROXY_MAX_COST_USD_PER_DAY", repr(dollars))


def notes(ground: Ground) -> str:
    report = summarise(ground.catalog, ground.run_id)
    assert report is not None
    with ground.catalog._store.reading() as connection:
        stored = connection.scalar(text("SELECT note FROM image_runs WHERE run_id = :run"), {"run": ground.run_id})
    assert "; ".join(report.notes) == (stored or "")
    assert all(note in report.text() for note in report.notes)
    return str(stored or "")


def test_the_plan_takes_what_the_runs_limit_pays_for(pictures: Ground, stand_in: NovaStandIn) -> None:
    batches = plan(pictures, "run", stages=["analyse"], max_cost_usd=5.5 * projected())
    assert pictures.catalog.run_counts(pictures.run_id).listed == 5
    assert "pays for 5 of 12 images by projection: 7 left pending" in notes(pictures)
    analyse_at_once(pictures, stand_in, batches)
    check_run(pictures.catalog, pictures.run_id, 0.0)
    plan(pictures, "next", stages=["analyse"])
    assert pictures.catalog.run_counts(pictures.run_id).listed == 12 - len(stand_in.calls())


def test_flex_pays_for_twice_as_many(pictures: Ground) -> None:
    plan(pictures, "run", stages=["analyse"], tier="flex", max_cost_usd=5.5 * projected())
    assert pictures.catalog.run_counts(pictures.run_id).listed == 11


def test_the_day_is_shared_by_all_runs(
    pictures: Ground, stand_in: NovaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyse_at_once(pictures, stand_in, plan(pictures, "first", stages=["analyse"], limit=3))
    spent = pictures.catalog.spent_usd()
    assert spent > 0
    per_day(monkeypatch, spent + 2.5 * projected())
    plan(pictures, "second", stages=["analyse"])
    assert pictures.catalog.run_counts(pictures.run_id).listed == 2
    assert "IMAGE_PROXY_MAX_COST_USD_PER_DAY" in notes(pictures)
    per_day(monkeypatch, max(spent, projected()))
    assert plan(pictures, "third", stages=["analyse"]) == []
    assert "pays for 0 of" in notes(pictures)
    check_run(pictures.catalog, pictures.run_id, 0.0)


def test_proxies_cost_nothing_and_pass_a_spent_day(pictures: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    per_day(monkeypatch, 0.0)
    assert plan(pictures, "again", stages=["proxy"], force=True)


@pytest.mark.parametrize("limit", ["run", "day"])
def test_a_limit_below_one_image_is_an_error_not_a_run_that_never_does_anything(
    pictures: Ground, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    dollars = projected() / 2
    conf: dict[str, Any] = {"max_cost_usd": dollars} if limit == "run" else {}
    if limit == "day":
        per_day(monkeypatch, dollars)
    with pytest.raises(CostLimitExceeded, match="max_cost_usd" if limit == "run" else "MAX_COST_USD_PER_DAY"):
        plan(pictures, "run", stages=["analyse"], **conf)


def test_a_wrong_daily_limit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("nan", "-1", "ten"):
        monkeypatch.setenv("IMAGE_PROXY_MAX_COST_USD_PER_DAY", wrong)
        with pytest.raises(SettingsError, match="MAX_COST_USD_PER_DAY"):
            load_settings()


def test_tasks_at_once_stop_at_the_days_limit_and_the_rest_waits(pictures: Ground, stand_in: NovaStandIn) -> None:
    """Two tasks with four requests in flight each; the limit lets three be in flight, however fast they come back."""
    stand_in.change(latency_ms=20)
    analyse_at_once(pictures, stand_in, plan(pictures, "one", stages=["analyse"], limit=1))
    each = pictures.catalog.spent_usd()
    limit = each + 3 * projected()
    assert 2 * projected() + 3 * each < (IMAGES - 1) * each, "else the limit might pay for all of them"
    batches = plan(pictures, "run", tasks=2, stages=["analyse"], batch_size=6)
    outcomes = analyse_at_once(pictures, stand_in, batches, max_cost_usd_per_day=limit)
    answered = outcomes[Outcome.ANALYSED]
    assert answered + outcomes[Outcome.RETURNED] == IMAGES - 1
    assert outcomes[Outcome.RETURNED] > 0
    assert answered >= 3
    overshoot = 3 * max(0.0, each - projected())
    assert pictures.catalog.spent_usd() <= limit + overshoot + 1e-9
    codes = {image.code for image in pictures.images().values() if image.outcome is Outcome.RETURNED}
    assert codes == {"daily_cost_limit"}
    assert "put back to pending" in notes(pictures)
    check_run(pictures.catalog, pictures.run_id, 0.0)


def test_the_runs_limit_counts_what_answers_really_cost(pictures: Ground, stand_in: NovaStandIn) -> None:
    """The plan believed its projection; a dearer price, in force since, is what the tasks hold against the limit."""
    batches = plan(pictures, "run", stages=["analyse"], max_cost_usd=IMAGES * 1.01 * projected())
    dear = {MODEL: {"input_per_million": 3.3, "output_per_million": 27.5}}
    outcomes = analyse_at_once(pictures, stand_in, batches, price_overrides=dear)
    assert outcomes[Outcome.RETURNED] > outcomes[Outcome.ANALYSED] > 0
    assert {image.code for image in pictures.images().values() if image.outcome is Outcome.RETURNED} == {"cost_limit"}
    assert "max_cost_usd was reached" in notes(pictures)

"""Tier and spending limits through the whole DAG: what is sent and said, and that a reached limit is no failure."""

from __future__ import annotations

import pytest

from include.catalog.records import Outcome
from include.nova import load_prompt, projected_cost_usd
from tests.dags.conftest import Deployment, photograph

EACH = projected_cost_usd("us.amazon.nova-2-lite-v1:0", 1000, 950, load_prompt())


@pytest.fixture
def four(deployment: Deployment) -> Deployment:
    for number in range(4):
        photograph(deployment.pictures / f"{number}.jpg", 1000, 950)
    return deployment


def test_the_tier_is_sent_priced_and_said(four: Deployment) -> None:
    assert four.run(tier="flex", limit=2) == "success"
    assert {call.service_tier for call in four.stand_in.calls()} == {"flex"}
    flex = four.report()
    assert flex.tiers == ("flex",)
    assert four.run(tier="default", limit=2) == "success"
    ratio = (four.report().cost_usd_projected or 0) / (flex.cost_usd_projected or 1)
    assert ratio == pytest.approx(2, rel=0.1)


def test_an_unknown_tier_is_red(four: Deployment) -> None:
    with pytest.raises(Exception, match="tier"):
        four.run(tier="batch")


def test_a_limit_ends_the_run_green_and_the_rest_waits(four: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert four.run(max_cost_usd=2.5 * EACH) == "success"
    assert four.report().images_listed == 2
    assert "2 left pending" in four.report().notes[0]
    monkeypatch.setenv("IMAGE_PROXY_MAX_COST_USD_PER_DAY", repr(EACH))
    asked = len(four.stand_in.calls())
    assert four.run() == "success"
    assert (four.report().images_listed, len(four.stand_in.calls())) == (0, asked)
    assert "IMAGE_PROXY_MAX_COST_USD_PER_DAY" in four.report().notes[0]
    monkeypatch.delenv("IMAGE_PROXY_MAX_COST_USD_PER_DAY")
    assert four.run() == "success"
    assert {image.outcome for image in four.images().values()} == {Outcome.ANALYSED}

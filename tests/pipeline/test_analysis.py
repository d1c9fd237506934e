"""The analysis stage against the stand-in: every kind of answer, what is written, what is paid."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from sqlalchemy import text

from include.catalog.records import Outcome, Stage
from include.local.nova_stand_in import Forced, NovaStandIn
from include.nova import Backoff, client_config
from include.pipeline import analysis
from include.pipeline.analysis import AnalysisStage, NovaRefused
from include.pipeline.params import parse_params
from include.pipeline.settings import load_settings
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground


def nova_client(stand_in: NovaStandIn) -> Any:
    keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    return boto3.client("bedrock-runtime", endpoint_url=stand_in.url, config=Config(**client_config()), **keys)


def proxied(ground: Ground, *names: str) -> int:
    for name in names or ("a.jpg",):
        photograph(ground.pictures / name, 1000, 950)
    batch = ground.plan()
    ground.stage().run(ground.run_id, batch)
    return batch


def analyse(ground: Ground, stand_in: NovaStandIn, batch: int, **conf: Any) -> dict[Outcome, int]:
    params = parse_params({**ground.catalog.run_params(ground.run_id), **conf})
    settings = load_settings(bucket=ground.bucket)
    stage = AnalysisStage(ground.catalog, nova_client(stand_in), ground.s3, settings, params, concurrency=2)
    return dict(stage.run(ground.run_id, batch))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "BACKOFF", Backoff(attempts=3, base_seconds=0.001, cap_seconds=0.001))


def test_an_answer_is_written_with_who_gave_it(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    assert analyse(ground, stand_in, batch) == {Outcome.ANALYSED: 1}
    current = ground.catalog.current(ground.images()["a.jpg"].file_id)
    assert current is not None
    assert current["endpoint"] == "stand-in"
    assert "stand-in" in current["description"].lower()
    assert current["model_id"] == "us.amazon.nova-2-lite-v1:0"
    assert current["prompt_version"].startswith("image_analysis_v1-")


def test_an_image_that_was_analysed_is_not_asked_about_again(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    analyse(ground, stand_in, batch)
    assert analyse(ground, stand_in, batch) == {}
    assert len(stand_in.calls()) == 1


def test_a_try_that_lost_its_images_asks_no_more_of_them(ground: Ground, stand_in: NovaStandIn) -> None:
    """It was taken for dead (paused, or cut off from the API server) and goes on: what a retry has now is the retry's
    to pay for. The answer that was in flight is kept."""
    batch = proxied(ground, "a.jpg", "b.jpg", "c.jpg")
    client = nova_client(stand_in)
    taken = []

    def take_over(**_: Any) -> None:
        if not taken:
            taken.append(ground.catalog.claim_batch(ground.run_id, batch, Stage.ANALYSE, "retry", 60))

    client.meta.events.register("before-send.bedrock-runtime", take_over)
    params = parse_params(ground.catalog.run_params(ground.run_id))
    stage = AnalysisStage(ground.catalog, client, ground.s3, load_settings(bucket=ground.bucket), params, concurrency=1)
    assert dict(stage.run(ground.run_id, batch)) == {Outcome.ANALYSED: 1, Outcome.RETURNED: 2}
    assert len(taken[0].items) == 3
    assert len(stand_in.calls()) == 1


def test_a_malformed_answer_is_asked_for_once_more_and_both_are_counted(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    stand_in.change(forced=(Forced(malformed="no_tool_use", times=1),))
    assert analyse(ground, stand_in, batch) == {Outcome.ANALYSED: 1}
    assert ground.catalog.run_figures(ground.run_id).nova_calls == len(stand_in.calls()) == 2


def test_an_answer_that_stays_malformed_is_a_failure_that_was_paid_for(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    stand_in.change(forced=(Forced(missing_field="description"),))
    assert analyse(ground, stand_in, batch) == {Outcome.FAILED: 1}
    figures = ground.catalog.run_figures(ground.run_id)
    assert (figures.nova_calls, len(stand_in.calls())) == (2, 2)
    assert figures.input_tokens > 0 and figures.cost_usd is None
    assert figures.cost_usd_projected is not None and figures.cost_usd_projected > 0


def test_a_refused_request_is_recorded_in_novas_own_words_and_costs_nothing(
    ground: Ground, stand_in: NovaStandIn
) -> None:
    batch = proxied(ground, "a.jpg", "b.jpg")
    stand_in.change(forced=(Forced(key_contains="a_", error="ValidationException", message="The image is odd."),))
    assert analyse(ground, stand_in, batch) == {Outcome.FAILED: 1, Outcome.ANALYSED: 1}
    image = ground.images()["a.jpg"]
    assert image.code == "validation"
    assert "The image is odd." in (image.message or "")
    assert ground.catalog.run_figures(ground.run_id).nova_calls == 2


def test_a_throttled_image_goes_back_to_pending(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    stand_in.change(throttle_rate=1.0)
    assert analyse(ground, stand_in, batch) == {Outcome.RETURNED: 1}
    assert ground.images()["a.jpg"].code == "throttled"
    stand_in.change(throttle_rate=0.0)
    second = ground.plan("second")
    assert ground.stage().run(ground.run_id, second) == {Outcome.SKIPPED: 1}
    assert analyse(ground, stand_in, second) == {Outcome.ANALYSED: 1}


def test_a_third_of_throttling_slows_and_loses_nothing(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground, *(f"{number}.jpg" for number in range(6)))
    stand_in.change(throttle_rate=0.3, throttle_seed=5)
    outcomes = analyse(ground, stand_in, batch)
    assert sum(outcomes.values()) == 6
    assert set(outcomes) <= {Outcome.ANALYSED, Outcome.RETURNED}
    answered = [call for call in stand_in.calls() if call.status == 200]
    assert len(answered) == outcomes[Outcome.ANALYSED] < len(stand_in.calls())
    assert ground.catalog.run_figures(ground.run_id).nova_calls == len(stand_in.calls())


@pytest.mark.parametrize(
    ("error", "said"),
    [("AccessDeniedException", "bedrock:InvokeModel"), ("ResourceNotFoundException", "inference profile")],
)
def test_a_missing_permission_or_model_stops_the_task_and_names_it(
    ground: Ground, stand_in: NovaStandIn, error: str, said: str
) -> None:
    batch = proxied(ground, *(f"{number}.jpg" for number in range(6)))
    stand_in.change(forced=(Forced(error=error),))
    with pytest.raises(NovaRefused, match=said):
        analyse(ground, stand_in, batch)
    assert len(stand_in.calls()) <= 3, "the other images are not tried"
    assert ground.catalog.run_counts(ground.run_id).undecided == 6


def test_the_base_model_id_is_refused_with_what_to_type(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    with pytest.raises(NovaRefused, match=r"us\.amazon\.nova-2-lite-v1:0"):
        analyse(ground, stand_in, batch, model_id="amazon.nova-2-lite-v1:0")


def test_each_call_stands_on_a_row_with_its_tokens_and_price_date(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    analyse(ground, stand_in, batch)
    (call,) = stand_in.calls()
    with ground.catalog._store.reading() as connection:
        (row,) = connection.execute(
            text("SELECT input_tokens, output_tokens, price_date, cost_usd FROM image_attempts WHERE called")
        ).all()
    assert (row.input_tokens, row.output_tokens, row.cost_usd) == (call.input_tokens, call.output_tokens, None)
    assert row.price_date


def test_a_proxy_gone_from_the_bucket_is_made_again_by_the_next_run(ground: Ground, stand_in: NovaStandIn) -> None:
    batch = proxied(ground)
    (key,) = ground.objects()
    ground.s3.delete_object(Bucket=ground.bucket, Key=key)
    assert analyse(ground, stand_in, batch) == {Outcome.RETURNED: 1}
    assert ground.images()["a.jpg"].code == "proxy_missing"
    second = ground.plan("second")
    assert ground.stage().run(ground.run_id, second) == {Outcome.PROXIED: 1}
    assert analyse(ground, stand_in, second) == {Outcome.ANALYSED: 1}


def test_what_is_projected_and_what_is_reckoned_from_an_answer_agree(ground: Ground, stand_in: NovaStandIn) -> None:
    """The stand-in reports processed tokens as Nova does; the cost counts the image's as billed."""
    batch = proxied(ground)
    analyse(ground, stand_in, batch)
    (call,) = stand_in.calls()
    image = ground.images()["a.jpg"]
    assert image.width and image.height
    billed = call.input_tokens - round(image.width * image.height / 784) + 230
    expected = (billed * 0.33 + call.output_tokens * 2.75) / 1e6
    assert ground.catalog.run_figures(ground.run_id).cost_usd_projected == pytest.approx(expected, rel=0.01)

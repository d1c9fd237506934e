"""Every way in which Converse goes wrong, with boto3 against the stand-in: what becomes of image and task.

The lists are those of botocore's own model of Converse, so that a code that AWS adds makes a test fail.
"""

from __future__ import annotations

import pytest
from sqlalchemy import text

from include.catalog.records import Outcome
from include.local.nova_stand_in import Forced, NovaStandIn
from include.local.nova_stand_in.errors import converse_operation
from include.local.nova_stand_in.settings import stop_reasons
from include.nova import Backoff
from include.pipeline import analysis
from include.pipeline.analysis import NovaRefused
from tests.pipeline.conftest import Ground
from tests.pipeline.test_analysis import analyse, proxied

PATIENCE = 3  # requests for one image, where the table says no fewer

# AWS code -> (outcome, our code, requests made, tried again by itself later)
OUTCOMES = {
    "ThrottlingException": (Outcome.RETURNED, "throttled", PATIENCE, False),
    "ServiceUnavailableException": (Outcome.RETURNED, "unavailable", PATIENCE, False),
    "ModelNotReadyException": (Outcome.RETURNED, "model_not_ready", PATIENCE, False),
    "ModelTimeoutException": (Outcome.FAILED, "model_timeout", PATIENCE, True),
    "ModelErrorException": (Outcome.FAILED, "model_error", PATIENCE, True),
    "InternalServerException": (Outcome.FAILED, "internal_error", PATIENCE, True),
    "ValidationException": (Outcome.FAILED, "validation", 1, False),
}
REFUSALS = {
    "AccessDeniedException": "bedrock:InvokeModel",
    "ResourceNotFoundException": "model_id",
    "UnrecognizedClientException": "credentials",
    "ExpiredTokenException": "credentials",
    "InvalidSignatureException": "credentials",
}
COMPLETE = {"end_turn", "tool_use", "stop_sequence"}
ASKED_TWICE = {"malformed_tool_use", "malformed_model_output"}
RENAMED = {"model_context_window_exceeded": "context_window_exceeded"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "BACKOFF", Backoff(attempts=PATIENCE, base_seconds=0.001, cap_seconds=0.001))


def next_try(ground: Ground) -> bool:
    with ground.catalog._store.reading() as connection:
        due = "SELECT count(*) FROM image_analyses WHERE status = 'failed' AND next_try_at IS NOT NULL"
        return bool(connection.scalar(text(due)))


def test_the_table_holds_every_error_of_converse() -> None:
    known = {shape.name for shape in converse_operation().error_shapes}
    assert known <= {*OUTCOMES, *REFUSALS}


@pytest.mark.parametrize("aws_code", OUTCOMES)
def test_what_becomes_of_the_image(ground: Ground, stand_in: NovaStandIn, aws_code: str) -> None:
    outcome, code, requests, later = OUTCOMES[aws_code]
    batch = proxied(ground)
    stand_in.change(forced=(Forced(error=aws_code, message="Words of Nova."),))
    assert analyse(ground, stand_in, batch) == {outcome: 1}
    image = ground.images()["a.jpg"]
    assert image.code == code
    assert "Words of Nova." in (image.message or "")
    assert len(stand_in.calls()) == requests == ground.catalog.run_figures(ground.run_id).nova_calls
    assert next_try(ground) is later
    assert ground.catalog.run_figures(ground.run_id).cost_usd_projected == 0, "a refused request is not billed"


@pytest.mark.parametrize("aws_code", REFUSALS)
def test_what_no_retry_can_mend_stops_the_task_and_names_what_is_missing(
    ground: Ground, stand_in: NovaStandIn, aws_code: str
) -> None:
    batch = proxied(ground)
    stand_in.change(forced=(Forced(error=aws_code),))
    with pytest.raises(NovaRefused, match=REFUSALS[aws_code]):
        analyse(ground, stand_in, batch)
    assert len(stand_in.calls()) == 1
    assert ground.catalog.run_counts(ground.run_id).undecided == 1, "the image waits for whoever mends it"


@pytest.mark.parametrize("reason", sorted(stop_reasons()))
def test_every_stop_reason_is_a_typed_outcome_that_was_paid_for(
    ground: Ground, stand_in: NovaStandIn, reason: str
) -> None:
    batch = proxied(ground)
    stand_in.change(forced=(Forced(stop_reason=reason),))
    wanted = {Outcome.ANALYSED: 1} if reason in COMPLETE else {Outcome.FAILED: 1}
    assert analyse(ground, stand_in, batch) == wanted
    assert len(stand_in.calls()) == (2 if reason in ASKED_TWICE else 1)
    assert (ground.catalog.run_figures(ground.run_id).cost_usd_projected or 0) > 0
    if reason not in COMPLETE:
        assert ground.images()["a.jpg"].code == RENAMED.get(reason, reason)

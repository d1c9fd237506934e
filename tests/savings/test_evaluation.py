"""The report of an evaluation: losses measured against the model's own variation, and said in words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from include.catalog.records import Evaluation, EvaluationCall
from include.savings.evaluation import NO_ANSWER_WARNING, STAND_IN_WARNING, EvaluationReport, build_evaluation_report
from include.savings.evaluation_text import evaluation_markdown

WORDS = "no parking here at any time"


def evaluation(pictures: int, *, endpoint: str = "aws", repeats: int = 2) -> Evaluation:
    params = {"detail": ["896", "original"], "repeats": repeats, "seed": 1}
    return Evaluation(
        run_id="dag/run",
        params=params,
        model_id="us.amazon.nova-2-lite-v1:0",
        prompt_version="v1",
        nova_endpoint=endpoint,
        file_ids=tuple(range(1, pictures + 1)),
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
        finished_at=None,
        note=None,
        report=None,
        report_uri=None,
    )


def call(file_id: int, variant: str, repeat: int = 0, **changes: Any) -> EvaluationCall:
    values: dict[str, Any] = {
        "called": True,
        "final": True,
        "width": 1195,
        "height": 896,
        "image_bytes": 200_000,
        "seconds": 1.0,
        "latency_ms": 800,
        "input_tokens": 1000,
        "output_tokens": 100,
        "endpoint": "aws",
        "cost_usd": 0.001,
        "cost_usd_projected": 0.001,
        "price_date": "2026-11-22",
        "description": "a sign on a wall",
        "labels": ({"name": "sign", "confidence": 0.9},),
        "visible_text": WORDS,
    }
    return EvaluationCall(file_id, variant, repeat, **{**values, **changes})


def calls(pictures: int, smaller: dict[str, Any] | None = None, repeats: int = 2, **all_: Any) -> list[EvaluationCall]:
    found = []
    for file_id in range(1, pictures + 1):
        found += [call(file_id, "original", repeat, seconds=2.0 + file_id / 100, **all_) for repeat in range(repeats)]
        found.append(call(file_id, "896", **{**all_, **(smaller or {})}))
    return found


def report(found: list[EvaluationCall], pictures: int, **more: Any) -> EvaluationReport:
    options = {"open_calls": 0, "stopped_by_cost": False} | more
    kept = {name: options.pop(name) for name in ("endpoint", "repeats") if name in options}
    return build_evaluation_report(evaluation(pictures, **kept), found, **options)


def test_latency_is_paired_within_a_picture() -> None:
    compared = report(calls(20), 20).data["comparisons"]["896"]
    seconds = compared["latency"]["seconds"]
    assert seconds["gain"]["value"] == pytest.approx(1 + 21 / 200)  # mean of 2 + n/100 - 1
    assert 0 < seconds["gain"]["low"] < seconds["gain"]["value"] < seconds["gain"]["high"]
    assert seconds["gain_share"]["value"] == pytest.approx(1 - 20 / (40 + 2.1))
    assert seconds["gain"]["excludes_zero"] is True
    assert compared["latency"]["latency_ms"]["gain"]["value"] == 0


def test_a_loss_is_what_goes_beyond_the_models_own_variation() -> None:
    found = calls(20, smaller={"visible_text": "no parking"})
    text = report(found, 20).data["comparisons"]["896"]["text"]["text_word_recall"]
    assert (text["own_variation"]["value"], text["agreement"]["value"]) == (1.0, pytest.approx(2 / 6))
    assert (text["loss"]["value"], text["loss"]["excludes_zero"]) == (pytest.approx(4 / 6), True)


def test_a_model_that_disagrees_with_itself_as_much_has_lost_nothing() -> None:
    found = [
        call(number, size, repeat, labels=({"name": word, "confidence": 1.0},))
        for number in range(1, 21)
        for size, repeat, word in (("original", 0, "sign"), ("original", 1, "wall"), ("896", 0, "sky"))
    ]
    labels = report(found, 20).data["comparisons"]["896"]["labels"]["label_jaccard"]
    assert (labels["own_variation"]["value"], labels["agreement"]["value"], labels["loss"]["value"]) == (0, 0, 0)


def test_without_repeats_there_is_agreement_and_no_yardstick() -> None:
    made = report(calls(20, repeats=1), 20, repeats=1)
    labels = made.data["comparisons"]["896"]["labels"]["label_jaccard"]
    assert labels["agreement"]["value"] == 1
    assert labels["own_variation"] is None and labels["loss"] is None
    assert "without repeats there is no yardstick" in evaluation_markdown(made)


def test_pictures_without_text_are_not_counted_as_agreeing_on_text() -> None:
    found = [*calls(12, visible_text=""), call(13, "original"), call(13, "original", 1), call(13, "896")]
    text = report(found, 13).data["comparisons"]["896"]["text"]["text_word_recall"]
    assert text["agreement"]["pictures"] == 1


def test_the_stand_ins_report_is_marked_in_json_and_text() -> None:
    made = report(calls(12, endpoint="stand-in", cost_usd=None), 12, endpoint="stand-in")
    said = json.loads(made.as_json())
    assert (said["meaningful_for_nova"], said["warning"]) == (False, STAND_IN_WARNING)
    assert made.headline()["meaningful_for_nova"] is False
    assert said["calls"]["cost_usd"] is None and said["calls"]["cost_usd_projected"] > 0
    page = evaluation_markdown(made)
    assert page.splitlines()[2].startswith("> **MEANINGLESS FOR NOVA")
    assert "nothing was paid" in page


def test_one_answer_of_the_stand_in_is_enough_to_spoil_it() -> None:
    made = report([*calls(12), call(12, "896", 1, endpoint="stand-in")], 12)
    assert made.data["meaningful_for_nova"] is False


def test_the_report_of_aws_is_not_marked() -> None:
    made = report(calls(12), 12)
    assert made.data["meaningful_for_nova"] and made.data["warning"] is None
    assert "MEANINGLESS" not in evaluation_markdown(made)
    assert "$0.036000 paid" in evaluation_markdown(made)


def test_no_answer_at_all_says_nothing() -> None:
    made = report([call(1, "original", code="throttled", final=False, cost_usd_projected=0.0)], 1, open_calls=3)
    assert (made.data["meaningful_for_nova"], made.data["warning"]) == (False, NO_ANSWER_WARNING)
    page = evaluation_markdown(made)
    assert "No picture was answered at both sizes" in page
    assert "> **INCOMPLETE**: 3 calls were not made or not answered" in page


def test_the_words_follow_the_figures() -> None:
    page = evaluation_markdown(report(calls(20, smaller={"visible_text": "no"}), 20))
    assert "**Latency** at the client, in seconds: sooner, by 1.105 (" in page
    assert "**Text** (`text_word_recall`), 20 pictures: lost beyond the model's own variation: 0.833" in page
    assert "**Labels** (`label_jaccard`), 20 pictures: no loss can be told from the model's own variation" in page
    slower = evaluation_markdown(report(calls(20, smaller={"seconds": 9.0}), 20))
    assert "in seconds: LATER, by -6.895" in slower
    few = evaluation_markdown(report(calls(3), 3))
    assert "too few pictures for an interval" in few


def test_what_cannot_be_told_of_few_pictures_is_not_said_of_their_latency() -> None:
    page = evaluation_markdown(report(calls(3), 3))
    assert "in seconds: too few pictures for an interval; the mean gain is 1.020" in page
    assert "sooner" not in page


def test_a_picture_is_not_larger_once_however_often_its_original_would_have_been_asked() -> None:
    none = {"called": False, "endpoint": None, "cost_usd": None, "cost_usd_projected": None, "code": "same_as_original"}
    small = [call(13, size, repeat, **none) for size, repeat in (("896", 0), ("original", 0), ("original", 1))]
    made = report([*calls(12), *small], 13)
    assert made.data["pictures"]["not_larger"] == {"896": 1}
    assert "1 picture not larger than 896 px: nothing to compare there" in evaluation_markdown(made)


def test_what_was_refused_or_not_larger_is_told() -> None:
    none = {"called": False, "endpoint": None, "cost_usd": None, "cost_usd_projected": None}
    found = [
        *calls(12),
        call(13, "896", code="same_as_original", **none),
        call(14, "896", code="truncated", **none),
        call(14, "original", code="truncated", **none),
    ]
    pictures = report(found, 14).data["pictures"]
    assert (pictures["compared"], pictures["not_larger"], pictures["refused"]) == (12, {"896": 1}, {"truncated": 1})
    assert pictures["refused_file_ids"] == [14]


def test_what_a_failed_request_cost_is_in_the_sum() -> None:
    found = [*calls(12), call(1, "896", code="malformed_answer", final=False, cost_usd=0.5, cost_usd_projected=0.5)]
    figures = report(found, 12).data["calls"]
    assert (figures["made"], figures["answered"], figures["failed"]) == (37, 36, {"malformed_answer": 1})
    assert figures["cost_usd"] == pytest.approx(0.536)

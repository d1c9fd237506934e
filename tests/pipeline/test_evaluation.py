"""An evaluation against the stand-in: what is copied, asked, paid and kept, and what a retry leaves alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from include.catalog.records import EvaluationCall
from include.local.nova_stand_in import Forced, NovaStandIn
from include.local.registration import register_folders
from include.nova import Backoff
from include.pipeline import evaluation, pricing
from include.pipeline.batches import RunCancelled
from include.pipeline.evaluation import (
    EvaluationIncomplete,
    EvaluationStage,
    NothingToEvaluate,
    PromptChanged,
    plan_evaluation,
    report_evaluation,
)
from include.pipeline.evaluation_params import parse_evaluation
from include.pipeline.plan import CostLimitExceeded
from include.pipeline.settings import Settings, load_settings
from include.storage.destinations import UnusableDestination
from include.storage.errors import StorageUnavailable
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground
from tests.pipeline.test_analysis import nova_client

RUN = "proxy_quality_evaluation/manual"


class Trial:
    """One evaluation on the ground."""

    def __init__(self, ground: Ground, stand_in: NovaStandIn) -> None:
        self.ground, self.stand_in, self.concurrency = ground, stand_in, 2

    def settings(self, **changes: Any) -> Settings:
        temp_dir = self.ground.pictures.parent
        return load_settings(bucket=self.ground.bucket, temp_dir=temp_dir, workers=2, **changes)

    def plan(self, **conf: Any) -> Any:
        register_folders(self.ground.catalog, [self.ground.pictures], datetime.now(UTC))
        params = parse_evaluation(conf)
        return plan_evaluation(self.ground.catalog, RUN, params, self.settings(), nova_endpoint="stand-in")

    def stage(self, **settings: Any) -> EvaluationStage:
        ground, nova = self.ground, nova_client(self.stand_in)
        return EvaluationStage(ground.catalog, nova, ground.s3, self.settings(**settings), self.concurrency)

    def ask(self, **settings: Any) -> dict[str, int]:
        return dict(self.stage(**settings).run(RUN))

    def report(self, **settings: Any) -> dict[str, Any]:
        made = report_evaluation(self.ground.catalog, RUN, self.ground.s3, self.settings(**settings))
        return dict(made.data)

    def rows(self) -> list[EvaluationCall]:
        return self.ground.catalog.evaluation_calls(RUN)

    def asked(self) -> Counter[str]:
        """Keys that the stand-in answered about, without their folder: its own log, not ours."""
        return Counter((call.s3_uri or "").rpartition("/")[2] for call in self.stand_in.calls() if call.status == 200)


@pytest.fixture
def trial(ground: Ground, stand_in: NovaStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    monkeypatch.setattr(evaluation, "BACKOFF", Backoff(attempts=3, base_seconds=0.001, cap_seconds=0.001))
    yield Trial(ground, stand_in)
    assert ground.objects() == [], "copies were left in the bucket"


def two_pictures(trial: Trial) -> None:
    photograph(trial.ground.pictures / "a.jpg", 1600, 1200)
    photograph(trial.ground.pictures / "b.jpg", 1800, 1350)


def test_each_size_is_asked_about_once_and_the_original_as_often_as_wanted(trial: Trial) -> None:
    two_pictures(trial)
    trial.plan(detail=["896", "1024", "original"], repeats=2)
    assert trial.ask() == {"answered": 8, "open": 0}
    assert sorted(trial.asked().values()) == [1, 1, 1, 1, 2, 2]
    shown = {(row.variant, row.width, row.height) for row in trial.rows() if row.file_id == 1}
    assert shown == {("896", 1195, 896), ("1024", 1365, 1024), ("original", 1600, 1200)}
    for row in trial.rows():
        assert row.called and row.final and row.code is None and row.endpoint == "stand-in"
        assert row.seconds and row.latency_ms and row.input_tokens and row.output_tokens
        assert row.prepare_seconds and row.upload_seconds and row.image_bytes and row.description
        assert (row.cost_usd, row.price_date) == (None, "2026-11-22")
        assert row.cost_usd_projected and row.cost_usd_projected > 0


def test_the_original_leaves_without_its_metadata_and_with_its_pixels(trial: Trial, monkeypatch: Any) -> None:
    path = photograph(trial.ground.pictures / "gps.jpg", 1600, 1200)
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    with Image.open(path) as image:
        image.save(path, exif=exif, quality="keep")
    kept: dict[str, bytes] = {}
    real = evaluation.remove_copies

    def look_first(s3: Any, settings: Settings, run_id: str) -> int:
        for key in trial.ground.objects():
            kept[key.rpartition("-")[2]] = s3.get_object(Bucket=settings.bucket, Key=key)["Body"].read()
        return real(s3, settings, run_id)

    monkeypatch.setattr(evaluation, "remove_copies", look_first)
    trial.plan()
    trial.ask()
    assert b"Exif" in path.read_bytes() and b"Exif" not in kept["original.jpg"]
    copy = trial.ground.pictures.parent / "copy.jpg"
    copy.write_bytes(kept["original.jpg"])
    with Image.open(copy) as shown, Image.open(path) as source:
        assert shown.tobytes() == source.tobytes()


def test_an_original_that_nova_does_not_take_is_converted_or_shrunk_as_little_as_need_be(trial: Trial) -> None:
    Image.effect_noise((1200, 1000), 40).convert("RGB").save(trial.ground.pictures / "a.tif")
    Image.linear_gradient("L").resize((9000, 1200)).save(trial.ground.pictures / "b.png")
    trial.plan(repeats=1)
    trial.ask()
    originals = {row.file_id: row for row in trial.rows() if row.variant == "original"}
    assert (originals[1].format, originals[1].width, originals[1].height) == ("jpeg", 1200, 1000)
    assert (originals[2].width, originals[2].height) == (8000, 1067)


def test_a_retry_pays_for_nothing_that_was_answered(trial: Trial) -> None:
    two_pictures(trial)
    trial.plan(repeats=2)
    trial.concurrency = 1
    trial.stand_in.change(forced=(Forced(error="ThrottlingException", calls=tuple(range(3, 100))),))
    with pytest.raises(EvaluationIncomplete, match="4 questions have no answer yet"):
        trial.ask()
    assert trial.asked().total() == 2
    trial.stand_in.change(forced=())
    assert trial.ask() == {"answered": 4, "open": 0}
    assert trial.asked().total() == 6
    assert sorted(trial.asked().values()) == [1, 1, 2, 2]
    assert trial.ask() == {"open": 0}
    assert trial.asked().total() == 6


def test_a_retry_of_the_original_alone_does_not_forget_that_its_proxy_differs(trial: Trial) -> None:
    photograph(trial.ground.pictures / "a.jpg", 1600, 1200)
    trial.plan(repeats=1)
    trial.stand_in.change(forced=(Forced(error="ThrottlingException", key_contains="-original."),))
    with pytest.raises(EvaluationIncomplete):
        trial.ask()
    trial.stand_in.change(forced=())
    assert trial.ask() == {"answered": 1, "open": 0}
    assert trial.report()["pictures"]["compared"] == 1


def test_throttling_costs_patience_and_nothing_else(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    two_pictures(trial)
    monkeypatch.setattr(evaluation, "BACKOFF", Backoff(attempts=20, base_seconds=0.001, cap_seconds=0.001))
    trial.stand_in.change(throttle_rate=0.3)
    trial.plan(repeats=3)
    counts = trial.ask()
    assert (counts["answered"], counts["open"]) == (8, 0)
    assert sorted(trial.asked().values()) == [1, 1, 3, 3]
    throttled = [row for row in trial.rows() if row.code == "throttled"]
    assert len(throttled) == counts["throttled"] == sum(call.status == 429 for call in trial.stand_in.calls())
    assert not any(row.final or row.cost_usd_projected for row in throttled)


def test_a_question_that_nova_refuses_is_not_asked_again_and_its_cost_is_kept(trial: Trial) -> None:
    photograph(trial.ground.pictures / "a.jpg", 1600, 1200)
    trial.plan(repeats=1)
    trial.stand_in.change(forced=(Forced(stop_reason="content_filtered", key_contains="-896."),))
    assert trial.ask() == {"content_filtered": 1, "answered": 1, "open": 0}
    assert trial.ask() == {"open": 0}
    said = trial.report()
    assert said["complete"] and said["pictures"]["refused"] == {"content_filtered": 1}
    assert said["calls"]["failed"] == {"content_filtered": 1}
    assert said["calls"]["input_tokens"] == sum(call.input_tokens for call in trial.stand_in.calls())


def test_a_picture_no_larger_than_its_proxy_is_not_paid_for(trial: Trial) -> None:
    photograph(trial.ground.pictures / "small.jpg", 800, 600)
    photograph(trial.ground.pictures / "middle.jpg", 1200, 1000)
    trial.plan(detail=["896", "1024"], repeats=1, file_ids=[1, 2])
    assert trial.ask() == {"answered": 2, "open": 0}
    assert trial.report()["pictures"] == {
        "sampled": 2,
        "compared": 1,
        "not_larger": {"896": 1, "1024": 2},
        "refused": {},
        "refused_file_ids": [],
    }


def test_a_broken_picture_is_told_and_the_others_go_on(trial: Trial) -> None:
    two_pictures(trial)
    path = trial.ground.pictures / "a.jpg"
    path.write_bytes(path.read_bytes()[:60_000])
    trial.plan(repeats=1)
    assert trial.ask() == {"answered": 2, "open": 0}
    assert trial.report()["pictures"]["refused"] == {"truncated": 1}


def test_the_highest_cost_is_checked_before_anything_is_asked(trial: Trial) -> None:
    two_pictures(trial)
    with pytest.raises(CostLimitExceeded, match="2 pictures in 3 calls each would cost about"):
        trial.plan(max_cost_usd=0.001)
    assert trial.ground.catalog.evaluation(RUN) is None
    assert trial.stand_in.calls() == ()


def test_the_highest_cost_ends_the_questions_cleanly(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projected low, billed high: as when answers are longer than expected."""
    two_pictures(trial)
    trial.plan(max_cost_usd=0.02, repeats=2)
    trial.concurrency = 1
    monkeypatch.setattr(pricing, "cost_usd", lambda *_, **__: 0.005)
    assert trial.ask() == {"answered": 4, "open": 2}
    assert trial.ask() == {"open": 2}
    said = trial.report()
    assert (said["complete"], said["stopped_by_cost"], said["calls"]["open"]) == (False, True, 2)
    assert said["calls"]["cost_usd_projected"] == pytest.approx(0.02)


def test_the_days_limit_holds_for_evaluations_too(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an evaluation spends what the setting forbids all runs together to spend."""
    two_pictures(trial)
    monkeypatch.setenv("IMAGE_PROXY_MAX_COST_USD_PER_DAY", "0.001")
    with pytest.raises(CostLimitExceeded, match="left today of IMAGE_PROXY_MAX_COST_USD_PER_DAY"):
        trial.plan()
    monkeypatch.setenv("IMAGE_PROXY_MAX_COST_USD_PER_DAY", "0.02")
    trial.plan(max_cost_usd=None, repeats=2)
    trial.concurrency = 1
    monkeypatch.setattr(pricing, "cost_usd", lambda *_, **__: 0.005)
    assert trial.ask() == {"answered": 4, "open": 2}
    said = trial.report()
    assert (said["complete"], said["stopped_by_cost"], said["calls"]["open"]) == (False, True, 2)


def test_a_missing_permission_fails_at_once(trial: Trial) -> None:
    two_pictures(trial)
    trial.plan()
    trial.stand_in.change(forced=(Forced(error="AccessDeniedException"),))
    with pytest.raises(evaluation.NovaRefused, match="bedrock:InvokeModel"):
        trial.ask()
    assert len(trial.stand_in.calls()) <= 2


def test_stopping_asks_nothing_more_and_leaves_no_copies(trial: Trial) -> None:
    two_pictures(trial)
    trial.plan()
    stage = trial.stage()
    stage.stop.set()
    with pytest.raises(RunCancelled):
        stage.run(RUN)
    assert trial.stand_in.calls() == ()


def test_the_sample_is_the_same_for_a_retry_and_for_the_same_seed(trial: Trial) -> None:
    for number in range(6):
        photograph(trial.ground.pictures / f"{number}.jpg", 1000, 950)
    first = trial.plan(sample_size=3, seed=4)
    assert len(first.file_ids) == 3
    assert trial.ground.catalog.sample_images(3, 4, 896) == first.file_ids
    assert trial.plan(sample_size=5, seed=9) == first
    others = {trial.ground.catalog.sample_images(3, seed, 896) for seed in range(12)}
    assert len(others) > 3
    assert {file_id for sample in others for file_id in sample} == set(range(1, 7))


def test_named_pictures_are_taken_and_unknown_ones_refused(trial: Trial) -> None:
    two_pictures(trial)
    with pytest.raises(NothingToEvaluate, match="not images of the catalog: 77"):
        trial.plan(file_ids=[1, 77])
    assert trial.plan(file_ids=[2, 2]).file_ids == (2,)


def test_an_empty_catalog_says_so(trial: Trial) -> None:
    with pytest.raises(NothingToEvaluate, match="no image that is larger"):
        trial.plan()
    with pytest.raises(NothingToEvaluate, match="planning did not finish"):
        trial.ask()


def test_the_report_is_kept_in_the_catalog_and_in_files(trial: Trial, tmp_path: Path) -> None:
    two_pictures(trial)
    trial.plan()
    trial.ask()
    said = trial.report(report_uri=str(tmp_path / "reports"))
    stored = trial.ground.catalog.evaluation(RUN)
    assert stored is not None and stored.finished_at is not None
    assert stored.report == said
    assert stored.note is not None and stored.note.startswith("MEANINGLESS FOR NOVA")
    page, data = sorted((tmp_path / "reports").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert json.loads(data.read_text()) == said
    assert stored.report_uri == data.as_uri()
    assert "MEANINGLESS FOR NOVA" in page.read_text().splitlines()[2]


def test_a_prompt_that_changed_since_is_not_asked_with(trial: Trial, tmp_path: Path) -> None:
    two_pictures(trial)
    trial.plan()
    (tmp_path / "mine.txt").write_text("Describe the picture as a poem.")
    with pytest.raises(PromptChanged, match=r"planned with the prompt image_analysis_v1-.* has mine-"):
        trial.ask(prompt_file=tmp_path / "mine.txt")
    assert trial.stand_in.calls() == ()


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_paid(trial: Trial) -> None:
    two_pictures(trial)
    with pytest.raises(UnusableDestination, match="ftp://"):
        trial.plan(report_uri="ftp://somewhere")


def test_a_report_file_that_fails_leaves_the_report_in_the_catalog(trial: Trial, tmp_path: Path) -> None:
    two_pictures(trial)
    (tmp_path / "file").write_text("in the way")
    trial.plan(report_uri=str(tmp_path / "file" / "reports"))
    trial.ask()
    with pytest.raises(StorageUnavailable):
        trial.report()
    stored = trial.ground.catalog.evaluation(RUN)
    assert stored is not None and stored.report is not None and stored.report_uri is None


def test_an_answer_that_somebody_else_got_meanwhile_is_a_duplicate_that_was_paid(trial: Trial) -> None:
    photograph(trial.ground.pictures / "a.jpg", 1600, 1200)
    trial.plan(repeats=1)
    trial.ask()
    again = replace(trial.rows()[0], cost_usd_projected=0.5)
    trial.ground.catalog.record_evaluation_call(RUN, again)
    last = trial.rows()[-1]
    assert (last.final, last.code, last.cost_usd_projected) == (False, "already_answered", 0.5)
    assert trial.report()["calls"]["answered"] == 2

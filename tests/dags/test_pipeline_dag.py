"""The whole DAG through `dag.test()`: what a run does, what the next one leaves alone, and every way of turning red."""

from __future__ import annotations

from typing import Any

import pytest

from include.catalog.records import Outcome
from include.storage.small_objects import SmallObjects
from tests.dags.conftest import Deployment, photograph


def three_pictures(deployment: Deployment) -> None:
    photograph(deployment.pictures / "large one.jpg", 1800, 1200)
    photograph(deployment.pictures / "small.jpg", 640, 480)
    broken = photograph(deployment.pictures / "broken.jpg", 1800, 1200)
    broken.write_bytes(broken.read_bytes()[:60_000])
    (deployment.pictures / "notes.txt").write_text("not a picture")


def test_each_image_gets_its_outcome_and_the_run_is_green(deployment: Deployment) -> None:
    three_pictures(deployment)
    assert deployment.run(max_failure_ratio=0.5) == "success"
    images = deployment.images()
    assert sorted(images) == ["broken.jpg", "large one.jpg", "small.jpg"]
    large, small, broken = images["large one.jpg"], images["small.jpg"], images["broken.jpg"]
    assert (large.outcome, large.action, large.width, large.height) == (Outcome.ANALYSED, "resized", 1344, 896)
    assert (small.outcome, small.action) == (Outcome.ANALYSED, "kept")
    assert (broken.outcome, broken.code) == (Outcome.FAILED, "truncated")
    report = deployment.report()
    assert (report.images_listed, report.proxies_created, report.originals_kept, report.failed) == (3, 1, 1, 1)
    assert (report.analyses_written, report.nova_calls, report.nova_endpoint) == (2, 2, "stand-in")
    assert report.cost_usd is None
    assert report.cost_usd_projected is not None and report.cost_usd_projected > 0
    assert len(deployment.stand_in.calls()) == 2


def test_only_proxies_and_kept_originals_are_uploaded(deployment: Deployment) -> None:
    three_pictures(deployment)
    deployment.run(max_failure_ratio=0.5)
    keys = deployment.objects()
    assert len(keys) == 2
    large = next(key for key in keys if "large" in key)
    prefix, versions, name = large.split("/")
    assert (prefix, len(versions), name.startswith("large-one_")) == ("proxy_image", 25, True)
    head = deployment.s3.head_object(Bucket=deployment.bucket, Key=large)
    assert head["ContentType"] == "image/jpeg"
    assert head["Metadata"]["source-id"] == str(deployment.images()["large one.jpg"].file_id)


def test_a_second_run_finds_nothing_to_do(deployment: Deployment) -> None:
    three_pictures(deployment)
    deployment.run(max_failure_ratio=0.5)
    assert deployment.run() == "success"
    assert deployment.report().images_listed == 0
    assert deployment.report().nova_calls == 0
    assert len(deployment.stand_in.calls()) == 2


def test_force_redoes_and_keeps_the_history(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1200, 900)
    deployment.run()
    assert deployment.run(force=True) == "success"
    assert (deployment.report().proxies_created, deployment.report().analyses_written) == (1, 1)
    assert len(deployment.stand_in.calls()) == 2


def test_making_proxies_alone_never_calls_nova(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1200, 900)
    assert deployment.run(stages=["proxy"]) == "success"
    assert deployment.images()["a.jpg"].outcome is Outcome.PROXIED
    assert deployment.stand_in.calls() == ()
    assert deployment.run(stages=["analyse"]) == "success"
    assert (deployment.report().proxies_created, deployment.report().analyses_written) == (0, 1)
    assert deployment.run(stages=["analyse"], force=True) == "success"
    assert (deployment.report().proxies_created, deployment.report().analyses_written) == (0, 1)


@pytest.mark.usefixtures("usual_environment")
def test_proxies_go_to_s3_with_the_connections_credentials_by_the_quick_way(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[bool] = []
    put = SmallObjects.put
    monkeypatch.setattr(SmallObjects, "put", lambda *given, **more: stored.append(put(*given, **more)) or stored[-1])
    photograph(deployment.pictures / "a.jpg", 1200, 900)
    assert deployment.run(stages=["proxy"]) == "success"
    assert stored == [True, True], "a proxy and a preview"


def test_batches_are_sized_as_asked(deployment: Deployment) -> None:
    for number in range(3):
        photograph(deployment.pictures / f"{number}.jpg", 1000, 950)
    assert deployment.run(batch_size=2) == "success"
    assert deployment.report().analyses_written == 3


def test_a_dry_run_writes_nothing_and_calls_nobody(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    photograph(deployment.pictures / "a.jpg", 1800, 1200)
    assert deployment.run(dry_run=True) == "success"
    assert deployment.catalog.latest_run_id("image_proxy_pipeline") is None
    assert (deployment.objects(), deployment.stand_in.calls()) == ([], ())


# -- every way of turning red ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("conf", [{"limt": 5}, {"max_cost_usd": 0.0000001}, {"model_id": "nova"}])
def test_a_plan_that_is_refused_is_red_and_nothing_was_done(deployment: Deployment, conf: dict[str, Any]) -> None:
    photograph(deployment.pictures / "a.jpg", 1800, 1200)
    assert deployment.run(**conf) == "failed"
    assert (deployment.run_ids, deployment.objects(), deployment.stand_in.calls()) == ([], [], ())


def test_a_wrong_setting_is_red(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_PROXY_KEEP_ORIGINAL", "perhaps")
    assert deployment.run() == "failed"


def test_too_many_failures_are_red_and_the_good_ones_are_kept(deployment: Deployment) -> None:
    three_pictures(deployment)
    assert deployment.run(max_failure_ratio=0.2) == "failed"
    assert deployment.report().analyses_written == 2


def test_a_missing_bucket_is_red_and_the_images_are_pending_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph(deployment.pictures / "a.jpg", 1200, 900)
    with monkeypatch.context() as patch:
        patch.setenv("IMAGE_PROXY_BUCKET", "there-is-no-such-bucket")
        assert deployment.run() == "failed"
    assert deployment.report().undecided == 1
    assert deployment.run() == "success"
    assert deployment.images()["a.jpg"].outcome is Outcome.ANALYSED


def test_a_missing_model_is_red_at_once_and_proxies_are_kept(deployment: Deployment) -> None:
    photograph(deployment.pictures / "a.jpg", 1200, 900)
    assert deployment.run(model_id="amazon.nova-2-lite-v1:0") == "failed"
    assert deployment.report().proxies_created == 1
    assert deployment.report().undecided == 1
    assert len(deployment.stand_in.calls()) == 1


def test_a_lost_image_is_red_though_every_task_is_green(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.pipeline.analysis import AnalysisStage

    photograph(deployment.pictures / "a.jpg", 1200, 900)
    monkeypatch.setattr(AnalysisStage, "run", lambda self, run_id, batch_id: {})
    assert deployment.run() == "failed"
    assert deployment.report().undecided == 1


def test_a_summary_that_fails_is_red(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    import include.pipeline.summary

    def broken(*arguments: object) -> None:
        raise RuntimeError("no summary")

    photograph(deployment.pictures / "a.jpg", 1200, 900)
    monkeypatch.setattr(include.pipeline.summary, "summarise", broken)
    assert deployment.run() == "failed"


# -- what a crash leaves ---------------------------------------------------------------------------------------------


def test_an_answer_that_was_written_is_not_paid_again(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task dies after the third answer was committed; the next run asks for the others only."""
    for number in range(5):
        photograph(deployment.pictures / f"{number}.jpg", 1000, 950)
    written = deployment.catalog.record_analysis
    count = 0

    def dies(self: Any, *arguments: Any) -> None:
        nonlocal count
        written(*arguments)
        count += 1
        if count == 3:
            raise ConnectionError("the database went away")

    deployment.slots = 1
    with monkeypatch.context() as patch:
        patch.setattr(type(deployment.catalog), "record_analysis", dies)
        assert deployment.run() == "failed"
    before = len(deployment.stand_in.calls())
    assert deployment.run() == "success"
    assert (
        deployment.report().analyses_written
        == 5 - deployment.catalog.run_counts(deployment.run_ids[0]).by_outcome[Outcome.ANALYSED]
    )
    assert len(deployment.stand_in.calls()) - before == deployment.report().analyses_written

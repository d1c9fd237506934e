"""Planning: batch sizes, projections, the cost limit, and planning the same run again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from include.catalog.records import Outcome, SourceImage, Stage
from include.local.registration import register_folders
from include.nova import NovaError
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import (
    ASSUMED_DIMENSIONS,
    BATCH_SECONDS,
    MIN_BATCH_SECONDS,
    MadeOnRequest,
    batch_size,
    plan_run,
    project,
    proxy_dimensions,
    proxy_seconds,
)
from include.pipeline.settings import load_settings
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground


def source(width: int | None, height: int | None, size_bytes: int = 4_000_000) -> SourceImage:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    return SourceImage(1, "file:///a.jpg", "a.jpg", "image/jpeg", size_bytes, "v", "jpeg", width, height, now)


@given(images=st.integers(1, 100_000), seconds_each=st.floats(0.001, 30))
def test_a_batch_pays_for_its_task_and_a_run_is_parted(images: int, seconds_each: float) -> None:
    size = batch_size(images, images * seconds_each)
    batches = -(-images // size)
    assert size == 1 or batches == 1 or size * seconds_each >= MIN_BATCH_SECONDS / 2
    assert size == 1 or size * seconds_each <= BATCH_SECONDS + seconds_each
    assert batches > 1 or size == 1 or images * seconds_each < 2 * MIN_BATCH_SECONDS


def test_what_an_image_costs_grows_with_its_pixels_and_unknown_ones_are_twelve_megapixels() -> None:
    assert proxy_seconds([source(4000, 3000)]) == pytest.approx(0.062)
    assert proxy_seconds([source(None, None)]) == proxy_seconds([source(4000, 3000)])
    assert proxy_seconds([source(640, 480)]) < 0.03


def test_there_are_never_more_batches_than_can_be_mapped(ground: Ground) -> None:
    for number in range(12):
        photograph(ground.pictures / f"{number}.jpg", 40, 40)
    ground.plan("register")
    assert plan(ground, "many", stages=["proxy"], batch_size=1) == [2] * 6


@pytest.mark.parametrize(("width", "height"), [(None, None), (0, 0), (-1, 600), (800, None)])
def test_dimensions_that_nobody_knows_are_assumed(width: int | None, height: int | None) -> None:
    assert proxy_dimensions(source(width, height), parse_params({})) == ASSUMED_DIMENSIONS


def test_a_projection_uses_measured_bytes_and_never_exceeds_the_original() -> None:
    params, settings = parse_params({}), load_settings()
    large = project([source(4000, 3000)], params, settings, {"jpeg": 0.5})
    assert large.bytes_proxies_estimated == round(1195 * 896 * 0.5)
    assert project([source(4000, 3000, 1000)], params, settings, {}).bytes_proxies_estimated == 1000
    assert large.cost_usd_estimated > 0
    assert project([source(4000, 3000)], parse_params({"stages": ["proxy"]}), settings, {}).cost_usd_estimated == 0


def plan(ground: Ground, name: str, **conf: Any) -> list[int]:
    identity = RunIdentity("dag", name)
    ground.run_id = identity.run_id
    settings = load_settings(bucket=ground.bucket)
    found = plan_run(
        ground.catalog, identity, parse_params(conf), settings, Window(), nova_endpoint="stand-in", max_batches=10
    )
    return [batch.size for batch in found.batches]


def test_a_cleared_forced_run_takes_no_image_more_than_its_limit(ground: Ground) -> None:
    for number in range(5):
        photograph(ground.pictures / f"{number}.jpg", 1000, 950)
    batch = ground.plan("forced", stages=["proxy"], force=True, limit=2)
    assert ground.stage().run(ground.run_id, batch) == {Outcome.PROXIED: 2}
    assert plan(ground, "forced", stages=["proxy"], force=True, limit=2) == []
    assert ground.catalog.run_counts(ground.run_id).listed == 2


def test_what_a_run_has_spent_counts_when_it_is_planned_again(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1000, 950)
    ground.plan("again")
    with ground.catalog._store.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO image_attempts (run_id, file_id, stage, called, cost_usd_projected, recorded_at) "
                "VALUES (:run, 1, 'analyse', true, 0.5, '2026-11-01 00:00:00')"
            ),
            {"run": ground.run_id},
        )
    assert plan(ground, "again", max_cost_usd=0.5) == []


def test_a_model_without_a_card_is_refused_before_anything_is_written(ground: Ground) -> None:
    photograph(ground.pictures / "a.jpg", 1000, 950)
    with pytest.raises(NovaError, match="no model card"):
        ground.plan(model_id="us.amazon.nova-9")
    assert ground.catalog.latest_run_id("dag") is None


# -- how a run was started -------------------------------------------------------------------------------------------


def started(ground: Ground, run_type: str | None, name: str = "run", task: str | None = None, **more: Any) -> list[int]:
    """Plan a run that Airflow started in this way, without a window; return its images."""
    identity = RunIdentity("dag", name, task, run_type)
    ground.run_id = identity.run_id
    conf, settings = more.pop("conf", {}), load_settings(bucket=ground.bucket, **more)
    plan_run(
        *(ground.catalog, identity, parse_params(conf), settings, Window()), nova_endpoint="stand-in", max_batches=10
    )
    return [image.file_id for image in ground.catalog.run_images(identity.run_id)]


def pictures(ground: Ground, count: int) -> None:
    for number in range(len(list(ground.pictures.iterdir())), count):
        photograph(ground.pictures / f"{number}.jpg", 1000, 950)
    register_folders(ground.catalog, [ground.pictures], datetime.now(UTC))


@pytest.mark.parametrize(
    ("run_type", "taken"), [("scheduled", 2), ("asset_triggered", 2), ("manual", 2), ("backfill", 3)]
)
def test_the_deployments_limit_bounds_all_but_backfills(ground: Ground, run_type: str, taken: int) -> None:
    pictures(ground, 3)
    assert len(started(ground, run_type, run_limit=2)) == taken
    assert len(started(ground, run_type, "small", conf={"limit": 1}, run_limit=2)) == 1


@pytest.mark.parametrize("run_type", ["scheduled", "asset_triggered"])
def test_in_lazy_mode_nobody_in_person_means_no_run(ground: Ground, run_type: str) -> None:
    pictures(ground, 1)
    with pytest.raises(MadeOnRequest, match="IMAGE_PROXY_PROXY_MODE is lazy"):
        started(ground, run_type, proxy_mode="lazy")
    assert not ground.catalog.is_planned(ground.run_id)


def test_in_lazy_mode_a_request_takes_what_has_no_proxy(ground: Ground) -> None:
    pictures(ground, 2)
    assert started(ground, "manual", "eager", conf={"stages": ["analyse"]}) == []
    assert len(started(ground, "manual", conf={"stages": ["analyse"]}, proxy_mode="lazy")) == 2
    assert ground.catalog.run_stages(ground.run_id) == set(Stage)
    assert len(started(ground, None, "foreign", task="operator[-1]", proxy_mode="lazy")) == 2


def test_a_backfill_of_an_interval_that_had_a_run_takes_what_came_in_late(ground: Ground) -> None:
    """Airflow repeats an interval under its first run's id; a person who clears a run gets no more than it listed."""
    pictures(ground, 1)
    assert len(started(ground, "scheduled", conf={"limit": 5})) == 1
    pictures(ground, 2)
    assert len(started(ground, "scheduled", conf={"limit": 5})) == 1
    assert len(started(ground, "backfill")) == 2
    pictures(ground, 3)
    assert len(started(ground, "backfill")) == 3

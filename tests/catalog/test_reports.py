"""A run in numbers, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from include.catalog.catalog import Catalog
from include.catalog.records import Failure, ImageReport, Outcome, WorkKey
from tests.catalog.conftest import NOON
from tests.catalog.making import ANALYSE, BROKEN, KEY, PROXY, Worker, add, call, kept, listed, new_proxy, plan, process


@pytest.fixture
def run(catalog: Catalog) -> list[int]:
    """Eight images: two proxied and analysed, one kept and analysed, one proxied and refused by Nova, one broken, one
    done before, one put back, one nobody decided about."""
    ids = add(catalog, 8)
    big, small, kept_one, refused, broken, done, returned, _lost = ids
    process(catalog, "before", done)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    sizes = {big: (4_000_000, 400_000, 0.8), small: (1_000_000, 500_000, 0.2), refused: (2_000_000, 1_000_000, 0.4)}
    for file_id, (original, proxy, seconds) in sizes.items():
        uri = f"s3://proxies/{file_id}.jpg"
        made = new_proxy(uri=uri, original_bytes=original, proxy_bytes=proxy, bytes_uploaded=proxy, seconds=seconds)
        worker.proxy(file_id, made)
    worker.proxy(kept_one, kept(original_bytes=1_500_000, proxy_bytes=1_500_000, reason="fits", seconds=9.0))
    worker.fail(broken, BROKEN)
    worker.skip(done)
    worker.put_back(returned)
    answers = Worker(catalog, "run", ANALYSE)
    answers.analyse(big, cost_usd=0.01)
    answers.analyse(small, "a dog", cost_usd=0.02)
    answers.analyse(kept_one, cost_usd=0.03)
    catalog.record_call("dag/run", refused, call(code="filtered", input_tokens=300, output_tokens=0, cost_usd=0.04))
    answers.fail(refused, Failure("filtered", "Nova refused"))
    answers.skip(done)
    return ids


def test_counts(catalog: Catalog, run: list[int]) -> None:
    counts = catalog.run_counts("dag/run")
    assert (counts.listed, counts.undecided) == (len(run), 1)
    assert counts.by_outcome == {
        Outcome.ANALYSED: 3,
        Outcome.FAILED: 2,
        Outcome.SKIPPED: 1,
        Outcome.RETURNED: 1,
    }


def test_figures(catalog: Catalog, run: list[int]) -> None:
    figures = catalog.run_figures("dag/run")
    assert (figures.run_id, figures.dag_id, figures.dag_run_id) == ("dag/run", "dag", "run")
    assert (figures.nova_endpoint, figures.started_at, figures.images_listed) == ("stand-in", NOON, 8)
    assert (figures.proxies_created, figures.originals_kept, figures.analyses_written) == (3, 1, 3)
    assert (figures.failed, figures.skipped, figures.returned, figures.undecided) == (2, 1, 1, 1)
    assert figures.nova_calls == 4
    assert figures.bytes_original == 4_000_000 + 1_000_000 + 2_000_000 + 1_500_000
    assert figures.bytes_served == 400_000 + 500_000 + 1_000_000 + 1_500_000
    assert figures.bytes_uploaded == 400_000 + 500_000 + 1_000_000
    assert figures.bytes_original_over_1mb == 4_000_000 + 2_000_000 + 1_500_000  # exactly 1,000,000 is not over
    assert figures.bytes_served_over_1mb == 400_000 + 1_000_000 + 1_500_000
    assert figures.mean_saving_ratio == pytest.approx((0.9 + 0.5 + 0.5 + 0) / 4)
    assert figures.mean_saving_ratio_over_1mb == pytest.approx((0.9 + 0.5 + 0) / 3)
    assert figures.proxy_seconds == (0.2, 0.4, 0.8)
    assert (figures.input_tokens, figures.output_tokens) == (1_200, 300)
    assert figures.cost_usd == pytest.approx(0.10)
    assert figures.cost_usd_projected == pytest.approx(2.0)


def test_figures_stay_when_a_later_run_redoes_everything(catalog: Catalog, run: list[int]) -> None:
    before = catalog.run_figures("dag/run")
    catalog.release_all()
    process(catalog, "later", *run, force=True)
    assert catalog.run_figures("dag/run") == before
    assert catalog.run_figures("dag/later").proxies_created == 8


def test_on_the_stand_in_a_cost_is_only_projected(catalog: Catalog) -> None:
    ids = add(catalog)
    process(catalog, "run", *ids)
    figures = catalog.run_figures("dag/run")
    assert (figures.cost_usd, figures.cost_usd_projected) == (None, 0.5)


def test_a_run_that_did_nothing_has_no_ratio_and_no_cost(catalog: Catalog) -> None:
    catalog.store_plan(plan("run"))
    figures = catalog.run_figures("dag/run")
    assert (figures.images_listed, figures.nova_calls, figures.bytes_original, figures.input_tokens) == (0, 0, 0, 0)
    assert (figures.mean_saving_ratio, figures.cost_usd, figures.proxy_seconds) == (None, None, ())


def test_every_image_is_reported_in_order(catalog: Catalog, run: list[int]) -> None:
    reports = catalog.run_images("dag/run")
    assert [report.file_id for report in reports] == run
    big, small, kept_one, refused, broken, done, returned, lost = reports
    assert big == ImageReport(
        file_id=run[0],
        uri="s3://pictures/00000.jpg",
        filename="00000.jpg",
        outcome=Outcome.ANALYSED,
        action="resized",
        reason=None,
        code=None,
        message=None,
        original_bytes=4_000_000,
        original_width=4000,
        original_height=2987,
        proxy_bytes=400_000,
        width=1200,
        height=896,
        seconds=0.8,
        description="a cat",
    )
    assert small.description == "a dog"
    assert (kept_one.outcome, kept_one.action, kept_one.proxy_bytes) == (Outcome.ANALYSED, "kept", 1_500_000)
    assert (refused.outcome, refused.code, refused.message) == (Outcome.FAILED, "filtered", "Nova refused")
    assert (refused.proxy_bytes, refused.description) == (1_000_000, None)
    assert (broken.outcome, broken.code, broken.message) == (Outcome.FAILED, "truncated", BROKEN.message)
    assert (broken.original_bytes, broken.proxy_bytes, broken.action) == (2_000_000, None, None)
    assert (done.outcome, done.code, done.description) == (Outcome.SKIPPED, "done", "a cat")
    assert done.proxy_bytes == 200_000
    assert (returned.outcome, returned.code) == (Outcome.RETURNED, "throttled")
    assert (lost.outcome, lost.code, lost.original_bytes) == (None, None, 2_000_000)


def test_failures_are_those_of_both_stages(catalog: Catalog, run: list[int]) -> None:
    failures = [(report.file_id, report.code) for report in catalog.run_failures("dag/run")]
    assert failures == [(run[3], "filtered"), (run[4], "truncated")]


@pytest.mark.parametrize("stage", [PROXY, ANALYSE])
def test_a_run_of_one_stage_is_complete_with_that_stage(catalog: Catalog, stage: object) -> None:
    ids = add(catalog, 2)
    if stage is ANALYSE:
        process(catalog, "proxies", *ids, stages=frozenset({PROXY}))
    process(catalog, "run", *ids, stages=frozenset({stage}))  # type: ignore[arg-type]
    counts = catalog.run_counts("dag/run")
    outcome = Outcome.PROXIED if stage is PROXY else Outcome.ANALYSED
    assert (counts.by_outcome, counts.undecided) == ({outcome: 2}, 0)
    assert [report.outcome for report in catalog.run_images("dag/run")] == [outcome] * 2


def test_bytes_per_pixel_are_averaged_by_format(catalog: Catalog) -> None:
    assert catalog.proxy_bytes_per_pixel() == {}
    ids = add(catalog, 4)
    catalog.store_plan(plan("run", ids))
    worker = Worker(catalog, "run", PROXY)
    size = {"width": 100, "height": 100}
    worker.proxy(ids[0], new_proxy(uri="a", proxy_bytes=1_000, **size))
    worker.proxy(ids[1], new_proxy(uri="b", proxy_bytes=5_000, width=100, height=200))
    worker.proxy(ids[2], new_proxy(uri="c", proxy_bytes=15_000, format="png", **size))
    worker.proxy(ids[3], kept(proxy_bytes=9_999_999, **size))
    assert catalog.proxy_bytes_per_pixel() == {"jpeg": pytest.approx(6_000 / 30_000), "png": pytest.approx(1.5)}


def test_the_view_shows_the_newest_of_several_keys(catalog: Catalog) -> None:
    [file_id] = add(catalog)
    fresh = catalog.current(file_id)
    assert fresh is not None
    assert (fresh["proxy_status"], fresh["description"]) == (None, None)
    process(catalog, "one", file_id)
    other = WorkKey("recipe-2", KEY.model_id, KEY.prompt_version)
    process(catalog, "two", file_id, stages=frozenset({PROXY}), key=other)
    row = catalog.current(file_id)
    assert row is not None
    assert (row["proxy_recipe_version"], row["analysed_recipe_version"]) == ("recipe-2", "recipe-1")
    assert catalog.current(999) is None
    assert listed(catalog, key=other, stages={ANALYSE}) == [file_id]

"""What people look at: pages that miss nothing and repeat nothing, states that agree with the rows, exact sums."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text, update

from include.catalog.browse_records import (
    Cursor,
    FileFilter,
    ImageStatus,
    InvalidCursor,
    NewPreview,
    SavingsGroup,
)
from include.catalog.catalog import Catalog
from include.catalog.errors import UnknownRun
from include.catalog.records import Stage
from include.catalog.tables import image_proxies
from tests.catalog.conftest import Clock
from tests.catalog.making import (
    ANALYSE,
    BROKEN,
    FIRST_UPLOAD,
    KEY,
    PROXY,
    THROTTLED,
    Worker,
    add,
    image,
    kept,
    new_proxy,
    plan,
    process,
)
from tests.catalog.test_selection import fill, query_plan


def pages(catalog: Catalog, wanted: FileFilter, limit: int) -> list[int]:
    """Every id, following the cursors as text."""
    found: list[int] = []
    after = None
    while True:
        page = catalog.list_files(wanted, limit=limit, after=after)
        found += [file.file_id for file in page.files]
        if page.next_cursor is None:
            return found
        after = Cursor.parse(page.next_cursor.text())


def test_pages_miss_and_repeat_nothing_also_among_equal_times(catalog: Catalog) -> None:
    same = [image(f"same-{number}") for number in range(5)]
    later = [image(f"later-{n}", uploaded_at=FIRST_UPLOAD + timedelta(microseconds=n)) for n in (1, 2)]
    catalog.register([*same, *later])
    found = pages(catalog, FileFilter(), 2)
    assert len(found) == len(set(found)) == 7
    assert found == sorted(found[:2], reverse=True) + sorted(found[2:], reverse=True)


def test_every_state_is_found_by_its_filter_and_by_no_other(catalog: Catalog) -> None:
    pending, held, proxied, as_it_is, failed = add(catalog, 5)
    catalog.store_plan(plan("one", [proxied, as_it_is, failed], stages={PROXY}))
    worker = Worker(catalog, "one", PROXY)
    worker.proxy(proxied)
    worker.proxy(as_it_is, kept())
    worker.fail(failed)
    catalog.store_plan(plan("two", [held], stages={PROXY}))
    Worker(catalog, "two", PROXY)
    catalog.register([image("film", media_type="video/mp4")])
    (film,) = pages(catalog, FileFilter(status=ImageStatus.NOT_AN_IMAGE), 10)
    expected = {
        ImageStatus.PENDING: [pending],
        ImageStatus.IN_PROGRESS: [held],
        ImageStatus.PROXIED: [proxied],
        ImageStatus.KEPT: [as_it_is],
        ImageStatus.FAILED: [failed],
        ImageStatus.NOT_AN_IMAGE: [film],
    }
    for status, ids in expected.items():
        files = catalog.list_files(FileFilter(status=status), limit=10).files
        assert [(file.file_id, file.status) for file in files] == [(file_id, status) for file_id in ids]
    assert film not in pages(catalog, FileFilter(), 10)
    assert film in pages(catalog, FileFilter(images_only=False), 10)


def test_analysed_and_not_analysed_share_the_images_with_a_proxy(catalog: Catalog) -> None:
    ids = add(catalog, 3)
    process(catalog, "both", ids[0])
    process(catalog, "proxies", ids[1], stages=frozenset({PROXY}))
    assert pages(catalog, FileFilter(status=ImageStatus.ANALYSED), 10) == [ids[0]]
    assert pages(catalog, FileFilter(status=ImageStatus.NOT_ANALYSED), 10) == [ids[1]]


def test_a_changed_image_is_pending_again_and_its_past_stays(catalog: Catalog) -> None:
    (file_id,) = add(catalog)
    process(catalog, "before", file_id)
    catalog.record_preview(file_id, "content-1", NewPreview("s3://p/1.jpg", "jpeg", 300, 200, 5))
    assert catalog.preview(file_id) is not None
    catalog.register([image("00000", content_version="content-2")])
    detail = catalog.file_detail(file_id)
    assert detail is not None
    assert (detail.file.status, detail.file.proxy, detail.file.analysis) == (ImageStatus.PENDING, None, None)
    assert (detail.file.preview, catalog.preview(file_id)) == (None, None)
    assert (len(detail.proxies), len(detail.analyses), len(detail.runs)) == (1, 1, 1)
    assert catalog.current_proxy(file_id, KEY) is None


def test_filters_hold_together(catalog: Catalog) -> None:
    catalog.register(
        [
            image("a", filename="100%_Sure.JPG", format="JPEG", size_bytes=10),
            image("b", filename="100xxSure.jpg", format="jpeg", size_bytes=20),
            image("c", filename="other.png", format="png", size_bytes=30),
        ]
    )

    def names(**wanted: object) -> set[str]:
        return {file.filename for file in catalog.list_files(FileFilter(**wanted), limit=10).files}  # type: ignore[arg-type]

    assert names(name="100%_s") == {"100%_Sure.JPG"}  # neither % nor _ is a wildcard
    assert names(format="Jpeg") == {"100%_Sure.JPG", "100xxSure.jpg"}
    assert names(min_bytes=20, max_bytes=20) == {"100xxSure.jpg"}
    assert names(format="jpeg", name="other") == set()
    assert names(uploaded_from=FIRST_UPLOAD, uploaded_to=FIRST_UPLOAD) == set()


def test_images_of_a_run_and_of_a_batch(catalog: Catalog) -> None:
    ids = add(catalog, 4)
    catalog.store_plan(plan("one", ids[:2], ids[2:3]))
    assert sorted(pages(catalog, FileFilter(run_id="dag/one"), 10)) == ids[:3]
    assert pages(catalog, FileFilter(run_id="dag/one", batch_id=1), 10) == [ids[2]]
    assert catalog.known_images([*ids, 999]) == frozenset(ids)


@pytest.mark.parametrize("text", ["", "x", "W10", "bnVsbA", "WyIyMDI2IiwgIngiLCAiIl0", "e" * 150])
def test_a_cursor_that_was_not_given_out_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


def test_a_cursor_comes_back_as_it_went(clock: Clock) -> None:
    cursor = Cursor(clock(), 2**40, "proxy")
    assert Cursor.parse(cursor.text()) == cursor


def test_savings_are_sums_of_the_newest_current_proxies(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 4)
    catalog.register([image("local", uri="file:///archive/local.png", format="png", uploaded_at=clock())])
    local = pages(catalog, FileFilter(format="png"), 10)[0]
    process(catalog, "first", *ids[:2])
    clock.forward(86_400)
    catalog.store_plan(plan("second", [ids[0], ids[2], local], stages={PROXY}, force=True))
    worker = Worker(catalog, "second", PROXY)
    worker.proxy(ids[0], new_proxy(uri="s3://proxies/again.jpg", proxy_bytes=400_000))  # supersedes the first run's
    worker.proxy(ids[2], kept(proxy_bytes=2_000_000))
    worker.proxy(local, new_proxy(uri="s3://proxies/local.png"))
    days = catalog.savings_table(SavingsGroup.DAY)
    assert [(row.group, row.images, row.kept, row.bytes_saved) for row in days.groups] == [
        ("2026-11-23", 3, 1, 1_600_000 + 0 + 1_800_000),
        ("2026-11-22", 1, 0, 1_800_000),
    ]
    assert days.as_of == clock()
    assert [row.nova_calls for row in days.groups] == [0, 2]
    assert days.groups[1].stand_in_calls == 2
    assert (days.groups[1].cost_usd, days.groups[1].cost_usd_projected) == (None, 1.0)
    runs = catalog.savings(SavingsGroup.RUN)
    assert [(row.group, row.images) for row in runs] == [("dag/second", 3), ("dag/first", 1)]
    formats = {row.group: row for row in catalog.savings(SavingsGroup.FORMAT)}
    # An original that is not in S3: storage that was not taken. One that is: a proxy comes on top.
    assert formats["png"].bytes_avoided == 1_800_000
    assert formats["jpeg"].bytes_avoided == -(400_000 + 200_000)
    sizes = catalog.savings(SavingsGroup.SIZE)
    assert [(row.group, row.images) for row in sizes] == [("1 to 5 MB", 4)]
    total = catalog.savings_total()
    assert (total.images, total.bytes_saved, total.nova_calls) == (4, 5_200_000, 2)
    assert total.mean_saving_ratio == pytest.approx((0.8 + 0.0 + 0.9 + 0.9) / 4)


def test_days_and_runs_that_only_asked_nova_have_their_costs(catalog: Catalog, clock: Clock) -> None:
    """An analysis that comes after midnight, or of another run than the proxy, is paid for all the same."""
    ids = add(catalog, 2)
    process(catalog, "evening", *ids, stages=frozenset({PROXY}))
    clock.forward(86_400)
    process(catalog, "after-midnight", *ids, stages=frozenset({ANALYSE}))
    clock.forward(1)
    process(catalog, "redone", ids[0], force=True)
    clock.forward(86_400)
    process(catalog, "redone-again", ids[0], stages=frozenset({PROXY}), force=True)
    days, runs = catalog.savings(SavingsGroup.DAY), catalog.savings(SavingsGroup.RUN)
    assert [(row.group, row.images, row.nova_calls, row.cost_usd_projected) for row in days] == [
        ("2026-11-24", 1, 0, None),
        ("2026-11-23", 0, 3, 1.5),
        ("2026-11-22", 1, 0, None),
    ]
    assert [(row.group, row.images, row.nova_calls) for row in runs] == [
        ("dag/redone-again", 1, 0),
        ("dag/redone", 0, 1),
        ("dag/after-midnight", 0, 2),
        ("dag/evening", 1, 0),
    ]
    assert (days[1].mean_saving_ratio, days[1].bytes_original, days[1].stand_in_calls) == (None, 0, 3)
    total = catalog.savings_total()
    for rows in (days, runs):
        assert sum(row.nova_calls or 0 for row in rows) == total.nova_calls == 3


def test_savings_of_nothing(catalog: Catalog) -> None:
    found = catalog.savings_table(SavingsGroup.DAY)
    assert (found.groups, found.total.images, found.total.mean_saving_ratio) == ((), 0, None)


def test_savings_follow_what_is_recorded(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.catalog.kept.COST_FACTOR", 0)
    (file_id,) = add(catalog)
    assert catalog.savings_total().images == 0
    process(catalog, "one", file_id)
    assert catalog.savings_total().images == 1


def test_savings_hold_a_row_that_was_committed_after_one_with_a_higher_number(
    catalog: Catalog, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers end at once: the figures are read between their commits, and no other row ever comes."""
    monkeypatch.setattr("include.catalog.kept.COST_FACTOR", 0)
    first, last = add(catalog, 2)
    process(catalog, "first", first)
    process(catalog, "last", last)
    number = {"id": first}
    with engine.begin() as connection:  # not in sight yet
        connection.execute(text("UPDATE image_proxies SET superseded_at = created_at WHERE file_id = :id"), number)
    assert catalog.savings_total().images == 1
    with engine.begin() as connection:
        connection.execute(text("UPDATE image_proxies SET superseded_at = NULL WHERE file_id = :id"), number)
    monkeypatch.setattr("include.catalog.kept.SETTLED_SECONDS", 0.0, raising=False)
    assert catalog.savings_total().images == 2


def test_failures_are_those_of_now_by_reason(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 4)
    catalog.store_plan(plan("one", ids))
    worker = Worker(catalog, "one", PROXY)
    worker.fail(ids[0])
    clock.forward(1)
    worker.fail(ids[1], THROTTLED)
    worker.proxy(ids[2])
    worker.proxy(ids[3])
    Worker(catalog, "one", ANALYSE).fail(ids[2])
    reasons = {(reason.stage, reason.code): reason for reason in catalog.failure_reasons()}
    assert {key: (found.images, found.transient) for key, found in reasons.items()} == {
        ("proxy", "truncated"): (1, 0),
        ("proxy", "source_unavailable"): (1, 1),
        ("analyse", "truncated"): (1, 0),
    }
    seen: list[tuple[str, int]] = []
    after = None
    while True:
        page = catalog.failures(limit=1, after=after)
        seen += [(failure.stage, failure.file_id) for failure in page.failures]
        if page.next_cursor is None:
            break
        after = Cursor.parse(page.next_cursor.text())
    assert seen == [("proxy", ids[1]), ("analyse", ids[2]), ("proxy", ids[0])]
    assert catalog.failed_ids(PROXY, limit=10) == (ids[1], ids[0])
    assert catalog.failed_ids(PROXY, code="truncated", limit=10) == (ids[0],)
    assert catalog.failed_ids(PROXY, file_ids=[ids[1], ids[3]], limit=10) == (ids[1],)
    process(catalog, "again", ids[0], stages=frozenset({PROXY}), force=True)  # what succeeds is no failure any more
    assert catalog.failed_ids(PROXY, limit=10) == (ids[1],)


def test_failures_are_found_without_reading_what_is_done(catalog: Catalog, engine: Engine) -> None:
    """Also where a stage has none, and statistics know one status only."""
    fill(engine, 3_000)
    with engine.begin() as connection:
        newest = image_proxies.c.file_id > 2_900
        connection.execute(update(image_proxies).where(newest).values(status="failed", code="truncated"))
        connection.execute(text("ANALYZE"))
    for look in (lambda: catalog.failures(limit=10), catalog.failure_reasons):
        steps = query_plan(engine, look, of="UNION ALL")
        # What is good beside a failure PostgreSQL may read at once, in so small a catalog.
        walks = [step for step in steps if re.search(r"(SCAN|Seq Scan on) image_(?!\w+ good)", step)]
        assert [step for step in walks if "_failed" not in step] == [], steps


def test_a_page_of_an_old_run_does_not_walk_all_that_came_after_it(catalog: Catalog, engine: Engine) -> None:
    fill(engine, 3_000)
    catalog.store_plan(plan("one", range(1, 2_001), stages={PROXY}))
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    wanted = FileFilter(run_id="dag/one")
    steps = query_plan(engine, lambda: catalog.list_files(wanted, limit=10), of="files.uri")
    assert [step for step in steps if "ix_files_listed" in step] == [], steps
    assert pages(catalog, wanted, 700) == list(range(2_000, 0, -1))


def test_progress_counts_every_image_of_the_run(catalog: Catalog, clock: Clock) -> None:
    ids = add(catalog, 4)
    with pytest.raises(UnknownRun):
        catalog.progress("dag/one")
    catalog.store_plan(plan("one", ids, stages={PROXY}))
    worker = Worker(catalog, "one", PROXY)
    clock.forward(10)
    worker.proxy(ids[0])
    worker.fail(ids[1], BROKEN)
    worker.put_back(ids[2])
    found = catalog.progress("dag/one")
    assert (found.total, found.done, found.failed, found.returned, found.undecided) == (4, 1, 1, 1, 1)
    assert found.bytes_saved == 1_800_000
    assert found.images_per_second == pytest.approx(0.3)
    assert found.eta_seconds == pytest.approx(1 / 0.3)
    clock.forward(100)
    catalog.finish_run("dag/one", "cancelled by somebody")
    ended = catalog.progress("dag/one")
    assert (ended.note, ended.eta_seconds) == ("cancelled by somebody", None)
    assert ended.images_per_second == pytest.approx(0.3)  # while it worked


def test_the_rate_stands_still_once_all_images_are_decided(catalog: Catalog, clock: Clock) -> None:
    """A run's last tasks go on after that; they are none of the images' time."""
    ids = add(catalog, 2)
    catalog.store_plan(plan("one", ids, stages={PROXY}))
    worker = Worker(catalog, "one", PROXY)
    clock.forward(10)
    worker.proxy(ids[0])
    worker.proxy(ids[1])
    clock.forward(100)
    assert catalog.progress("dag/one").images_per_second == pytest.approx(0.2)


def test_who_is_about_to_do_an_image(catalog: Catalog) -> None:
    first, second = add(catalog, 2)
    catalog.store_plan(plan("one", [first, second]))
    runs = ["dag/none", "dag/one"]
    assert catalog.undecided_in(runs, first, Stage.PROXY) == "dag/one"
    Worker(catalog, "one", PROXY).proxy(first)
    assert catalog.undecided_in(runs, first, Stage.PROXY) is None
    item = catalog.item_outcomes("dag/one", first)
    assert item is not None
    assert (item.proxy_outcome, item.analysis_outcome) == ("proxied", None)
    assert catalog.item_outcomes("dag/none", first) is None


def test_costs_of_an_image_are_of_all_its_calls(catalog: Catalog) -> None:
    from tests.catalog.making import call

    (file_id,) = add(catalog)
    catalog.store_plan(plan("one", [file_id]))
    Worker(catalog, "one", PROXY).proxy(file_id)
    worker = Worker(catalog, "one", ANALYSE)
    refused = call(code="throttled", input_tokens=0, output_tokens=0, cost_usd=0.0, endpoint="aws")
    catalog.record_call("dag/one", file_id, refused)
    worker.analyse(file_id, cost_usd=0.25, endpoint="aws")
    detail = catalog.file_detail(file_id)
    assert detail is not None
    assert (detail.cost.calls, detail.cost.stand_in_calls, detail.cost.cost_usd) == (2, 0, 0.25)
    assert detail.file.analysis is not None
    assert detail.file.analysis.created_at <= datetime.now(UTC)
    assert catalog.current_analysis(file_id, KEY) == detail.file.analysis

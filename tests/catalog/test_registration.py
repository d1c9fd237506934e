"""Images come into the catalog once, and change with their content."""

from __future__ import annotations

from sqlalchemy import Engine, Table, func, select

from include.catalog.catalog import Catalog
from include.catalog.records import RegisterCounts
from include.catalog.tables import files, image_analyses, image_proxies
from tests.catalog.making import PROXY, Worker, add, image, listed, plan, process


def test_registering_again_changes_nothing(catalog: Catalog, engine: Engine) -> None:
    images = [image("a"), image("b")]
    assert catalog.register(images) == RegisterCounts(new=2, changed=0, unchanged=0)
    before = _rows(engine)
    assert catalog.register(images) == RegisterCounts(new=0, changed=0, unchanged=2)
    assert _rows(engine) == before


def test_changed_content_updates_the_row_and_keeps_its_id(catalog: Catalog) -> None:
    [file_id] = add(catalog)
    uri = catalog.image(file_id).uri  # type: ignore[union-attr]
    counts = catalog.register([image("x", uri=uri, content_version="content-2", size_bytes=7), image("new")])
    assert counts == RegisterCounts(new=1, changed=1, unchanged=0)
    changed = catalog.image(file_id)
    assert changed is not None
    assert (changed.uri, changed.content_version, changed.size_bytes) == (uri, "content-2", 7)


def test_what_was_made_of_old_content_is_history_and_the_image_pending_again(catalog: Catalog) -> None:
    [file_id] = add(catalog)
    process(catalog, "first", file_id)
    assert listed(catalog) == []
    uri = catalog.image(file_id).uri  # type: ignore[union-attr]
    catalog.register([image("x", uri=uri, content_version="content-2")])
    assert listed(catalog) == [file_id]
    row = catalog.current(file_id)
    assert row is not None
    assert (row["proxy_uri"], row["description"]) == (None, None)
    catalog.register([image("x", uri=uri, content_version="content-1")])
    assert listed(catalog) == []  # the old content is back, and with it what was made of it
    assert catalog.current(file_id)["description"] == "a cat"  # type: ignore[index]


def test_new_content_supersedes_what_was_made_and_deletes_nothing(catalog: Catalog, engine: Engine) -> None:
    file_id, other = add(catalog, 2)
    process(catalog, "first", file_id, other)
    uri = catalog.image(file_id).uri  # type: ignore[union-attr]
    catalog.register([image("x", uri=uri, content_version="content-2")])
    for table in (image_proxies, image_analyses):
        assert _current(engine, table) == {file_id: [False], other: [True]}
    process(catalog, "second", file_id)
    for table in (image_proxies, image_analyses):
        assert _current(engine, table) == {file_id: [False, True], other: [True]}


def test_of_content_that_comes_back_only_the_newest_good_row_is_taken_up(catalog: Catalog, engine: Engine) -> None:
    [file_id] = add(catalog)
    process(catalog, "first", file_id)
    process(catalog, "again", file_id, force=True)
    catalog.store_plan(plan("failing", [file_id], force=True))
    Worker(catalog, "failing", PROXY).fail(file_id)  # its row goes to the past at once
    uri = catalog.image(file_id).uri  # type: ignore[union-attr]
    catalog.register([image("x", uri=uri, content_version="content-2")])
    assert _current(engine, image_proxies) == {file_id: [False, False, False]}
    catalog.register([image("x", uri=uri, content_version="content-1")])
    assert _current(engine, image_proxies) == {file_id: [False, True, False]}
    assert _current(engine, image_analyses) == {file_id: [False, True]}


def test_more_images_than_one_statement_takes_and_a_uri_given_twice(catalog: Catalog, engine: Engine) -> None:
    images = [image(str(n)) for n in range(2_500)] + [image("7", content_version="later")]
    assert catalog.register(images) == RegisterCounts(new=2_500, changed=0, unchanged=0)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(files)) == 2_500
        query = select(files.c.content_version).where(files.c.uri == image("7").uri)
        assert connection.scalar(query) == "later"
    assert catalog.register([]) == RegisterCounts(0, 0, 0)


def test_listing_the_bucket_of_our_proxies_does_no_harm(catalog: Catalog, engine: Engine) -> None:
    [file_id] = add(catalog)
    process(catalog, "first", file_id, stages=frozenset({PROXY}))
    before = _rows(engine)
    found = image("proxy", uri=f"s3://proxies/{file_id}.jpg", content_version="some-etag")
    assert catalog.register([found]) == RegisterCounts(new=0, changed=0, unchanged=1)
    assert _rows(engine) == before


def test_a_proxy_that_was_listed_before_its_row_was_written_becomes_a_proxy(catalog: Catalog) -> None:
    [file_id] = add(catalog)
    catalog.register([image("proxy", uri=f"s3://proxies/{file_id}.jpg")])
    process(catalog, "first", file_id)
    assert listed(catalog) == []


def test_media_types_are_compared_in_lower_case(catalog: Catalog) -> None:
    catalog.register([image("a", media_type="Image/JPEG")])
    assert len(listed(catalog)) == 1


def _current(engine: Engine, table: Table) -> dict[int, list[bool]]:
    """Which rows of each image are current, in the order in which they were written."""
    found: dict[int, list[bool]] = {}
    with engine.connect() as connection:
        for row in connection.execute(select(table.c.file_id, table.c.superseded_at).order_by(table.c.id)):
            found.setdefault(row.file_id, []).append(row.superseded_at is None)
    return found


def _rows(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        return list(connection.execute(select(files).order_by(files.c.id)))

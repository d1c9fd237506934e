"""A table of the team's stands in for `files`: other names, other types, read and never written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from include.catalog.adoption import MappingNotApplied, TableIsMapped, require_mapping
from include.catalog.browse_records import FileFilter, ImageStatus
from include.catalog.catalog import Catalog
from include.catalog.mapping import InvalidMapping, read_mapping
from include.catalog.migrate import downgrade, migrate
from include.catalog.schema_version import is_migrated
from tests.catalog.conftest import Clock, Databases
from tests.catalog.making import BOTH, FIRST_UPLOAD, PROXY, Worker, image, listed, plan, process
from tests.catalog.test_migrate import differences

MAPPING = """
table = "dam assets"
[columns]
id = "Asset No"
uri = { column = "s3_key", prefix = "s3://originals: 100%/" }
filename = "title"
media_type = "mime"
size_bytes = "bytes"
content_version = { column = "etag", prefix = "etag:" }
uploaded_at = "created"
"""

TABLES = {
    "sqlite": """CREATE TABLE "dam assets" ("Asset No" INTEGER PRIMARY KEY, s3_key VARCHAR(200), title TEXT, mime TEXT,
               bytes INTEGER, etag TEXT, created TEXT, secret TEXT)""",
    "postgresql": """CREATE TABLE "dam assets" ("Asset No" INTEGER PRIMARY KEY, s3_key VARCHAR(200), title TEXT,
               mime TEXT, bytes INTEGER, etag TEXT, created TIMESTAMP, secret TEXT)""",
}
ROWS = [
    # In the order in which they were uploaded, whatever their ids and however their times are written.
    (30, "a/one.jpg", "one.jpg", "image/jpeg", 2_000_000, "e1", "2026-11-01T00:00:00Z"),
    (10, "two.PNG", None, "IMAGE/PNG", None, None, "2026-11-01 00:00:00.500"),
    (20, "film.mp4", "film", "video/mp4", 5, "e3", "2026-11-01 00:00:01"),
    (40, "later.jpg", "later.jpg", "image/jpeg", 5, "e4", "2026-11-02 00:00:00"),
    (50, "never.jpg", "no time", "image/jpeg", 5, "e5", None),
]


@pytest.fixture
def mapping_file(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    return path


@pytest.fixture
def adopted(empty_engine: Engine, mapping_file: Path) -> Engine:
    make_table(empty_engine)
    migrate(empty_engine, mapping=read_mapping(mapping_file))
    return empty_engine


@pytest.fixture
def adopted_catalog(adopted: Engine, clock: Clock) -> Catalog:
    return Catalog(adopted, clock=clock)


def make_table(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(TABLES[engine.dialect.name]))
        for row in ROWS:
            values = dict(zip("abcdefg", row, strict=True))
            query = "INSERT INTO \"dam assets\" VALUES (:a, :b, :c, :d, :e, :f, :g, 'secret')"
            connection.execute(text(query), values)


def theirs(engine: Engine) -> Sequence[Any]:
    with engine.connect() as connection:
        return connection.execute(text('SELECT * FROM "dam assets" ORDER BY 1')).all()


def test_rows_are_read_under_our_names_and_videos_are_not_listed(adopted_catalog: Catalog) -> None:
    assert listed(adopted_catalog) == [30, 10, 40]
    one, two = adopted_catalog.image(30), adopted_catalog.image(10)
    assert one is not None and two is not None
    assert (one.uri, one.content_version, one.uploaded_at) == (
        "s3://originals: 100%/a/one.jpg", "etag:e1", datetime(2026, 11, 1, tzinfo=UTC),
    )  # fmt: skip
    assert (two.media_type, two.size_bytes, two.resolution_width, two.filename) == ("image/png", 0, None, "two.PNG")
    assert two.uploaded_at == FIRST_UPLOAD + timedelta(milliseconds=500)
    assert adopted_catalog.image(20) is None


def test_windows_hold_whatever_the_table_calls_a_time(adopted_catalog: Catalog) -> None:
    start = FIRST_UPLOAD
    assert listed(adopted_catalog, uploaded_from=start, uploaded_to=start + timedelta(seconds=0.5)) == [30]
    assert listed(adopted_catalog, uploaded_from=start + timedelta(seconds=0.5)) == [10, 40]


def test_a_whole_run_leaves_the_table_as_it_was(adopted: Engine, adopted_catalog: Catalog) -> None:
    before = theirs(adopted)
    process(adopted_catalog, "run", 30, 10)
    assert listed(adopted_catalog) == [40]
    current = adopted_catalog.current(30)
    assert current is not None
    assert (current["description"], current["proxy_uri"]) == ("a cat", "s3://proxies/30.jpg")
    assert [row.file_id for row in adopted_catalog.run_images("dag/run")] == [10, 30]
    assert theirs(adopted) == before
    with adopted.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM image_proxies WHERE proxy_file_id IS NULL")).scalar() == 2


def test_new_content_and_deleted_rows_are_followed(adopted: Engine, adopted_catalog: Catalog) -> None:
    process(adopted_catalog, "run", 30, 10)
    with adopted.begin() as connection:
        connection.execute(text('UPDATE "dam assets" SET etag = \'e2\' WHERE "Asset No" = 30'))
    assert listed(adopted_catalog) == [30, 40]
    current = adopted_catalog.current(30)
    assert current is not None and current["proxy_uri"] is None
    adopted_catalog.store_plan(plan("second", [30, 40], stages=BOTH))
    with adopted.begin() as connection:
        connection.execute(text('DELETE FROM "dam assets" WHERE "Asset No" = 40'))
    assert Worker(adopted_catalog, "second", PROXY).held == [30]


def test_nothing_can_be_written_through_it(adopted: Engine, adopted_catalog: Catalog) -> None:
    with pytest.raises(TableIsMapped):
        adopted_catalog.register([image("a")])
    for statement in (
        "INSERT INTO files (id, uri) VALUES (1, 'x')", "UPDATE files SET uri = 'x'", "DELETE FROM files",
    ):  # fmt: skip
        with pytest.raises(DBAPIError), adopted.begin() as connection:
            connection.execute(text(statement))
    assert len(theirs(adopted)) == len(ROWS)


def test_migrating_again_and_down_and_up_keep_table_and_mapping(
    adopted: Engine, adopted_catalog: Catalog, mapping_file: Path
) -> None:
    process(adopted_catalog, "run", 30)
    migrate(adopted)
    require_mapping(adopted, mapping_file)
    assert is_migrated(adopted)
    assert adopted_catalog.current(30) is not None
    before = theirs(adopted)
    downgrade(adopted)
    assert set(inspect(adopted).get_table_names()) == {"dam assets", "image_proxy_alembic_version"}
    assert inspect(adopted).get_view_names() == []
    migrate(adopted)
    assert differences(adopted) == []
    assert theirs(adopted) == before


def test_a_view_of_the_teams_over_ours_survives(adopted: Engine, adopted_catalog: Catalog) -> None:
    with adopted.begin() as connection:
        query = "CREATE VIEW their_report AS SELECT uri FROM current_image_analyses WHERE filename LIKE 'one%'"
        connection.execute(text(query))
    migrate(adopted)
    with adopted.connect() as connection:
        assert connection.execute(text("SELECT uri FROM their_report")).scalars().all() == [
            "s3://originals: 100%/a/one.jpg"
        ]


def test_the_setting_and_the_database_must_agree(adopted: Engine, mapping_file: Path, tmp_path: Path) -> None:
    require_mapping(adopted, mapping_file)
    with pytest.raises(MappingNotApplied, match="stands on the table dam assets: set IMAGE_PROXY_TABLE_MAPPING"):
        require_mapping(adopted, None)
    other = tmp_path / "other.toml"
    other.write_text(MAPPING.replace('"title"', '"secret"'))
    with pytest.raises(MappingNotApplied, match="--table-mapping"):
        require_mapping(adopted, other)
    migrate(adopted, mapping=read_mapping(other))
    require_mapping(adopted, other)


def test_a_column_that_goes_away_is_named_at_the_next_start(
    adopted: Engine, adopted_catalog: Catalog, mapping_file: Path
) -> None:
    if adopted.dialect.name == "postgresql":  # which does not let go of a column that a view reads
        with pytest.raises(DBAPIError, match="depend"), adopted.begin() as connection:
            connection.execute(text('ALTER TABLE "dam assets" DROP COLUMN etag'))
        return
    with adopted.begin() as connection:
        connection.execute(text("PRAGMA legacy_alter_table = ON"))
        connection.execute(text('ALTER TABLE "dam assets" RENAME TO old'))
        connection.execute(text(TABLES["sqlite"].replace("etag", "e_tag")))
    with pytest.raises(InvalidMapping, match=r"has no column 'etag'; did you mean e_tag\?"):
        require_mapping(adopted, mapping_file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('"etag"', '"etagg"'),
            "columns.content_version: the table dam assets has no column 'etagg'; did you mean etag?",
        ),
        (('"dam assets"', '"dam"'), "there is no table or view dam in the catalog's database"),
        (('id = "Asset No"', 'id = "title"'), "columns.id: dam assets.title is TEXT, and ids are whole numbers"),
        (('media_type = "mime"', ""), "columns.media_type is missing: name the column of dam assets that has it"),
        (("size_bytes", "size_byte"), "columns.size_byte is no column of files; did you mean size_bytes?"),
        (('id = "Asset No"', "id = { value = 1 }"), 'columns.id takes "column", not'),
        (('id = "Asset No"', 'id = { column = "Asset No", prefix = "1" }'), 'columns.id takes "column", not'),
        (('"mime"', "{ column = 3 }"), 'columns.media_type takes "column" or { column = "…", prefix = "…" } or'),
        (('"mime"', '{ value = ["image/jpeg"] }'), "columns.media_type takes"),
        (('"bytes"', '{ value = "many" }'), 'columns.size_bytes takes "column" or { value = 0 }, not'),
        (('"bytes"', '"title"'), "columns.size_bytes: dam assets.title is TEXT, and size_bytes is a number here"),
        (('"title"', '"title"\nis_proxy = "mime"'), "columns.is_proxy: dam assets.mime is TEXT, and is_proxy is true"),
        (('"dam assets"', '"files"'), "files is the catalog's own name"),
        (('id = "Asset No"', "id = 7"), "columns.id takes"),
        (("[columns]", "[column]"), 'expected table = "name" and a section [columns]'),
        (("[columns]", "[columns"), "Expected ']'"),
    ],
)
def test_a_wrong_mapping_names_what_is_wrong_and_changes_nothing(
    empty_engine: Engine, mapping_file: Path, change: tuple[str, str], said: str
) -> None:
    make_table(empty_engine)
    migrate(empty_engine)
    mapping_file.write_text(MAPPING.replace(*change))
    with pytest.raises(InvalidMapping) as error:
        migrate(empty_engine, mapping=read_mapping(mapping_file))
    assert said in str(error.value)
    assert differences(empty_engine) == []


def test_a_catalog_with_files_of_its_own_is_not_mixed_with_anothers(engine: Engine, mapping_file: Path) -> None:
    make_table(engine)
    Catalog(engine).register([image("a")])
    with pytest.raises(InvalidMapping, match="holds files of its own"):
        migrate(engine, mapping=read_mapping(mapping_file))
    assert listed(Catalog(engine)) == [1]


def test_another_table_does_not_follow_one_that_work_was_done_on(
    adopted: Engine, adopted_catalog: Catalog, mapping_file: Path
) -> None:
    process(adopted_catalog, "run", 30)
    with adopted.begin() as connection:
        connection.execute(text(TABLES[adopted.dialect.name].replace("dam assets", "others")))
    mapping_file.write_text(MAPPING.replace("dam assets", "others"))
    with pytest.raises(InvalidMapping, match="work was done on the images of dam assets"):
        migrate(adopted, mapping=read_mapping(mapping_file))


def test_a_table_called_files_in_another_schema(databases: Databases, mapping_file: Path, clock: Clock) -> None:
    """On PostgreSQL, where a team's table may well have our table's name."""
    from include.catalog.engine import create_catalog_engine

    url = databases.new("postgresql", migrated=False)
    admin = create_catalog_engine(url)
    with admin.begin() as connection:
        connection.execute(text("CREATE SCHEMA image_proxy"))
        connection.execute(text(TABLES["postgresql"].replace('"dam assets"', "public.files")))
        connection.execute(
            text("INSERT INTO public.files VALUES (7, 'a.jpg', 'a.jpg', 'image/jpeg', 5, 'e', now(), '')")
        )
    engine = create_catalog_engine(url.update_query_dict({"options": "-csearch_path=image_proxy"}))
    mapping_file.write_text(MAPPING.replace("dam assets", "public.files"))
    migrate(engine, mapping=read_mapping(mapping_file))
    migrate(engine)
    catalog = Catalog(engine, clock=clock)
    assert listed(catalog) == [7]
    process(catalog, "run", 7)
    assert listed(catalog) == []
    for each in (engine, admin):
        each.dispose()
    databases.drop(url)


def test_constants_stand_in_for_columns_that_a_table_lacks(empty_engine: Engine, mapping_file: Path) -> None:
    make_table(empty_engine)
    mapping_file.write_text(
        'table = "dam assets"\n[columns]\nid = "Asset No"\nuri = "s3_key"\nmedia_type = { value = "image/jpeg" }\n'
        'size_bytes = { value = 0 }\ncontent_version = { value = "" }\nuploaded_at = "created"\n'
    )
    migrate(empty_engine, mapping=read_mapping(mapping_file))
    require_mapping(empty_engine, mapping_file)
    catalog = Catalog(empty_engine)
    assert listed(catalog) == [30, 10, 20, 40]
    process(catalog, "run", 20)
    assert listed(catalog) == [30, 10, 40]


def test_columns_of_other_kinds_and_rows_without_a_media_type_are_read_as_ours(
    empty_engine: Engine, mapping_file: Path
) -> None:
    kind = "TEXT"
    with empty_engine.begin() as connection:
        if empty_engine.dialect.name == "postgresql":
            kind = "mime_kind"
            connection.execute(text("CREATE TYPE mime_kind AS ENUM ('image/jpeg', 'video/mp4')"))
        columns = f"id INTEGER, uri TEXT, mime {kind}, width NUMERIC(9, 2), derived INTEGER, added TIMESTAMP"
        connection.execute(text(f"CREATE TABLE pictures ({columns})"))
        connection.execute(
            text(
                "INSERT INTO pictures VALUES (1, 'a', 'image/jpeg', 4000.00, 0, '2026-11-01 00:00:00'), "
                "(2, 'b', NULL, NULL, NULL, '2026-11-01 00:00:00'), (3, 'c', 'image/jpeg', 9, 1, '2026-11-01 00:00:00')"
            )
        )
    mapping_file.write_text(
        'table = "pictures"\n[columns]\nid = "id"\nuri = "uri"\nmedia_type = "mime"\nsize_bytes = "width"\n'
        'resolution_width = "width"\nis_proxy = "derived"\ncontent_version = { value = "" }\nuploaded_at = "added"\n'
    )
    migrate(empty_engine, mapping=read_mapping(mapping_file))
    catalog = Catalog(empty_engine)
    assert listed(catalog) == [1]
    found = catalog.image(1)
    assert found is not None
    assert [found.resolution_width, type(found.resolution_width)] == [4000, int]
    everything = catalog.list_files(FileFilter(images_only=False), limit=10).files
    assert {(file.file_id, file.media_type) for file in everything} == {(1, "image/jpeg"), (2, "")}
    no_image = FileFilter(status=ImageStatus.NOT_AN_IMAGE)
    assert [file.file_id for file in catalog.list_files(no_image, limit=10).files] == [2]

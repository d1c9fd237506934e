"""The tables that code expects are those that the migrations make, and nobody else's are touched."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text

from include.catalog.engine import create_catalog_engine
from include.catalog.errors import NotMigrated
from include.catalog.migrate import downgrade, main, migrate, ours
from include.catalog.schema_version import MIGRATIONS, VERSION_TABLE, is_migrated, known_revisions, require_migrated
from include.catalog.tables import current_image_analyses, metadata

ROOT = Path(__file__).parents[2]


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": ours, "version_table": VERSION_TABLE})
        return list(compare_metadata(context, metadata))


def test_metadata_and_migrations_agree(engine: Engine) -> None:
    assert differences(engine) == []
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_files_listed"))
    assert len(differences(engine)) == 1  # the comparison sees what is there


def test_the_view_has_the_documented_columns(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.execute(select(current_image_analyses)).all() == []
        found = connection.execute(text("SELECT * FROM current_image_analyses")).keys()
    assert list(found) == [column.name for column in current_image_analyses.c]


def test_down_and_up_again_beside_tables_of_others(empty_engine: Engine) -> None:
    with empty_engine.begin() as connection:
        connection.execute(text("CREATE TABLE invoices (id INTEGER)"))
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    assert not is_migrated(empty_engine)
    migrate(empty_engine)
    migrate(empty_engine)
    assert is_migrated(empty_engine)
    assert differences(empty_engine) == []
    downgrade(empty_engine)
    assert not is_migrated(empty_engine)
    assert set(inspect(empty_engine).get_table_names()) == {"invoices", "alembic_version", VERSION_TABLE}
    assert inspect(empty_engine).get_view_names() == []
    migrate(empty_engine)
    assert is_migrated(empty_engine)
    with empty_engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "theirs"


def test_files_of_migrations_are_named_after_their_revisions_in_order() -> None:
    """A task compares by names: to load the migrations would cost each of them Alembic's import."""
    scripts = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())
    assert known_revisions() == [script.revision for script in reversed(scripts)]


def test_two_processes_may_migrate_at_once(empty_engine: Engine) -> None:
    engines = [create_catalog_engine(empty_engine.url) for _ in range(4)]
    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(migrate, engines))
    assert is_migrated(empty_engine)
    for engine in engines:
        engine.dispose()


def test_the_command_line_works_from_any_folder(empty_engine: Engine, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "include.catalog.migrate", empty_engine.url.render_as_string(hide_password=False)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert is_migrated(empty_engine)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("what", "Could not parse"),
        ("sqlite:///relative.db", "use an absolute one"),
        ("sqlite:////no/such/folder/catalog.db", "unable to open database file"),
        ("oracle://host/catalog", "the catalog is SQLite or PostgreSQL"),
        ("postgresql://host:port/catalog", "'port'; the catalog is SQLite or PostgreSQL"),
        ("postgresql://me:secret@127.0.0.1:1/catalog", "Connection refused"),
    ],
)
def test_an_address_that_does_not_do_is_said_without_a_trace(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["migrate", url])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().err
    assert (ended.value.code, said in shown, "secret" in shown) == (2, True, False), shown


def test_a_newer_packages_catalog_is_left_alone_and_called_so(engine: Engine) -> None:
    """Told to migrate it, a person would type that, and see Alembic fail."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE image_proxy_alembic_version SET version_num = 'of-2031'"))
    for ask in (migrate, require_migrated):
        with pytest.raises(NotMigrated, match=r"newer version of this package \(revision of-2031\)"):
            ask(engine)


def test_asking_for_a_sqlite_catalog_that_is_not_there_does_not_make_a_file(tmp_path: Path) -> None:
    path = tmp_path / "slip.db"
    with pytest.raises(NotMigrated, match=r"there is no catalog at .*include\.catalog\.migrate"):
        require_migrated(create_catalog_engine(f"sqlite:///{path}"))
    assert not path.exists()

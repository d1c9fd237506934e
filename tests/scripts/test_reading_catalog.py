"""Commands that read a catalog: an address or a day that does not do is a message and exit status 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import daily_report, export_analyses

COMMANDS = (daily_report.main, export_analyses.main)


@pytest.mark.parametrize("main", COMMANDS)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("what", "the catalog is SQLite or PostgreSQL"),
        ("mysql://host/catalog", "the catalog is SQLite or PostgreSQL"),
        ("postgresql://host:port/catalog", "the catalog is SQLite or PostgreSQL"),
        ("postgresql://me:secret@127.0.0.1:1/catalog", "Connection refused"),
        ("sqlite:////no/such/folder/catalog.db", "unable to open database file"),
        ("sqlite:///{folder}/slip.db", "there is no catalog at"),
        ("sqlite:///{folder}/damaged.db", "file is not a database"),
    ],
)
def test_a_catalog_out_of_reach_is_said_without_a_trace(
    main: Callable[[list[str]], int], url: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged.db").write_text("this is not a database, whatever its name says")
    to = ["--to", str(tmp_path)] if main is export_analyses.main else []
    code = main(["--catalog", url.format(folder=tmp_path), *to])
    printed = "".join(capsys.readouterr())
    assert (code, said in printed, "secret" in printed) == (2, True, False), printed


@pytest.mark.parametrize("main", COMMANDS)
@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "2026-13-01", "yesterday"])
def test_a_day_that_cannot_be_meant_is_said(
    main: Callable[[list[str]], int], day: str, capsys: pytest.CaptureFixture[str]
) -> None:
    option = "--to" if main is daily_report.main else "--day"
    with pytest.raises(SystemExit) as ended:
        main([option, day])
    assert ended.value.code == 2
    assert f"type a day from 2000-01-01 to 2199-12-31, not '{day}'" in capsys.readouterr().err

"""Where `make run` cannot begin, it says why: nobody reads a traceback for a folder that may not be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import run, up


@pytest.mark.parametrize("command", [run, up])
def test_a_folder_that_cannot_be_used_is_said_with_what_to_do(
    command: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "locked" / "laptop.lock").mkdir(parents=True)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "catalog.db").write_text("this is not a database, whatever its name says")
    for folder, why in (("a file", "exists"), ("locked", "directory"), ("damaged", "not a database")):
        monkeypatch.setattr(command, "VAR", tmp_path / folder)
        monkeypatch.setattr(command, "raise_on_signals", lambda: None)
        assert command.main() == 2  # type: ignore[attr-defined]
        said = capsys.readouterr().out
        assert why in said and str(tmp_path / folder) in said and "VAR_DIR" in said

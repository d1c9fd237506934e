"""`make clean` in a folder that a person named with VAR_DIR: their own files are not ours to remove."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import clean


def test_only_what_runs_made_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    var = tmp_path / "mine"
    (var / "letters").mkdir(parents=True)
    (var / "letters" / "to mother.txt").write_text("dear")
    for folder in ("airflow/processes", "logs", "seaweedfs", "samples"):
        (var / folder).mkdir(parents=True)
    for file in ("catalog.db", "catalog.db-wal", "laptop.lock", "credentials.json"):
        (var / file).touch()
    monkeypatch.setattr(clean, "VAR", var)
    assert clean.main() == 0
    assert [path.relative_to(var).as_posix() for path in var.rglob("*")] == ["letters", "letters/to mother.txt"]
    (var / "letters" / "to mother.txt").unlink()
    (var / "letters").rmdir()
    assert clean.main() == 0
    assert not var.exists()

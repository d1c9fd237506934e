"""What somebody typed, or named a file, must neither break the command that shows it nor steer the terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from include.catalog.records import ImageReport, Outcome
from scripts import capacity, create_image_proxies, daily_report
from scripts.run_view import Progress
from scripts.words import complain

MARKUP = "[/x] [bold]no[/bold] :smile:"
HOSTILE = "a\x1b]0;title\x07 [/x]\nb.jpg"


def test_a_wrong_setting_that_looks_like_markup_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMAGE_PROXY_WORKERS", MARKUP)
    assert daily_report.main([]) == 2
    assert create_image_proxies.main(["--dry-run"]) == 2
    assert capsys.readouterr().out.count(MARKUP) == 2


def test_an_argument_that_looks_like_markup_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--images", "10", "--tier", MARKUP]) == 2
    assert create_image_proxies.main(["--set", f"quality={MARKUP}"]) == 2
    assert capsys.readouterr().out.count(MARKUP) == 2


def test_a_message_keeps_its_lines_and_obeys_nothing() -> None:
    told = StringIO()
    complain(Console(file=told, width=20), f"{HOSTILE}\n\trun python -m include.catalog.migrate URL", code="setup")
    assert told.getvalue().splitlines() == [
        r"setup: a\x1b]0;title\x07 [/x]",
        "b.jpg",
        "        run python -m include.catalog.migrate URL",
    ]


def test_a_file_name_cannot_steer_the_terminal() -> None:
    told = StringIO()
    image = ImageReport(
        file_id=1,
        uri="file:///a",
        filename=HOSTILE,
        outcome=Outcome.FAILED,
        action=None,
        reason=None,
        code="empty",
        message="the file is empty",
        original_bytes=0,
        original_width=None,
        original_height=None,
        proxy_bytes=None,
        width=None,
        height=None,
        seconds=None,
        description=None,
    )
    Progress(Console(file=told, width=120)).show([image])
    assert told.getvalue() == "  a\\x1b]0;title\\x07 [/x]\\nb.jpg: the file is empty\n"

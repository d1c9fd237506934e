"""A real browser, logged in to a real Airflow, with the pages inside Airflow's own UI."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, FrameLocator, Page, expect, sync_playwright

from include.catalog.browse_records import FileFilter
from include.catalog.records import NewImage
from include.local.airflow import USER
from tests.airflow_boot import RunningAirflow
from tests.dags.conftest import photograph
from tests.programs import require_chromium

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 120.0  # for what takes a second on a machine with nothing else to do
PAGES = "/image-proxy/pages"

Value = TypeVar("Value")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = require_chromium()
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


def sign_in(context: BrowserContext, url: str, password: str) -> None:
    """Log in by Airflow's own form."""
    page = context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{url}/")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Dags").first.wait_for()
    page.close()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, airflow: RunningAirflow) -> Any:
    """The cookies of a logged-in administrator."""
    context = browser.new_context()
    sign_in(context, airflow.stack.url, airflow.machine.home.password)
    state = context.storage_state()
    context.close()
    return state


@dataclass
class Visit:
    """A page of the browser, and what it complained about."""

    page: Page
    airflow: RunningAirflow
    complaints: list[str]

    def open(self, path: str = "/") -> Page:
        """Open one of our pages by itself."""
        self.page.goto(f"{self.airflow.stack.url}{PAGES}{path}")
        return self.page

    def inside(self) -> FrameLocator:
        """Open our pages as a person does: by the entry in Airflow's navigation."""
        self.page.goto(f"{self.airflow.stack.url}/")
        self.page.get_by_role("link", name="Images", exact=True).click()
        return self.page.frame_locator("iframe")

    def file_id(self, name: str) -> int:
        return self.airflow.machine.catalog.list_files(FileFilter(name=name), limit=1).files[0].file_id


@pytest.fixture
def visit(browser: Browser, signed_in: Any, airflow: RunningAirflow) -> Iterator[Visit]:
    """A fresh page. At the end it must have met no script error, no dialog and no refusal by the content policy."""
    context = browser.new_context(storage_state=signed_in, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield Visit(page, airflow, complaints)
    context.close()
    assert complaints == []


@pytest.fixture
def register(airflow: RunningAirflow, tmp_path: Path) -> Callable[..., list[str]]:
    """Put photographs with a common beginning of their names into the catalog; returns the names."""

    def put(start: str, count: int, size: tuple[int, int] = (1400, 1000)) -> list[str]:
        names = [f"{start}-{number}.jpg" for number in range(count)]
        for name in names:
            photograph(tmp_path / name, *size)
        airflow.register(tmp_path)
        return names

    return put


def register_video(airflow: RunningAirflow, name: str) -> None:
    video = NewImage(f"s3://videos/{name}", name, "video/mp4", 9_000_000, f"etag:{name}", datetime.now(UTC))
    airflow.machine.catalog.register([video])


def until(condition: Callable[[], Value]) -> Value:
    """The first true value of a condition that is about to hold."""
    pause = threading.Event()
    for _ in range(int(SECONDS / 0.1)):
        if value := condition():
            return value
        pause.wait(0.1)
    raise AssertionError("it never came about")

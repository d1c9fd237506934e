"""Take the pictures in docs/images: `python -m scripts.screenshots`, with Debian's chromium.

Boots Airflow on the embedded cloud in a folder of its own, lets it work through the samples, and photographs the pages
inside Airflow's UI. What they show is as measured on the machine that takes them: leave it alone meanwhile.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.local.airflow import ROOT, USER, AirflowStack
from include.local.laptop import Laptop, laptop
from include.local.registration import register_folders
from include.local.samples import make_samples
from scripts.up import DAGS, SLOTS, make_pool, unpause

if TYPE_CHECKING:
    import httpx
    from playwright.sync_api import FrameLocator, Page

FOLDER = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 860}
NARROW = {"width": 390, "height": 844}
COLOURS = 256
RUN_SECONDS = 180
DAG_ID = "image_proxy_pipeline"
PAGES = "/image-proxy/pages"
SHOWN = """() => {
    const inSight = (picture) => {
        const box = picture.getBoundingClientRect();
        return box.width > 0 && box.bottom > 0 && box.top < window.innerHeight;
    };
    const fetching = document.querySelector(".htmx-request:not([hx-trigger^='every'])");
    const pictures = Array.from(document.images).filter(inSight);
    return document.readyState === "complete" && !fetching && pictures.every((picture) => picture.complete);
}"""
BROWSER = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
BROWSER += ["--disable-component-update", "--disable-sync"]


def main() -> int:
    """Take all pictures; return 2 when there is no browser."""
    program = shutil.which("chromium")
    if program is None:
        print("chromium is missing: apt-get install chromium")
        return 2
    with tempfile.TemporaryDirectory(prefix="screenshots-") as var, deployment(Path(var)) as (machine, stack):
        photograph_pages(program, machine, stack)
    return 0


@contextmanager
def deployment(var: Path) -> Iterator[tuple[Laptop, AirflowStack]]:
    """Airflow on the embedded cloud, with the samples registered."""
    with laptop(var, stand_in_options=("--latency-ms", "900")) as machine:
        register_folders(machine.catalog, [make_samples(var / "samples")], datetime.now(UTC))
        machine.home.migrate(machine.env)
        with AirflowStack(machine.home, machine.env, var / "logs") as stack, stack.client() as client:
            make_pool(client, "nova", SLOTS)
            unpause(client, DAGS)
            _let_the_last_hours_run_end(client)
            yield machine, stack


def _let_the_last_hours_run_end(client: httpx.Client) -> None:
    """Unpausing starts a run over nothing; its progress would stand beside that of the run in the pictures."""

    def ended() -> bool:
        runs = client.get(f"/dags/{DAG_ID}/dagRuns").raise_for_status().json()["dag_runs"]
        return bool(runs) and all(run["state"] in ("success", "failed") for run in runs)

    _wait(ended, time.sleep, "the scheduled run has not ended")


def photograph_pages(program: str, machine: Laptop, stack: AirflowStack) -> None:
    """Walk through the pages as a person would."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(60_000)
        _sign_in(page, stack.url, machine.home.password)
        _progress(page, stack)
        for theme in ("light", "dark"):
            _use_theme(page, theme)
            suffix = "" if theme == "light" else "-dark"
            _inside(page, stack)
            _save(page, f"images{suffix}")
            _one_image(page, stack)
            _save(page, f"compare{suffix}")
            _inside(page, stack).get_by_role("link", name="Savings").click()
            page.frame_locator("iframe").locator(".chart canvas").nth(2).wait_for()
            _save(page, f"savings{suffix}")
        _use_theme(page, "light")
        _inside(page, stack).get_by_role("link", name="Failures").click()
        page.frame_locator("iframe").get_by_role("heading", name="Failures").wait_for()
        _save(page, "failures")
        page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        page.goto(f"{stack.url}{PAGES}/")
        _save(page, "narrow")
        browser.close()


def _progress(page: Page, stack: AirflowStack) -> None:
    """Start the analysis of everything from the page, and photograph it half-way."""
    place = _inside(page, stack)
    place.get_by_label("Select this page").check()
    place.get_by_role("button", name="Analyse…", exact=True).click()
    place.get_by_role("dialog").get_by_role("button", name="Analyse for about").wait_for()
    _save(page, "cost-first")
    place.get_by_role("dialog").get_by_role("button", name="Analyse for about").click()
    job = place.locator(".job")

    def half_way() -> bool:
        bar = job.locator("progress")
        done, total = int(bar.get_attribute("value") or 0), int(bar.get_attribute("max") or 1)
        return total / 4 < done < total

    _wait(half_way, lambda seconds: page.wait_for_timeout(1000 * seconds), "the run was never seen half-way")
    _save(page, "progress")
    job.and_(place.locator(".ended")).wait_for(timeout=1000 * RUN_SECONDS)


def _inside(page: Page, stack: AirflowStack) -> FrameLocator:
    page.goto(f"{stack.url}/")
    page.get_by_role("link", name="Images", exact=True).click()
    place = page.frame_locator("iframe")
    place.locator(".card").first.wait_for()
    return place


def _one_image(page: Page, stack: AirflowStack) -> None:
    place = _inside(page, stack)
    place.get_by_label("File name").fill("picosdeeuropa")
    place.locator(".card").nth(1).wait_for(state="detached")
    place.get_by_role("link", name="Compare").click()
    place.locator("#stage img").nth(1).wait_for()


def _use_theme(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.evaluate("(theme) => localStorage.setItem('theme', theme)", theme)


def _sign_in(page: Page, url: str, password: str) -> None:
    page.goto(f"{url}/")
    page.locator("input[name=username]").fill(USER)
    page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Dags").first.wait_for()


def wait_until_shown(page: Page) -> None:
    """Wait for what a person waits for: no part of our page is being fetched, and every picture in sight is there.

    The network is never silent while a run goes on: its progress asks for itself again.
    """

    def shown() -> bool:
        ours = [frame for frame in page.frames if PAGES in frame.url]
        return bool(ours) and all(frame.evaluate(SHOWN) for frame in ours)

    _wait(shown, lambda seconds: page.wait_for_timeout(1000 * seconds), "the page was never whole")


def _wait(condition: Callable[[], bool], pause: Callable[[float], object], otherwise: str) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        pause(0.15)


def _save(page: Page, name: str) -> None:
    """Photograph the window once it shows what it has to, with few enough colours for a small file."""
    from PIL import Image

    wait_until_shown(page)
    page.wait_for_timeout(400)  # the last picture's paint
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small: Any = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    sys.exit(main())

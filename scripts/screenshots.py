"""Take the pictures in docs/images: `python -m scripts.screenshots`, with Debian's chromium.

Boots Airflow on the embedded cloud in a folder of its own, lets it work through the samples, and photographs the pages
inside Airflow's UI. What they show is as measured on the machine that takes them: leave it alone meanwhile.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
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
    from playwright.sync_api import FrameLocator, Page

FOLDER = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 860}
NARROW = {"width": 390, "height": 844}
COLOURS = 256
RUN_SECONDS = 180
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
            yield machine, stack


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
        page.goto(f"{stack.url}/image-proxy/pages/")
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
    place.locator(".job progress").wait_for()
    deadline = time.monotonic() + RUN_SECONDS
    taken = False
    while time.monotonic() < deadline:
        bar = place.locator(".job progress").first
        done, total = int(bar.get_attribute("value") or 0), int(bar.get_attribute("max") or 1)
        if not taken and total / 4 < done < total:
            _save(page, "progress")
            taken = True
        if place.locator(".job.ended").count():
            return
        page.wait_for_timeout(150)
    raise RuntimeError("the run did not end")


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


def _save(page: Page, name: str) -> None:
    """Photograph the window once its pictures are there, with few enough colours for a small file."""
    from PIL import Image

    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)  # the last picture's paint
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small: Any = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    sys.exit(main())

"""What people do in a browser, done in one: inside Airflow's UI, by the keyboard too, in light and dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

from tests.airflow_boot import DAG_ID, RunningAirflow
from tests.browser.conftest import PAGES, Visit, register_video, until
from tests.dags.conftest import photograph

pytestmark = pytest.mark.end_to_end
Register = Callable[..., list[str]]
Place = Page | FrameLocator


def find(place: Place, start: str, kind: str = "") -> Locator:
    """Filter by the beginning of the names; return the cards."""
    loaded = "() => document.readyState === 'complete' && typeof htmx === 'object'"
    until(lambda: place.locator("html").evaluate(loaded))
    if kind:
        place.get_by_label("Show").select_option(kind)
    place.get_by_label("File name").fill(start)
    cards = place.locator(".card")
    expect(cards.filter(has_not_text=start)).to_have_count(0)
    expect(cards.first).to_contain_text(start)
    return cards


def is_shown(picture: Locator) -> bool:
    return bool(picture.evaluate("(image) => image.complete && image.naturalWidth > 0"))


def nova_calls(airflow: RunningAirflow) -> int:
    return len(airflow.machine.cloud.calls())


def test_one_proxy_is_made_inside_airflow_without_calling_nova(visit: Visit, register: Register) -> None:
    register("single", 1)
    calls = nova_calls(visit.airflow)
    card = find(visit.inside(), "single-0")
    expect(card).to_contain_text("No proxy")
    card.get_by_role("button", name="Create proxy").click()
    expect(card.locator(".badge")).to_have_text("Proxy")
    expect(card).to_contain_text("1254 × 896")  # noqa: RUF001
    pictures = card.locator("img")
    expect(pictures).to_have_count(2)
    for number in range(2):
        until(lambda number=number: is_shown(pictures.nth(number)))
    assert nova_calls(visit.airflow) == calls


def test_a_batch_runs_to_its_end_with_progress(visit: Visit, register: Register) -> None:
    register("batch", 6)
    register_video(visit.airflow, "batch-film.mp4")
    place = visit.inside()
    cards = find(place, "batch-", kind="all")
    expect(cards).to_have_count(7)
    start, said = place.get_by_role("button", name="Create image proxies"), place.locator("#selection output")
    expect(start).to_be_disabled()
    place.get_by_label("Select this page").check()
    expect(start).to_be_disabled()
    expect(said).to_have_text("7 selected: only images can be made proxies of")
    place.get_by_label("Select batch-film.mp4").uncheck()
    expect(start).to_be_enabled()
    start.click()
    job = place.locator(".job").first
    expect(job.get_by_role("progressbar")).to_be_visible()
    expect(job).to_contain_text("Time left (estimate)")
    expect(job.get_by_role("status")).to_have_text("Done")
    expect(job).to_contain_text("6 of 6")
    expect(job).to_contain_text("images/s")
    expect(cards.locator(".badge", has_text=re.compile("^Proxy$"))).to_have_count(6)


def test_a_job_can_be_cancelled(visit: Visit, register: Register) -> None:
    register("stopped", 3)
    place = visit.inside()
    find(place, "stopped-")
    place.get_by_label("Select this page").check()
    place.get_by_role("button", name="Create image proxies").click()
    job = place.locator(".job").first
    job.get_by_role("button", name="Cancel").click()
    expect(job.get_by_role("status")).to_have_text("Cancelled")


def test_the_cost_is_said_before_nova_is_called(visit: Visit, register: Register) -> None:
    register("told", 2)
    place = visit.inside()
    cards = find(place, "told-")
    place.get_by_label("Select this page").check()
    calls = nova_calls(visit.airflow)
    ask = place.get_by_role("button", name="Analyse…", exact=True)
    ask.click()
    dialog = place.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile(r"Projected cost\s*\$0\.00\d+"))
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert nova_calls(visit.airflow) == calls
    ask.click()
    dialog.get_by_role("button", name="Analyse for about").click()
    expect(dialog).to_be_hidden()
    expect(place.locator("#selection output")).to_have_text("Nothing selected")
    expect(place.locator(".job").first.get_by_role("status")).to_have_text("Done")
    expect(cards.locator(".stand-in")).to_have_count(2)
    assert nova_calls(visit.airflow) == calls + 2


def test_a_selection_outlives_a_list_that_is_renewed(visit: Visit, register: Register) -> None:
    """As it is whenever a run ends, which nobody who is choosing waits for."""
    register("chosen", 2)
    place = visit.inside()
    cards = find(place, "chosen-")
    cards.first.get_by_role("checkbox").check()
    cards.first.evaluate("(card) => card.setAttribute('data-old', '')")
    cards.first.evaluate("() => document.body.dispatchEvent(new Event('images-changed'))")
    expect(place.locator(".card[data-old]")).to_have_count(0)
    expect(cards.first.get_by_role("checkbox")).to_be_checked()
    expect(cards.last.get_by_role("checkbox")).not_to_be_checked()
    expect(place.locator("#selection output")).to_have_text("1 selected")
    expect(place.get_by_role("button", name="Create image proxies")).to_be_enabled()


@pytest.fixture(scope="module")
def analysed(airflow: RunningAirflow, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image that has everything; and one that cannot be proxied beside it."""
    folder = tmp_path_factory.mktemp("analysed")
    whole = photograph(folder / "whole.jpg", 1600, 1200).read_bytes()
    (folder / "cut short.jpg").write_bytes(whole[: len(whole) // 2])
    airflow.register(folder)
    assert airflow.wait(airflow.trigger(max_failure_ratio=1)) == "success"
    return "whole.jpg"


def test_the_comparison_slides_by_keyboard_and_shows_boxes(visit: Visit, analysed: str) -> None:
    place = visit.inside()
    find(place, analysed).get_by_role("link", name="Compare").click()
    expect(place.get_by_role("heading", name=analysed)).to_be_visible()
    for number in range(2):
        until(lambda number=number: is_shown(place.locator("#stage img").nth(number)))
    slide = place.locator("#slide")
    slide.focus()
    slide.press("Home")
    at = "(stage) => stage.style.getPropertyValue('--at')"
    assert place.locator("#stage").evaluate(at) == "0%"
    slide.press("End")
    assert place.locator("#stage").evaluate(at) == "100%"
    boxes = place.locator("#boxes")
    expect(boxes.locator("rect").first).to_be_attached()
    place.get_by_label("Boxes", exact=True).uncheck()
    expect(boxes).to_be_hidden()
    expect(place.get_by_text("stand-in, not Nova").first).to_be_visible()


def test_a_failure_is_told_and_tried_again(visit: Visit, register: Register, tmp_path: Path) -> None:
    (name,) = register("gone", 1)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    assert visit.airflow.wait(visit.airflow.trigger(stages=["proxy"], max_failure_ratio=1)) == "success"
    (tmp_path / name).write_bytes(content)
    visit.inside()
    place = visit.page.frame_locator("iframe")
    place.get_by_role("link", name="Failures").click()
    row = place.locator("#list tr", has_text=name)
    expect(row).to_contain_text("The original is not there")
    row.get_by_role("button", name=f"Retry {name}").click()
    expect(place.locator(".job").first.get_by_role("status")).to_have_text("Done")
    expect(row).to_have_count(0)


def test_the_runs_tab_and_the_way_back_to_airflow(visit: Visit, register: Register) -> None:
    (name,) = register("linked", 1)
    run = visit.airflow.trigger(stages=["proxy"])
    assert visit.airflow.wait(run) == "success"
    visit.page.goto(f"{visit.airflow.stack.url}/dags/{DAG_ID}/runs/{run}")
    visit.page.locator("a[href*='plugin/image-proxies-run']").click()
    place = visit.page.frame_locator("iframe")
    expect(place.get_by_role("heading", name="Images of this run")).to_be_visible()
    expect(place.locator(".card")).to_have_count(1)
    place.locator(".card").get_by_role("link", name=name, exact=True).click()
    place.get_by_role("link", name="log", exact=True).first.click()
    visit.page.wait_for_url(re.compile(rf"/dags/{DAG_ID}/runs/[^/]+/tasks/images\.proxy/mapped/0"))
    expect(visit.page.get_by_text("images.proxy").first).to_be_visible()
    links = visit.airflow.client.get(f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/images.proxy/links?map_index=0")
    address = links.json()["extra_links"]["Images"]
    visit.page.goto(f"{visit.airflow.stack.url}{address}")
    expect(visit.page.locator(".card")).to_have_count(1)
    expect(visit.page.locator(".card")).to_contain_text(name)


def test_savings_are_measured_and_the_stand_in_is_named(visit: Visit, analysed: str) -> None:
    page = visit.open("/savings")
    expect(page.get_by_text("Stand-in, not Nova.")).to_be_visible()
    expect(page.locator(".chart canvas")).to_have_count(3)
    expect(page.locator(".target")).to_have_count(3)
    with page.expect_download() as download:
        page.get_by_role("link", name="by format").click()
    text = Path(download.value.path()).read_text()
    assert text.splitlines()[0].startswith("format,images,")
    assert any(line.startswith("jpeg,") for line in text.splitlines())


def test_the_theme_is_airflows(visit: Visit) -> None:
    place = visit.inside()
    expect(place.get_by_role("heading", name="Images")).to_be_visible()
    for theme, other in (("dark", "light"), ("light", "dark")):
        visit.page.evaluate("(names) => document.documentElement.classList.replace(names[1], names[0])", [theme, other])
        expect(place.locator(f"html.{theme}")).to_have_count(1)


def paths(visit: Visit, analysed: str) -> dict[str, str]:
    broken = visit.file_id("cut short.jpg")
    return {
        "images": "/",
        "one": f"/images/{visit.file_id(analysed)}",
        "broken": f"/images/{broken}",
        "savings": "/savings",
        "failures": "/failures",
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, analysed: str, theme: Any) -> None:
    visit.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    serious = []
    for path in paths(visit, analysed).values():
        page = visit.open(path)
        page.wait_for_load_state("networkidle")
        expect(page.locator(f"html.{theme}")).to_have_count(1)
        found = Axe().run(page).response["violations"]
        serious += [
            (path, one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")
        ]
    assert serious == []


def test_a_narrow_screen_needs_no_sideways_scrolling(visit: Visit, analysed: str) -> None:
    visit.page.set_viewport_size({"width": 360, "height": 740})
    for path in paths(visit, analysed).values():
        page = visit.open(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_nothing_comes_from_another_host(visit: Visit, analysed: str) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    for path in paths(visit, analysed).values():
        visit.open(path).wait_for_load_state("networkidle")
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith(visit.airflow.stack.url)] == []


def test_without_a_login_a_page_asks_for_one(browser: Browser, airflow: RunningAirflow) -> None:
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(f"{airflow.stack.url}{PAGES}/")
    assert answer is not None and answer.status == 401
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    context.close()

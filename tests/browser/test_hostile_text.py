"""Scripts in every text that others write: names, addresses, a model's words, failures. Shown as text, never run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from include.catalog.records import Failure, NewImage, Stage
from scripts.screenshots import wait_until_shown
from tests.airflow_boot import RunningAirflow
from tests.browser.conftest import Visit
from tests.catalog import making

pytestmark = pytest.mark.end_to_end

ATTACK = "\"'><img src=x onerror=window.ran=1><script>window.ran=1</script><svg onload=window.ran=1>{{7*7}}"
RUN = "image_proxy_pipeline/hostile"


def attack(field: str) -> str:
    return f"{field}:{ATTACK}"


@pytest.fixture(scope="module")
def hostile(airflow: RunningAirflow) -> tuple[int, int]:
    """One image with an analysis and one that failed; every text of theirs is an attack."""
    catalog = airflow.machine.catalog
    before = set(making.listed(catalog, run_id="nobody/before", stages={Stage.PROXY}))
    catalog.register(
        [
            NewImage(
                uri=f"s3://pictures/{number}/{attack('uri')}",
                filename=attack(f"name{number}"),
                media_type="image/jpeg",
                size_bytes=2_000_000,
                content_version=f"content-{number}",
                uploaded_at=datetime.now(UTC),
                format="jpeg",
            )
            for number in range(2)
        ]
    )
    good, bad = (
        found for found in making.listed(catalog, run_id="nobody/after", stages={Stage.PROXY}) if found not in before
    )
    catalog.store_plan(
        making.plan("hostile", [good, bad], run_id=RUN, dag_id="image_proxy_pipeline", dag_run_id="hostile")
    )
    for stage in (Stage.PROXY, Stage.ANALYSE):
        catalog.claim_batch(RUN, 0, stage, stage.value, 600)
        if stage is Stage.PROXY:
            making.record_proxy(catalog, RUN, stage.value, good, making.new_proxy(reason=attack("reason")))
            failure = Failure(attack("code"), attack("message"))
            catalog.record_failure(RUN, stage.value, bad, stage, failure)
        else:
            answer = replace(
                making.analysis(),
                description=attack("description"),
                labels=({"name": attack("label"), "confidence": 0.9},),
                visible_text=attack("text"),
                objects=({"name": attack("object"), "box": [10, 10, 500, 500]},),
            )
            catalog.record_analysis(RUN, stage.value, good, answer, making.call())
    catalog.finish_run(RUN)
    return good, bad


def test_no_text_of_others_is_run(visit: Visit, hostile: tuple[int, int]) -> None:
    good, bad = hostile
    shown = {
        "/?name=onerror": ("name0", "name1", "description", "label", "message"),
        f"/images/{good}": ("name0", "uri", "description", "label", "text", "object", "reason"),
        f"/images/{bad}": ("name1", "uri", "code", "message"),
        "/failures": ("name1", "code", "message"),
        "/savings": (),
        "/runs/image_proxy_pipeline/hostile": ("name0", "name1"),
        "/runs/%22%3E%3Cscript%3Ewindow.ran=1%3C%2Fscript%3E/x": (),
        f"/?name={ATTACK.replace('#', '%23')}": (),
    }
    for path, fields in shown.items():
        page = visit.open(path)
        wait_until_shown(page)
        for field in fields:
            expect(page.get_by_text(attack(field)).first).to_be_attached()
        assert page.evaluate("window.ran") is None, path
        assert page.locator("[onerror], [onload], main script").count() == 0
        expect(page.locator("body")).not_to_contain_text(":\"'>49")


def test_what_htmx_swaps_in_is_text_too(visit: Visit, hostile: tuple[int, int]) -> None:
    page = visit.open("/")
    page.get_by_label("File name").fill("onerror")
    expect(page.locator(".card")).to_have_count(2)
    page.locator(".card", has_text="name1").get_by_role("button", name="Try again").focus()
    assert page.evaluate("window.ran") is None
    assert page.locator("[onerror], [onload], main script").count() == 0

"""Many images: batches, their cost before they begin, progress, cancelling, trying again."""

from __future__ import annotations

import re
from typing import Any

import pytest

from include.catalog.errors import LeaseLost
from include.catalog.records import Failure, RunPlan
from tests.catalog.making import ANALYSE, PROXY, new_proxy, record_proxy
from tests.web.conftest import DAG_ID, ROOT, Web
from tests.web.test_single import Run


def job(web: Web, job_id: str) -> dict[str, Any]:
    return dict(web.get(f"/batch/{job_id}").json())


def card(web: Web, job_id: str, **params: str) -> Any:
    """The job's part of a page."""
    answer = web.ask("GET", f"{ROOT}/pages/jobs/{job_id}", params=params)
    assert answer.status_code == 200, answer.text
    return answer


def badge(card: Any) -> str:
    found = re.search(r'role="status">([^<]+)<', card.text)
    assert found is not None
    return found[1]


def set_state(job_id: str, state: str) -> None:
    """Play the scheduler."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.run_id == job_id).values(state=state))


def started(answer: Any) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def test_a_batch_is_a_run_over_the_images_with_work_left(web: Web) -> None:
    done, first, second = web.add(), web.add(), web.add()
    Run(web, "before-10", done).proxy(done)
    answer = web.post("/batch/image-proxy", json={"file_ids": [second, done, first, first]})
    assert answer.json()["total_files"] == 2
    assert answer.json()["message"] == "Batch image proxy creation started"
    run = next(run for run in web.runs() if run["dag_run_id"] == started(answer))
    assert run["conf"] == {"stages": ["proxy"], "file_ids": [first, second]}
    assert run["triggering_user_name"] == "admin"


def test_a_batch_with_nothing_to_do_starts_nothing(web: Web) -> None:
    done = web.add()
    Run(web, "before-11", done).proxy(done)
    answer = web.post("/batch/image-proxy", json={"file_ids": [done]})
    assert (answer.status_code, answer.json()["job_id"], answer.json()["total_files"]) == (200, None, 0)


def test_a_batch_may_be_chosen_by_filter(web: Web) -> None:
    wanted, _other = web.add(filename="Straße 100%_a.jpg"), web.add(filename="Straße 100xxa.jpg")
    answer = web.post("/batch/image-proxy", json={"filter": {"name": "100%_A", "status": "pending"}})
    run = next(run for run in web.runs() if run["dag_run_id"] == started(answer))
    assert run["conf"]["file_ids"] == [wanted]


def test_ids_that_are_no_images_are_named(web: Web) -> None:
    good, video = web.add(), web.add(media_type="video/mp4")
    answer = web.post("/batch/image-proxy", json={"file_ids": [good, video, 987654]})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_files")
    assert f"{video}, 987654" in answer.json()["detail"]


def test_analysing_a_batch_tells_its_cost_before_it_begins(web: Web) -> None:
    ids = [web.add(resolution_width=4000, resolution_height=3000) for _ in range(3)]
    runs = len(web.runs())
    offer = web.post("/batch/analyze", json={"file_ids": ids})
    assert offer.status_code == 200
    assert (offer.json()["job_id"], offer.json()["total_files"]) == (None, 3)
    cost = offer.json()["projection"]["cost_usd_estimated"]
    assert cost > 0
    assert offer.json()["projection"]["price_date"]
    assert f"${cost:.4f}" in offer.json()["message"]
    assert len(web.runs()) == runs
    confirmed = web.post("/batch/analyze", json={"file_ids": ids, "confirm": True})
    conf = next(run for run in web.runs() if run["dag_run_id"] == started(confirmed))["conf"]
    assert conf["file_ids"] == ids
    assert cost <= conf["max_cost_usd"] <= cost + 1e-6  # the run itself refuses to cost more than was shown
    assert "stages" not in conf  # the usual: both


def test_a_cost_above_the_limit_is_refused(web: Web) -> None:
    file_id = web.add()
    body = {"file_ids": [file_id], "confirm": True, "max_cost_usd": 0.000001}
    answer = web.post("/batch/analyze", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "max_cost_usd")


def test_a_job_tells_how_far_it_is(web: Web) -> None:
    ids = [web.add() for _ in range(4)]
    job_id = started(web.post("/batch/image-proxy", json={"file_ids": ids}))
    assert job(web, job_id)["total"] == 4
    run = Run(web, job_id, *ids)
    owner = run.claim()
    record_proxy(web.catalog, run.run_id, owner, ids[0], new_proxy(uri="s3://proxies/a.jpg"))
    run.fail(ids[1])
    seen = job(web, job_id)
    assert (seen["total"], seen["done"], seen["failed"], seen["undecided"]) == (4, 1, 1, 2)
    assert seen["bytes_saved"] == 1_800_000
    assert seen["images_per_second"] > 0
    assert seen["eta_seconds"] == pytest.approx(2 / seen["images_per_second"])
    assert seen["outcomes"] == {"proxied": 1, "failed": 1}
    assert seen["requested_by"] == "admin"


def decided(web: Web, state: str) -> str:
    """A job whose only image is decided, its run in this state; its id."""
    file_id = web.add()
    job_id = started(web.post("/batch/image-proxy", json={"file_ids": [file_id]}))
    assert "Planning" in (waiting := card(web, job_id).text)
    assert 'hx-trigger="every 1s"' in waiting
    Run(web, job_id, file_id).proxy(file_id)
    set_state(job_id, state)
    return job_id


def test_a_job_whose_images_are_all_decided_says_that_its_last_tasks_go_on(web: Web) -> None:
    job_id = decided(web, "running")
    shown = card(web, job_id, shown="running")
    assert badge(shown) == "Finishing"
    assert "Time left" not in shown.text
    assert shown.headers["hx-trigger"] == "images-changed"  # outcomes show now, however long the last tasks take
    assert "hx-trigger" not in card(web, job_id, shown="finishing").headers
    seen = job(web, job_id)
    assert (seen["state"], seen["undecided"]) == ("running", 0)
    assert "last tasks" in seen["message"]


def test_the_card_of_an_ended_job_asks_no_more(web: Web) -> None:
    job_id = decided(web, "success")
    ended = card(web, job_id, shown="finishing")
    assert badge(ended) == "Done"
    assert "hx-trigger" not in ended.text
    assert ended.headers["hx-trigger"] == "images-changed"


def test_a_job_without_work_says_so(web: Web) -> None:
    job_id = started(web.post("/batch/image-proxy", json={"file_ids": [web.add()]}))
    plan = RunPlan(f"{DAG_ID}/{job_id}", DAG_ID, job_id, {}, web.key, frozenset({PROXY}), False, "stand-in", ())
    web.catalog.store_plan(plan)
    set_state(job_id, "running")
    assert badge(shown := card(web, job_id)) == "Finishing"
    assert "No image needs work" in shown.text


def test_a_queued_job_of_a_paused_dag_says_why_it_does_not_move(web: Web) -> None:
    job_id = started(web.post("/batch/image-proxy", json={"file_ids": [web.add()]}))
    assert job(web, job_id)["message"] is None
    web.pause(True)
    try:
        assert "unpause" in job(web, job_id)["message"]
    finally:
        web.pause(False)


def test_cancelling_gives_images_back_and_keeps_what_is_decided(web: Web) -> None:
    decided, open_ = web.add(), web.add()
    job_id = started(web.post("/batch/image-proxy", json={"file_ids": [decided, open_]}))
    run = Run(web, job_id, decided, open_)
    owner = run.claim()
    record_proxy(web.catalog, run.run_id, owner, decided, new_proxy(uri=f"s3://proxies/{decided}.jpg"))
    answer = web.post(f"/batch/{job_id}/cancel")
    assert answer.status_code == 200
    seen = answer.json()
    assert (seen["state"], seen["done"], seen["undecided"]) == ("cancelled", 1, 1)
    assert seen["eta_seconds"] is None
    # The task that was at it may end what it is doing, but writes it no more, and others have the image at once.
    with pytest.raises(LeaseLost):
        record_proxy(web.catalog, run.run_id, owner, open_, new_proxy(uri="s3://proxies/late.jpg"))
    assert web.get(f"/files/{open_}").json()["file"]["status"] == "pending"
    assert web.get(f"/files/{decided}").json()["file"]["status"] == "proxied"
    line = web.audit()[0]
    assert (line["event"], line["owner"], line["run_id"]) == ("image_proxy.cancel", "admin", job_id)
    again = web.post(f"/batch/{job_id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job_ended")


def test_a_job_that_is_not_planned_yet_can_be_cancelled(web: Web) -> None:
    job_id = started(web.post("/batch/image-proxy", json={"file_ids": [web.add()]}))
    assert web.post(f"/batch/{job_id}/cancel").json()["state"] == "cancelled"


def test_a_run_of_another_dag_is_no_job(web: Web) -> None:
    assert web.post("/batch/somebody-elses-run/cancel").status_code == 404


def test_failures_are_tried_again_by_force_one_or_all(web: Web) -> None:
    ids = [web.add(), web.add(), web.add()]
    run = Run(web, "before-20", *ids)
    for file_id, code in zip(ids, ("odd_code", "odd_code", "other_code"), strict=True):
        run.fail(file_id, code)
    one = web.post("/failures/retry", json={"stage": "proxy", "file_ids": [ids[0]]})
    by_code = web.post("/failures/retry", json={"stage": "proxy", "code": "odd_code"})
    confs = {run["dag_run_id"]: run["conf"] for run in web.runs()}
    assert confs[started(one)] == {"stages": ["proxy"], "file_ids": [ids[0]], "force": True}
    assert confs[started(by_code)]["file_ids"] == ids[:2]
    everything = web.post("/failures/retry", json={"stage": "proxy"})
    assert set(ids) <= set({run["dag_run_id"]: run["conf"] for run in web.runs()}[started(everything)]["file_ids"])


def test_trying_an_analysis_again_costs_and_so_needs_a_confirmation(web: Web) -> None:
    file_id = web.add()
    run = Run(web, "before-21", file_id, stages=frozenset({PROXY, ANALYSE}))
    run.proxy(file_id)
    refused = Failure("content_filtered", "Nova would not say")
    web.catalog.record_failure(run.run_id, run.claim(ANALYSE), file_id, ANALYSE, refused)
    body = {"stage": "analyse", "file_ids": [file_id]}
    offer = web.post("/failures/retry", json=body)
    assert (offer.status_code, offer.json()["total_files"]) == (200, 1)
    conf = {run["dag_run_id"]: run["conf"] for run in web.runs()}
    job_id = started(web.post("/failures/retry", json={**body, "confirm": True}))
    conf = {run["dag_run_id"]: run["conf"] for run in web.runs()}[job_id]
    assert (conf["stages"], conf["force"], conf["file_ids"]) == (["analyse"], True, [file_id])
    assert conf["max_cost_usd"] > 0


def test_what_is_not_failed_is_not_retried(web: Web) -> None:
    file_id = web.add()
    answer = web.post("/failures/retry", json={"stage": "proxy", "file_ids": [file_id]})
    assert (answer.status_code, answer.json()["job_id"]) == (200, None)

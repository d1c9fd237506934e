"""One image over REST: what is there is answered at once, and what is not becomes a run that workers do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from include.catalog.records import Failure, RunPlan, Stage
from tests.catalog.making import ANALYSE, PROXY, analysis, call, kept, new_proxy, record_proxy
from tests.web.conftest import DAG_ID, Web


class Run:
    """A worker of a started job, played through the catalog."""

    def __init__(self, web: Web, job_id: str, *file_ids: int, stages: frozenset[Stage] = frozenset({PROXY})) -> None:
        self.web, self.run_id = web, f"{DAG_ID}/{job_id}"
        plan = RunPlan(self.run_id, DAG_ID, job_id, {}, web.key, stages, False, "stand-in", (file_ids,))
        web.catalog.store_plan(plan)

    def claim(self, stage: Stage = PROXY) -> str:
        owner = f"{self.run_id}/{stage}"
        self.web.catalog.claim_batch(self.run_id, 0, stage, owner, 60)
        return owner

    def proxy(self, file_id: int, **changes: Any) -> None:
        uri = f"s3://proxies/{file_id}.jpg"
        record_proxy(self.web.catalog, self.run_id, self.claim(), file_id, new_proxy(uri=uri, **changes))

    def fail(self, file_id: int, code: str = "truncated", *, transient: bool = False) -> None:
        failure = Failure(code, "the file ends early", transient=transient)
        self.web.catalog.record_failure(self.run_id, self.claim(), file_id, PROXY, failure)


def while_waiting(work: Callable[[str], None], web: Web, file_id: int, path: str = "create-image-proxy") -> Any:
    """Send the request, and do the work as soon as its run is there."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = [run["dag_run_id"] for run in web.runs() if f"_file_{file_id}_" in run["dag_run_id"]]
            if found:
                return work(found[0])
            time.sleep(0.05)
        raise AssertionError("no run was started")

    worker = threading.Thread(target=watch)
    worker.start()
    answer = web.post(f"/files/{file_id}/{path}", params={"wait_seconds": 30})
    worker.join()
    return answer


def test_a_current_proxy_is_answered_at_once(web: Web) -> None:
    file_id = web.add()
    Run(web, "before-1", file_id).proxy(file_id)
    runs = len(web.runs())
    answer = web.post(f"/files/{file_id}/create-image-proxy")
    assert answer.status_code == 200
    assert answer.json() == {
        "proxy_id": answer.json()["proxy_id"],
        "source_id": file_id,
        "original_size_bytes": 2_000_000,
        "proxy_size_bytes": 200_000,
        "savings_percent": 90.0,
        "original_dimensions": [4000, 2987],
        "proxy_dimensions": [1200, 896],
        "status": "proxied",
        "job_id": "before-1",
    }
    assert len(web.runs()) == runs


def test_a_kept_original_counts_as_done(web: Web) -> None:
    file_id = web.add()
    run = Run(web, "before-2", file_id)
    record_proxy(web.catalog, run.run_id, run.claim(), file_id, kept(proxy_bytes=2_000_000))
    answer = web.post(f"/files/{file_id}/create-image-proxy").json()
    assert (answer["status"], answer["savings_percent"]) == ("kept", 0.0)


def test_the_request_waits_for_the_worker(web: Web) -> None:
    file_id = web.add()
    answer = while_waiting(lambda job_id: Run(web, job_id, file_id).proxy(file_id), web, file_id)
    assert (answer.status_code, answer.json()["source_id"]) == (200, file_id)
    run = next(run for run in web.runs() if run["dag_run_id"] == answer.json()["job_id"])
    assert run["conf"] == {"stages": ["proxy"], "file_ids": [file_id]}
    assert run["triggering_user_name"] == "admin"


def test_a_failure_while_waiting_tells_its_reason(web: Web) -> None:
    file_id = web.add()
    answer = while_waiting(lambda job_id: Run(web, job_id, file_id).fail(file_id), web, file_id)
    assert (answer.status_code, answer.json()["code"]) == (422, "truncated")
    again = web.post(f"/files/{file_id}/create-image-proxy")
    assert (again.status_code, again.json()["code"]) == (422, "truncated")
    assert "retry" in again.json()["detail"]


def test_a_failure_that_is_not_due_again_is_told_and_starts_nothing(web: Web) -> None:
    file_id = web.add()
    Run(web, "before-3", file_id).fail(file_id, "source_unreadable", transient=True)
    runs = len(web.runs())
    answer = web.post(f"/files/{file_id}/create-image-proxy")
    assert (answer.status_code, answer.json()["code"]) == (422, "source_unreadable")
    assert len(web.runs()) == runs


def test_who_does_not_wait_gets_a_job_and_the_next_is_told_of_it(web: Web) -> None:
    file_id = web.add()
    answer = web.post(f"/files/{file_id}/create-image-proxy", params={"wait_seconds": 0})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["status_url"]
    status = web.ask("GET", job["status_url"]).json()
    assert (status["state"], status["total"], status["undecided"]) == ("queued", 1, 1)
    second = web.post(f"/files/{file_id}/create-image-proxy", params={"wait_seconds": 0})
    assert (second.status_code, second.json()["code"]) == (409, "already_being_made")
    assert second.json()["job_id"] == job["job_id"]


def test_of_many_at_the_same_moment_one_starts_a_run(web: Web) -> None:
    file_id = web.add()
    answers: list[int] = []

    def ask() -> None:
        headers = {"Authorization": f"Bearer {web.tokens['admin']}"}
        path = f"/image-proxy/v1/api/files/{file_id}/create-image-proxy?wait_seconds=0"
        answers.append(web.client.post(path, headers=headers).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202, 409, 409, 409]
    assert sum(f"_file_{file_id}_" in run["dag_run_id"] for run in web.runs()) == 1


def test_an_image_that_another_run_holds_is_refused(web: Web) -> None:
    file_id = web.add()
    Run(web, "busy-1", file_id).claim()
    answer = web.post(f"/files/{file_id}/create-image-proxy")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_being_made")
    assert answer.json()["job_id"] == "busy-1"


def test_a_run_that_ends_without_deciding_is_no_endless_wait(web: Web) -> None:
    file_id = web.add()

    def give_up(job_id: str) -> None:
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{job_id}"
        headers = {"Authorization": f"Bearer {web.tokens['admin']}"}
        web.client.patch(path, headers=headers, json={"state": "failed"})

    answer = while_waiting(give_up, web, file_id)
    assert (answer.status_code, answer.json()["code"]) == (503, "run_failed")


def test_a_paused_dag_is_a_clear_refusal(web: Web) -> None:
    file_id = web.add()
    runs = len(web.runs())
    web.pause(True)
    try:
        one = web.post(f"/files/{file_id}/create-image-proxy")
        many = web.post("/batch/image-proxy", json={"file_ids": [file_id]})
    finally:
        web.pause(False)
    for answer in (one, many):
        assert (answer.status_code, answer.json()["code"]) == (409, "dag_paused")
        assert "unpause" in answer.json()["detail"]
    assert len(web.runs()) == runs


@pytest.mark.parametrize("path", ["create-image-proxy", "analyze"])
def test_what_is_no_image_is_refused(web: Web, path: str) -> None:
    file_id = web.add(media_type="video/mp4")
    answer = web.post(f"/files/{file_id}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (422, "not_an_image")


def test_analysing_waits_for_nova_s_answer_and_then_has_it(web: Web) -> None:
    file_id = web.add()

    def work(job_id: str) -> None:
        run = Run(web, job_id, file_id, stages=frozenset({PROXY, ANALYSE}))
        run.proxy(file_id)
        web.catalog.record_analysis(run.run_id, run.claim(ANALYSE), file_id, analysis("a quiet street"), call())

    answer = while_waiting(work, web, file_id, "analyze")
    assert (answer.status_code, answer.json()["description"]) == (200, "a quiet street")
    run = next(run for run in web.runs() if f"_file_{file_id}_" in run["dag_run_id"])
    assert run["conf"] == {"file_ids": [file_id]}  # both stages, and this image only
    runs = len(web.runs())
    assert web.post(f"/files/{file_id}/analyze").json()["description"] == "a quiet street"
    assert len(web.runs()) == runs


def test_what_has_no_proxy_for_good_is_not_analysed(web: Web) -> None:
    file_id = web.add()
    Run(web, "before-4", file_id).fail(file_id)
    answer = web.post(f"/files/{file_id}/analyze")
    assert (answer.status_code, answer.json()["code"]) == (422, "truncated")


@pytest.mark.parametrize("seconds", ["-1", "61", "nan", "forever"])
def test_the_wait_is_bounded(web: Web, seconds: str) -> None:
    answer = web.post("/files/1/create-image-proxy", params={"wait_seconds": seconds})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_waiters_are_bounded_and_more_get_their_job_at_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_proxy.web.waiting.MOST_WAITERS", 0)
    answer = web.post(f"/files/{web.add()}/create-image-proxy", params={"wait_seconds": 60})
    assert answer.status_code == 202

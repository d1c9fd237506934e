"""Every way in which a run is started, on a running Airflow: schedule, upload, backlog, backfill, by hand, on request.

Each scenario has pictures of its own, and ends with the same count: no image twice, none lost, by the catalog's rows
and by the stand-in's log.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import bindparam, text

from include.local.airflow import run_airflow
from include.local.registration import register_folders
from tests.dags.conftest import photograph
from tests.end_to_end.conftest import DAG_ID, LATE_SECONDS, MINUTE, RunningAirflow, until

pytestmark = pytest.mark.end_to_end

HOUR = timedelta(hours=1)


@dataclass
class Scene:
    """A running Airflow and one scenario's pictures, by file id."""

    airflow: RunningAirflow
    folder: Path

    def upload(self, uploaded_at: datetime, count: int = 1) -> list[int]:
        """Register ``count`` new pictures as uploaded at this time."""
        folder = self.folder / f"upload {len(list(self.folder.iterdir()))}"
        folder.mkdir()
        first = photograph(folder / "0.jpg", 1000, 950)
        for number in range(1, count):
            shutil.copy(first, folder / f"{number}.jpg")
        register_folders(self.airflow.machine.catalog, [folder], uploaded_at)
        uris = [(folder / f"{number}.jpg").as_uri() for number in range(count)]
        return [file_id for (file_id,) in self.rows("SELECT id FROM files WHERE uri IN :uris ORDER BY id", uris=uris)]

    def rows(self, query: str, **values: Any) -> Sequence[Any]:
        lists = [bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)]
        with self.airflow.machine.engine.connect() as connection:
            return connection.execute(text(query).bindparams(*lists), values).all()

    def listed(self, run: str) -> list[int]:
        """Return the images that a run planned, in the order in which they were uploaded."""
        query = (
            "SELECT i.file_id FROM image_run_items i JOIN files f ON f.id = i.file_id WHERE run_id = :run "
            "ORDER BY f.uploaded_at, f.id"
        )
        return [file_id for (file_id,) in self.rows(query, run=f"{DAG_ID}/{run}")]

    def analysed(self, ids: Iterable[int]) -> Counter[int]:
        """Return how many analyses were ever written for each image."""
        query = "SELECT file_id FROM image_analyses WHERE status = 'analysed' AND file_id IN :ids"
        return Counter(file_id for (file_id,) in self.rows(query, ids=list(ids)))

    def asked(self, ids: Iterable[int]) -> Counter[int]:
        """Return how often Nova's stand-in answered about each image."""
        query = "SELECT file_id, uri FROM image_proxies WHERE status <> 'failed' AND file_id IN :ids"
        of = {uri: file_id for file_id, uri in self.rows(query, ids=list(ids))}
        calls = [call for call in self.airflow.machine.cloud.calls() if call["status"] == httpx.codes.OK]
        return Counter(of[call["s3_uri"]] for call in calls if call["s3_uri"] in of)

    def assert_once(self, ids: Iterable[int]) -> None:
        """No image twice, none lost."""
        once = dict.fromkeys(ids, 1)
        assert (self.analysed(once), self.asked(once)) == (once, once)

    def states(self, run: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.tasks(run)}

    def ends(self, run: str) -> dict[tuple[str, int], Counter[str]]:
        """Return how many instances of which tasks ended in which state, after so many tries."""
        found: dict[tuple[str, int], Counter[str]] = {}
        for task in self.airflow.tasks(run):
            found.setdefault((task["state"], task["try_number"]), Counter())[task["task_id"]] += 1
        return found

    def announce(self, name: str = "image_catalog") -> None:
        """Update an asset, as the ingest does when it has registered new pictures."""
        assets = self.airflow.client.get("/assets", params={"name_pattern": name}).json()["assets"]
        (asset,) = [asset for asset in assets if asset["name"] == name]
        body = {"asset_id": asset["id"], "extra": {}}
        self.airflow.client.post("/assets/events", json=body).raise_for_status()

    def backfill(self, first: datetime, hours: int, **wanted: Any) -> list[str]:
        """Create a backfill of hourly intervals as the UI does; return the ids of its runs."""
        body = {"dag_id": DAG_ID, "from_date": first.isoformat(), "to_date": (first + (hours - 1) * HOUR).isoformat()}
        body |= {
            "max_active_runs": 3,
            "reprocess_behavior": "none",
            "run_backwards": False,
            "dag_run_conf": {},
            **wanted,
        }
        until(lambda: self._created(body), "the backfill before it is completed")
        return [run["dag_run_id"] for run in self.runs_of(first, hours)]

    def _created(self, body: dict[str, Any]) -> bool:
        answer = self.airflow.client.post("/backfills", json=body)
        if answer.status_code in (httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE):  # the latter: SQLite is busy
            return False
        assert answer.status_code == httpx.codes.OK, answer.text
        return True

    def runs_of(self, first: datetime, hours: int) -> list[dict[str, Any]]:
        last = first + (hours - 1) * HOUR
        wanted = {"logical_date_gte": first.isoformat(), "logical_date_lte": last.isoformat(), "run_type": "backfill"}
        return sorted(self.airflow.runs(**wanted), key=lambda run: str(run["logical_date"]))

    def finish(self, runs: Sequence[str], state: str = "success") -> None:
        assert {run: self.airflow.wait(run) for run in runs} == dict.fromkeys(runs, state)

    def new_runs(self, run_type: str, since: int) -> list[str]:
        return [run["dag_run_id"] for run in self.airflow.runs(run_type=run_type)[since:]]


@pytest.fixture(params=["airflow", "airflow_on_postgres"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """On SQLite, and on PostgreSQL."""
    return Scene(request.getfixturevalue(request.param), tmp_path)


@pytest.fixture
def postgres_scene(airflow_on_postgres: RunningAirflow, tmp_path: Path) -> Scene:
    return Scene(airflow_on_postgres, tmp_path)


@pytest.fixture
def sqlite_scene(airflow: RunningAirflow, tmp_path: Path) -> Scene:
    return Scene(airflow, tmp_path)


def hour(day: int, number: int) -> datetime:
    """The start of an interval, in a month without other pictures."""
    return datetime(2026, 3, day, number, MINUTE, tzinfo=UTC)


# -- by schedule, and by upload --------------------------------------------------------------------------------------


def test_a_scheduled_run_takes_what_was_uploaded_before_its_end(scene: Scene) -> None:
    """Late rows too; and what came after the interval's end waits for the next run."""
    airflow = scene.airflow
    scheduled = airflow.runs(run_type="scheduled")[0]
    end = datetime.fromisoformat(scheduled["data_interval_end"])
    assert end - datetime.fromisoformat(scheduled["data_interval_start"]) == HOUR
    (last,), (first,), (second,) = (scene.upload(end - ago) for ago in (HOUR / 60, 90 * HOUR, 2 * HOUR))
    (after,) = scene.upload(end + timedelta(seconds=1))
    events = len(airflow.runs(run_type="asset_triggered"))
    body = {"dry_run": False, "only_failed": False}
    airflow.client.post(f"/dags/{DAG_ID}/dagRuns/{scheduled['dag_run_id']}/clear", json=body).raise_for_status()
    scene.finish([scheduled["dag_run_id"]])
    assert scene.listed(scheduled["dag_run_id"]) == [first, second, last]
    assert scene.states(scheduled["dag_run_id"])["continue_backlog"] == "skipped"
    assert scene.analysed([after]) == {}
    scene.announce()
    until(lambda: scene.new_runs("asset_triggered", events), "the asset's event started a run")
    (by_upload,) = scene.new_runs("asset_triggered", events)
    scene.finish([by_upload])
    assert scene.listed(by_upload) == [after]
    scene.assert_once([first, second, last, after])


def test_full_runs_follow_one_another_until_nothing_is_left(sqlite_scene: Scene) -> None:
    """Oldest first, each up to the limit, without a person."""
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    before = len(airflow.runs(run_type="asset_triggered"))
    newer, older = scene.upload(datetime(2026, 2, 2, tzinfo=UTC), 3), scene.upload(datetime(2026, 2, 1, tzinfo=UTC), 4)
    with airflow.settings(run_limit=3):
        scene.announce()
        until(lambda: len(scene.analysed([*older, *newer])) == 7, "the backlog is done")
        until(lambda: len(scene.new_runs("asset_triggered", before)) == 3, "three runs")
        runs = scene.new_runs("asset_triggered", before)
        scene.finish(runs)
    assert [scene.listed(run) for run in runs] == [older[:3], [older[3], *newer[:2]], newer[2:]]
    assert [scene.states(run)["continue_backlog"] for run in runs] == ["success", "success", "skipped"]
    scene.assert_once([*older, *newer])
    assert len(scene.new_runs("asset_triggered", before)) == 3


# -- backfill --------------------------------------------------------------------------------------------------------


def test_a_backfill_takes_exactly_its_intervals_and_what_came_late(scene: Scene) -> None:
    airflow = scene.airflow
    early, at_start, late = (scene.upload(at) for at in (hour(1, 0) - HOUR / 60, hour(1, 0), hour(1, 1) - HOUR / 60))
    second, outside = scene.upload(hour(1, 1)), scene.upload(hour(1, 2))
    create = ["backfill", "create", "--dag-id", DAG_ID, "--from-date", hour(1, 0).isoformat()]
    create += ["--to-date", hour(1, 1).isoformat(), "--max-active-runs", "2"]
    until(lambda: _cli_backfill_created(create, airflow), "the backfill before it is completed")
    runs = [run["dag_run_id"] for run in scene.runs_of(hour(1, 0), 2)]
    scene.finish(runs)
    assert [scene.listed(run) for run in runs] == [[*at_start, *late], second]
    inside = [*at_start, *late, *second]
    scene.assert_once(inside)
    assert scene.analysed([*early, *outside]) == {}

    came_in_late = scene.upload(hour(1, 0) + HOUR / 2)
    scene.finish(scene.backfill(hour(1, 0), 2, reprocess_behavior="completed"))
    scene.assert_once([*inside, *came_in_late])

    airflow.wait(airflow.trigger(file_ids=[*early, *outside]))
    scene.assert_once([*early, *outside])


def test_a_forced_backfill_redoes_its_interval_and_keeps_the_history(sqlite_scene: Scene) -> None:
    scene, airflow, start = sqlite_scene, sqlite_scene.airflow, hour(13, 0)
    inside = [*scene.upload(start), *scene.upload(start + HOUR / 2)]
    scene.finish([airflow.trigger(file_ids=inside)])
    scene.assert_once(inside)
    create = [
        "backfill",
        "create",
        "--dag-id",
        DAG_ID,
        "--from-date",
        start.isoformat(),
        "--to-date",
        start.isoformat(),
    ]
    until(lambda: _cli_backfill_created([*create, *FORCED], airflow), "the backfill before it is completed")
    scene.finish([run["dag_run_id"] for run in scene.runs_of(start, 1)])
    twice = dict.fromkeys(inside, 2)
    assert (scene.analysed(inside), scene.asked(inside)) == (twice, twice)
    history = "SELECT count(*), count(superseded_at) FROM image_analyses WHERE file_id IN :ids"
    assert tuple(scene.rows(history, ids=inside)[0]) == (4, 2)
    scene.finish(scene.backfill(start, 1, reprocess_behavior="completed", dag_run_conf={"force": True, "quality": 70}))
    recipes = "SELECT count(DISTINCT recipe_version) FROM image_proxies WHERE file_id = :id AND superseded_at IS NULL"
    assert scene.rows(recipes, id=inside[0])[0][0] == 2


FORCED = ("--reprocess-behavior", "completed", "--dag-run-conf", '{"force": true}')


def _cli_backfill_created(arguments: list[str], airflow: RunningAirflow) -> bool:
    try:
        run_airflow(arguments, airflow.stack.env)
    except RuntimeError as error:
        assert "AlreadyRunningBackfill" in str(error) or "database is locked" in str(error)
        return False
    return True


def test_a_cancelled_backfill_beside_another_run_is_started_again_on_postgres(postgres_scene: Scene) -> None:
    scene, airflow, first, hours = postgres_scene, postgres_scene.airflow, hour(5, 0), 3
    pictures = [file_id for number in range(hours) for file_id in scene.upload(first + number * HOUR, 4)]
    events = len(airflow.runs(run_type="asset_triggered"))
    runs = scene.backfill(first, hours, max_active_runs=1)
    until(lambda: "running" in [run["state"] for run in scene.runs_of(first, hours)], "the backfill's first run")
    active = airflow.client.get("/backfills", params={"dag_id": DAG_ID, "active": True}).json()["backfills"]
    (backfill,) = [one for one in active if datetime.fromisoformat(one["from_date"]) == first]
    airflow.client.put(f"/backfills/{backfill['id']}/cancel").raise_for_status()
    scene.announce()  # a run that takes everything, at the same time
    cancelled = [run["dag_run_id"] for run in scene.runs_of(first, hours) if run["state"] == "failed"]
    assert cancelled
    again = scene.backfill(first, hours, reprocess_behavior="failed")
    until(lambda: scene.new_runs("asset_triggered", events), "the asset's event started a run")
    scene.finish([*again, *scene.new_runs("asset_triggered", events)])
    assert again == runs
    scene.assert_once(pictures)
    assert scene.rows("SELECT count(*) FROM image_claims")[0][0] == 0


def test_a_failed_interval_is_repeated(sqlite_scene: Scene) -> None:
    scene, first = sqlite_scene, hour(9, 0)
    pictures = scene.upload(first)
    with scene.airflow.settings(keep_original="perhaps"):
        runs = scene.backfill(first, 1)
        scene.finish(runs, "failed")
        until(lambda: scene.airflow.alerts.about(runs[0]), "a wrong setting does not silence the notifier")
    assert scene.analysed(pictures) == {}
    scene.finish(scene.backfill(first, 1, reprocess_behavior="failed"))
    scene.assert_once(pictures)


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_a_person_chooses_images_by_window_by_id_and_by_number(sqlite_scene: Scene) -> None:
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    start = datetime(2026, 4, 1, tzinfo=UTC)
    one, two, three, four = (scene.upload(start + number * HOUR)[0] for number in range(4))
    window = {"uploaded_from": (start + HOUR).isoformat(), "uploaded_to": (start + 3 * HOUR).isoformat()}
    by_window = airflow.trigger(**window, stages=["proxy"], limit=1)
    assert airflow.run(by_window)["logical_date"] is None
    scene.finish([by_window])
    assert (scene.listed(by_window), scene.asked([two])) == ([two], {})
    by_id = airflow.trigger(file_ids=[one, four])
    scene.finish([by_id])
    assert scene.listed(by_id) == [one, four]
    rest = airflow.trigger()
    scene.finish([rest])
    assert scene.listed(rest) == [two, three]
    scene.assert_once([one, two, three, four])


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"quality": 5}, "type a whole number from 50 to 95"),
        ({"limit": "ten"}, "type a whole number from 1 to 100000, or leave it empty"),
        ({"stages": ["resize"]}, 'type a list of some of ["proxy", "analyse"]'),
        ({"detail": "high"}, "type fixed or auto"),
        ({"uploaded_from": "yesterday"}, "for example 2026-11-01T00:00:00+00:00"),
        ({"file_ids": "3"}, "for example [1, 2, 3]"),
    ],
)
def test_the_api_says_what_to_type(airflow: RunningAirflow, conf: dict[str, Any], said: str) -> None:
    answer = airflow.client.post(f"/dags/{DAG_ID}/dagRuns", json={"logical_date": None, "conf": conf})
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert said in re.sub(r"'\s*\n\s*'", "", answer.json()["detail"])  # Airflow breaks long lines of the schema


def test_a_cleared_task_repeats_nothing(sqlite_scene: Scene) -> None:
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    pictures = scene.upload(datetime(2026, 4, 2, tzinfo=UTC), 2)
    run = airflow.trigger(file_ids=pictures, force=True)
    scene.finish([run])
    body = {"dry_run": False, "dag_run_id": run, "task_ids": ["images.proxy", "images.analyse"], "only_failed": False}
    airflow.client.post(f"/dags/{DAG_ID}/clearTaskInstances", json=body).raise_for_status()
    scene.finish([run])
    assert {task["try_number"] for task in airflow.tasks(run) if task["task_id"].startswith("images")} == {2}
    scene.assert_once(pictures)


def test_what_has_nothing_to_do_is_skipped_without_being_started(sqlite_scene: Scene) -> None:
    """One that starts only to skip itself costs a process each. Cleared, it is started, and finds out by itself."""
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    pictures = scene.upload(datetime(2026, 4, 8, tzinfo=UTC), 2)
    run = airflow.trigger(stages=["proxy"], file_ids=pictures, batch_size=1)
    scene.finish([run])
    unneeded = {"images.analyse": 2, "announce_analyses": 1, "continue_backlog": 1}
    started = {"plan": 1, "images.proxy": 2, "summary": 1, "gate": 1, "announce_proxies": 1}
    assert scene.ends(run) == {("skipped", 0): unneeded, ("success", 1): started}
    results = f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/images.proxy/xcomEntries/return_value"
    assert [airflow.got(results, map_index=index)["value"] for index in (0, 1)] == [{"proxied": 1}] * 2
    body = {"dry_run": False, "dag_run_id": run, "task_ids": list(unneeded), "only_failed": False}
    airflow.client.post(f"/dags/{DAG_ID}/clearTaskInstances", json=body).raise_for_status()
    scene.finish([run])
    assert scene.ends(run) == {("skipped", 1): unneeded, ("success", 1): started}
    airflow.client.post(f"/dags/{DAG_ID}/dagRuns/{run}/clear", json={"dry_run": False}).raise_for_status()
    scene.finish([run])
    assert scene.analysed(pictures) == {}
    scene.finish([airflow.trigger(stages=["analyse"], file_ids=pictures)])
    scene.assert_once(pictures)


# -- on request ------------------------------------------------------------------------------------------------------


def test_in_lazy_mode_only_a_request_makes_proxies(sqlite_scene: Scene) -> None:
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    pictures = scene.upload(datetime(2026, 4, 3, tzinfo=UTC), 2)
    events = len(airflow.runs(run_type="asset_triggered"))
    with airflow.settings(proxy_mode="lazy"):
        scene.announce()
        until(lambda: scene.new_runs("asset_triggered", events), "the asset's event started a run")
        (by_upload,) = scene.new_runs("asset_triggered", events)
        scene.finish([by_upload])
        assert set(scene.states(by_upload).values()) <= {"skipped", "success"}
        assert scene.states(by_upload)["plan"] == "skipped"
        assert scene.rows("SELECT count(*) FROM image_proxies WHERE file_id IN :ids", ids=pictures)[0][0] == 0
        scene.finish([airflow.trigger(stages=["analyse"], file_ids=pictures)])
        scene.assert_once(pictures)
        scene.finish([airflow.trigger(stages=["analyse"], file_ids=pictures, force=True)])
    assert scene.analysed(pictures) == dict.fromkeys(pictures, 2)
    assert scene.rows("SELECT count(*) FROM image_proxies WHERE file_id IN :ids", ids=pictures)[0][0] == 2


# -- who is told -----------------------------------------------------------------------------------------------------


def test_other_dags_are_started_by_news_and_by_nothing_else(sqlite_scene: Scene) -> None:
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    pictures = scene.upload(datetime(2026, 4, 4, tzinfo=UTC), 2)
    run = airflow.trigger(file_ids=pictures)
    scene.finish([run])
    news = {event["extra"]["run_id"]: event["extra"] for event in _events(airflow, "image_analyses")}
    told = news[f"{DAG_ID}/{run}"]
    assert (told["analyses_written"], told["nova_endpoint"], told["cost_usd"]) == (2, "stand-in", None)
    proxies = {event["extra"]["run_id"]: event["extra"] for event in _events(airflow, "image_proxies")}
    measured = proxies[f"{DAG_ID}/{run}"]
    assert measured["proxies_created"] == 2
    assert measured["bytes_saved"] == measured["bytes_original"] - measured["bytes_served"] > 0
    until(lambda: _heard(airflow, run), "the documentation's DAG ran on the news")
    events = len(_events(airflow, "image_analyses")) + len(_events(airflow, "image_proxies"))
    idle = airflow.trigger(file_ids=pictures)
    scene.finish([idle])
    assert len(_events(airflow, "image_analyses")) + len(_events(airflow, "image_proxies")) == events
    states = scene.states(idle)
    assert (states["announce_proxies"], states["announce_analyses"], states["gate"]) == (
        "skipped",
        "skipped",
        "success",
    )


def _events(airflow: RunningAirflow, asset: str) -> list[dict[str, Any]]:
    answer = airflow.got("/assets/events", limit=100, order_by="-timestamp", name_pattern=asset)
    return [event for event in answer["asset_events"] if event["name"] == asset]


def _heard(airflow: RunningAirflow, run: str) -> bool:
    """Whether a run of the documentation's DAG that consumed this run's news has ended well, with its figures."""
    for heard in airflow.runs("after_new_images", state="success"):
        path = f"/dags/after_new_images/dagRuns/{heard['dag_run_id']}"
        events = airflow.client.get(f"{path}/upstreamAssetEvents").json()["asset_events"]
        if f"{DAG_ID}/{run}" in [event["extra"]["run_id"] for event in events]:
            value = airflow.client.get(f"{path}/taskInstances/report/xcomEntries/return_value").json()["value"]
            return "analyses_written" in str(value)
    return False


def test_a_failed_run_is_told_once_and_a_good_one_never(sqlite_scene: Scene) -> None:
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    good = airflow.trigger(file_ids=scene.upload(datetime(2026, 4, 5, tzinfo=UTC)))
    scene.finish([good])
    bad = airflow.trigger(limt=3)
    scene.finish([bad], "failed")
    until(lambda: airflow.alerts.about(bad), "the notifier was told of the failure")
    (told,) = airflow.alerts.about(bad)
    assert (told["event"], told["subject"]) == ("failed", f"{DAG_ID}: a run failed")
    assert "plan" in told["message"] or "gate" in told["message"]
    assert airflow.client.get(told["url"].replace("/dags/", "/api/v2/dags/").replace("/runs/", "/dagRuns/")).json()
    slow = _seconds(airflow.run(good)) > LATE_SECONDS  # on a machine that is busy with other things
    assert slow or airflow.alerts.about(good) == []


def test_a_late_run_is_told_while_it_goes_on(sqlite_scene: Scene) -> None:
    """The pool gets no slots, so the run waits; as soon as it was told of, the slots come back."""
    scene, airflow = sqlite_scene, sqlite_scene.airflow
    pool = airflow.client.get("/pools/nova").json()
    run = airflow.trigger(file_ids=scene.upload(datetime(2026, 4, 6, tzinfo=UTC)))
    until(lambda: scene.states(run)["plan"] == "success", "the run was planned")
    airflow.client.patch("/pools/nova", json={**_pool(pool), "slots": 1}).raise_for_status()
    try:
        until(lambda: airflow.alerts.about(run), "the notifier was told that the run is late", LATE_SECONDS + 60)
    finally:
        airflow.client.patch("/pools/nova", json=_pool(pool)).raise_for_status()
    (told,) = airflow.alerts.about(run)
    assert (told["event"], told["subject"]) == ("late", f"{DAG_ID}: a run is late")
    assert "still running" in told["message"]
    scene.finish([run])


def _seconds(run: dict[str, Any]) -> float:
    queued, ended = (datetime.fromisoformat(run[name]) for name in ("queued_at", "end_date"))
    return (ended - queued).total_seconds()


def _pool(pool: dict[str, Any]) -> dict[str, Any]:
    return {name: pool[name] for name in ("name", "slots", "description", "include_deferred")}

"""What a test puts in, and what it counts after: rows of the catalog, bytes of the bucket, calls of the stand-in."""

from __future__ import annotations

import hashlib
import io
import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from sqlalchemy import text

from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.records import NewImage
from tests.distributed.topology import DAG_ID, Topology
from tests.imaging.pictures import noise

ORIGINALS = "originals"
DONE = {"image_proxies": "proxied", "image_analyses": "analysed"}  # what a shipment's images are to be in the end
RUN_SECONDS = 600  # a busy machine; an idle one needs half a minute
# Uploads lie in a time that no schedule reaches while a test runs, so that a run takes what it is told to take.
_TIMES = (datetime(2031, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in itertools.count())
_SHADES = itertools.count()


def photograph(width: int = 1200, height: int = 960) -> bytes:
    """A JPEG of a smooth, slightly noisy picture: above 896 px, so that a proxy is made; each one differs."""
    shade = Image.new("L", (width, height), next(_SHADES) % 256)
    picture = Image.merge("RGB", (Image.radial_gradient("L").resize((width, height)), noise(width, height, 12), shade))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=92)
    return written.getvalue()


@dataclass
class Shipment:
    """Images that one test registered: their ids, and the window of upload times that is theirs alone."""

    ids: tuple[int, ...]
    uploaded_from: datetime

    def window(self) -> dict[str, str]:
        """The params that make a run take these and no others."""
        until = self.uploaded_from + timedelta(hours=12)
        return {"uploaded_from": self.uploaded_from.isoformat(), "uploaded_to": until.isoformat()}


@dataclass
class Books:
    """The topology as an accountant sees it."""

    topology: Topology
    tell: Callable[[str], None]
    catalog: Catalog = field(init=False)
    bucket: str = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_catalog_engine(self.topology.catalog_url())
        self.catalog = Catalog(self.engine)
        self.bucket = self.topology.variables["IMAGE_PROXY_BUCKET"]
        self.s3.create_bucket(Bucket=ORIGINALS)

    @property
    def s3(self) -> Any:
        """A client of the S3 server itself, past the proxy; the server has another port after each start."""
        return self.topology.s3.client()

    # -- putting in --------------------------------------------------------------------------------------------------

    def ship(self, pictures: Sequence[bytes], *, label: str = "", uploaded_at: datetime | None = None) -> Shipment:
        """Upload pictures as originals and register them; the label begins their file names."""
        at, folder, s3 = uploaded_at or next(_TIMES), uuid.uuid4().hex[:8], self.s3
        new = []
        for number, picture in enumerate(pictures):
            key = f"{folder}/{label}{number:04}.jpg"
            s3.put_object(Bucket=ORIGINALS, Key=key, Body=picture)
            new.append(
                NewImage(
                    uri=f"s3://{ORIGINALS}/{key}",
                    filename=Path(key).name,
                    media_type="image/jpeg",
                    size_bytes=len(picture),
                    content_version=f"sha256:{hashlib.sha256(picture).hexdigest()}",
                    uploaded_at=at + timedelta(milliseconds=number),
                )
            )
        self.catalog.register(new)
        rows = self.rows("SELECT id FROM files WHERE uri LIKE :like ORDER BY id", like=f"s3://{ORIGINALS}/{folder}/%")
        return Shipment(tuple(row.id for row in rows), at)

    def trigger(self, shipment: Shipment, **conf: Any) -> str:
        """Start a run over the REST API on one shipment; return its id."""
        body = {"logical_date": None, "conf": {**shipment.window(), **conf}}
        answer = self.topology.client.post(f"/dags/{DAG_ID}/dagRuns", json=body)
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["dag_run_id"])

    # -- waiting -----------------------------------------------------------------------------------------------------

    def run(self, dag_run_id: str) -> dict[str, Any]:
        return dict(self.topology.client.get(f"/dags/{DAG_ID}/dagRuns/{dag_run_id}").raise_for_status().json())

    def state(self, dag_run_id: str) -> str:
        return str(self.run(dag_run_id)["state"])

    def ended(self, dag_run_id: str, seconds: float = RUN_SECONDS) -> str:
        """Wait for the run's end; return its state."""
        done = ("success", "failed")
        self.topology.until(lambda: self.state(dag_run_id) in done, seconds, f"the end of {dag_run_id}")
        return self.state(dag_run_id)

    def tasks(self, dag_run_id: str) -> list[dict[str, Any]]:
        url = f"/dags/{DAG_ID}/dagRuns/{dag_run_id}/taskInstances"
        answer = self.topology.client.get(url, params={"limit": 500}).raise_for_status()
        return list(answer.json()["task_instances"])

    def running(self, dag_run_id: str, pids: Iterable[int]) -> set[tuple[str, int]]:
        """Task id and map index of the run's tasks that Airflow holds for running in one of these processes."""
        wanted = set(pids)
        return {_name(task) for task in self.tasks(dag_run_id) if task["state"] == "running" and task["pid"] in wanted}

    def tries(self, dag_run_id: str) -> dict[tuple[str, int], int]:
        """How often each task of the run was tried."""
        return {_name(task): task["try_number"] for task in self.tasks(dag_run_id)}

    def settle(self, shipment: Shipment, first: str, **conf: Any) -> list[str]:
        """Wait for the first run's end; if it left anything undecided, one more run has to do it. Return the runs.

        What failed is decided: it waits for its time, and `check` asks whether it may have.
        """
        runs = [first]
        self.ended(first)
        if self.done(shipment) + len(self.failed(shipment)) < len(shipment.ids):
            runs.append(self.trigger(shipment, **conf))
            assert self.ended(runs[-1]) == "success", self.tasks(runs[-1])
        return runs

    def done(self, shipment: Shipment, table: str = "image_analyses") -> int:
        """How many images of the shipment are proxied or analysed; one that failed is not."""
        rows = self._current(table, shipment)
        return len({row.file_id for row in rows if row.status == DONE[table]})

    def failed(self, shipment: Shipment) -> dict[int, str]:
        """The images of the shipment that stand failed, at either stage, and the code of each."""
        rows = [row for table in DONE for row in self._current(table, shipment)]
        return {row.file_id: row.code for row in rows if row.status == "failed"}

    def come_to(self, shipment: Shipment, count: int, table: str = "image_analyses") -> None:
        """Wait until so many images are done, while others are not."""
        self.topology.until(lambda: self.done(shipment, table) >= count, RUN_SECONDS, f"{count} rows of {table}")
        assert self.done(shipment, table) < len(shipment.ids), "all was done before anything could be broken"

    # -- counting ----------------------------------------------------------------------------------------------------

    def rows(self, query: str, **values: Any) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(query), values).all()

    def check(
        self, shipment: Shipment, runs: Sequence[str], *, in_flight: int = 0, failed: Mapping[int, str] | None = None
    ) -> dict[str, int]:
        """Hold the shipment against all that a run promises; return the figures.

        Every image is proxied and analysed, with exactly one current row of each; every proxy's object has the bytes of
        its row; at most ``in_flight`` analyses were asked for twice; a green run is one that decided everything.
        ``failed`` names the images that were meant to fail, each with its code: these fail, and no others.
        """
        assert self.failed(shipment) == dict(failed or {}), "images failed that were not meant to, or the other way"
        figures = {**self._outcomes(shipment), **self._objects(shipment), **self._paid(shipment, in_flight)}
        for run in runs:
            self._check_gate(run)
        return figures

    def _outcomes(self, shipment: Shipment) -> dict[str, int]:
        wanted, figures = set(shipment.ids), {}
        for table, done in DONE.items():
            rows = self._current(table, shipment)
            assert {row.file_id for row in rows} == wanted, f"images without a current row in {table}"
            assert len(rows) == len(wanted), f"images with two current rows in {table}"
            assert {row.status for row in rows} <= {done, "failed"}, f"another outcome in {table}"
            figures |= {f"{table}:{status}": n for status, n in Counter(row.status for row in rows).items()}
            wanted = {row.file_id for row in rows if row.status == done}  # without a proxy there is no analysis
        claims = self.rows("SELECT file_id FROM image_claims")
        assert not {row.file_id for row in claims} & set(shipment.ids), "claims were left behind"
        return figures

    def _current(self, table: str, shipment: Shipment) -> Sequence[Any]:
        query = f"SELECT file_id, status, code FROM {table} WHERE superseded_at IS NULL"  # noqa: S608
        return [row for row in self.rows(query) if row.file_id in shipment.ids]

    def _objects(self, shipment: Shipment) -> dict[str, int]:
        """Every object is whole and has a row; every row has its object."""
        rows = self.rows("SELECT file_id, uri, sha256, proxy_bytes FROM image_proxies WHERE status = 'proxied'")
        rows, s3 = [row for row in rows if row.file_id in set(shipment.ids)], self.s3
        for row in rows:
            body = s3.get_object(Bucket=self.bucket, Key=row.uri.removeprefix(f"s3://{self.bucket}/"))["Body"].read()
            assert (len(body), hashlib.sha256(body).hexdigest()) == (row.proxy_bytes, row.sha256), row.uri
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="proxy_image/")
        stored = {f"s3://{self.bucket}/{found['Key']}" for page in pages for found in page.get("Contents", ())}
        known = {row.uri for row in self.rows("SELECT uri FROM image_proxies WHERE uri IS NOT NULL")}
        assert stored <= known, f"objects that no row knows: {sorted(stored - known)}"
        uploads = s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        assert uploads == []
        return {"objects": len(rows)}

    def _paid(self, shipment: Shipment, in_flight: int) -> dict[str, int]:
        """Count the stand-in's answers for each proxy: one, and a second only for what was in flight."""
        rows = self.rows("SELECT file_id, uri FROM image_proxies WHERE superseded_at IS NULL AND uri IS NOT NULL")
        uris = {row.uri for row in rows if row.file_id in set(shipment.ids)}
        answered = Counter(
            call["s3_uri"] for call in self.topology.calls() if call["status"] == 200 and call["s3_uri"] in uris
        )
        again = answered.total() - len(answered)
        assert again <= in_flight, f"{again} analyses were paid for twice, {in_flight} were in flight"
        return {"answers": answered.total(), "paid_twice": again}

    def _check_gate(self, run: str) -> None:
        """Green means: everything decided, and not too much failed. Red means that it was not, and says so."""
        state, reasons = self.state(run), reasons_for_red(*self._plan(run))
        assert state == ("failed" if reasons else "success"), (run, reasons, self.tasks(run))
        log = self._gate_log(run) if reasons else ""
        untold = [reason for reason in reasons if reason not in log]
        assert not untold, f"the gate does not say {untold}: {log[-2000:]}"

    def _plan(self, run: str) -> tuple[set[str], Sequence[Any]]:
        """The stages that the run was to go through, and what became of each image at each of them."""
        planned = self.rows("SELECT stages FROM image_runs WHERE run_id = :run", run=f"{DAG_ID}/{run}")
        query = "SELECT proxy_outcome AS proxy, analysis_outcome AS analyse FROM image_run_items WHERE run_id = :run"
        return set(planned[0].stages.split(",")), self.rows(query, run=f"{DAG_ID}/{run}")

    def _gate_log(self, run: str) -> str:
        url = f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/gate/logs/{self.tries(run)['gate', -1]}"
        return self.topology.client.get(url).raise_for_status().text


def reasons_for_red(stages: set[str], items: Sequence[Any]) -> list[str]:
    """Why a run with these items must be red, in the words that its gate has to use; nothing: it must be green.

    The rule anew, and not the gate's own function, which would agree with itself: every image needs an outcome at its
    last stage (one that failed or was put back goes no further), and of those that were tried (not skipped, not put
    back) at most a fifth may have failed.
    """
    last = [_last_outcome(stages, item) for item in items]
    undecided, failed = last.count(None), last.count("failed")
    tried = failed + sum(last.count(good) for good in ("proxied", "kept", "analysed"))
    reasons = [f"{undecided} of {len(last)} images have no outcome"] if undecided else []
    return [*reasons, f"{failed} of {tried} attempted images failed"] if failed * 5 > tried else reasons


def _last_outcome(stages: set[str], item: Any) -> str | None:
    outcome: str | None = None
    for stage in ("proxy", "analyse"):
        if stage in stages:
            outcome = getattr(item, stage)
            if outcome in (None, "failed", "returned"):
                return outcome
    return outcome


def _name(task: Mapping[str, Any]) -> tuple[str, int]:
    return task["task_id"], task["map_index"]

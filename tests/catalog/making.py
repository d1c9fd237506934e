"""Records for tests, each with a sensible default for whatever a test does not care about."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from include.catalog.browse_records import NewPreview
from include.catalog.catalog import Catalog
from include.catalog.errors import LeaseLost
from include.catalog.records import (
    Failure,
    MadeProxy,
    NewAnalysis,
    NewImage,
    NewProxy,
    NovaCall,
    Outcome,
    RunPlan,
    Selection,
    Stage,
    WorkKey,
)

KEY = WorkKey(recipe_version="recipe-1", model_id="nova-2-lite", prompt_version="prompt-1")
PROXY, ANALYSE = Stage.PROXY, Stage.ANALYSE
BOTH = frozenset({PROXY, ANALYSE})
FIRST_UPLOAD = datetime(2026, 11, 1, tzinfo=UTC)
LEASE = 60


def image(name: str, **changes: Any) -> NewImage:
    values = {
        "uri": f"s3://pictures/{name}.jpg",
        "filename": f"{name}.jpg",
        "media_type": "image/jpeg",
        "size_bytes": 2_000_000,
        "content_version": "content-1",
        "uploaded_at": FIRST_UPLOAD,
        "format": "jpeg",
    }
    return NewImage(**{**values, **changes})


def add(catalog: Catalog, count: int = 1) -> list[int]:
    """`count` images, uploaded one a minute; their file ids in that order."""
    images = [image(f"{n:05}", uploaded_at=FIRST_UPLOAD + timedelta(minutes=n)) for n in range(count)]
    catalog.register(images)
    return listed(catalog, run_id="nobody/adding", stages={PROXY})[-count:]


def selection(**changes: Any) -> Selection:
    values = {"key": KEY, "stages": BOTH, "run_id": "dag/looking"} | changes
    return Selection(**{**values, "stages": frozenset(values["stages"])})


def listed(catalog: Catalog, **changes: Any) -> list[int]:
    return [found.file_id for found in catalog.select_unprocessed(selection(**changes))]


def plan(name: str, *batches: Iterable[int], **changes: Any) -> RunPlan:
    values = {
        "run_id": f"dag/{name}",
        "dag_id": "dag",
        "dag_run_id": name,
        "params": {"limit": 10},
        "key": KEY,
        "stages": BOTH,
        "force": False,
        "nova_endpoint": "stand-in",
        "batches": tuple(tuple(batch) for batch in batches),
    } | changes
    return RunPlan(**{**values, "stages": frozenset(values["stages"])})


def new_proxy(**changes: Any) -> NewProxy:
    values = {
        "outcome": Outcome.PROXIED,
        "action": "resized",
        "uri": "s3://proxies/one.jpg",
        "format": "jpeg",
        "width": 1200,
        "height": 896,
        "original_width": 4000,
        "original_height": 2987,
        "original_bytes": 2_000_000,
        "proxy_bytes": 200_000,
        "bytes_uploaded": 200_000,
        "seconds": 0.5,
        "sha256": "abc",
    }
    return NewProxy(**{**values, **changes})


def kept(**changes: Any) -> NewProxy:
    values = {"outcome": Outcome.KEPT, "action": "kept", "uri": "s3://pictures/kept.jpg", "bytes_uploaded": 0}
    return new_proxy(**{**values, **changes})


def analysis(description: str = "a cat") -> NewAnalysis:
    return NewAnalysis(
        description=description,
        labels=({"name": "cat", "confidence": 0.9},),
        visible_text="",
        objects=({"name": "cat", "box": [1, 2, 3, 4]},),
        stop_reason="tool_use",
    )


def call(**changes: Any) -> NovaCall:
    values = {
        "endpoint": "stand-in",
        "tier": "default",
        "started_at": FIRST_UPLOAD,
        "seconds": 1.0,
        "code": None,
        "message": None,
        "input_tokens": 300,
        "output_tokens": 100,
        "latency_ms": 900,
        "cost_usd": None,
        "cost_usd_projected": 0.5,
        "price_date": "2026-11-01",
    }
    return NovaCall(**{**values, **changes})


BROKEN = Failure("truncated", "the file ends early")
THROTTLED = Failure("source_unavailable", "the store answered 503", transient=True)


def record_proxy(
    catalog: Catalog, run_id: str, owner: str, file_id: int, proxy: NewProxy, preview: NewPreview | None = None
) -> None:
    """One image's proxy, as a group of its own. Raises LeaseLost where it is somebody else's."""
    done = catalog.record_proxies(run_id, owner, [MadeProxy(file_id, proxy, preview)])
    if file_id in done.lost:
        raise LeaseLost(file_id, owner, done.lost[file_id])


class Worker:
    """One task of a run: claims a batch at one stage and decides about its images."""

    def __init__(self, catalog: Catalog, run: str, stage: Stage, batch_id: int = 0, owner: str | None = None) -> None:
        self.catalog = catalog
        self.run_id = f"dag/{run}"
        self.owner = owner or f"{run}/{stage}/{batch_id}"
        self.claimed = catalog.claim_batch(self.run_id, batch_id, stage, self.owner, LEASE)
        self.stage = stage

    @property
    def held(self) -> list[int]:
        return [item.image.file_id for item in self.claimed.items]

    def proxy(self, file_id: int, proxy: NewProxy | None = None) -> None:
        proxy = proxy or new_proxy(uri=f"s3://proxies/{file_id}.jpg")
        record_proxy(self.catalog, self.run_id, self.owner, file_id, proxy)

    def analyse(self, file_id: int, description: str = "a cat", **changes: Any) -> None:
        self.catalog.record_analysis(self.run_id, self.owner, file_id, analysis(description), call(**changes))

    def fail(self, file_id: int, failure: Failure = BROKEN) -> None:
        self.catalog.record_failure(self.run_id, self.owner, file_id, self.stage, failure)

    def put_back(self, file_id: int) -> None:
        self.catalog.record_return(
            self.run_id, self.owner, file_id, self.stage, code="throttled", message="Nova is busy"
        )

    def skip(self, file_id: int) -> None:
        self.catalog.record_skip(self.run_id, self.owner, file_id, self.stage, code="done", message="done before")


def process(catalog: Catalog, run: str, *file_ids: int, stages: frozenset[Stage] = BOTH, **changes: Any) -> None:
    """A whole run in which everything goes well."""
    catalog.store_plan(plan(run, file_ids, stages=stages, **changes))
    if PROXY in stages:
        worker = Worker(catalog, run, PROXY)
        for file_id in worker.held:
            worker.proxy(file_id)
    if ANALYSE in stages:
        worker = Worker(catalog, run, ANALYSE)
        for file_id in worker.held:
            worker.analyse(file_id)

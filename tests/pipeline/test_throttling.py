"""Sustained throttling over many images and several tasks: it slows the work, loses nothing and pays nothing twice."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text

from include.catalog.records import MadeProxy, NewImage, NewProxy, Outcome, Stage
from include.local.nova_stand_in import NovaStandIn
from include.nova import Backoff
from include.pipeline import analysis
from include.pipeline.analysis import AnalysisStage
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run
from include.pipeline.settings import load_settings
from tests.pipeline.conftest import Ground
from tests.pipeline.test_analysis import nova_client

IMAGES = 500
SIDE = 48


def gallery(ground: Ground, count: int) -> None:
    """Images that stand in S3 and serve as they are: an object, a row and a kept original each."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(buffer, "JPEG")
    size, now = len(buffer.getvalue()), datetime.now(UTC)
    uris = [f"s3://{ground.bucket}/originals/{number:04}.jpg" for number in range(count)]

    def put(uri: str) -> None:
        ground.s3.put_object(Bucket=ground.bucket, Key=uri.split("/", 3)[3], Body=buffer.getvalue())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, uris))
    ground.catalog.register([NewImage(uri, uri[-8:], "image/jpeg", size, uri, now, "jpeg", SIDE, SIDE) for uri in uris])
    (batch,) = plan(ground, "proxies", stages=["proxy"])
    held = ground.catalog.claim_batch(ground.run_id, batch, Stage.PROXY, "owner", 60)
    made = [
        MadeProxy(
            item.image.file_id,
            NewProxy(Outcome.KEPT, "kept", item.image.uri, "jpeg", SIDE, SIDE, SIDE, SIDE, size, size, 0, 0.01),
        )
        for item in held.items
    ]
    ground.catalog.record_proxies(ground.run_id, "owner", made)


def plan(ground: Ground, name: str, *, tasks: int = 1, **conf: Any) -> list[int]:
    """Plan a run in that many batches."""
    identity = RunIdentity("dag", name)
    ground.run_id = identity.run_id
    params = parse_params({"batch_size": -(-IMAGES // tasks), **conf})
    settings = load_settings(bucket=ground.bucket)
    planned = plan_run(
        ground.catalog, identity, params, settings, Window(), nova_endpoint="stand-in", max_batches=tasks
    )
    return [batch.batch_id for batch in planned.batches]


def analyse_at_once(ground: Ground, stand_in: NovaStandIn, batches: list[int], **settings: Any) -> Counter[Outcome]:
    """Each batch in a task of its own, four requests in flight each, all at the same time."""
    params = parse_params(ground.catalog.run_params(ground.run_id))
    configured = load_settings(bucket=ground.bucket, **settings)

    def task(batch: int) -> Counter[Outcome]:
        stage = AnalysisStage(ground.catalog, nova_client(stand_in), ground.s3, configured, params, concurrency=4)
        return Counter(stage.run(ground.run_id, batch))

    with ThreadPoolExecutor(len(batches)) as threads:
        return sum(threads.map(task, batches), Counter())


def test_thirty_percent_throttling_loses_nothing_and_pays_nothing_twice(
    ground: Ground, stand_in: NovaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "BACKOFF", Backoff(attempts=3, base_seconds=0.001, cap_seconds=0.002))
    gallery(ground, IMAGES)
    stand_in.change(throttle_rate=0.3, throttle_seed=11)
    analysed: list[int] = []
    returned = 0
    while batches := plan(ground, f"round-{len(analysed)}", tasks=2, stages=["analyse"]):
        outcomes = analyse_at_once(ground, stand_in, batches)
        assert set(outcomes) <= {Outcome.ANALYSED, Outcome.RETURNED}, "throttling is nobody's failure"
        analysed.append(outcomes[Outcome.ANALYSED])
        returned += outcomes[Outcome.RETURNED]
        assert len(analysed) < 10
    calls = stand_in.calls()
    paid = Counter(call.s3_uri for call in calls if call.status == 200)
    assert sum(analysed) == len(paid) == IMAGES
    assert set(paid.values()) == {1}
    throttled = sum(call.error == "ThrottlingException" for call in calls)
    assert 0.2 < throttled / len(calls) < 0.4
    assert returned > 0, "some went back to pending, and a later run took them"
    with ground.catalog._store.reading() as connection:
        rows, billed = connection.execute(
            text("SELECT count(*), count(CASE WHEN input_tokens > 0 THEN 1 END) FROM image_attempts WHERE called")
        ).one()
    assert (rows, billed) == (len(calls), IMAGES), "every request stands on a row"

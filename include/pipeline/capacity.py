"""What a backlog takes: time, requests, storage and money, from measured constants and a team's own numbers.

A model, not a measurement: every figure it returns is an estimate, and `docs/scaling.md` says where each constant is
from and how to measure one's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from include.imaging import calculate_target_dimensions
from include.nova import card_for, cost_usd, load_prompt
from include.nova.projection import EXPECTED_OUTPUT_TOKENS, projected_input_tokens
from include.pipeline.plan import (
    ASSUMED_BYTES_PER_PIXEL,
    BATCH_SECONDS,
    SECONDS_PER_FILE,
    SECONDS_PER_MEGAPIXEL,
)
from include.savings import storage_price

# What a worker's cores make of the bare core's rate while a task works, with S3 server, databases and the rest of
# Airflow on other cores: Celery's, apart, against the core around it, in benchmarks/results/pipeline_rate.md.
DAG_EFFICIENCY = 0.88
# Of a run: tasks that come one after another before its first image and behind its last (the same page).
RUN_SECONDS = 6.0
# Scheduling of one mapped task with LocalExecutor on two cores; one scheduler does one after the other.
TASK_SECONDS = 0.45
TASKS_A_BATCH = 2
# `python -m benchmarks.catalog_scale` prints 1,620 bytes (PostgreSQL) an image with its proxy and analysis. Items of
# runs, attempts and previews are not in it: about 900 more, estimated by the size of their rows.
CATALOG_BYTES_PER_IMAGE = 2500
PUTS_AN_IMAGE = 2  # its proxy, and the preview that the pages show
# Of the eight photographs of benchmarks/pipeline_runs.py at the default PREVIEW_SIDE. Smooth pictures take less.
PREVIEW_BYTES = 40_000
USD_A_PUT = 0.005 / 1000  # S3 Standard, us-east-1; with the date and the page of include/savings/storage_price.json
SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Archive:
    """A team's numbers. Sizes in bytes, dimensions in pixels, seconds of one answer, requests and tokens a minute."""

    images: int
    width: int = 4000
    height: int = 3000
    original_bytes: int = 4_000_000
    workers: int = 1
    cores_per_worker: int = 2  # all of them for one task's decode workers
    run_limit: int = 10_000
    nova_in_flight: int = 16  # over all tasks: the slots of the pool, or what so many tasks as run keep in flight
    nova_seconds: float = 2.0
    requests_per_minute: int = 400
    tokens_per_minute: int = 4_000_000
    model_id: str = "us.amazon.nova-2-lite-v1:0"
    tier: str = "default"


@dataclass(frozen=True, slots=True)
class Capacity:
    """Estimates for an archive. Rates are images an hour; the lowest of them is what the whole reaches.

    Batch jobs pass by requests in flight and quotas: these rates are infinite then, and `days` knows nothing of the
    hours that a job waits at Bedrock.
    """

    proxies_per_hour: float
    core_hours: float  # all cores of all workers, as long as proxies alone take
    scheduler_per_hour: float
    answers_per_hour: float
    requests_quota_per_hour: float
    tokens_quota_per_hour: float
    days: float
    bottleneck: str
    proxy_bytes: float
    preview_bytes: float
    catalog_bytes: float
    cost_usd: float  # Nova's
    s3_usd: float  # PUT requests, once
    s3_usd_month: float  # storage of proxies and previews
    s3_puts_per_second: float


def capacity_of(archive: Archive) -> Capacity:
    """Estimate what analysing the archive takes. Raises `NovaError` for an unknown model or tier."""
    megapixels = archive.width * archive.height / 1e6
    seconds = SECONDS_PER_FILE + SECONDS_PER_MEGAPIXEL * megapixels
    width, height = calculate_target_dimensions(archive.width, archive.height)
    prompt = load_prompt()
    billed = projected_input_tokens(archive.model_id, width, height, prompt)
    card = card_for(archive.model_id)
    processed = billed - card.billed_image_tokens(width, height) + card.processed_image_tokens(width, height)
    output = min(EXPECTED_OUTPUT_TOKENS, prompt.max_tokens)
    asked = {
        "requests in flight": 3600 * archive.nova_in_flight / archive.nova_seconds,
        "requests a minute": 60.0 * archive.requests_per_minute,
        # Bedrock reserves input + maxTokens of the quota for each request.
        "tokens a minute": 60.0 * archive.tokens_per_minute / (processed + prompt.max_tokens),
    }
    rates = {
        "cores": _proxies_per_hour(archive, seconds),
        "scheduler": 3600 * (BATCH_SECONDS / seconds) / (TASK_SECONDS * TASKS_A_BATCH),
        **(dict.fromkeys(asked, math.inf) if archive.tier == "batch" else asked),
    }
    bottleneck = min(rates, key=lambda name: rates[name])
    hours = archive.images / rates[bottleneck]
    proxy_bytes = archive.images * width * height * ASSUMED_BYTES_PER_PIXEL
    preview_bytes = float(archive.images * PREVIEW_BYTES)
    return Capacity(
        proxies_per_hour=rates["cores"],
        core_hours=archive.images / rates["cores"] * archive.workers * archive.cores_per_worker,
        scheduler_per_hour=rates["scheduler"],
        answers_per_hour=rates["requests in flight"],
        requests_quota_per_hour=rates["requests a minute"],
        tokens_quota_per_hour=rates["tokens a minute"],
        days=hours / 24,
        bottleneck=bottleneck,
        proxy_bytes=proxy_bytes,
        preview_bytes=preview_bytes,
        catalog_bytes=float(archive.images * CATALOG_BYTES_PER_IMAGE),
        cost_usd=archive.images * cost_usd(archive.model_id, archive.tier, billed, output),
        s3_usd=archive.images * PUTS_AN_IMAGE * USD_A_PUT,
        s3_usd_month=storage_price().usd_month(round(proxy_bytes + preview_bytes)),
        s3_puts_per_second=math.ceil(PUTS_AN_IMAGE * rates[bottleneck] / 3600),
    )


def _proxies_per_hour(archive: Archive, seconds: float) -> float:
    """One full run after another: more workers than a run has batches are idle, and so are all between two runs."""
    batches = math.ceil(archive.run_limit * seconds / BATCH_SECONDS)
    cores = min(archive.workers, batches) * archive.cores_per_worker
    working = archive.run_limit * seconds / (cores * DAG_EFFICIENCY)
    return 3600 * archive.run_limit / (working + RUN_SECONDS)

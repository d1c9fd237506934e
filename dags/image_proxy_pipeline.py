"""
### Image proxies for Amazon Nova

Lists unprocessed images from the catalog, makes a small proxy of each (shorter side 896 px, sRGB, upright, without
metadata), uploads only proxies to S3, has Amazon Nova 2 Lite describe them by S3 URI, and writes the analysis and the
*measured* savings back to the catalog.

| task | what it does |
|---|---|
| `plan` | checks params and pool, lists the images that the spending limits pay for, stores batches |
| `images.proxy` | one mapped task a batch: makes and uploads proxies with all cores |
| `images.analyse` | calls Nova for the same batch, within the pool `nova` |
| `summary` | closes the run and logs its figures, whatever happened |
| `gate` | turns the run red when planning failed, too many images failed, or any was lost |
| `announce_proxies`, `announce_analyses` | update the assets `image_proxies` and `image_analyses`, if there is news |
| `continue_backlog` | starts the next run at once when this one was full |

**Started by** its schedule (everything unprocessed that was uploaded before the interval's end), new pictures in the
asset `image_catalog`, a backfill (what was uploaded inside each interval), or by hand with params (everything
unprocessed so far). With `IMAGE_PROXY_PROXY_MODE=lazy` schedule and uploads make nothing.

**A bad picture never stops a run**: it is recorded on its row with a code and a message, and left alone until `force`.
Infrastructure trouble fails the task; its retry repeats only images without an outcome. What only a person can mend (a
permission, a setting, the pool) fails it at once. A spending limit that is reached ends the run green, and the rest
stays pending.

**Needs** the connections `catalog_default` and `aws_default`, the pool `nova`, and `IMAGE_PROXY_BUCKET` in the
environment.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import TriggerRule, WeightRule, dag, task_group
from image_proxy.announcements import AnnounceAnalysesOperator, AnnounceProxiesOperator, ContinueBacklogOperator
from image_proxy.notifications import late_alert, tell_failure
from image_proxy.operators import (
    ImageProxyOperator,
    NovaAnalysisOperator,
    PlanBatchesOperator,
    RunGateOperator,
    SummariseRunOperator,
)
from image_proxy.params import pipeline_params
from image_proxy.schedules import hourly_or_on_upload
from image_proxy.slots import nova_slots
from image_proxy.task_defaults import task_retries


@dag(
    dag_id="image_proxy_pipeline",
    schedule=hourly_or_on_upload(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params=pipeline_params(),
    default_args=task_retries(),
    deadline=late_alert(),
    on_failure_callback=tell_failure,
    tags=["images", "nova", "proxies"],
    doc_md=__doc__,
)
def image_proxy_pipeline() -> None:
    """Wire plan, mapped batches, summary, gate, and what comes of them."""
    plan = PlanBatchesOperator(task_id="plan")

    @task_group(group_id="images")
    def images(batch: dict[str, object]) -> None:
        # "upstream" weights let the first batch be analysed while others are resized; the default runs all proxies
        # first.
        label = "{{ task.batch['label'] }}"
        proxy = ImageProxyOperator(
            task_id="proxy", batch=batch, map_index_template=label, weight_rule=WeightRule.UPSTREAM
        )
        analyse = NovaAnalysisOperator(
            task_id="analyse",
            trigger_rule=TriggerRule.NONE_FAILED,  # a run that analyses only skips the proxies
            batch=batch,
            map_index_template=label,
            weight_rule=WeightRule.UPSTREAM,
            **nova_slots(),
        )
        proxy >> analyse

    summary = SummariseRunOperator(task_id="summary", trigger_rule=TriggerRule.ALL_DONE)
    gate = RunGateOperator(task_id="gate")  # a rejected run is not judged again; a lost worker is not the run's fault
    plan >> images.expand(batch=plan.output) >> summary
    [plan, summary] >> gate >> ContinueBacklogOperator(task_id="continue_backlog")
    summary >> [
        AnnounceProxiesOperator(task_id="announce_proxies"),
        AnnounceAnalysesOperator(task_id="announce_analyses"),
    ]


image_proxy_pipeline()

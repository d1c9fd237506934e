"""
### Half-price analyses for a backlog

Collects images that have a proxy and no analysis yet, and has Amazon Nova describe them in batch inference jobs, at
half the price of single requests. Answers come within hours, not seconds; they land in the same rows as those of
`image_proxy_pipeline`, with tier `batch`.

| task | what it does |
|---|---|
| `plan` | checks params and settings, lists images, projects the cost, splits them into jobs of at most 50,000 |
| `jobs.infer` | one mapped task a job: fills its folder, starts it, waits in the triggerer, writes the answers |
| `jobs.on_demand` | describes what was too little for a job (fewer than 100 images) with single requests |
| `summary` | reads what a cancelled task left of its job, closes the run and logs its figures |
| `gate` | turns the run red when a job failed, too many images failed, or any was lost |

**Started by hand** with params. Make the proxies first: `image_proxy_pipeline` with `stages: ["proxy"]`.

**Nothing is paid twice**: a retry or a restart finds the job that is at work, and waits for it. Until then no other run
takes its images. Marking the waiting task as failed stops the job; what it has answered is kept by the next run.

**Needs**, beside what the pipeline needs, `IMAGE_PROXY_BATCH_ROLE_ARN`: the role that Bedrock assumes to read and write
the job's folder in the bucket.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import TriggerRule, dag, task_group
from image_proxy.batch_inference import (
    NovaBatchJobOperator,
    OnDemandRestOperator,
    PlanBatchJobsOperator,
    SummariseBatchRunOperator,
    batch_params,
)
from image_proxy.operators import RunGateOperator
from image_proxy.slots import nova_slots
from image_proxy.task_defaults import task_retries


@dag(
    dag_id="nova_batch_inference",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params=batch_params(),
    default_args=task_retries(),
    tags=["images", "nova", "batch"],
    doc_md=__doc__,
)
def nova_batch_inference() -> None:
    """Wire plan, mapped jobs, summary and gate."""
    plan = PlanBatchJobsOperator(task_id="plan")

    @task_group(group_id="jobs")
    def jobs(batch: dict[str, object]) -> None:
        label = "{{ task.batch['label'] }}"
        # Bedrock runs a limited number of jobs at once and refuses more: patience, not failure.
        infer = NovaBatchJobOperator(
            task_id="infer",
            batch=batch,
            map_index_template=label,
            retries=8,
            max_retry_delay=timedelta(minutes=30),
        )
        on_demand = OnDemandRestOperator(task_id="on_demand", batch=batch, map_index_template=label, **nova_slots())
        infer >> on_demand

    summary = SummariseBatchRunOperator(task_id="summary", trigger_rule=TriggerRule.ALL_DONE)
    gate = RunGateOperator(task_id="gate", trigger_rule=TriggerRule.NONE_FAILED)
    jobs_done = jobs.expand(batch=plan.output)
    jobs_done >> summary
    [plan, jobs_done, summary] >> gate


nova_batch_inference()

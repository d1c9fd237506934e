"""
### Proxy quality evaluation

What do we lose at 896 px, on **our** pictures, and what latency do we gain? Takes a sample of the catalog, shows Nova
each picture as original (or the largest version that Nova accepts) and as proxy of each size asked for, and reports
latency, tokens, cost, and how far the text, labels and descriptions agree, each with a 95 % confidence interval. How
much Nova's answers about the *same* original differ is the yardstick.

| task | what it does |
|---|---|
| `plan` | checks the params, draws the sample, refuses a projected cost above `max_cost_usd` |
| `evaluate` | makes the copies, asks within the pool `nova`, writes each answer to the catalog |
| `report` | prints the report, stores it in the catalog and as JSON and Markdown where `report_uri` says |
| `remove_copies` | empties the temporary folder, whatever happened |

**It costs money**: sample size x (sizes + repeats) calls; nothing that was answered is ever asked again, also not by
a retry. **On the Nova stand-in** the report is marked as meaningless for Nova.

**Needs** the connections `catalog_default` and `aws_default`, the pool `nova`, and `IMAGE_PROXY_BUCKET`; the role needs
to write, list and delete below `proxy_evaluation/` in the bucket.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import TriggerRule, dag
from image_proxy.evaluation import (
    EvaluateProxiesOperator,
    PlanEvaluationOperator,
    RemoveCopiesOperator,
    ReportEvaluationOperator,
)
from image_proxy.params import form_of
from image_proxy.slots import nova_slots
from image_proxy.task_defaults import task_retries

from include.pipeline.evaluation_params import EvaluationParams


@dag(
    dag_id="proxy_quality_evaluation",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two at once would time each other
    params=form_of(EvaluationParams),
    default_args=task_retries(),
    tags=["images", "nova", "proxies", "evaluation"],
    doc_md=__doc__,
)
def proxy_quality_evaluation() -> None:
    """Wire the four tasks. Both leaves run whatever happened: unanswered questions or copies left turn the run red."""
    plan = PlanEvaluationOperator(task_id="plan")
    evaluate = EvaluateProxiesOperator(task_id="evaluate", **nova_slots())
    report = ReportEvaluationOperator(task_id="report", trigger_rule=TriggerRule.ALL_DONE)
    remove = RemoveCopiesOperator(task_id="remove_copies", trigger_rule=TriggerRule.ALL_DONE)
    plan >> evaluate >> [report, remove]


proxy_quality_evaluation()

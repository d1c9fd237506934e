"""
### Is this deployment ready?

Run it by hand after setting up, and after each upgrade. Every check is a square of its own; a red one's log ends with
what is wrong and what to do.

| task | green says |
|---|---|
| `migrate` | the catalog's tables were created or upgraded (only with the param `migrate_catalog`) |
| `check [settings]` | the settings are valid, the scratch folder can be written to |
| `check [connections]` | `catalog_default` and `aws_default` exist |
| `check [catalog]` | the catalog is reachable, migrated, and stands on the table that the settings map |
| `check [bucket]` | an object was written, read back and deleted |
| `check [nova]` | the chosen profile answered one word about one small picture in the bucket (about $0.0001) |
| `check [machine]` | this worker has the memory and the disk that the limits ask for |
| `check [versions]` | versions of Airflow, the provider and every image codec |
| `pool` | the pool exists and is large enough; **one that stays scheduled says it is not** |
"""

from __future__ import annotations

from datetime import timedelta
from inspect import getdoc

from airflow.sdk import TriggerRule, dag
from image_proxy.deployment_check import CheckOperator, MigrateCatalogOperator, PoolCheckOperator, check_params
from image_proxy.slots import nova_slots

from include.pipeline.check_params import CHECKS


@dag(
    dag_id="deployment_check",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),  # ends a run whose pool check waits for slots that never come
    params=check_params(),
    # A red check is not tried again; a task that could not even start (the API server was busy) is.
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["images", "operations"],
    doc_md=__doc__,
)
def deployment_check() -> None:
    """Wire the migration before all checks; none depends on another."""
    migrate = MigrateCatalogOperator(task_id="migrate")
    checks = CheckOperator.partial(
        task_id="check",
        map_index_template="{{ task.check }}",
        trigger_rule=TriggerRule.ALL_DONE,
        doc_md=getdoc(CheckOperator),
    ).expand(check=list(CHECKS))
    migrate >> checks
    PoolCheckOperator(task_id="pool", **nova_slots())


deployment_check()

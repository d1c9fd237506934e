"""
### Keep catalog and bucket in agreement

Weekly, and by hand. **A dry run unless `dry_run` is unset**: each task reports in its log and its result what it found.

| task | finds | and does |
|---|---|---|
| `leases` | claims of tasks that were killed | removes them |
| `bucket` | proxies recorded but missing; objects without a row | the first are made again by the next run; the second are deleted with `delete_unknown_objects` |
| `sources` | originals that are gone | notes them with `mark_vanished` |
| `retention` | what was made of former content, or superseded long ago | supersedes the first; deletes the second after `retention_days` |
| `deletion` | everything made of `file_ids_to_delete` | deletes it, with the objects and the catalog's rows |

Originals are never touched. Objects are deleted only below our own prefix, where their key has our form, and never
when they are younger than `grace_hours`.
"""  # noqa: E501 - a table's row is a line

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag
from image_proxy.maintenance import MaintenanceOperator, maintenance_params

STEPS = ("leases", "bucket", "sources", "retention", "deletion")


@dag(
    dag_id="catalog_maintenance",
    schedule="0 4 * * 0",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=maintenance_params(),
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    tags=["images", "operations"],
    doc_md=__doc__,
)
def catalog_maintenance() -> None:
    """Five steps that do not depend on each other."""
    for step in STEPS:
        MaintenanceOperator(task_id=step, step=step)


catalog_maintenance()

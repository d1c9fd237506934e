"""
### Export analyses

Writes current analyses (the rows of the view `current_image_analyses` that have one) as one Parquet or JSONL file, with
a manifest of what is in it, to a folder or to `s3://bucket/folder`. Started by hand or by another DAG.

**What** is exported: everything, or what passes the params: one run, one UTC day, a model, a prompt version, a label,
who answered. The file is named after the filter, so that the same export replaces itself; it is replaced whole.

**An export without rows** writes a file without rows, and log and manifest say so.

**Needs** the connections `catalog_default` and, for `s3://`, `aws_default`; the param `destination` or
`IMAGE_PROXY_EXPORT_URI` in the environment.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import dag
from image_proxy.exporting import ExportAnalysesOperator
from image_proxy.params import form_of
from image_proxy.task_defaults import task_retries

from include.pipeline.exports import ExportRequest


@dag(
    dag_id="export_analyses",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params=form_of(ExportRequest),
    default_args=task_retries(),
    tags=["images", "export"],
    doc_md=__doc__,
)
def export_analyses() -> None:
    """One task: the catalog's rows go straight to the file."""
    ExportAnalysesOperator(task_id="export", from_params=True)


export_analyses()

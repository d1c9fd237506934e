"""
### New images for the catalog

Looks through S3 prefixes and folders (`IMAGE_PROXY_INGEST_SOURCES`) and registers what is new or has new content. Then
the asset `image_catalog` is updated, on which `image_proxy_pipeline` is scheduled: proxies exist minutes after upload.

| task | what it does |
|---|---|
| `sources` | checks the params, names the sources |
| `register` | one mapped task a source: lists it, reads the first bytes of new files, registers them |

**Only headers are read** (64 kB of a new file, 1 MB where that is not enough), never a whole object. A file that was
changed gets a new content version: its old proxy and analysis are superseded and kept, and it is pending again.

**It may run as often as you like**: what is registered stays as it is. The watermark of each source moves when a
listing has reached its end; files older than that, less a day of overlap, are not looked at again unless `full` is set.

**Needs** the connections `catalog_default` and, for S3, `aws_default`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from inspect import getdoc

from airflow.sdk import dag
from image_proxy.assets import IMAGE_CATALOG
from image_proxy.ingest import ListSourcesOperator, RegisterImagesOperator, ingest_params, ingest_schedule
from image_proxy.task_defaults import task_retries


@dag(
    dag_id="catalog_ingest",
    schedule=ingest_schedule(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # two listings of one source at once are safe, and no use
    params=ingest_params(),
    default_args=task_retries(),
    tags=["images", "ingest"],
    doc_md=__doc__,
)
def catalog_ingest() -> None:
    """Wire the list of sources to one mapped task each."""
    sources = ListSourcesOperator(task_id="sources")
    register = RegisterImagesOperator.partial(
        task_id="register",
        outlets=[IMAGE_CATALOG],
        map_index_template="{{ task.source }}",
        doc_md=getdoc(RegisterImagesOperator),
    )
    register.expand(source=sources.output)


catalog_ingest()

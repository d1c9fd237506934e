"""Jobs: runs of `image_proxy_pipeline`, named by their Airflow run id."""

from __future__ import annotations

from image_proxy.web.security import DAG_ID
from include.pipeline.identity import RunIdentity


def catalog_run_id(job_id: str) -> str:
    """Return the name under which the catalog keeps a job."""
    return RunIdentity(DAG_ID, job_id).run_id

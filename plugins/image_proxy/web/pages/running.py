"""Which runs go on at this moment, so that a page that is opened anew shows their progress."""

from __future__ import annotations

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

from image_proxy.web.jobs import UNFINISHED
from image_proxy.web.security import DAG_ID


def running_jobs(limit: int) -> list[str]:
    """Return the newest runs of the DAG that have not ended."""
    query = select(DagRun.run_id).where(DagRun.dag_id == DAG_ID, DagRun.state.in_(UNFINISHED))
    with create_session() as session:
        return list(session.scalars(query.order_by(DagRun.id.desc()).limit(limit)))

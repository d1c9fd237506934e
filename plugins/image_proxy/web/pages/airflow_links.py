"""Addresses of Airflow's own pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from image_proxy.web.security import DAG_ID

MOUNT = "/image-proxy"
STAGE_TASKS = {"proxy": "images.proxy", "analyse": "images.analyse"}


@dataclass(frozen=True, slots=True)
class AirflowLinks:
    """Built from where this application is mounted, so that Airflow's base path is in them."""

    base: str

    @classmethod
    def of(cls, mounted: str) -> Self:
        """Return the links beside the application that is mounted at this path."""
        return cls(mounted.removesuffix(MOUNT))

    def dag(self) -> str:
        """Return the DAG's page."""
        return f"{self.base}/dags/{DAG_ID}"

    def run(self, run_id: str) -> str | None:
        """Return the page of a run by its name in the catalog; None for a run of another DAG's operator."""
        dag_id, _, dag_run_id = run_id.partition("/")
        return f"{self.dag()}/runs/{quote(dag_run_id, safe='')}" if dag_id == DAG_ID and dag_run_id else None

    def task(self, run_id: str, stage: str, batch_id: int) -> str | None:
        """Return the page with the log of the task that worked on a batch."""
        run, task = self.run(run_id), STAGE_TASKS.get(stage)
        return f"{run}/tasks/{task}/mapped/{int(batch_id)}" if run and task else None

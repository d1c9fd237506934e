"""The link from a task instance to the images that it worked on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from airflow.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

PAGES = "/image-proxy/pages/"


class ImagesLink(BaseOperatorLink):
    """Images of the task's batch, with their proxies and analyses. Airflow shows it once the task has finished."""

    name = "Images"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the page of images, filtered to the run and, where the task had one, to its batch."""
        query = {"job_id": ti_key.run_id}
        batch = getattr(operator, "batch", None)
        if isinstance(batch, Mapping) and "batch_id" in batch:
            query["batch_id"] = str(batch["batch_id"])
        # Only the path: a worker need not know by which host name people reach the API server.
        base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
        return f"{base}{PAGES}?{urlencode(query)}"

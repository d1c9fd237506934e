"""The assets that this package updates or is scheduled on. One definition, imported by dags and operators alike."""

from __future__ import annotations

from airflow.sdk import Asset

IMAGE_CATALOG = Asset(name="image_catalog", uri="x-image-proxy://catalog/files")  # new or changed originals
IMAGE_BACKLOG = Asset(name="image_backlog", uri="x-image-proxy://catalog/backlog")  # a full run left work to do
IMAGE_PROXIES = Asset(name="image_proxies", uri="x-image-proxy://catalog/image_proxies")  # proxies made by a run
IMAGE_ANALYSES = Asset(name="image_analyses", uri="x-image-proxy://catalog/image_analyses")  # analyses written by a run

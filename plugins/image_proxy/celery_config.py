"""Airflow's Celery configuration, and workers that import what tasks need before they fork.

`AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=image_proxy.celery_config.CELERY_CONFIG` chooses it: see docker-compose.yaml.
"""

from __future__ import annotations

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import import_modules

from image_proxy.preload import preload

CELERY_CONFIG = DEFAULT_CELERY_CONFIG


@import_modules.connect
def preload_tasks(**_: object) -> None:
    """Import in the worker's own process, of which its pool is forked; Celery sends this to workers only."""
    preload()

"""When runs start by themselves."""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable

from image_proxy.assets import IMAGE_BACKLOG, IMAGE_CATALOG
from include.pipeline.settings import Settings, SettingsError, load_settings


def hourly_or_on_upload() -> AssetOrTimeSchedule:
    """Return true data intervals by the setting `schedule` (hourly), and runs when pictures arrived or were left over.

    A wrong setting does not keep the DAG from being parsed: the run's first task refuses it, where a person looks.
    """
    try:
        cron = load_settings().schedule
    except SettingsError:
        cron = str(Settings.model_fields["schedule"].default)
    return AssetOrTimeSchedule(
        timetable=CronDataIntervalTimetable(cron, timezone="UTC"), assets=IMAGE_CATALOG | IMAGE_BACKLOG
    )

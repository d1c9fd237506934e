"""When runs start by themselves."""

from __future__ import annotations

from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable

from image_proxy.assets import IMAGE_BACKLOG, IMAGE_CATALOG
from include.pipeline.settings import usable_settings


def hourly_or_on_upload() -> AssetOrTimeSchedule:
    """Return true data intervals by the setting `schedule` (hourly), and runs when pictures arrived or were left over.

    Another setting that is wrong changes nothing here: the run's first task refuses it, where a person looks.
    """
    timetable = CronDataIntervalTimetable(usable_settings().schedule, timezone="UTC")
    return AssetOrTimeSchedule(timetable=timetable, assets=IMAGE_CATALOG | IMAGE_BACKLOG)

"""What a person may choose for one run of `catalog_maintenance`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from include.pipeline.forms import checked_conf
from include.pipeline.params import FILE_ID

MAINTENANCE_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "dry_run": {
        "default": True,
        "title": "Dry run",
        "description": "Change nothing: report what would be done.",
        "type": "boolean",
    },
    "delete_unknown_objects": {
        "default": False,
        "title": "Delete unknown objects",
        "description": "Delete proxies in the bucket that no row of the catalog names.",
        "type": "boolean",
    },
    "mark_vanished": {
        "default": False,
        "title": "Mark vanished originals",
        "description": "Note images whose original is gone in the table image_vanished.",
        "type": "boolean",
    },
    "retention_days": {
        "default": None,
        "title": "Keep old versions (days)",
        "description": "Delete proxies and analyses that were superseded longer ago. Empty: keep them.",
        "type": ["null", "integer"],
        "minimum": 1,
        "maximum": 36_500,
    },
    "grace_hours": {
        "default": 24,
        "title": "Grace (hours)",
        "description": "Objects younger than this are never called unknown: their row may be on its way.",
        "type": "integer",
        "minimum": 1,
        "maximum": 8760,
    },
    "file_ids_to_delete": {
        "default": None,
        "title": "Images to forget",
        "description": "Delete the proxies, analyses and catalog rows of these file ids, for example [1, 2]. "
        "Originals are never touched.",
        "type": ["null", "array"],
        "items": FILE_ID,
        "maxItems": 10_000,
    },
}


@dataclass(frozen=True, slots=True)
class MaintenanceParams:
    """What one run of `catalog_maintenance` may do; the fields are described in `MAINTENANCE_SCHEMAS`."""

    dry_run: bool = True
    delete_unknown_objects: bool = False
    mark_vanished: bool = False
    retention_days: int | None = None
    grace_hours: int = 24
    file_ids_to_delete: tuple[int, ...] = ()


def parse_maintenance_params(conf: Mapping[str, Any]) -> MaintenanceParams:
    """Check ``conf`` and return it typed. Raises `InvalidParams`."""
    values = checked_conf(conf, MAINTENANCE_SCHEMAS)
    return MaintenanceParams(**{**values, "file_ids_to_delete": tuple(values["file_ids_to_delete"] or ())})

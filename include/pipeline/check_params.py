"""The checks of `deployment_check`, and what a person may choose for one run of them."""

from __future__ import annotations

from typing import Any, Final

from include.pipeline.params import DEFAULT_MODEL_ID

CHECKS: Final = ("settings", "connections", "catalog", "bucket", "nova", "machine", "versions")
CHECK_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "migrate_catalog": {
        "default": False,
        "title": "Migrate the catalog",
        "description": "Create or upgrade the catalog's tables first, and put the mapped table in place of files.",
        "type": "boolean",
    },
    "model_id": {
        "default": DEFAULT_MODEL_ID,
        "title": "Model",
        "description": "Inference profile that is asked for one word about one small picture (costs about $0.0001).",
        "type": "string",
        "minLength": 1,
    },
}

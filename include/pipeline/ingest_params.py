"""What a person may choose for one run of `catalog_ingest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from include.pipeline.forms import checked_conf
from include.pipeline.params import InvalidParams
from include.pipeline.settings import Settings

INGEST_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "sources": {
        "default": None,
        "title": "Sources",
        "description": "S3 prefixes or folders (one a line) in place of the deployment's setting "
        "IMAGE_PROXY_INGEST_SOURCES. Empty: the setting's.",
        "type": ["null", "array"],
        "items": {"type": "string", "minLength": 1},
        "examples": ["s3://my-originals/2026/", "/mnt/pictures"],
    },
    "full": {
        "default": False,
        "title": "Look at every file",
        "description": "Compare every file with the catalog, not only those younger than the last listing.",
        "type": "boolean",
    },
    "limit": {
        "default": None,
        "title": "Limit",
        "description": "Register at most this many files of each source. Empty: all; the next run goes on.",
        "type": ["null", "integer"],
        "minimum": 1,
    },
}


@dataclass(frozen=True, slots=True)
class IngestParams:
    """The params, checked."""

    sources: tuple[str, ...]  # normalised
    full: bool
    limit: int | None


def parse_ingest_params(conf: Mapping[str, Any], settings: Settings) -> IngestParams:
    """Check ``conf`` and return it typed. Raises `InvalidParams`, which says what to type."""
    from include.storage.listings import InvalidSource, parse_source

    values = checked_conf(conf, INGEST_SCHEMAS)
    wanted = values["sources"] or settings.ingest_sources
    if not wanted:
        raise InvalidParams("no sources: set IMAGE_PROXY_INGEST_SOURCES, or type one into the param sources")
    try:
        names = dict.fromkeys(parse_source(source).name for source in wanted)
    except InvalidSource as error:
        raise InvalidParams(f"sources: {error}") from error
    return IngestParams(tuple(names), values["full"], values["limit"])

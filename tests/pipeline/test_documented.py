"""What a person looks up stands in the documentation: settings, tables, and the codes that an image can have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.catalog.errors import SourceRowGone
from include.catalog.results import PROXY_MISSING
from include.catalog.tables import metadata
from include.imaging.errors import ERRORS
from include.pipeline.batches import SKIP_REASONS
from include.pipeline.proxies import ContentChanged
from include.pipeline.settings import Settings
from include.storage.errors import SourceError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCE_CODES = set(re.findall(r"source_\w+|unsupported_uri", SourceError.__doc__ or ""))


def words(*pages: Path) -> set[str]:
    """Return every name that stands between backticks."""
    quoted = re.findall(r"`([^`\n]+)`", "\n".join(page.read_text(encoding="utf-8") for page in pages))
    return {word.removeprefix("IMAGE_PROXY_") for part in quoted for word in re.findall(r"\w+", part)}


def test_every_setting_is_documented() -> None:
    assert {name.upper() for name in Settings.model_fields} - words(*PAGES) == set()


def test_every_table_is_documented() -> None:
    assert set(metadata.tables) - words(ROOT / "docs" / "catalog.md") == set()


def test_every_code_of_an_image_without_proxy_is_documented() -> None:
    codes = {error.code for error in ERRORS} | SOURCE_CODES | set(SKIP_REASONS)
    codes |= {ContentChanged.code, SourceRowGone.code, PROXY_MISSING}
    assert len(SOURCE_CODES) == 6
    assert codes - words(ROOT / "docs" / "limits.md") == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_tables_are_whole(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    assert [link for link in links if not (page.parent / link).exists()] == []
    lines = ["", *text.splitlines(), ""]
    rows = [number for number in range(1, len(lines) - 1) if lines[number].startswith("|")]
    heads = [number for number in rows if not lines[number - 1].startswith("|")]
    assert [lines[number] for number in heads if not re.fullmatch(r"\|[ :|-]+\|", lines[number + 1])] == []

"""What the API answers with, where the catalog's own records are not already the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from include.catalog.browse_records import (
    AnalysisEntry,
    AttemptEntry,
    FailureEntry,
    FailurePage,
    FileCost,
    FileDetail,
    FileEntry,
    FilePage,
    FileRun,
    ProxyEntry,
    SavingsGroup,
    SavingsRow,
)

NEXT = Field(None, description="Send as `after` for the next page; null at the end")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class FilePageModel(_Answer):
    """A page of images."""

    model_config = ConfigDict(title="FilePage")

    files: list[FileEntry]
    next_cursor: str | None = NEXT

    @classmethod
    def of(cls, page: FilePage) -> Self:
        """Return the answer for a page."""
        return cls(files=list(page.files), next_cursor=page.next_cursor.text() if page.next_cursor else None)


class FileDetailModel(_Answer):
    """One image in full; histories newest first."""

    model_config = ConfigDict(title="FileDetail", from_attributes=True)

    file: FileEntry
    proxies: list[ProxyEntry]
    analyses: list[AnalysisEntry]
    attempts: list[AttemptEntry]
    runs: list[FileRun]
    cost: FileCost

    @classmethod
    def of(cls, detail: FileDetail) -> Self:
        """Return the answer for one image."""
        return cls.model_validate(detail)


class SavingsModel(_Answer):
    """Measured savings, by group and over everything. Calls of the Nova stand-in are counted, and never priced."""

    model_config = ConfigDict(title="Savings")

    by: SavingsGroup
    groups: list[SavingsRow]
    total: SavingsRow

    @classmethod
    def of(cls, by: SavingsGroup, groups: Sequence[SavingsRow], total: SavingsRow) -> Self:
        """Return the answer."""
        return cls(by=by, groups=list(groups), total=total)


class FailuresModel(_Answer):
    """A page of images that are failed now."""

    model_config = ConfigDict(title="FailurePage")

    failures: list[FailureEntry]
    next_cursor: str | None = NEXT

    @classmethod
    def of(cls, page: FailurePage) -> Self:
        """Return the answer for a page."""
        return cls(failures=list(page.failures), next_cursor=page.next_cursor.text() if page.next_cursor else None)

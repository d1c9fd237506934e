"""What the catalog raises. Each error has a stable `code`; an image's own failure is never raised but stored."""

from __future__ import annotations


class CatalogError(Exception):
    """Base of every error the catalog raises itself."""

    code = "catalog_error"


class UnsuitableDatabase(CatalogError):
    """The database address cannot hold a catalog that several processes share."""

    code = "catalog_database_unsuitable"


class NotMigrated(CatalogError):
    """The database does not have the tables that this code expects."""

    code = "catalog_not_migrated"


class UnknownRun(CatalogError):
    """No plan was stored under this run id."""

    code = "catalog_unknown_run"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no plan is stored for run {run_id!r}")
        self.run_id = run_id


class UnknownImages(CatalogError):
    """A plan or a result names files that are not in the catalog, or not in the run."""

    code = "catalog_unknown_images"

    def __init__(self, file_ids: tuple[int, ...], where: str) -> None:
        shown = ", ".join(map(str, file_ids[:10])) + (", ..." if len(file_ids) > 10 else "")  # noqa: PLR2004
        super().__init__(f"not in {where}: {shown}")
        self.file_ids = file_ids


class SourceRowGone(CatalogError):
    """The image's row was deleted, or is no image any more, since the run listed it. Its outcome is `skipped`."""

    code = "source_row_gone"


class LeaseLost(CatalogError):
    """The image is no longer this owner's: the lease ran out and another took it, or a retry of the task did."""

    code = "lease_lost"

    def __init__(self, file_id: int, owner: str | None, holder: str | None) -> None:
        now_with = f"now held by {holder!r}" if holder else "held by nobody"
        super().__init__(f"image {file_id} is not held by {owner!r} any more: {now_with}")
        self.file_id = file_id
        self.owner = owner
        self.holder = holder

"""Savings and failures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from image_proxy.web.deployment import CatalogDep
from image_proxy.web.models import FailuresModel
from image_proxy.web.problems import documented
from image_proxy.web.routers.files import CursorDep, Limit, Text
from include.catalog.browse_records import FailureReason, Savings, SavingsGroup
from include.catalog.records import Stage

router = APIRouter(prefix="/api", tags=["figures"])

Code = Annotated[Text | None, Query(max_length=100, description="Only failures with this code")]


@router.get("/savings", operation_id="get_savings", responses=documented(401, 403, 422))
def get_savings(catalog: CatalogDep, by: SavingsGroup = SavingsGroup.DAY) -> Savings:
    """Measured savings by day, run, original's format or size class, and over everything, as of a moment."""
    return catalog.savings_table(by)


@router.get("/failures", operation_id="list_failures", responses=documented(401, 403, 422))
def list_failures(
    catalog: CatalogDep, after: CursorDep, stage: Stage | None = None, code: Code = None, limit: Limit = 50
) -> FailuresModel:
    """A page of images that are failed now, newest first."""
    return FailuresModel.of(catalog.failures(limit=limit, after=after, stage=stage, code=code))


@router.get("/failures/reasons", operation_id="list_failure_reasons", responses=documented(401, 403))
def list_failure_reasons(catalog: CatalogDep) -> list[FailureReason]:
    """How many images have which failure now, the most frequent first."""
    return list(catalog.failure_reasons())

"""Savings and failures."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from image_proxy.web.deployment import CatalogDep
from image_proxy.web.pages.templates import is_part, render
from image_proxy.web.routers.figures import Code
from image_proxy.web.routers.files import CursorDep
from image_proxy.web.security import may_trigger
from include.catalog.browse_records import SavingsGroup, SavingsRow
from include.catalog.catalog import Catalog
from include.catalog.records import Stage
from include.catalog.targets import TargetFigures

router = APIRouter()

FAILURES = 50
SHOWN_RUNS = 12
LARGE_SAVING, STORAGE_SAVING, IN_TIME_SHARE = 0.80, 0.70, 0.95
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Target:
    """One of the plan's targets: what is asked, what was measured, and whether that is met (None: nothing to tell)."""

    name: str
    measured: str
    basis: str
    met: bool | None


@router.get("/savings")
async def savings(request: Request, catalog: CatalogDep) -> HTMLResponse:
    """What proxies save: measured bytes, projected and paid costs."""
    return render(request, "savings.html", current="savings", **await run_in_threadpool(_savings, catalog))


@router.get("/savings/chart.json")
def chart(catalog: CatalogDep) -> dict[str, list[dict[str, object]]]:
    """Savings by day, oldest first, for the charts."""
    return {"days": [asdict(row) for row in reversed(catalog.savings(SavingsGroup.DAY))]}


@router.get("/savings.csv")
def as_csv(catalog: CatalogDep, by: SavingsGroup = SavingsGroup.DAY) -> Response:
    """The same figures as a table for a spreadsheet."""
    rows = catalog.savings(by)
    text = io.StringIO()
    names = list(asdict(catalog.savings_total()))
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([by.value, *names[1:]])
    for row in rows:
        writer.writerow([_cell(value) for value in asdict(row).values()])
    headers = {"Content-Disposition": f'attachment; filename="image-proxy-savings-by-{by.value}.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/failures")
async def failures(
    request: Request, catalog: CatalogDep, after: CursorDep, stage: Stage | None = None, code: Code = None
) -> HTMLResponse:
    """Images that are failed now, by reason."""
    page = await run_in_threadpool(catalog.failures, limit=FAILURES, after=after, stage=stage, code=code)
    values = {"page": page, "stage": stage, "code": code, "may_write": await may_trigger(request)}
    if is_part(request):
        return render(request, "failures_list.html", **values)
    reasons = await run_in_threadpool(catalog.failure_reasons)
    here = {"stage": stage and stage.value, "code": code, "after": after and after.text()}
    query = urlencode({name: value for name, value in here.items() if value})  # the list stays what it is when renewed
    return render(request, "failures.html", current="failures", reasons=reasons, query=query, **values)


Group = Annotated[SavingsGroup, Query()]


def _savings(catalog: Catalog) -> dict[str, object]:
    total, figures = catalog.savings_total(), catalog.target_figures()
    return {
        "total": total,
        "previews": figures.preview_bytes,
        "targets": _targets(figures),
        "days": catalog.savings(SavingsGroup.DAY),
        "formats": catalog.savings(SavingsGroup.FORMAT),
        "sizes": catalog.savings(SavingsGroup.SIZE),
        "runs": catalog.savings(SavingsGroup.RUN, SHOWN_RUNS),
        "saving": _saving(total),
    }


def _saving(row: SavingsRow) -> float | None:
    return 1 - row.bytes_served / row.bytes_original if row.bytes_original else None


def _targets(found: TargetFigures) -> tuple[Target, ...]:
    ratio = found.large_mean_saving_ratio
    share = found.in_time_images / found.timed_images if found.timed_images else None
    stored = (
        1 - (found.outside_stored_bytes + found.preview_bytes) / found.outside_bytes if found.outside_bytes else None
    )
    inside = f"; {found.inside_images:,} originals are in S3 anyway and left out" if found.inside_images else ""
    return (
        Target(
            "Images above 1 MB shrink by more than 80 % on average",
            "nothing measured yet" if ratio is None else f"{100 * ratio:.1f} % less",
            f"mean over {found.large_images:,} images",
            None if ratio is None else ratio > LARGE_SAVING,
        ),
        Target(
            "An image takes less than 2 seconds",
            "nothing measured yet" if share is None else f"{100 * share:.1f} % in time",
            f"mean {found.mean_seconds or 0:.2f} s over {found.timed_images:,} proxies, fetching and upload included; "
            "met when 95 % are in time",
            None if share is None else share >= IN_TIME_SHARE,
        ),
        Target(
            "S3 holds more than 70 % fewer bytes than the originals have",
            "does not apply: the originals are in S3" if stored is None else f"{100 * stored:.1f} % less",
            f"proxies and previews against originals that are not in S3{inside}",
            None if stored is None else stored > STORAGE_SAVING,
        ),
    )


def _cell(value: object) -> object:
    """A text that a spreadsheet would take for a formula is led by an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

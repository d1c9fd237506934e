"""Many images: what is asked for becomes one run, and what costs is told before it begins. For API and pages alike."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from image_proxy.web import jobs
from image_proxy.web.models import MOST_FILES, BatchModel, ProjectionModel
from image_proxy.web.problems import SHOWN_ERRORS, Problem
from include.nova import NovaError
from include.pipeline.params import PipelineParams
from include.pipeline.survey import Survey, survey

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from image_proxy.web.models import BatchBody
    from include.catalog.catalog import Catalog
    from include.catalog.records import Stage
    from include.pipeline.settings import Settings

NOTHING = "nothing to do: these images are done, being worked on, or failed before, and tried again on request only"


@dataclasses.dataclass(frozen=True, slots=True)
class Desk:
    """Where orders are taken: who asks, and what of."""

    user: BaseUser
    catalog: Catalog
    settings: Settings

    def create_proxies(self, file_ids: Sequence[int]) -> BatchModel:
        """Start a run that makes proxies only."""
        params = PipelineParams(stages=("proxy",), file_ids=tuple(file_ids))
        return self._start(params, self._survey(params), "Batch image proxy creation started")

    def analyse(self, file_ids: Sequence[int], *, confirm: bool, max_cost_usd: float | None) -> BatchModel:
        """Start a run that makes missing proxies and calls Nova; without `confirm` tell only what it would cost."""
        params = PipelineParams(file_ids=tuple(file_ids))
        return self._paid(params, confirm=confirm, max_cost_usd=max_cost_usd)

    def retry(
        self,
        stage: Stage,
        *,
        file_ids: Sequence[int] | None = None,
        code: str | None = None,
        confirm: bool = False,
        max_cost_usd: float | None = None,
    ) -> BatchModel:
        """Start a forced run over failures of one stage (the newest 10,000). Proxies are made without calling Nova."""
        failed = self.catalog.failed_ids(stage, code=code, file_ids=file_ids, limit=MOST_FILES)
        params = PipelineParams(stages=(stage.value,), file_ids=failed, force=True)
        if stage.value == "analyse":
            return self._paid(params, confirm=confirm, max_cost_usd=max_cost_usd)
        return self._start(params, self._survey(params), "Retry started")

    def chosen(self, body: BatchBody) -> tuple[int, ...]:
        """Return the ids that a request names, by list or filter. 422, naming some, when one is no image of ours."""
        if body.filter is not None:
            return self.catalog.matching_ids(body.filter.as_filter(), MOST_FILES)
        ids = tuple(dict.fromkeys(body.file_ids or ()))
        known = self.catalog.known_images(ids)
        unknown = [file_id for file_id in ids if file_id not in known]
        if unknown:
            shown = ", ".join(map(str, unknown[:SHOWN_ERRORS]))
            raise Problem(422, "unknown_files", f"{len(unknown)} of {len(ids)} are no images of the catalog: {shown}")
        return ids

    def _survey(self, params: PipelineParams) -> Survey:
        try:
            return survey(self.catalog, params, self.settings)
        except NovaError as error:
            raise Problem(422, error.code, str(error)) from error

    def _paid(self, params: PipelineParams, *, confirm: bool, max_cost_usd: float | None) -> BatchModel:
        """The run itself refuses to cost more than was shown here."""
        found = self._survey(params)
        cost = found.projection.cost_usd_estimated
        if max_cost_usd is not None and cost > max_cost_usd:
            said = (
                f"projected: ${cost:.4f} for {found.projection.images} images, above max_cost_usd ${max_cost_usd:.4f}"
            )
            raise Problem(409, "max_cost_usd", said)
        if not confirm and found.file_ids:
            said = f"nothing was started: about ${cost:.4f}; repeat the request with confirm=true"
            return _batch(None, found, said)
        shown = math.ceil(cost * 1e6) / 1e6 if max_cost_usd is None else max_cost_usd
        return self._start(dataclasses.replace(params, max_cost_usd=shown), found, "Batch analysis started")

    def _start(self, params: PipelineParams, found: Survey, message: str) -> BatchModel:
        if not found.file_ids:
            return _batch(None, found, NOTHING)
        # Only what has work left: the job's total is then what it will do.
        job_id = jobs.start(self.user, dataclasses.replace(params, file_ids=tuple(sorted(found.file_ids))))
        return _batch(job_id, found, message)


def _batch(job_id: str | None, found: Survey, message: str) -> BatchModel:
    projection = ProjectionModel.of(found)
    return BatchModel(job_id=job_id, total_files=len(found.file_ids), message=message, projection=projection)

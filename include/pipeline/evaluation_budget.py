"""What an evaluation may spend: its projection, and the money of each question before that is asked."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from include.catalog.records import EvaluationCall
from include.imaging import calculate_target_dimensions
from include.nova import Prompt, projected_cost_usd
from include.pipeline.evaluation_params import AUTO, EvaluationParams
from include.pipeline.plan import ASSUMED_DIMENSIONS, CostLimitExceeded
from include.pipeline.prompting import prompt_of
from include.pipeline.settings import Settings
from include.pipeline.spending import NAMES, DayGuard

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

log = logging.getLogger(__name__)

# An original of unknown size, for the projected cost: 12 megapixels, what most telephones make.
ASSUMED_ORIGINAL = (4032, 3024)
Slot = tuple[str, int]  # a size and a repeat


def check_cost(
    catalog: Catalog, file_ids: Sequence[int], params: EvaluationParams, settings: Settings, prompt: Prompt
) -> None:
    """Raise `CostLimitExceeded` when the questions about these pictures would pass a limit, by projection."""
    projected = 0.0
    for file_id in file_ids:
        image = catalog.image(file_id)
        width, height = ASSUMED_ORIGINAL
        if image and image.resolution_width and image.resolution_height:
            width, height = image.resolution_width, image.resolution_height
        for size, _ in params.calls_a_picture:
            shown = _dimensions(size, width, height)
            projected += projected_cost_usd(params.model_id, *shown, prompt, overrides=settings.price_overrides)
    log.info("%d pictures, projected cost $%.4f", len(file_ids), projected)
    if params.max_cost_usd is not None and projected > params.max_cost_usd:
        raise CostLimitExceeded(
            f"{len(file_ids)} pictures in {len(params.calls_a_picture)} calls each would cost about ${projected:.4f}, "
            f"above max_cost_usd ${params.max_cost_usd:.4f}: raise it, or lower sample_size"
        )
    passed = DayGuard(catalog, settings).passed_by(projected)
    if passed is not None:
        raise CostLimitExceeded(
            f"{len(file_ids)} pictures would cost about ${projected:.4f}, more than is left today of "
            f"{NAMES[passed.code]} ${passed.usd:.4f}: raise it, lower sample_size, or wait for tomorrow (UTC)"
        )


def _call_cost(params: EvaluationParams, settings: Settings) -> float:
    """Return the projected US dollars of one question about an original of common size."""
    prompt = prompt_of(settings)
    return projected_cost_usd(params.model_id, *ASSUMED_ORIGINAL, prompt, overrides=settings.price_overrides)


def _dimensions(size: str, width: int, height: int) -> tuple[int, int]:
    if size == AUTO:
        return ASSUMED_DIMENSIONS
    return calculate_target_dimensions(width, height, *([int(size)] if size.isdigit() else [max(width, height)]))


class Budget:
    """What was asked and spent so far, and what is left to ask. Safe to share between threads."""

    def __init__(
        self, params: EvaluationParams, calls: Iterable[EvaluationCall], one_call_usd: float, day: DayGuard
    ) -> None:
        self._lock = threading.Lock()
        self._params, self._day = params, day
        self._one_call = one_call_usd
        self._done: set[tuple[int, str, int]] = set()
        self._spent = self._reserved = 0.0
        self.outcomes: Counter[str] = Counter()
        for call in calls:
            self.add(call)
        self.outcomes.clear()

    def begin(self) -> float | None:
        """Reserve the money of one question and return it; None when the question could pass the highest cost, or the
        day's limit."""
        with self._lock:
            if self._would_pass(self._reserved + self._one_call):
                return None
            self._reserved += self._one_call
            return self._one_call

    def end(self, reserved: float) -> None:
        """Give the reserved money back: what the question cost was added."""
        with self._lock:
            self._reserved -= reserved

    def add(self, call: EvaluationCall) -> None:
        """Count a recorded call."""
        with self._lock:
            cost = call.cost_usd_projected or 0.0
            self._spent += cost
            self._one_call = max(self._one_call, cost)  # the dearest so far: the next one may be as long
            if call.called:
                self.outcomes[call.code or "answered"] += 1
            if call.final:
                self._done.add((call.file_id, call.variant, call.repeat))

    @property
    def exhausted(self) -> bool:
        """Whether one more question could pass the highest cost, or the day's limit."""
        with self._lock:
            return self._would_pass(self._one_call)

    def _would_pass(self, usd: float) -> bool:
        limit = self._params.max_cost_usd
        return (limit is not None and self._spent + usd > limit) or self._day.passed_by(usd) is not None

    def open_slots(self, file_ids: Sequence[int]) -> dict[int, list[Slot]]:
        """What is still to be asked, by picture; pictures without anything left out."""
        with self._lock:
            wanted = self._params.calls_a_picture
            found = {file_id: [slot for slot in wanted if (file_id, *slot) not in self._done] for file_id in file_ids}
        return {file_id: slots for file_id, slots in found.items() if slots}


def budget_of(catalog: Catalog, run_id: str, params: EvaluationParams, settings: Settings) -> Budget:
    """Return the budget of an evaluation, with what it has asked so far."""
    return Budget(params, catalog.evaluation_calls(run_id), _call_cost(params, settings), DayGuard(catalog, settings))

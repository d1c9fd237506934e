"""Nova throttles 30 % of all requests: slower, and nothing lost or paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from include.catalog.records import Outcome
from tests.dags.conftest import Deployment, photograph

IMAGES = 30

pytestmark = pytest.mark.distributed


def test_thirty_percent_of_throttling(deployment: Deployment, tell: Callable[[str], None]) -> None:
    for number in range(IMAGES):
        photograph(deployment.pictures / f"{number:02}.jpg", 960, 900)
    deployment.stand_in.change(throttle_rate=0.3, throttle_seed=11)
    runs = 0
    while runs < 3:
        assert deployment.run() == "success"  # what was put back is no failure
        runs += 1
        current = [deployment.catalog.current(file_id) for file_id in range(1, IMAGES + 1)]
        if all(row and row["analysed_at"] for row in current):
            break
    counts = deployment.catalog.run_counts(deployment.run_ids[0]).by_outcome
    answers = Counter(call.status for call in deployment.stand_in.calls())
    tell(f"30 % of throttling: {runs} runs, first {dict(counts)}, answers by status {dict(answers)}")
    assert answers[200] == IMAGES == len({call.s3_uri for call in deployment.stand_in.calls() if call.status == 200})
    assert answers[429] > IMAGES / 5
    assert counts.get(Outcome.FAILED, 0) == 0
    assert runs <= 2

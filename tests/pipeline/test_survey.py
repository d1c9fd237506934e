"""What a run would find to do is told before it is started, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.nova import NovaError
from include.pipeline.params import PipelineParams
from include.pipeline.settings import load_settings
from include.pipeline.survey import survey
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground


def test_only_images_with_work_left_are_counted_and_priced(ground: Ground) -> None:
    for name in ("a", "b"):
        photograph(Path(ground.pictures) / f"{name}.jpg", 1200, 1000)
    ground.make_proxies()
    settings = load_settings(bucket=ground.bucket)
    proxies = survey(ground.catalog, PipelineParams(stages=("proxy",)), settings)
    assert (proxies.file_ids, proxies.projection.cost_usd_estimated, proxies.price_date) == ((), 0.0, None)
    both = survey(ground.catalog, PipelineParams(), settings)
    one = survey(ground.catalog, PipelineParams(file_ids=both.file_ids[:1]), settings)
    assert (len(both.file_ids), len(one.file_ids)) == (2, 1)
    assert both.projection.cost_usd_estimated == pytest.approx(2 * one.projection.cost_usd_estimated)
    assert (both.model_id, both.price_date is not None) == (PipelineParams().model_id, True)
    forced = survey(ground.catalog, PipelineParams(stages=("proxy",), force=True), settings)
    assert forced.file_ids == both.file_ids


def test_a_model_without_a_price_is_refused(ground: Ground) -> None:
    with pytest.raises(NovaError):
        survey(ground.catalog, PipelineParams(model_id="nobody.knows-it"), load_settings(bucket=ground.bucket))

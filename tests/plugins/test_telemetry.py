"""Our metrics through Airflow's own OpenTelemetry output, which refuses what StatsD takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk._shared.observability.metrics import stats
from airflow.sdk._shared.observability.metrics.otel_logger import SafeOtelLogger
from image_proxy.telemetry import AirflowMetrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from PIL import Image

from include.catalog.records import Outcome
from include.pipeline.params import parse_params
from include.pipeline.plan import proxy_options
from include.pipeline.proxies import ProxyStage
from include.pipeline.settings import load_settings
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground, ground

__all__ = ["ground"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(stats, "_backend", SafeOtelLogger(provider))
    yield reader
    provider.shutdown()


def sums(reader: InMemoryMetricReader) -> dict[str, float]:
    """Return what each counter stands at, without Airflow's own prefix."""
    data: Any = reader.get_metrics_data()
    metrics = [metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]
    return {
        metric.name.removeprefix("airflow.image_proxy."): sum(point.value for point in metric.data.data_points)
        for metric in metrics
        if hasattr(metric.data, "is_monotonic")
    }


def test_a_proxy_that_is_larger_than_its_original_is_told_and_costs_nothing_else(
    ground: Ground, told: InMemoryMetricReader
) -> None:
    """A counter of OpenTelemetry raises for a negative amount: that failed the task, for a proxy already stored."""
    photograph(ground.pictures / "large.jpg", 1400, 1000)
    with Image.open(photograph(ground.pictures / "small.jpg", 1000, 950)) as picture:
        picture.save(ground.pictures / "small.jpg", quality=5)
    batch = ground.plan(stages=["proxy"])
    settings = load_settings(bucket=ground.bucket, temp_dir=ground.pictures.parent, workers=1, keep_original="never")
    options = proxy_options(parse_params(ground.catalog.run_params(ground.run_id)))
    stage = ProxyStage(ground.catalog, ground.s3, settings, options, metrics=AirflowMetrics())
    assert stage.run(ground.run_id, batch) == {Outcome.PROXIED: 2}
    images = ground.images()
    found = sums(told)
    saved = {name: (image.original_bytes or 0) - (image.proxy_bytes or 0) for name, image in images.items()}
    assert (found["bytes_saved"], found["bytes_added"]) == (saved["large.jpg"], -saved["small.jpg"])
    assert found["images.proxy.proxied"] == 2

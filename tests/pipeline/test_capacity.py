"""The capacity model: each number a team turns moves what it should, and the slowest part decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.nova import NovaError
from include.pipeline.capacity import DAG_EFFICIENCY, RUN_SECONDS, Archive, capacity_of
from scripts.capacity import main

ARCHIVE = Archive(images=1_000_000)


def test_a_twelve_megapixel_photograph_is_a_sixteenth_of_a_second_of_one_core() -> None:
    run_seconds = 10_000 * 0.062 / (2 * DAG_EFFICIENCY) + RUN_SECONDS
    assert capacity_of(ARCHIVE).proxies_per_hour == pytest.approx(3600 * 10_000 / run_seconds)


def test_the_slowest_part_decides_and_turning_it_helps() -> None:
    slow = replace(ARCHIVE, requests_per_minute=10)
    found = capacity_of(slow)
    assert found.bottleneck == "requests a minute"
    assert found.days == pytest.approx(1_000_000 / 600 / 24)
    assert capacity_of(replace(slow, requests_per_minute=20)).days == pytest.approx(found.days / 2)
    assert capacity_of(replace(ARCHIVE, nova_in_flight=1)).bottleneck == "requests in flight"
    assert capacity_of(replace(ARCHIVE, tokens_per_minute=10_000)).bottleneck == "tokens a minute"


def test_more_workers_make_more_proxies_and_cost_nothing_more_at_nova() -> None:
    one, four = capacity_of(ARCHIVE), capacity_of(replace(ARCHIVE, workers=4))
    assert 3 < four.proxies_per_hour / one.proxies_per_hour < 4, "less than four: tasks that come one after another"
    assert 1 < four.core_hours / one.core_hours < 4 / 3, "more cores are idle meanwhile"
    assert (four.cost_usd, four.s3_usd) == (one.cost_usd, one.s3_usd)


def test_a_run_has_work_for_as_many_workers_as_it_has_batches() -> None:
    """10,000 photographs of 12 MP are eleven batches of a minute: a twelfth worker finds nothing to do."""
    rates = [capacity_of(replace(ARCHIVE, workers=workers)).proxies_per_hour for workers in (10, 11, 12, 100)]
    assert rates[0] < rates[1] == rates[2] == rates[3]
    assert capacity_of(replace(ARCHIVE, workers=100, run_limit=100_000)).proxies_per_hour > 5 * rates[3]


def test_storage_is_of_proxies_and_previews_by_the_packaged_price() -> None:
    found = capacity_of(ARCHIVE)
    gigabytes = (found.proxy_bytes + found.preview_bytes) / 2**30
    assert found.s3_usd_month == pytest.approx(0.023 * gigabytes)
    assert found.s3_usd == pytest.approx(10)  # two requests an image at $5 a million


def test_flex_is_half_the_price() -> None:
    assert capacity_of(replace(ARCHIVE, tier="flex")).cost_usd == pytest.approx(capacity_of(ARCHIVE).cost_usd / 2)


def test_batch_jobs_have_no_quota_of_requests_or_tokens() -> None:
    asked, jobs = replace(ARCHIVE, requests_per_minute=1), replace(ARCHIVE, requests_per_minute=1, tier="batch")
    assert capacity_of(asked).bottleneck == "requests a minute"
    assert capacity_of(jobs).bottleneck == "cores"
    assert capacity_of(jobs).days == pytest.approx(1_000_000 / capacity_of(jobs).proxies_per_hour / 24)


def test_an_image_is_two_objects_in_s3() -> None:
    """Its proxy and its preview: 7,200 images an hour are two a second."""
    assert capacity_of(replace(ARCHIVE, requests_per_minute=120)).s3_puts_per_second == 4


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(NovaError, match="no model card"):
        capacity_of(replace(ARCHIVE, model_id="us.amazon.nova-9"))


def test_the_command_prints_what_breaks_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--images", "10,000,000", "--requests-per-minute", "10"]) == 0
    assert "requests a minute" in capsys.readouterr().out
    assert main(["--images", "1", "--model-id", "nobody"]) == 2
    assert main(["--images", "10", "--tier", "batch"]) == 0
    assert "no limit of batch jobs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--images", "0"),
        ("--images", "many"),
        ("--images", "1e6"),
        ("--images", "9" * 400),
        ("--nova-seconds", "0"),
        ("--nova-seconds", "inf"),
        ("--nova-seconds", "nan"),
        ("--nova-seconds", "1e-320"),
        ("--workers", "1.5"),
    ],
)
def test_a_number_that_cannot_be_is_refused_in_words(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--images", "1", option, value])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"argument {option}: must be a" in said and "Traceback" not in said

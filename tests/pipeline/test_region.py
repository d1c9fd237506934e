"""Nova is called where the bucket lies, or the run is refused with what to change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from include.pipeline.region import RegionMismatch, nova_region
from include.pipeline.settings import load_settings
from tests.aws_server import aws_client, aws_server, make_bucket

US, EU, JP, GLOBAL = (f"{place}.amazon.nova-2-lite-v1:0" for place in ("us", "eu", "jp", "global"))


@pytest.fixture(scope="module")
def aws_url() -> Iterator[str]:
    with aws_server() as url:
        yield url


@pytest.fixture
def aws_s3(aws_url: str) -> Any:
    return aws_client("s3", aws_url)


@pytest.fixture(scope="module")
def frankfurt(aws_url: str) -> str:
    return make_bucket(aws_url, "eu-central-1")


def region_for(s3: Any, model_id: str, bucket: str, **settings: str) -> str:
    return nova_region(s3, load_settings(bucket=bucket, **settings), model_id, "us-east-1")


@pytest.mark.parametrize("model_id", [EU, GLOBAL, "amazon.nova-lite-v1:0"])
def test_the_buckets_region_wins_over_the_connections(aws_s3: Any, frankfurt: str, model_id: str) -> None:
    assert region_for(aws_s3, model_id, frankfurt) == "eu-central-1"


def test_a_profile_of_another_geography_is_refused_with_what_to_change(
    aws_url: str, aws_s3: Any, frankfurt: str
) -> None:
    with pytest.raises(RegionMismatch, match=r"us\.amazon.* cannot be called from eu-central-1, where the bucket"):
        region_for(aws_s3, US, frankfurt)
    with pytest.raises(RegionMismatch, match="choose the model_id of a profile of that geography"):
        region_for(aws_s3, EU, make_bucket(aws_url, "us-west-1"))


def test_government_regions_are_a_geography_of_their_own(aws_url: str, aws_s3: Any) -> None:
    with pytest.raises(RegionMismatch):
        region_for(aws_s3, US, make_bucket(aws_url, "us-gov-west-1"))


def test_a_region_that_is_set_wins(aws_s3: Any, frankfurt: str) -> None:
    assert region_for(aws_s3, US, frankfurt, bedrock_region="us-west-2") == "us-west-2"


def test_another_s3_server_leaves_it_to_the_connection(s3: Any, bucket: str) -> None:
    assert region_for(s3, US, bucket) == "us-east-1"
    with pytest.raises(RegionMismatch, match="cannot be called from us-east-1: choose"):
        region_for(s3, JP, bucket)

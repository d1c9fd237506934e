"""Where an image may be processed: the AWS regions that an inference profile reaches, from `model_cards.json`."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from include.nova.cards import plain_id

ANYWHERE = "*"  # a global profile: every commercial region of AWS


@cache
def _profiles() -> dict[str, tuple[str, ...]]:
    data = json.loads(resources.files("include.nova").joinpath("model_cards.json").read_text("utf-8"))
    return {profile: tuple(regions) for profile, regions in data["residency"]["profiles"].items()}


def processing_regions(model_id: str) -> tuple[str, ...]:
    """The regions that may process an image sent to `model_id` (an id or its ARN).

    `(ANYWHERE,)` for a global profile; empty for what has no residency of its own (a base id is answered in the region
    that is called) or is not known.
    """
    return _profiles().get(plain_id(model_id), ())


def may_be_called_from(model_id: str, region: str) -> bool:
    """Whether a profile of one geography can be called from `region`. True where nothing is known against it: Bedrock
    has the last word, this only tells early what it would refuse."""
    regions = processing_regions(model_id)
    if not regions or ANYWHERE in regions:
        return True
    return _geography(region) in {_geography(known) for known in regions}


def _geography(region: str) -> str:
    """`eu` of `eu-central-1`, `us-gov` of `us-gov-west-1`."""
    return region.rsplit("-", 2)[0]

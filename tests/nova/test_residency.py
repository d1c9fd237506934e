"""Every profile that can be chosen says where its images may be processed."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from include.nova import ANYWHERE, card_for, may_be_called_from, processing_regions
from include.pipeline.params import param_schemas

NOVA_2_LITE = "amazon.nova-2-lite-v1:0"
# The names that AWS gives the regions in the text of the trigger form.
PLACES = {
    "us-east-1": "Virginia", "us-east-2": "Ohio", "us-west-2": "Oregon", "eu-central-1": "Frankfurt",
    "eu-north-1": "Stockholm", "eu-south-1": "Milan", "eu-south-2": "Spain", "eu-west-1": "Ireland",
    "eu-west-3": "Paris", "ap-northeast-1": "Tokyo", "ap-northeast-3": "Osaka", ANYWHERE: "any commercial AWS region",
}  # fmt: skip


@pytest.mark.parametrize("model_id", [NOVA_2_LITE, "amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"])
def test_each_profile_of_each_card_has_its_regions(model_id: str) -> None:
    for profile in card_for(model_id).profile_ids:
        assert processing_regions(profile), profile


def test_the_table_names_its_source_and_date_and_no_profile_without_a_card() -> None:
    residency = json.loads(resources.files("include.nova").joinpath("model_cards.json").read_text("utf-8"))["residency"]
    assert "https://docs.aws.amazon.com/" in residency["source"] and residency["date"]
    for profile in residency["profiles"]:
        assert card_for(profile)


def test_the_form_says_it_where_the_model_is_chosen() -> None:
    schema = param_schemas()["model_id"]
    assert set(schema["examples"]) == set(card_for(NOVA_2_LITE).profile_ids)
    for profile in card_for(NOVA_2_LITE).profile_ids:
        said = schema["description"].partition(f"{profile.partition('.')[0]}. (")[2].partition(")")[0]
        assert sorted(said.split(", ")) == sorted(PLACES[region] for region in processing_regions(profile)), profile


def test_an_arn_says_as_much_as_its_id_and_an_opaque_one_nothing() -> None:
    arn = f"arn:aws:bedrock:eu-west-1:111122223333:inference-profile/eu.{NOVA_2_LITE}"
    assert processing_regions(arn) == processing_regions(f"eu.{NOVA_2_LITE}")
    opaque = "arn:aws:bedrock:eu-west-1:111122223333:application-inference-profile/abc123"
    assert processing_regions(opaque) == ()
    assert may_be_called_from(opaque, "us-east-1")

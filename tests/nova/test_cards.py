"""Money and tokens: every figure here was worked out by hand from the published prices and tables."""

from __future__ import annotations

import pytest

from include.nova import NovaError, card_for, cost_usd, load_prompt, price_for, projected_cost_usd
from include.nova.projection import EXPECTED_OUTPUT_TOKENS, projected_input_tokens

LITE_2 = "us.amazon.nova-2-lite-v1:0"
LITE = "us.amazon.nova-lite-v1:0"
PRO = "us.amazon.nova-pro-v1:0"


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(900, 450, 515), (900, 900, 1035), (1400, 900, 1600), (1800, 900, 2060), (1300, 1300, 2155)],
)
def test_processed_tokens_of_the_quoted_table_within_one_percent(width: int, height: int, tokens: int) -> None:
    card = card_for(LITE_2)
    assert card.processed_image_tokens(width, height) == pytest.approx(tokens, rel=0.01)
    assert card.processed_image_tokens(height, width) == card.processed_image_tokens(width, height)


def test_nova_2_lite_bills_an_original_and_its_proxy_alike() -> None:
    card = card_for(LITE_2)
    assert card.billing == "flat"
    assert card.billed_image_tokens(4000, 3000) == card.billed_image_tokens(1195, 896) == 230
    assert card.processed_image_tokens(4000, 3000) > 10 * card.processed_image_tokens(1195, 896)


@pytest.mark.parametrize("model_id", [LITE, PRO])
@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(900, 450, 800), (900, 900, 1300), (1400, 900, 1800), (1800, 900, 2400), (1300, 1300, 2600)],
)
def test_nova_1_bills_by_size_near_its_documented_table(model_id: str, width: int, height: int, tokens: int) -> None:
    card = card_for(model_id)
    assert card.billing == "by_size"
    assert card.billed_image_tokens(width, height) == pytest.approx(tokens, rel=0.07)


def test_small_images_count_as_scaled_up() -> None:
    # The documentation's own example: 800x400 counts as about 900x450.
    card = card_for(LITE_2)
    assert card.processed_image_tokens(800, 400) == card.processed_image_tokens(896, 448)
    with pytest.raises(ValueError, match="0x10"):
        card.processed_image_tokens(0, 10)


def test_billed_input_swaps_processed_image_tokens_for_the_flat_rate() -> None:
    # 900x900 is processed as 1033 tokens and billed as 230: 1500 reported, 467 of them text.
    assert card_for(LITE_2).billed_input_tokens(1500, 900, 900) == 697
    assert card_for(LITE_2).billed_input_tokens(100, 900, 900) == 230
    assert card_for(LITE).billed_input_tokens(1500, 900, 900) == 1500


@pytest.mark.parametrize(
    ("model_id", "base"),
    [
        (LITE_2, "amazon.nova-2-lite-v1:0"),
        ("jp.amazon.nova-2-lite-v1:0", "amazon.nova-2-lite-v1:0"),
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{PRO}", "amazon.nova-pro-v1:0"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
    ],
)
def test_a_model_is_found_under_all_its_names(model_id: str, base: str) -> None:
    assert card_for(model_id).model_id == base
    assert base not in card_for(model_id).profile_ids


@pytest.mark.parametrize(
    "model_id",
    ["us.amazon.nova-3:0", "", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"],
)
def test_an_unknown_model_is_refused_with_the_known_ones(model_id: str) -> None:
    with pytest.raises(NovaError) as caught:
        card_for(model_id)
    assert caught.value.code == "unknown_model"
    assert LITE_2 in caught.value.message


@pytest.mark.parametrize(
    ("model_id", "tier", "dollars"),
    [
        # 1500 input and 200 output tokens. Nova 2 Lite us: 1500 * .33 + 200 * 2.75 = 495 + 550 = 1045 per million.
        (LITE_2, "default", 0.001045),
        (LITE_2, "flex", 0.0005225),
        (LITE_2, "priority", 0.00182875),
        (LITE_2, "batch", 0.0005225),
        # Nova Pro: 1500 * .80 + 200 * 3.20 = 1200 + 640 = 1840 per million.
        (PRO, "default", 0.00184),
        (PRO, "flex", 0.00092),
        (PRO, "priority", 0.00322),
        # Nova 2 Lite in Europe: 1500 * .429 + 200 * 3.597 = 643.5 + 719.4 = 1362.9 per million.
        ("eu.amazon.nova-2-lite-v1:0", "default", 0.0013629),
        # Nova Lite: 1500 * .06 + 200 * .24 = 90 + 48 = 138 per million.
        (LITE, "default", 0.000138),
    ],
)
def test_cost_of_a_call_by_hand(model_id: str, tier: str, dollars: float) -> None:
    assert cost_usd(model_id, tier, 1500, 200) == pytest.approx(dollars, rel=1e-9)


def test_a_price_says_when_and_where_it_was_read() -> None:
    price = price_for(LITE_2, "priority")
    assert (price.input_per_million, price.output_per_million) == pytest.approx((0.5775, 4.8125))
    assert price.date == "2026-11-22"
    assert "LiteLLM" in price.source


def test_a_teams_own_price_goes_first_and_the_exact_id_before_the_base_id() -> None:
    base = {"input_per_million": 1, "output_per_million": 10, "date": "2026-10-01", "source": "contract 17"}
    exact = {"input_per_million": "2", "output_per_million": 20}
    overrides = {"amazon.nova-2-lite-v1:0": base, LITE_2: exact}
    assert price_for("eu.amazon.nova-2-lite-v1:0", "flex", overrides).input_per_million == 0.5
    assert price_for("eu.amazon.nova-2-lite-v1:0", "flex", overrides).source == "contract 17"
    assert cost_usd(LITE_2, "default", 1_000_000, 1_000_000, overrides) == pytest.approx(22)
    assert price_for(PRO, overrides=overrides).input_per_million == 0.80


@pytest.mark.parametrize("wrong", [{}, {"input_per_million": 1}, {"input_per_million": -1, "output_per_million": 1}])
def test_a_wrong_override_is_an_error_not_a_free_run(wrong: dict[str, float]) -> None:
    with pytest.raises(NovaError, match="invalid_price"):
        price_for(LITE_2, overrides={LITE_2: wrong})


def test_a_profile_without_a_known_price_asks_for_one() -> None:
    with pytest.raises(NovaError, match="unknown_price"):
        price_for("eu.amazon.nova-pro-v1:0")
    own = {"eu.amazon.nova-pro-v1:0": {"input_per_million": 1, "output_per_million": 4}}
    assert price_for("eu.amazon.nova-pro-v1:0", overrides=own).output_per_million == 4


def test_an_unknown_tier_is_refused() -> None:
    with pytest.raises(NovaError, match="invalid_tier"):
        price_for(LITE_2, "cheap")


def test_a_projection_holds_image_prompt_and_expected_answer() -> None:
    prompt = load_prompt()
    given = projected_input_tokens(LITE_2, 1195, 896, prompt)
    assert given > 230 + len(prompt.text) / 6  # image and text, however long a token is
    dollars = (given * 0.33 + EXPECTED_OUTPUT_TOKENS * 2.75) / 1_000_000
    assert projected_cost_usd(LITE_2, 1195, 896, prompt) == pytest.approx(dollars)
    assert projected_cost_usd(LITE_2, 1195, 896, prompt, "flex") == pytest.approx(dollars / 2)


def test_a_proxy_is_projected_cheaper_only_where_size_is_billed() -> None:
    prompt = load_prompt()
    assert projected_cost_usd(LITE_2, 4000, 3000, prompt) == projected_cost_usd(LITE_2, 1195, 896, prompt)
    assert projected_cost_usd(LITE, 4000, 3000, prompt) > projected_cost_usd(LITE, 1195, 896, prompt)

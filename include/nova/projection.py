"""What an analysis will probably cost, said before it is asked for. An estimate, never shown as a measured figure."""

from __future__ import annotations

import math

from include.nova.analysis import tool_schema_json
from include.nova.cards import PriceOverrides, card_for, cost_usd
from include.nova.prompts import Prompt

# English prose takes four to five characters a token and JSON about four, so this errs towards too many tokens.
CHARS_PER_TOKEN = 4
# What the service puts around a tool before the model reads it. Not published for Nova; a few hundred tokens elsewhere.
TOOL_FRAME_TOKENS = 200
# A usual answer: 3 sentences (80 tokens), 8 labels (120), some visible text (50), 5 boxes (125), and the JSON around.
EXPECTED_OUTPUT_TOKENS = 400


def projected_input_tokens(model_id: str, width: int, height: int, prompt: Prompt) -> int:
    """Estimated billed input tokens of one request: image of `width` x `height` px, prompt text and tool schema."""
    written = len(prompt.text) + len(tool_schema_json(prompt.output_model))
    image = card_for(model_id).billed_image_tokens(width, height)
    return image + math.ceil(written / CHARS_PER_TOKEN) + TOOL_FRAME_TOKENS


def projected_cost_usd(
    model_id: str,
    width: int,
    height: int,
    prompt: Prompt,
    tier: str = "default",
    overrides: PriceOverrides | None = None,
) -> float:
    """Estimated US dollars for analysing one image of `width` x `height` px. Raises as `price_for`."""
    given = projected_input_tokens(model_id, width, height, prompt)
    return cost_usd(model_id, tier, given, min(EXPECTED_OUTPUT_TOKENS, prompt.max_tokens), overrides)

"""What one request to Nova costs: the price of what is billed, beside what was reported. For every way of asking."""

from __future__ import annotations

import dataclasses

from include.catalog.records import NovaCall
from include.nova import CallRecord, card_for, cost_usd, price_for
from include.pipeline.settings import Settings


def priced(call: CallRecord, model_id: str, width: int, height: int, settings: Settings) -> NovaCall:
    """Return the call with its cost in US dollars, for an image of `width` x `height` px.

    The stand-in bills nothing: there `cost_usd` is None, and the projection is what Nova would have cost. A refused
    request, which reports no tokens, is not billed. Raises as `price_for`.
    """
    billed, overrides = 0, settings.price_overrides
    if call.input_tokens:
        billed = card_for(model_id).billed_input_tokens(call.input_tokens, width, height)
    projected = cost_usd(model_id, call.tier, billed, call.output_tokens, overrides=overrides)
    return NovaCall(
        **dataclasses.asdict(call),
        billed_input_tokens=billed,
        cost_usd=projected if call.endpoint == "aws" else None,
        cost_usd_projected=projected,
        price_date=price_for(model_id, call.tier, overrides).date,
    )

"""What is known of each model: ids, limits, how images are counted and billed, and prices with source and date.

The facts live in `model_cards.json`, each with its source, so that a new price is a data change.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from include.nova.errors import Disposition, NovaError

# Limits of image understanding, the same for all the models here.
# https://docs.aws.amazon.com/nova/latest/nova2-userguide/using-multimodal-models.html
IMAGE_FORMATS = ("png", "jpeg", "gif", "webp")
MIN_EFFECTIVE_SIDE = 896  # px: a smaller image is scaled up until one side has it

# A team's own prices: model or profile id -> {"input_per_million", "output_per_million", "date"?, "source"?}, in US
# dollars at the default tier. A base id stands for all its profiles; the more exact id wins.
PriceOverrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens for one profile at one tier, with the day and place it was read."""

    input_per_million: float
    output_per_million: float
    date: str
    source: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model. `prices` maps each id it can be called by to its default-tier price, None where none is known."""

    model_id: str
    name: str
    context_tokens: int
    max_output_tokens: int
    flat_tokens: int | None  # billed tokens an image whatever its size; None: billed by size
    base_tokens: int
    pixels_per_token: int
    prices: Mapping[str, Price | None]

    @property
    def billing(self) -> str:
        """`flat` or `by_size`."""
        return "by_size" if self.flat_tokens is None else "flat"

    @property
    def profile_ids(self) -> tuple[str, ...]:
        """The inference profiles of this model, base id left out."""
        return tuple(known for known in self.prices if known != self.model_id)

    def processed_image_tokens(self, width: int, height: int) -> int:
        """Tokens an image of `width` x `height` px takes of context and quota: an estimate, see the card's source."""
        if width < 1 or height < 1:
            raise ValueError(f"an image has at least one pixel, not {width}x{height}")
        scale = max(1.0, MIN_EFFECTIVE_SIDE / max(width, height))
        return round(self.base_tokens + width * height * scale * scale / self.pixels_per_token)

    def billed_image_tokens(self, width: int, height: int) -> int:
        """Tokens an image of `width` x `height` px is billed as: the flat rate, or what is processed."""
        processed = self.processed_image_tokens(width, height)
        return processed if self.flat_tokens is None else self.flat_tokens

    def billed_input_tokens(self, reported: int, width: int, height: int) -> int:
        """Billed input tokens of a call that reported `reported`, for one image of `width` x `height` px.

        Where an image is billed flat, the reported count holds the tokens it was processed as instead; they are taken
        out by estimate, never below the flat rate itself.
        """
        if self.flat_tokens is None:
            return reported
        return self.flat_tokens + max(0, reported - self.processed_image_tokens(width, height))


def _card(entry: Mapping[str, Any]) -> ModelCard:
    prices = {
        known: price and Price(**price, date=entry["price_date"], source=entry["price_source"])
        for known, price in entry["prices"].items()
    }
    return ModelCard(
        model_id=entry["model_id"],
        name=entry["name"],
        context_tokens=entry["context_tokens"],
        max_output_tokens=entry["max_output_tokens"],
        flat_tokens=entry["billing"]["tokens_per_image"] if entry["billing"]["rule"] == "flat" else None,
        base_tokens=entry["processing"]["base_tokens"],
        pixels_per_token=entry["processing"]["pixels_per_token"],
        prices=prices,
    )


@cache
def _cards() -> tuple[dict[str, ModelCard], dict[str, float]]:
    """(cards by every id they are known by, price factor by tier)."""
    data = json.loads(resources.files("include.nova").joinpath("model_cards.json").read_text("utf-8"))
    cards = [_card(entry) for entry in data["models"]]
    return {known: card for card in cards for known in card.prices}, data["tiers"]["factors"]


_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?:inference-profile|foundation-model)/(?P<id>.+)")


def plain_id(model_id: str) -> str:
    """The id in an ARN of a model or of a system-defined inference profile; anything else as it is."""
    found = _ARN.fullmatch(model_id)
    return found["id"] if found else model_id


def card_for(model_id: str) -> ModelCard:
    """The card of a base id, an inference profile id, or the ARN of either.

    Raises NovaError `unknown_model` (FATAL) that lists the known ids; so also for the ARN of an application inference
    profile, whose opaque id does not say which model it holds.
    """
    known, _ = _cards()
    card = known.get(plain_id(model_id))
    if card is None:
        ids = ", ".join(sorted(known))
        raise NovaError("unknown_model", f"There is no model card for {model_id!r}. Known: {ids}.", Disposition.FATAL)
    return card


def tier_factor(tier: str) -> float:
    """What `tier` costs relative to the default one. Raises NovaError `invalid_tier` (FATAL)."""
    _, factors = _cards()
    if tier not in factors:
        raise NovaError("invalid_tier", f"tier is {tier!r}, but must be one of {', '.join(factors)}", Disposition.FATAL)
    return factors[tier]


def is_priced(tier: str) -> bool:
    """Whether a price is known at `tier`."""
    _, factors = _cards()
    return tier in factors


def price_for(model_id: str, tier: str = "default", overrides: PriceOverrides | None = None) -> Price:
    """US dollars per million tokens for `model_id` at `tier`; a team's own price goes before the card's.

    Raises NovaError (FATAL): `unknown_model`, `invalid_tier`, `invalid_price`, `unknown_price` (a profile whose price
    the cards do not know: a wrong figure would be worse than none).
    """
    card, factor = card_for(model_id), tier_factor(tier)
    plain = plain_id(model_id)
    price = _overridden(plain, card, overrides or {}) or card.prices[plain]
    if price is None:
        said = f"No price is known for {plain}. Set one in the price overrides."
        raise NovaError("unknown_price", said, Disposition.FATAL)
    return Price(price.input_per_million * factor, price.output_per_million * factor, price.date, price.source)


def _overridden(plain: str, card: ModelCard, overrides: PriceOverrides) -> Price | None:
    key = next((key for key in (plain, card.model_id) if key in overrides), None)
    if key is None:
        return None
    entry = overrides[key]
    try:
        given, got = float(entry["input_per_million"]), float(entry["output_per_million"])
    except (KeyError, TypeError, ValueError):
        given = got = math.nan
    if not all(math.isfinite(figure) and figure >= 0 for figure in (given, got)):
        said = f"The price override of {key} needs input_per_million and output_per_million, dollars of 0 or more."
        raise NovaError("invalid_price", said, Disposition.FATAL)
    return Price(given, got, date=str(entry.get("date") or "configured"), source=str(entry.get("source") or "settings"))


def cost_usd(
    model_id: str, tier: str, input_tokens: int, output_tokens: int, overrides: PriceOverrides | None = None
) -> float:
    """US dollars for that many billed tokens. Raises as `price_for`."""
    price = price_for(model_id, tier, overrides)
    return (input_tokens * price.input_per_million + output_tokens * price.output_per_million) / 1_000_000

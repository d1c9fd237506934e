"""Which model ids are answered, and what of each model is known: output limit and billed tokens of an image."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from include.local.nova_stand_in.errors import BedrockError, invalid


@dataclass(frozen=True, slots=True)
class Model:
    """A model. `profiles` are the prefixes of its inference profiles; `on_demand` tells whether the base id works."""

    base_id: str
    profiles: tuple[str, ...]
    on_demand: bool
    max_output_tokens: int
    image_tokens: Callable[[int, int], int]  # width and height in px -> input tokens that a reply reports


def _processed(width: int, height: int) -> int:
    """Nova 2 bills 230 tokens an image at any resolution, but reports what it processed: within 0.5 % of px / 784 in
    the
    token table that is commonly quoted for it (900x900: 1,035; 1300x1300: 2,155)."""
    return round(width * height / 784)


def _by_resolution(width: int, height: int) -> int:
    """A straight line through the table in the Nova 1 user guide, "Image understanding" (about 800 to 2600 tokens)."""
    return round(202 + width * height / 733)


# Output limits: Bedrock answers "exceeds the model limit of 10000" for the first generation, as its users report;
# 65,535 for Nova 2 Lite is what client libraries carry, AWS's pages give no exact figure.
MODELS: Final = (
    Model("amazon.nova-2-lite-v1:0", ("us", "eu", "jp", "global"), False, 65_535, _processed),
    Model("amazon.nova-lite-v1:0", ("us", "eu", "apac", "us-gov"), True, 10_000, _by_resolution),
    Model("amazon.nova-pro-v1:0", ("us", "eu", "apac", "us-gov"), True, 10_000, _by_resolution),
)

_PROFILE_ARN: Final = re.compile(r"arn:aws(?:-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:inference-profile/(.+)")
_MODEL_ARN: Final = re.compile(r"arn:aws(?:-[^:]+)?:bedrock:[a-z0-9-]{1,20}::foundation-model/(.+)")


def find_model(model_id: str) -> Model:
    """The model behind an id, an inference profile's id or the ARN of either.

    Raises `BedrockError`, in Bedrock's words as its users report them: a base id that only profiles may invoke, and an
    id that does not exist (application inference profiles among them: nobody can have made one here).
    """
    profile_arn, model_arn = _PROFILE_ARN.fullmatch(model_id), _MODEL_ARN.fullmatch(model_id)
    name = next((match.group(1) for match in (profile_arn, model_arn) if match), model_id)
    for model in MODELS:
        if not model_arn and name in {f"{prefix}.{model.base_id}" for prefix in model.profiles}:
            return model
        if not profile_arn and name == model.base_id:
            return _on_demand(model, model_id)
    raise invalid("The provided model identifier is invalid.")


def find_batch_model(model_id: str) -> Model:
    """The model of a batch job, which takes base ids too. Raises `BedrockError` for an id that does not exist."""
    for model in MODELS:
        if model_id == model.base_id or (_MODEL_ARN.fullmatch(model_id) and model_id.endswith(f"/{model.base_id}")):
            return model
    return find_model(model_id)


def _on_demand(model: Model, model_id: str) -> Model:
    if not model.on_demand:
        raise _needs_profile(model_id)
    return model


def _needs_profile(model_id: str) -> BedrockError:
    return invalid(
        f"Invocation of model ID {model_id} with on-demand throughput isn't supported. Retry your request with the ID "
        "or ARN of an inference profile that contains this model."
    )

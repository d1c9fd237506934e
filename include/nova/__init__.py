"""Amazon Nova on Bedrock: model cards, prompts, requests, replies, errors, and one image at a time through Converse.

Works with any boto3 `bedrock-runtime` client; knows nothing of Airflow, of the catalog, or of which cloud answers.
"""

from include.nova.analysis import ImageAnalysis, tool_schema
from include.nova.cards import ModelCard, Price, PriceOverrides, card_for, cost_usd, price_for
from include.nova.client import (
    AnalysedImage,
    Backoff,
    CallRecord,
    analyse_image,
    client_config,
    endpoint_of,
)
from include.nova.errors import Disposition, NovaError, Usage
from include.nova.projection import projected_cost_usd
from include.nova.prompts import MAX_TOKENS, Prompt, load_output_model, load_prompt
from include.nova.replies import NovaReply, parse_reply
from include.nova.requests import build_converse_request
from include.nova.residency import ANYWHERE, may_be_called_from, processing_regions

__all__ = [
    "ANYWHERE",
    "MAX_TOKENS",
    "AnalysedImage",
    "Backoff",
    "CallRecord",
    "Disposition",
    "ImageAnalysis",
    "ModelCard",
    "NovaError",
    "NovaReply",
    "Price",
    "PriceOverrides",
    "Prompt",
    "Usage",
    "analyse_image",
    "build_converse_request",
    "card_for",
    "client_config",
    "cost_usd",
    "endpoint_of",
    "load_output_model",
    "load_prompt",
    "may_be_called_from",
    "parse_reply",
    "price_for",
    "processing_regions",
    "projected_cost_usd",
    "tool_schema",
]

"""Amazon Nova on Bedrock: model cards, prompts and what an analysis costs.

Knows nothing of Airflow, of the catalog, or of which cloud answers.
"""

from include.nova.analysis import ImageAnalysis, tool_schema
from include.nova.cards import ModelCard, Price, PriceOverrides, card_for, cost_usd, price_for
from include.nova.errors import Disposition, NovaError, Usage
from include.nova.projection import projected_cost_usd
from include.nova.prompts import Prompt, load_prompt

__all__ = [
    "Disposition",
    "ImageAnalysis",
    "ModelCard",
    "NovaError",
    "Price",
    "PriceOverrides",
    "Prompt",
    "Usage",
    "card_for",
    "cost_usd",
    "load_prompt",
    "price_for",
    "projected_cost_usd",
    "tool_schema",
]

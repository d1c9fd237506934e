"""What other DAGs are told about a run: small mappings of plain values, empty when there is nothing new."""

from __future__ import annotations

from typing import Any

from include.catalog.records import RunFigures


def news_of_proxies(figures: RunFigures) -> dict[str, Any]:
    """Return counts and measured bytes of the proxies made and originals kept by a run; empty when there are none."""
    if figures.proxies_created + figures.originals_kept == 0:
        return {}
    return {
        "run_id": figures.run_id,
        "proxies_created": figures.proxies_created,
        "originals_kept": figures.originals_kept,
        "bytes_original": figures.bytes_original,
        "bytes_served": figures.bytes_served,
        "bytes_saved": figures.bytes_original - figures.bytes_served,
        "bytes_uploaded": figures.bytes_uploaded,
        "mean_saving_ratio": figures.mean_saving_ratio,
    }


def news_of_analyses(figures: RunFigures) -> dict[str, Any]:
    """Return counts, tokens and cost of the analyses written by a run; empty when there are none.

    `cost_usd` is null when nobody was paid (the Nova stand-in); `cost_usd_projected` is what Nova would have cost.
    """
    if figures.analyses_written == 0:
        return {}
    return {
        "run_id": figures.run_id,
        "analyses_written": figures.analyses_written,
        "nova_calls": figures.nova_calls,
        "nova_endpoint": figures.nova_endpoint,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cost_usd": figures.cost_usd,
        "cost_usd_projected": figures.cost_usd_projected,
    }

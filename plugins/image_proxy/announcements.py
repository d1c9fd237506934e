"""Operators that tell other DAGs, and this one's next run, what a run has finished: as events of assets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from image_proxy.assets import IMAGE_ANALYSES, IMAGE_BACKLOG, IMAGE_PROXIES
from image_proxy.operators import CatalogOperator, identity_of
from include.pipeline.params import parse_params

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.catalog.catalog import Catalog
    from include.catalog.records import RunFigures


class _AnnounceOperator(CatalogOperator):
    """Update an asset, with the run's figures as the event's metadata; skipped, and so no event, without news."""

    asset: Asset

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"outlets": [self.asset], **kwargs})

    def execute(self, context: Context) -> None:
        news = self.news(context, self.catalog(self.settings()))
        context["outlet_events"][self.asset].extra = dict(news)
        self.log.info("%s: %s", self.asset.name, news)

    def news(self, context: Context, catalog: Catalog) -> Mapping[str, Any]:
        """Return what the event says, or raise AirflowSkipException."""
        raise NotImplementedError

    def why_skip(self, context: Context, catalog: Catalog) -> str | None:
        """Return why there is no news."""
        try:
            self.news(context, catalog)
        except AirflowSkipException as skip:
            return str(skip)
        return None

    def figures(self, context: Context, catalog: Catalog) -> RunFigures:
        """Return the run's figures from the catalog, or skip."""
        from include.catalog.errors import UnknownRun

        run_id = identity_of(context).run_id
        try:
            return catalog.run_figures(run_id)
        except UnknownRun:
            raise AirflowSkipException("no run is stored: a dry run, or planning did not finish") from None


class AnnounceProxiesOperator(_AnnounceOperator):
    """Update the asset `image_proxies` when the run made proxies: counts, and bytes saved as they were measured."""

    ui_color = "#fdf3d8"
    asset = IMAGE_PROXIES

    def news(self, context: Context, catalog: Catalog) -> Mapping[str, Any]:
        """Return counts and measured bytes of what this run made or kept."""
        from include.pipeline.news import news_of_proxies

        news = news_of_proxies(self.figures(context, catalog))
        if not news:
            raise AirflowSkipException("this run made no proxies")
        return news


class AnnounceAnalysesOperator(_AnnounceOperator):
    """Update the asset `image_analyses` when the run wrote analyses: counts, tokens, and cost by who answered."""

    ui_color = "#fdf3d8"
    asset = IMAGE_ANALYSES

    def news(self, context: Context, catalog: Catalog) -> Mapping[str, Any]:
        """Return counts, tokens and cost of what this run wrote."""
        from include.pipeline.news import news_of_analyses

        news = news_of_analyses(self.figures(context, catalog))
        if not news:
            raise AirflowSkipException("this run wrote no analyses")
        return news


class ContinueBacklogOperator(_AnnounceOperator):
    """Update the asset `image_backlog`, on which this DAG is scheduled, when a full run left work that can be done now.

    So a backlog drains as fast as the machines work, not one `run_limit` an hour. Runs by hand and backfills are never
    followed by another run, and neither is one in which no image got an outcome.
    """

    ui_color = "#fdf3d8"
    asset = IMAGE_BACKLOG

    def news(self, context: Context, catalog: Catalog) -> Mapping[str, Any]:
        """Return which run was full."""
        from include.pipeline.backlog import why_not_continue

        settings, identity = self.settings(), identity_of(context)
        params = parse_params(dict(context["params"]))
        reason = why_not_continue(catalog, identity, params, settings)
        if reason:
            raise AirflowSkipException(reason)
        return {"run_id": identity.run_id}

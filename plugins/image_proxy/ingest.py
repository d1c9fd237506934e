"""Operators that register new images, and the schedules that start them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from image_proxy.assets import IMAGE_CATALOG
from image_proxy.operators import CatalogOperator
from include.pipeline.ingest_params import INGEST_SCHEMAS, IngestParams, parse_ingest_params
from include.pipeline.params import InvalidParams
from include.pipeline.settings import Settings, usable_settings

if TYPE_CHECKING:
    from airflow.sdk import Context


def ingest_params() -> dict[str, Param]:
    """Return the trigger form of `catalog_ingest`."""
    return {
        name: Param(schema["default"], **{key: value for key, value in schema.items() if key != "default"})
        for name, schema in INGEST_SCHEMAS.items()
    }


def ingest_schedule() -> str | None:
    """Return when sources are looked through; None where none is set, so that no run starts in vain.

    A wrong setting stops neither this nor the queue: the runs' first task refuses it by name.
    """
    settings = usable_settings()
    return settings.ingest_schedule if settings.ingest_sources else None


def upload_queue() -> Settings | None:
    """Return the settings when a queue is set that an asset watcher can listen to."""
    settings = usable_settings()
    return settings if settings.ingest_queue_url else None


class _IngestOperator(CatalogOperator):
    """What the operators here share: checked params, and the asset event that tells what is new."""

    _stop: threading.Event | None = None

    def checked(self, context: Context, settings: Settings) -> IngestParams:
        try:
            return parse_ingest_params({**dict(context["params"]), **(context["dag_run"].conf or {})}, settings)
        except InvalidParams as error:
            raise AirflowFailException(f"{error.code}: {error}") from error

    @contextmanager
    def registering(self) -> Iterator[None]:
        """Retrying does not help where a table of the team's stands in for `files`: it is only read."""
        from include.catalog.adoption import TableIsMapped

        try:
            yield
        except TableIsMapped as error:
            raise AirflowFailException(f"{error.code}: {error}") from error

    def announce(self, context: Context, registered: int, counts: dict[str, Any]) -> dict[str, Any]:
        """Update the asset, or skip: an event without anything new would start a pipeline run without work."""
        self.log.info("%s", counts)
        if not registered:
            raise AirflowSkipException(f"nothing new: {counts}")
        if IMAGE_CATALOG in self.outlets:
            context["outlet_events"][IMAGE_CATALOG].extra = counts
        return counts

    def on_kill(self) -> None:
        """Begin no further page; what was registered stays."""
        if self._stop is not None:
            self._stop.set()


class ListSourcesOperator(_IngestOperator):
    """Check the params and return the sources to look through: the param `sources`, or else the setting."""

    ui_color = "#e8f1fb"

    def execute(self, context: Context) -> list[str]:
        return list(self.checked(context, self.settings()).sources)


class RegisterImagesOperator(_IngestOperator):
    """List one source and register what is new or has new content, from the first bytes of each such file.

    Skips itself when nothing is new. With ``outlets=[IMAGE_CATALOG]`` it updates that asset otherwise, with counts as
    the event's extra.

    :param source: `s3://bucket/prefix` or `file:///folder`. (templated)
    """

    template_fields: Sequence[str] = ("source",)
    ui_color = "#dff3e4"

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from include.pipeline.ingest import ingest_source
        from include.storage.listings import parse_source

        self._stop = threading.Event()
        settings = self.settings()
        params, source = self.checked(context, settings), parse_source(self.source)
        s3 = S3Hook(settings.aws_conn_id).conn if source.bucket else None
        with self.registering():
            counts = ingest_source(
                self.catalog(settings), s3, settings, source, full=params.full, limit=params.limit, stop=self._stop
            )
        return self.announce(context, counts.registered, {"source": source.name, **counts.as_json()})


class RegisterUploadsOperator(_IngestOperator):
    """Register the objects that a bucket's messages name: those that started this run, and all that wait in the queue.

    A message is deleted when all that it names is registered; what cannot be understood or read stays for the queue's
    redrive policy. With ``outlets=[IMAGE_CATALOG]`` it updates that asset; it skips itself when nothing is new.
    """

    ui_color = "#dff3e4"

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.providers.amazon.aws.hooks.sqs import SqsHook

        from include.pipeline.ingest import Registrar
        from include.pipeline.upload_events import MessageReader

        self._stop = threading.Event()
        settings = self.settings()
        if not settings.ingest_queue_url:
            raise AirflowFailException("IMAGE_PROXY_INGEST_QUEUE_URL is not set: name the queue of the bucket's events")
        sqs = SqsHook(aws_conn_id=settings.aws_conn_id).conn
        s3 = S3Hook(settings.aws_conn_id).conn
        with self.registering(), Registrar(self.catalog(settings), s3, settings) as registrar:
            reader = MessageReader(registrar, sqs, settings.ingest_queue_url, settings, self._stop)
            counts = reader.work(list(_messages(context)))
        return self.announce(context, counts.images.registered, {"source": "sqs", **counts.as_json()})


def _messages(context: Context) -> Iterator[dict[str, Any]]:
    """The messages that the watcher received, over all events that were gathered into this run."""
    for events in (context.get("triggering_asset_events") or {}).values():
        for event in events:
            payload = (event.extra or {}).get("payload") or {}
            yield from payload.get("message_batch") or []

"""Register what a bucket's messages name, and delete a message only when all that it names is registered."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from include.pipeline.batches import RunCancelled
from include.pipeline.ingest import IngestCounts, Registrar, candidate_of
from include.pipeline.settings import Settings
from include.storage.events import Created, UnknownMessage, created_objects, delete, receive
from include.storage.listings import Source, parse_source

log = logging.getLogger(__name__)

VISIBILITY_SECONDS: Final = 120  # how long a message stays with who received it; a round takes a few seconds
ROUND: Final = 100  # messages whose headers are read together
MOST_MESSAGES: Final = 10_000  # a run ends, so that what it registered is announced; the next one goes on

Message = Mapping[str, Any]  # as SQS gives it: MessageId, ReceiptHandle, Body


@dataclass(frozen=True, slots=True)
class EventCounts:
    """What became of the messages, and of the objects that they named."""

    messages: int
    deleted: int
    left: int  # poison, or naming what could not be read: they come again, then the redrive policy has them
    images: IngestCounts

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for an asset event."""
        return {**self.images.as_json(), "messages": self.messages, "deleted": self.deleted, "left": self.left}


@dataclass
class MessageReader:
    """Works through messages: those that the watcher received, then those that are still in the queue.

    ``sqs`` is a boto3 SQS client. Deleting what another reader has received meanwhile, or receiving a message twice,
    does no harm.
    """

    registrar: Registrar
    sqs: Any
    queue_url: str
    settings: Settings
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    messages: int = 0
    deleted: int = 0
    left: int = 0

    def work(self, received: Sequence[Message]) -> EventCounts:
        """Register and delete; return the counts. Raises `StorageUnavailable`, and `RunCancelled` when stopped."""
        for start in range(0, len(received), ROUND):
            self._round(received[start : start + ROUND])
        while self.messages < MOST_MESSAGES and (more := self._receive()):
            self._round(more)
        return EventCounts(self.messages, self.deleted, self.left, self.registrar.counts)

    def _receive(self) -> list[Message]:
        found: list[Message] = []
        while len(found) < ROUND and (some := receive(self.sqs, self.queue_url, VISIBILITY_SECONDS)):
            found += some
        return found

    def _round(self, messages: Sequence[Message]) -> None:
        if self.stop.is_set():
            raise RunCancelled(f"stopped after {self.messages} messages; the others come again")
        named = [(message, self._named(message)) for message in messages]
        prefixes = s3_sources(self.settings)
        created = {one.uri: one for _, objects in named for one in objects or () if self._is_ours(one, prefixes)}
        self.registrar.totals.listed += len(created)
        unread = self.registrar.register([candidate_of(one) for one in created.values()])
        done = [
            message["ReceiptHandle"]
            for message, objects in named
            if objects is not None and unread.isdisjoint(one.uri for one in objects)
        ]
        failed = delete(self.sqs, self.queue_url, done)
        self.messages += len(messages)
        self.deleted += len(done) - failed
        self.left += len(messages) - len(done)

    def _named(self, message: Message) -> tuple[Created, ...] | None:
        try:
            return created_objects(message["Body"])
        except UnknownMessage as error:
            log.warning("message %s is left for the redrive policy: %s", message.get("MessageId"), error)
            return None

    def _is_ours(self, created: Created, prefixes: Sequence[Source]) -> bool:
        """Whether an object lies in one of the sources; where no prefix is set, the queue alone decides."""
        ours = not prefixes or any(source.holds(created.bucket, created.key) for source in prefixes)
        if not ours:
            self.registrar.totals.skipped["outside_sources"] += 1
        return ours


def s3_sources(settings: Settings) -> list[Source]:
    """Return the S3 prefixes among the sources of the settings. Raises `InvalidSource`."""
    return [source for source in map(parse_source, settings.ingest_sources) if source.bucket is not None]

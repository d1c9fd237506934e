"""Messages that a bucket sends when objects are created: S3's own, through SNS, and EventBridge's.

Sources: "Event message structure" in the Amazon S3 user guide (keys are URL-encoded, a space as `+`), "EventBridge
event message structure" there (keys are plain), "Amazon SNS message formats".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from include.storage.errors import BOTO_ERRORS, SourceError, storage_error
from include.storage.sources import split_s3_uri

MESSAGES_PER_REQUEST: Final = 10  # the limit of SQS, for receiving and for deleting
_TEST_EVENT: Final = "s3:TestEvent"  # sent once, when notifications are set up


class UnknownMessage(ValueError):
    """The message is nothing that a bucket sends. It stays in the queue, for the redrive policy."""

    code = "unknown_message"


@dataclass(frozen=True, slots=True)
class Created:
    """An object that was created or replaced, as an event names it."""

    bucket: str
    key: str  # as it is, decoded

    @property
    def uri(self) -> str:
        """The address of the object."""
        return f"s3://{self.bucket}/{self.key}"


def created_objects(body: str) -> tuple[Created, ...]:
    """The objects that one message names; none for a test event, and for what is deleted, restored or tagged.

    Raises `UnknownMessage`.
    """
    try:
        message = json.loads(body)
        if isinstance(message, dict) and message.get("Type") == "Notification":  # SNS, without raw delivery
            message = json.loads(message["Message"])
        if not isinstance(message, dict):
            raise TypeError("not an object")
        if message.get("Event") == _TEST_EVENT:
            return ()
        is_bridge = message.get("source") == "aws.s3"
        found = tuple(_from_event_bridge(message) if is_bridge else _from_records(message["Records"]))
        for created in found:
            split_s3_uri(created.uri)  # whoever may send to the queue may write anything
        return found
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, SourceError) as error:
        raise UnknownMessage(f"not an event of S3 ({type(error).__name__}: {error}): {body[:200]!r}") from error


def _from_records(records: Sequence[Any]) -> Iterator[Created]:
    for record in records:
        if not record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
            continue
        yield Created(_text(record["s3"]["bucket"]["name"]), unquote_plus(_text(record["s3"]["object"]["key"])))


def _from_event_bridge(event: Any) -> Iterator[Created]:
    if event["detail-type"] == "Object Created":
        yield Created(_text(event["detail"]["bucket"]["name"]), _text(event["detail"]["object"]["key"]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"expected text, not {value!r}")
    value.encode()  # half a character, which JSON can name, would fail whoever is handed the key
    return value


def receive(client: Any, queue_url: str, visibility_seconds: int) -> list[dict[str, Any]]:
    """Up to ten messages, at once; none when the queue is empty. Raises `StorageUnavailable`."""
    try:
        reply = client.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=MESSAGES_PER_REQUEST, VisibilityTimeout=visibility_seconds
        )
    except BOTO_ERRORS as error:
        raise storage_error(error, queue_url) from error
    return list(reply.get("Messages", []))


def delete(client: Any, queue_url: str, receipts: Sequence[str]) -> int:
    """Delete messages by their receipts; returns how many could not be (they come again, which does no harm).

    Raises `StorageUnavailable`.
    """
    failed = 0
    for start in range(0, len(receipts), MESSAGES_PER_REQUEST):
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt}
            for number, receipt in enumerate(receipts[start : start + MESSAGES_PER_REQUEST])
        ]
        try:
            failed += len(client.delete_message_batch(QueueUrl=queue_url, Entries=entries).get("Failed", []))
        except BOTO_ERRORS as error:
            raise storage_error(error, queue_url) from error
    return failed

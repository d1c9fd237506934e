"""What a bucket's messages do, against a server that speaks S3 and SQS and sends events itself (moto)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
from moto.server import ThreadedMotoServer

from include.catalog.catalog import Catalog
from include.catalog.records import Selection, Stage
from include.pipeline.ingest import Registrar
from include.pipeline.params import parse_params
from include.pipeline.plan import work_key
from include.pipeline.settings import load_settings
from include.pipeline.upload_events import EventCounts, MessageReader
from include.storage.errors import StorageUnavailable
from include.storage.events import Created, UnknownMessage, created_objects
from tests.catalog.migrated import migrated_catalog
from tests.dags.conftest import photograph

ACCOUNT = "123456789012"


@dataclass
class Uploads:
    """A bucket that tells a queue what is uploaded to it."""

    catalog: Catalog
    s3: Any
    sqs: Any
    queue: str
    dead: str
    picture: Path

    def put(self, key: str, bucket: str = "originals") -> None:
        self.s3.upload_file(str(self.picture), bucket, key)

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def receive(self) -> list[dict[str, Any]]:
        """As the watcher does: received, not deleted."""
        found = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=120)
        return list(found.get("Messages", []))

    def work(self, received: list[dict[str, Any]] | None = None, **settings: Any) -> EventCounts:
        settings = {"bucket": "proxies", "temp_dir": self.picture.parent, **settings}
        with Registrar(self.catalog, self.s3, load_settings(**settings)) as registrar:
            reader = MessageReader(registrar, self.sqs, self.queue, load_settings(**settings))
            return reader.work(received or [])

    def in_queue(self, queue: str | None = None) -> int:
        """Messages that are not deleted, waiting or with a receiver."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue or self.queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def show_again(self, messages: list[dict[str, Any]]) -> None:
        """What happens when the visibility timeout of undeleted messages ends."""
        for message in messages:
            self.sqs.change_message_visibility(
                QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )

    def registered(self) -> set[str]:
        key = work_key(parse_params({}), load_settings())
        found = self.catalog.select_unprocessed(Selection(key, frozenset({Stage.PROXY}), "dag/looking"))
        return {image.uri for image in found}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def uploads(moto: str, tmp_path: Path) -> Iterator[Uploads]:
    def client(service: str) -> Any:
        return boto3.client(
            service, endpoint_url=moto, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
        )

    s3, sqs = client("s3"), client("sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    redrive = {"deadLetterTargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead", "maxReceiveCount": 2}
    queue = sqs.create_queue(QueueName="uploads", Attributes={"RedrivePolicy": json.dumps(redrive)})["QueueUrl"]
    for bucket in ("originals", "proxies"):
        s3.create_bucket(Bucket=bucket)
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:uploads"
    for bucket in ("originals", "proxies"):
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
        )
    engine = migrated_catalog(tmp_path / "catalog.db")
    picture = photograph(tmp_path / "picture.jpg", 1200, 1000)
    yield Uploads(Catalog(engine), s3, sqs, queue, dead, picture)
    engine.dispose()
    for url in (queue, dead):
        sqs.delete_queue(QueueUrl=url)


def event(key: str, bucket: str = "originals", name: str = "ObjectCreated:Put") -> str:
    encoded = quote_plus(key, safe="/")
    return json.dumps(
        {"Records": [{"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": encoded}}}]}
    )


def test_what_is_uploaded_is_registered_and_its_message_deleted(uploads: Uploads) -> None:
    uploads.put("a.jpg")
    uploads.put("b.jpg")
    received = uploads.receive()  # by the watcher
    uploads.put("c.jpg")  # while the run was starting
    counts = uploads.work(received)
    assert uploads.registered() == {f"s3://originals/{name}.jpg" for name in "abc"}
    assert (counts.images.new, counts.left, uploads.in_queue()) == (3, 0, 0)


def test_the_test_event_of_the_set_up_is_deleted(uploads: Uploads) -> None:
    received = uploads.receive()
    assert [json.loads(message["Body"])["Event"] for message in received] == ["s3:TestEvent"] * 2
    counts = uploads.work(received)
    assert (counts.deleted, counts.images.listed, uploads.in_queue()) == (2, 0, 0)


@pytest.mark.parametrize("key", ["a b.jpg", "a+b.jpg", "ünï/日本.jpg", "per%2Fcent.jpg", "q?#&=.jpg"])
def test_a_key_arrives_as_it_was_uploaded(uploads: Uploads, key: str) -> None:
    """Events carry keys URL-encoded: the server's own here, and the form that AWS documents."""
    uploads.put(key)
    uploads.send(event(key))
    counts = uploads.work()
    assert (uploads.registered(), counts.left) == ({f"s3://originals/{key}"}, 0)


def test_duplicates_register_once_and_the_second_time_reports_nothing_new(uploads: Uploads) -> None:
    uploads.put("a.jpg")
    [*received] = uploads.receive()
    first = uploads.work(received)
    uploads.send(event("a.jpg"))
    uploads.send(event("a.jpg", name="ObjectCreated:CompleteMultipartUpload"))
    second = uploads.work(received)  # delivered once more, its receipt used up
    assert (first.images.registered, second.images.registered, uploads.in_queue()) == (1, 0, 0)


def test_an_upload_in_parts_is_one_image(uploads: Uploads) -> None:
    started = uploads.s3.create_multipart_upload(Bucket="originals", Key="large.jpg")
    place = {"Bucket": "originals", "Key": "large.jpg", "UploadId": started["UploadId"]}
    body = uploads.picture.read_bytes() + b"\0" * (5 << 20)
    parts = [
        {"PartNumber": n, "ETag": uploads.s3.upload_part(**place, PartNumber=n, Body=piece)["ETag"]}
        for n, piece in enumerate((body[: 5 << 20], body[5 << 20 :]), 1)
    ]
    uploads.s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    uploads.send(event("large.jpg", name="ObjectCreated:CompleteMultipartUpload"))
    counts = uploads.work()
    assert (counts.images.new, uploads.in_queue()) == (1, 0)


POISON = [
    "not json",
    "[]",
    "{}",
    '{"Records": 5}',
    '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
    event("a.jpg", bucket="Not A Bucket"),
    event(""),
    event("x" * 1025),
    '{"Type": "Notification", "Message": "no"}',
    "[" * 100_000,
    "1" * 5000,
    event("half a character").replace("half+a+character", "\\ud800"),
]


@pytest.mark.parametrize("body", POISON, ids=lambda body: body[:30])
def test_what_no_bucket_sends_is_left_and_stops_nobody(uploads: Uploads, body: str) -> None:
    with pytest.raises(UnknownMessage):
        created_objects(body)
    uploads.work()  # the test events
    uploads.send(body)
    uploads.put("good.jpg")
    counts = uploads.work()
    assert (counts.left, counts.images.new, uploads.in_queue()) == (1, 1, 1)


def test_poison_ends_in_the_dead_letter_queue(uploads: Uploads) -> None:
    uploads.work()
    uploads.send("poison")
    for _ in range(3):
        received = uploads.receive()
        uploads.work(received)
        uploads.show_again(received)
    assert (uploads.in_queue(), uploads.in_queue(uploads.dead)) == (0, 1)


def test_a_message_is_not_deleted_when_registering_fails(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads.work()
    uploads.put("a.jpg")
    received = uploads.receive()
    with monkeypatch.context() as broken:
        broken.setattr(uploads.catalog, "register", lambda images: (_ for _ in ()).throw(StorageUnavailable("x", "y")))
        with pytest.raises(StorageUnavailable):
            uploads.work(received)
    assert uploads.in_queue() == 1
    uploads.work(received)
    assert (uploads.in_queue(), len(uploads.registered())) == (0, 1)


def test_an_object_that_was_deleted_again_is_no_work_and_its_message_goes(uploads: Uploads) -> None:
    uploads.put("a.jpg")
    uploads.s3.delete_object(Bucket="originals", Key="a.jpg")
    uploads.send(event("b.jpg", name="ObjectRemoved:Delete"))
    counts = uploads.work()
    assert (counts.images.skipped, counts.images.registered, uploads.in_queue()) == ({"vanished": 1}, 0, 0)


def test_our_own_proxies_and_other_prefixes_are_not_registered(uploads: Uploads) -> None:
    uploads.put("proxy_image/recipe/x_1_nova.jpg", "proxies")
    uploads.put("2025/a.jpg")
    uploads.put("2026/a.jpg")
    counts = uploads.work(ingest_sources=["s3://originals/2026/", "s3://proxies/"])
    assert uploads.registered() == {"s3://originals/2026/a.jpg"}
    assert counts.images.skipped == {"own_proxy": 1, "outside_sources": 1}
    assert uploads.in_queue() == 0


def test_messages_through_sns_and_event_bridge() -> None:
    through_sns = json.dumps({"Type": "Notification", "Message": event("a b.jpg")})
    assert created_objects(through_sns) == (Created("originals", "a b.jpg"),)
    bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "originals"}, "object": {"key": "a+b%20c.jpg"}},
    }
    assert created_objects(json.dumps(bridge)) == (Created("originals", "a+b%20c.jpg"),)  # EventBridge encodes nothing
    assert created_objects(json.dumps({**bridge, "detail-type": "Object Deleted"})) == ()

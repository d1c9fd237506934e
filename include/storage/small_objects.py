"""Put small objects into S3 for an eighth of the CPU that botocore takes.

A PUT costs botocore some 4 ms of Python, whether it carries a proxy of 200 kB or a preview of 20 kB, where decoding 12
megapixels takes 100; object_store, the client of Apache Arrow, needs half a millisecond, and not Python's lock. It gets
one attempt at each object. Whatever it cannot do, or does not succeed in, is boto3's, with its retries and its errors.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from include.storage.errors import BOTO_ERRORS
from include.storage.rules import ObjectRules

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

log = logging.getLogger(__name__)

SMALL_BYTES: Final = 1 << 20
MISSES_IN_A_ROW: Final = 3  # then it is not asked any more
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_CREDENTIALS_LIVE: Final = timedelta(minutes=6)  # asked for again after one: object_store wants five to be left


@dataclass(slots=True)
class SmallObjects:
    """Small objects for one bucket, by its rules; safe to use from several threads."""

    bucket: str
    rules: ObjectRules
    store: S3Store
    _misses: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, client: Any, credentials: Any, bucket: str, rules: ObjectRules) -> Self | None:
        """The small objects of ``bucket`` as the boto3 ``client`` reaches it, signed with botocore's ``credentials``.

        None where that is not to be had: no credentials, another signature than version 4, a proxy server or a
        client's certificate of boto3's own settings, or a bucket owner, which object_store cannot ask for.
        """
        config = client.meta.config
        plain = not (config.proxies or config.client_cert) and config.signature_version == "s3v4"
        if credentials is None or rules.bucket_owner or not plain:
            return None
        address = _address(client, bucket)
        return cls(bucket, rules, _store(client, credentials, address, bucket, rules)) if address else None

    def put(self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]) -> bool:
        """Store ``body``; whether S3 has it now. The server is given its SHA-256, and refuses anything else."""
        import obstore
        from obstore.exceptions import BaseError

        if self._misses >= MISSES_IN_A_ROW or len(body) > SMALL_BYTES or not _PLAIN_KEY.fullmatch(key):
            return False
        attributes = {"Content-Type": content_type, **metadata}
        try:
            obstore.put(
                self.store, key, body, attributes=attributes, tags=dict(self.rules.tags) or None, use_multipart=False
            )
        except (BaseError, OSError, ValueError) as error:
            self._count(missed=True)
            # Its message holds the whole answer of the server; boto3 is about to say what is wrong.
            log.info("s3://%s/%s is left to boto3: %s", self.bucket, key, type(error).__name__)
            return False
        self._count(missed=False)
        return True

    def _count(self, *, missed: bool) -> None:
        with self._lock:
            self._misses = self._misses + 1 if missed else 0


class _NotSent(Exception):
    """A request that was made up to be looked at."""


def _address(client: Any, bucket: str) -> str | None:
    """The URL of the bucket, by botocore's own rules: path or host style, region, FIPS, dual stack, access points.

    A presigned URL would not do: botocore gives it the global endpoint.
    """
    seen: list[str] = []

    def look(request: Any, **_: Any) -> None:
        seen.append(request.url)
        raise _NotSent

    events, event = client.meta.events, "before-send.s3.PutObject"
    events.register_first(event, look)
    try:
        with suppress(_NotSent, *BOTO_ERRORS, ValueError):
            client.put_object(Bucket=bucket, Key="k")
    finally:
        events.unregister(event, look)
    return seen[0].removesuffix("/k") if seen else None


def _store(client: Any, credentials: Any, address: str, bucket: str, rules: ObjectRules) -> S3Store:
    from obstore.store import S3Store

    config = client.meta.config
    encryption: dict[str, Any] = {}
    if rules.kms_key_id:
        encryption = {"server_side_encryption": "aws:kms", "sse_kms_key_id": rules.kms_key_id}
    return S3Store(
        bucket,
        endpoint=address,
        virtual_hosted_style_request=True,  # the address has the bucket in it already
        region=client.meta.region_name,
        credential_provider=_provider(credentials),
        checksum_algorithm="sha256",
        client_options={
            "allow_http": urlsplit(address).scheme == "http",
            "connect_timeout": timedelta(seconds=config.connect_timeout),
            "timeout": timedelta(seconds=config.read_timeout),
        },
        retry_config={"max_retries": 0},
        **encryption,
    )


def _provider(credentials: Any) -> Any:
    def current() -> S3Credential:
        frozen = credentials.get_frozen_credentials()  # botocore renews them when it is time
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LIVE,
        }

    return current

"""Put small objects into S3 for an eighth of the CPU that botocore takes.

A PUT costs botocore some 4 ms of Python, whether it carries a proxy of 200 kB or a preview of 20 kB, where decoding 12
megapixels takes 100; object_store, the client of Apache Arrow, needs half a millisecond, and not Python's lock. It gets
one attempt at each object. Whatever it cannot do, or does not succeed in, is boto3's, with its retries and its errors.

It reads environment variables that boto3 does not, and other certificates: so it is told everything explicitly, and
asked only where a client is of the common kind.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from include.storage.errors import BOTO_ERRORS
from include.storage.rules import ObjectRules

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

log = logging.getLogger(__name__)

SMALL_BYTES: Final = 1 << 20
MISSES_IN_A_ROW: Final = 3  # then it is not asked any more
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_PLAIN_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
_CREDENTIALS_LIVE: Final = timedelta(minutes=6)  # asked for again after one: object_store wants five to be left
_CONNECT: Final = timedelta(seconds=5)
_TOTAL: Final = timedelta(seconds=20)  # of at most 1 MB; then boto3 has its own, longer patience
_SCOPE: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request,")
# What object_store would take from the environment and cannot be told otherwise.
_ENCRYPTION: Final = re.compile(r"AWS_(SERVER_SIDE_ENCRYPTION|SSE_.*)", re.IGNORECASE)


@dataclass(slots=True)
class SmallObjects:
    """Small objects for one bucket, by its rules; safe to use from several threads, not in a process forked later."""

    bucket: str
    rules: ObjectRules
    store: S3Store
    _misses: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, client: Any, bucket: str, rules: ObjectRules) -> Self | None:
        """The small objects of ``bucket`` as the boto3 ``client`` reaches it, with its credentials.

        None where the client, its environment or the rules ask for something that object_store does otherwise.
        """
        if rules.bucket_owner or not _is_common(client):
            return None
        sample = _sample(client, bucket)
        if sample is None or not (sample.is_plain_http or _verifies_as_usual(client)):
            return None
        try:
            return cls(bucket, rules, _store(client, bucket, sample, rules))
        except Exception as error:  # of a setting that only object_store knows; its exceptions have no common base
            log.info("small objects are left to boto3: %s", type(error).__name__)
            return None

    def put(self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]) -> bool:
        """Store ``body``; whether S3 has it now. The server is given its SHA-256, and refuses anything else."""
        import obstore

        attributes = {"Content-Type": content_type, **metadata}
        if self._misses >= MISSES_IN_A_ROW or not _is_plain(key, body, attributes):
            return False
        tags = dict(self.rules.tags) or None
        try:
            obstore.put(self.store, key, body, attributes=attributes, tags=tags, use_multipart=False)
        except Exception as error:
            self._count(missed=True)
            # Its message holds the whole answer of the server; boto3 is about to say what is wrong.
            log.info("s3://%s/%s is left to boto3: %s", self.bucket, key, type(error).__name__)
            return False
        self._count(missed=False)
        return True

    def _count(self, *, missed: bool) -> None:
        with self._lock:
            self._misses = self._misses + 1 if missed else 0


def _is_plain(key: str, body: bytes, attributes: Mapping[str, str]) -> bool:
    """Whether any two clients would send this in the same way."""
    plain = _PLAIN_KEY.fullmatch(key) and all(_PLAIN_VALUE.fullmatch(value) for value in attributes.values())
    return bool(plain) and len(body) <= SMALL_BYTES


def _is_common(client: Any) -> bool:
    """Whether nothing stands between this client and S3, and nothing but the rules says how to encrypt."""
    config = client.meta.config
    return not (
        config.client_cert
        or config.proxies
        or urllib.request.getproxies().keys() - {"no"}  # the environment's, for which each client has its own rules
        or any(map(_ENCRYPTION.fullmatch, os.environ))
    )


def _verifies_as_usual(client: Any) -> bool:
    """Whether servers have to show certificates of the usual authorities: not unverified, not those of a file."""
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    return getattr(session, "_verify", None) is True


@dataclass(frozen=True, slots=True)
class _Sample:
    """A PUT as botocore would send it: where to, signed for which region, and as whom it introduces itself."""

    bucket_url: str
    region: str
    user_agent: str

    @property
    def is_plain_http(self) -> bool:
        return self.bucket_url.startswith("http:")


class _NotSent(Exception):
    """A request that was made up to be looked at."""


def _sample(client: Any, bucket: str) -> _Sample | None:
    """The address of the bucket by botocore's own rules: path or host style, region, FIPS, dual stack, access points.

    None where it does not sign for S3 with version 4, or has no credentials. (A presigned URL would not do: botocore
    gives it the global endpoint.)
    """
    seen: list[Any] = []
    thread = threading.get_ident()

    def look(request: Any, **_: Any) -> None:
        if threading.get_ident() == thread:
            seen.append(request)
            raise _NotSent

    events, event = client.meta.events, "before-send.s3.PutObject"
    events.register_first(event, look)
    try:
        with suppress(_NotSent, *BOTO_ERRORS, ValueError):
            client.put_object(Bucket=bucket, Key="k")
    finally:
        events.unregister(event, look)
    if not seen:
        return None
    url, headers = str(seen[0].url), {name.lower(): _text(value) for name, value in seen[0].headers.items()}
    scope = _SCOPE.match(headers.get("authorization", ""))
    if scope is None or not url.endswith("/k"):
        return None
    return _Sample(url.removesuffix("/k"), scope[1], headers.get("user-agent", ""))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _store(client: Any, bucket: str, sample: _Sample, rules: ObjectRules) -> S3Store:
    from obstore.store import S3Store

    encryption: dict[str, Any] = {}
    if rules.kms_key_id:
        encryption = {"server_side_encryption": "aws:kms", "sse_kms_key_id": rules.kms_key_id}
    return S3Store(
        bucket,
        aws_endpoint_url_s3=sample.bucket_url,  # not `endpoint`: the environment's AWS_ENDPOINT_URL_S3 outranks that
        virtual_hosted_style_request=True,  # the URL has the bucket in it already
        region=sample.region,
        credential_provider=_provider(client._get_credentials()),  # as boto3 itself does for its CRT client
        checksum_algorithm="sha256",
        skip_signature=False,
        unsigned_payload=False,
        s3_express=False,
        request_payer=False,
        disable_tagging=False,
        client_options={
            "allow_http": sample.is_plain_http,
            "connect_timeout": _CONNECT,
            "timeout": _TOTAL,
            "user_agent": f"{sample.user_agent} object_store",
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
            "token": frozen.token or None,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LIVE,
        }

    return current

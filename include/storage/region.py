"""In which AWS region a bucket lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.storage.errors import BOTO_ERRORS
from include.storage.rules import NO_RULES, ObjectRules

_HEADER = "x-amz-bucket-region"


def bucket_region(client: Any, bucket: str, rules: ObjectRules = NO_RULES) -> str | None:
    """The region of `bucket`, or None where S3 does not say (another server than AWS's, no answer).

    S3 says it in a header of HeadBucket, also when it refuses the request or sends it elsewhere, so that no permission
    is needed: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
    """
    try:
        reply = client.head_bucket(Bucket=bucket, **rules.request())
    except BOTO_ERRORS as error:
        reply = getattr(error, "response", {})
    headers: Mapping[str, str] = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers.get(_HEADER) or None

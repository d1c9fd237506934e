"""From an image's address to the arguments of `converse`."""

from __future__ import annotations

import re
from typing import Any

from include.nova.cards import IMAGE_FORMATS, tier_factor
from include.nova.errors import Disposition, NovaError
from include.nova.prompts import Prompt

MAX_URI_CHARS = 1024  # S3Location.uri in botocore's bedrock-runtime model; so is the pattern
_URI = re.compile(r"s3://[a-z0-9][.\-a-z0-9]{1,61}[a-z0-9]/.+", re.DOTALL)
_ACCOUNT = re.compile(r"[0-9]{12}")


def build_converse_request(
    model_id: str,
    image_uri: str,
    image_format: str,
    prompt: Prompt,
    tier: str = "default",
    bucket_owner: str | None = None,
) -> dict[str, Any]:
    """Keyword arguments of `client.converse` for one image in S3.

    `image_uri` is s3://bucket/key of at most 1024 characters, `image_format` png, jpeg, gif or webp, `bucket_owner` the
    12-digit account of a bucket that is not the caller's own.
    Raises NovaError: `invalid_image_uri`, `invalid_image_format` (FAIL: this image cannot be sent), `invalid_tier`,
    `invalid_bucket_owner` (FATAL: a setting is wrong). The `batch` tier is for jobs, not for requests.
    """
    _check(image_uri, image_format, tier, bucket_owner)
    location = {"uri": image_uri} | ({"bucketOwner": bucket_owner} if bucket_owner else {})
    # The media comes before the text and the instructions stand in the user turn, as Nova's guide on image prompts
    # asks for; reasoning stays off, because its hidden tokens are billed.
    content = [{"image": {"format": image_format, "source": {"s3Location": location}}}, {"text": prompt.text}]
    request: dict[str, Any] = {
        "modelId": model_id,
        "messages": [{"role": "user", "content": content}],
        "inferenceConfig": {"maxTokens": prompt.max_tokens, "temperature": 0},
        "toolConfig": {
            "tools": [{"toolSpec": prompt.tool_spec()}],
            "toolChoice": {"tool": {"name": prompt.tool_name}},
        },
    }
    if tier != "default":
        request["serviceTier"] = {"type": tier}
    return request


def _check(image_uri: str, image_format: str, tier: str, bucket_owner: str | None) -> None:
    if len(image_uri) > MAX_URI_CHARS or not _URI.fullmatch(image_uri):
        said = f"{image_uri[:200]!r} is not s3://bucket/key of at most {MAX_URI_CHARS} characters"
        raise NovaError("invalid_image_uri", said, Disposition.FAIL)
    if image_format not in IMAGE_FORMATS:
        said = f"Nova takes {', '.join(IMAGE_FORMATS)}, not {image_format!r}"
        raise NovaError("invalid_image_format", said, Disposition.FAIL)
    tier_factor(tier)
    if tier == "batch":
        raise NovaError("invalid_tier", "tier batch is for batch jobs, not for single requests", Disposition.FATAL)
    if bucket_owner is not None and not _ACCOUNT.fullmatch(bucket_owner):
        said = f"bucket_owner is {bucket_owner!r}, but an AWS account id has 12 digits"
        raise NovaError("invalid_bucket_owner", said, Disposition.FATAL)

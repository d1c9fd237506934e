"""What a company asks of every object in its bucket: whose the bucket is, which key encrypts, which tags it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode


@dataclass(frozen=True, slots=True)
class ObjectRules:
    """Rules for the bucket of the proxies. The default asks for nothing: the bucket's own settings hold.

    `bucket_owner` is a 12-digit account id; S3 refuses every request when the bucket is another account's.
    `kms_key_id` is a key id, an alias or an ARN. `tags` go onto each object that is uploaded.
    """

    bucket_owner: str | None = None
    kms_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """Arguments of every request to the bucket."""
        return {"ExpectedBucketOwner": self.bucket_owner} if self.bucket_owner else {}

    def upload(self) -> dict[str, Any]:
        """Arguments of every upload, single or in parts."""
        arguments = self.request()
        if self.kms_key_id:
            # Whether a bucket key spares KMS most of its calls stays the bucket's own setting: boto3's upload in parts
            # does not take it for a single object.
            arguments |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
        if self.tags:
            arguments["Tagging"] = urlencode(self.tags)
        return arguments

    def copy(self) -> dict[str, Any]:
        """Arguments of a copy inside S3, which would keep the tags of what is copied."""
        return self.upload() | ({"TaggingDirective": "REPLACE"} if self.tags else {})

    def met_by(self, head: Mapping[str, Any]) -> bool:
        """Whether an object that stands in S3 already (the reply of `head_object`) is encrypted as asked."""
        return not self.kms_key_id or str(head.get("ServerSideEncryption", "")).startswith("aws:kms")


NO_RULES = ObjectRules()

"""Whether Nova can be used as a deployment is set up: one small request, the only way to know."""

from __future__ import annotations

from typing import Any

from include.nova.errors import NovaError, Usage, failure_of
from include.nova.replies import usage_of

MAX_TOKENS = 5
QUESTION = "Answer with the one word yes."


def try_access(client: Any, model_id: str, image_uri: str, bucket_owner: str | None = None) -> Usage:
    """Show Nova a PNG in S3 and ask for one word; return what is billed.

    It needs all that an analysis needs: the model, the profile's regions, and the caller's right to read the object.
    Raises `NovaError`, which says what is missing.
    """
    location = {"uri": image_uri} | ({"bucketOwner": bucket_owner} if bucket_owner else {})
    content = [{"image": {"format": "png", "source": {"s3Location": location}}}, {"text": QUESTION}]
    try:
        reply = client.converse(
            modelId=model_id,
            messages=[{"role": "user", "content": content}],
            inferenceConfig={"maxTokens": MAX_TOKENS, "temperature": 0},
        )
    except NovaError:
        raise
    except Exception as exception:
        failure = failure_of(exception)
        if failure is None:
            raise
        raise failure.error from exception
    return usage_of(reply)

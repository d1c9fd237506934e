"""Gets the pictures of a request and refuses what Nova refuses; nothing is decoded before its header was judged."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any, Final

import botocore.exceptions
from PIL import Image

from include.local.nova_stand_in.errors import BedrockError, invalid
from include.local.nova_stand_in.picture import Picture, measure
from include.local.nova_stand_in.request_rules import ConverseRequest, is_embedded
from include.local.nova_stand_in.shapes import decode_blob

# Nova 2 user guide, "Multimodal understanding", for the four limits. Megabytes are taken as binary ones.
FORMATS: Final = ("png", "jpeg", "gif", "webp")
MAX_SIDE_PX: Final = 8000
MAX_EMBEDDED_BYTES: Final = 25 << 20  # all of a request's
MAX_S3_BYTES: Final = 2 << 30  # all of a request's

_IN_MEMORY_BYTES: Final = 16 << 20  # a larger original goes through a temporary file
_HEAD_BYTES: Final = 16
_ERRORS: Final = "The model returned the following errors: "

_MISSING: Final = {"NoSuchKey": "the key does not exist", "NoSuchBucket": "the bucket does not exist"}
_DENIED: Final = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}


def look_at_images(request: ConverseRequest, s3_client: Any) -> tuple[Picture, ...]:
    """Every picture of the request, measured, in order.

    Raises `BedrockError`: ValidationException for what is wrong with a picture or its place (the wording of the S3
    messages is ours, in Bedrock's style), ServiceUnavailableException when S3 itself does not answer.
    """
    pictures = []
    left = {"bytes": MAX_EMBEDDED_BYTES, "s3Location": MAX_S3_BYTES}
    for image in request.images():
        place = "bytes" if is_embedded(image) else "s3Location"
        with _opened(image, s3_client, left[place]) as (size, data):
            left[place] -= size
            pictures.append(_look(image["format"], data))
    return tuple(pictures)


@contextlib.contextmanager
def _opened(image: dict[str, Any], s3_client: Any, left: int) -> Iterator[tuple[int, IO[bytes]]]:
    """Size and content of an image, when it fits into the bytes that are left to the request."""
    if is_embedded(image):
        content = decode_blob(image["source"]["bytes"], "image.source.bytes")
        if len(content) > left:
            raise invalid(f"{_ERRORS}the embedded images exceed {MAX_EMBEDDED_BYTES >> 20} MB; give them by S3 URI.")
        yield len(content), io.BytesIO(content)
        return
    location = image["source"]["s3Location"]
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as copy:
        size = _fetch(location, s3_client, left, copy)
        copy.seek(0)
        yield size, copy


def _fetch(location: dict[str, Any], s3_client: Any, left: int, into: IO[bytes]) -> int:
    uri = location["uri"]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not key or key.endswith("/"):
        raise invalid(f"{_ERRORS}the S3 URI {uri} names no object.")
    owner = {"ExpectedBucketOwner": location["bucketOwner"]} if location.get("bucketOwner") else {}
    try:
        found = s3_client.get_object(Bucket=bucket, Key=key, **owner)
        with contextlib.closing(found["Body"]) as body:
            if found["ContentLength"] > left:
                raise invalid(f"{_ERRORS}the images in S3 exceed {MAX_S3_BYTES >> 30} GB.")
            shutil.copyfileobj(body, into, 1 << 20)
    except botocore.exceptions.ClientError as error:
        raise _refused_by_s3(uri, error) from error
    except (botocore.exceptions.ParamValidationError, UnicodeError) as error:
        raise invalid(f"{_ERRORS}the S3 URI {uri} names no object.") from error
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        raise BedrockError("ServiceUnavailableException", "Amazon S3 cannot be reached.") from error
    return int(found["ContentLength"])


def _refused_by_s3(uri: str, error: botocore.exceptions.ClientError) -> BedrockError:
    code = error.response.get("Error", {}).get("Code", "")
    if code in _MISSING:
        return invalid(f"{_ERRORS}the S3 object {uri} cannot be read: {_MISSING[code]}.")
    if code in _DENIED:
        return invalid(f"{_ERRORS}the S3 object {uri} cannot be read: access is denied. Check s3:GetObject.")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if status < 500:  # noqa: PLR2004
        return invalid(f"{_ERRORS}the S3 object {uri} cannot be read ({code}).")
    return BedrockError("ServiceUnavailableException", "Amazon S3 cannot serve the image now.")


def _look(declared: str, data: IO[bytes]) -> Picture:
    """Measure one picture, or say what is wrong with it."""
    head = data.read(_HEAD_BYTES)
    data.seek(0)
    # Bedrock's words for other models' images, as its users report them; Nova's own are not published.
    if sniff_format(head) != declared:
        raise invalid(f"{_ERRORS}The provided image does not match the specified image format.")
    try:
        with Image.open(data, formats=[declared.upper()]) as image:
            _check_sides(*image.size)
            return measure(image, declared)
    except Image.DecompressionBombError:
        raise _too_large() from None
    except BedrockError:
        raise
    except Exception as error:  # broken files make Pillow's codecs raise nearly anything
        raise invalid(f"{_ERRORS}The provided image cannot be processed; it is damaged or incomplete.") from error


def sniff_format(head: bytes) -> str | None:
    """The format that the first bytes of a file name, one of `FORMATS`, else None."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def _check_sides(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE_PX:
        raise _too_large()


def _too_large() -> BedrockError:
    return invalid(f"{_ERRORS}the image exceeds {MAX_SIDE_PX} x {MAX_SIDE_PX} pixels.")

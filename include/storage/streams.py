"""Read a stored object piece by piece, for whoever passes it on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from include.storage.errors import BOTO_ERRORS, source_error
from include.storage.sources import split_s3_uri

_CHUNK: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object that is being read. Whoever has it reads it to the end or closes it."""

    size_bytes: int
    body: Any

    def chunks(self) -> Iterator[bytes]:
        """Yield the content and close the connection, also when nobody takes the rest."""
        try:
            yield from self.body.iter_chunks(_CHUNK)
        finally:
            self.body.close()


def open_object(client: Any, uri: str) -> OpenObject:
    """Begin to read the object at `uri` (`s3://bucket/key`). Raises `StorageError`, by whose fault it is."""
    bucket, key = split_s3_uri(uri)
    try:
        found = client.get_object(Bucket=bucket, Key=key)
    except BOTO_ERRORS as error:
        raise source_error(error, uri) from error
    return OpenObject(int(found["ContentLength"]), found["Body"])

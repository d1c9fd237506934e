"""A file of which a decoder sees chosen pieces only, with nothing copied."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO


class Pieces(io.RawIOBase):
    """Ranges of a file, and bytes of our own, one behind the other as a readable file. It does not own the file."""

    def __init__(self, file: BinaryIO, pieces: Sequence[bytes | tuple[int, int]]) -> None:
        super().__init__()
        self._file = file
        self._pieces = pieces
        lengths = (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        self._starts = list(accumulate(lengths, initial=0))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        left = self._starts[-1] - self._position
        wanted = left if size < 0 else min(size, left)
        parts = []
        while wanted > 0:
            part = self._read_one(wanted)
            if not part:
                break  # the file has become shorter meanwhile
            parts.append(part)
            wanted -= len(part)
            self._position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_one(self, wanted: int) -> bytes:
        """Bytes from the one piece that the position lies in."""
        index = bisect_right(self._starts, self._position) - 1
        within = self._position - self._starts[index]
        piece = self._pieces[index]
        if isinstance(piece, bytes):
            return piece[within : within + wanted]
        self._file.seek(piece[0] + within)
        return self._file.read(min(wanted, piece[1] - piece[0] - within))

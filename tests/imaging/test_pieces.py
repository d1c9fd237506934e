"""A decoder that is shown the wrong bytes shows the wrong picture: pieces must read as if they had been copied."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as some

from include.imaging.pieces import Pieces

CONTENT = bytes(range(256))
_ranges = some.tuples(some.integers(0, 256), some.integers(0, 256)).map(lambda pair: tuple(sorted(pair)))
_moves = some.lists(some.tuples(some.sampled_from([0, 1, 2]), some.integers(-40, 300), some.integers(-1, 400)))


@given(pieces=some.lists(some.one_of(_ranges, some.binary(max_size=20)), max_size=6), moves=_moves)
def test_as_if_copied(pieces: list[bytes | tuple[int, int]], moves: list[tuple[int, int, int]]) -> None:
    copied = io.BytesIO(b"".join(p if isinstance(p, bytes) else CONTENT[p[0] : p[1]] for p in pieces))
    seen = Pieces(io.BytesIO(CONTENT), pieces)
    for whence, offset, count in moves:
        base = {0: 0, 1: copied.tell(), 2: len(copied.getvalue())}[whence]
        if base + offset < 0:
            continue
        assert seen.seek(offset, whence) == copied.seek(offset, whence)
        assert seen.read(count) == copied.read(count)
        assert seen.tell() == copied.tell()


def test_before_the_beginning() -> None:
    with pytest.raises(ValueError, match="negative"):
        Pieces(io.BytesIO(CONTENT), [(0, 5)]).seek(-1)


def test_a_file_that_shrinks_meanwhile() -> None:
    file = io.BytesIO(CONTENT)
    seen = Pieces(file, [(0, 256), b"end"])
    file.truncate(100)
    assert seen.read(200) == CONTENT[:100]
    assert seen.read(200) == b""

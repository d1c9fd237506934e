"""The catalog as the other rooms see it."""

from __future__ import annotations

from sqlalchemy import Engine

from include.catalog.columns import Clock, utc_now
from include.catalog.engine import prepare


class Catalog:
    """Questions to and changes of one catalog database. Safe to share between threads."""

    def __init__(self, engine: Engine, clock: Clock = utc_now) -> None:
        self._engine = prepare(engine)
        self._clock = clock

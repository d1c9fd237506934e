"""SQLite connections for a laptop's Airflow: its one writer is waited for where that helps, and nowhere else.

Two things of Airflow 3.3 need it:

- The runs of a backfill are made in savepoints. Python's `sqlite3` begins no transaction for one, as
  https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable says; SQLite then begins one that only
  reads, and refuses its first write at once if somebody else has written since. A backfill that was refused so had
  shown some of its runs to the scheduler, and takes them back: the scheduler can end of it, and tasks that it had
  started are no longer found.
- The API server writes its audit log on its event loop. Who holds the write lock at that moment may be another request,
  which needs the loop to end its transaction: both stand still until the waiting ends. `image_proxy.web.one_writer`
  lets no two of Airflow's requests write at once; should another one be left, the loop does not stand for a minute.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any, Final

ON_LOOP_MS: Final = 10_000  # longer than a transaction of another process takes; heartbeats bear 30 s


class AirflowCursor(sqlite3.Cursor):
    """A cursor that takes the write lock before the first savepoint. On an event loop, `execute` waits for it no longer
    than `ON_LOOP_MS` and then raises `sqlite3.OperationalError` ("database is locked")."""

    def execute(self, sql: str, parameters: Any = (), /) -> AirflowCursor:
        """Execute one statement, as `sqlite3.Cursor` does."""
        if not _on_loop():
            return self._execute(sql, parameters)
        plain = sqlite3.Cursor(self.connection)
        (patience,) = plain.execute("PRAGMA busy_timeout").fetchone()
        plain.execute(f"PRAGMA busy_timeout = {min(patience, ON_LOOP_MS)}")
        try:
            return self._execute(sql, parameters)
        finally:
            plain.execute(f"PRAGMA busy_timeout = {patience}")

    def _execute(self, sql: str, parameters: Any) -> AirflowCursor:
        if sql.startswith("SAVEPOINT") and not self.connection.in_transaction:
            super().execute("BEGIN IMMEDIATE")
        super().execute(sql, parameters)
        return self


class AirflowConnection(sqlite3.Connection):
    """A connection whose cursors are `AirflowCursor`; its commit ends savepoints and transaction alike."""

    def cursor(self, factory: Any = AirflowCursor) -> Any:
        """Return a cursor, as `sqlite3.Connection` does."""
        return super().cursor(factory)


def _on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# Airflow's option [database] sql_alchemy_connect_args names this. Airflow adds to it.
CONNECT_ARGS: dict[str, Any] = {"factory": AirflowConnection}

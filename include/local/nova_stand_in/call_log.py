"""The record of every call: in memory, and as one JSON line a call. No pictures, no prompts, no keys."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call, or one record of a batch job. Times are ISO 8601 with a UTC offset; `ended` is just before the response
    was sent."""

    call: int  # counted from 1 in order of arrival
    request_id: str
    started: str
    ended: str
    model: str  # as the caller wrote it
    s3_uri: str | None  # of the first image
    images: int
    status: int
    error: str | None  # AWS error code
    stop_reason: str | None
    input_tokens: int
    output_tokens: int
    service_tier: str | None
    forced: bool  # a forced rule or the throttling rate had a hand in it
    job: str | None = None  # of a job's record: the job's id
    record_id: str | None = None


class CallLog:
    """Collects records; `path` (None: memory only) is appended to, never truncated."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._records: list[CallRecord] = []
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, record: CallRecord) -> None:
        """Keep `record`; when this returns its line stands whole in the file, for any process to read."""
        line = (json.dumps(asdict(record)) + "\n").encode()
        with self._lock:
            self._records.append(record)
            if self._file is not None:
                os.write(self._file, line)  # one write of O_APPEND: lines of two servers do not mix either

    def records(self) -> tuple[CallRecord, ...]:
        """All records so far, in the order in which the calls ended."""
        with self._lock:
            return tuple(self._records)

    def close(self) -> None:
        """Close the file; the records stay, and so do later ones in memory."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

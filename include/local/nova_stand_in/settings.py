"""What the stand-in can be told: its port, how slow and how busy it plays, and which calls go wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from include.local.nova_stand_in.errors import JOB_OPERATIONS, converse_operation, status_of

HOST: Final = "127.0.0.1"  # nothing but this machine: requests are not checked against anybody's keys

Malformed = Literal["input_text", "no_tool_use", "wrong_tool"]
"""How a tool use goes wrong: its input is broken JSON in a string, there is none, or it names another tool."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Makes matching calls go wrong, or slow.

    A call matches when one of its S3 URIs contains `key_contains` (None: any call, with an image or not) and its
    number, counted from 1 in order of arrival, is in `calls` (empty: any), as long as `times` such calls have not been
    served (None: always). Of `error`, `malformed`, `stop_reason`, `missing_field` and `wrong_field` at most one may be
    set; `transcribed` can stand alone, and so can `latency_ms`, which comes on top of the server's. Raises `ValueError`
    for what cannot be.
    """

    key_contains: str | None = None
    operation: str | None = None  # one of the job operations; None: Converse, and the records of jobs
    calls: tuple[int, ...] = ()
    times: int | None = None
    error: str | None = None  # an AWS error code of Converse
    message: str | None = None  # the error's message
    malformed: Malformed | None = None
    stop_reason: str | None = None  # one of Converse's
    missing_field: str | None = None  # a property left out of the tool's input
    wrong_field: str | None = None  # a property of the tool's input that gets a value of another type
    latency_ms: int = 0
    transcribed: str | None = None  # what the picture says: goes into every field of the tool's input for text

    def __post_init__(self) -> None:
        effects = [self.error, self.malformed, self.stop_reason, self.missing_field, self.wrong_field]
        chosen = sum(effect is not None for effect in effects)
        if chosen > 1 or (chosen == 0 and self.latency_ms == 0 and self.transcribed is None):
            raise ValueError("a forced rule has one of error, malformed, stop_reason, missing_field, wrong_field")
        if self.error is not None:
            status_of(self.error)
        if self.operation is not None and (self.operation not in JOB_OPERATIONS or self.error is None):
            raise ValueError(f"operation is one of {', '.join(JOB_OPERATIONS)}, and comes with an error")
        if self.malformed is not None and self.malformed not in get_args(Malformed):
            raise ValueError(f"malformed is one of {', '.join(get_args(Malformed))}")
        if self.stop_reason is not None and self.stop_reason not in stop_reasons():
            raise ValueError(f"{self.stop_reason} is not a stop reason of Converse")
        if self.latency_ms < 0 or (self.times is not None and self.times < 1):
            raise ValueError("latency_ms is 0 or more, times 1 or more")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """A rule from the JSON of the command line: an object with the fields above. Raises `ValueError`."""
        given: Any = json.loads(text)
        known = {field.name for field in fields(cls)}
        if not isinstance(given, dict) or not set(given) <= known:
            raise ValueError(f"a forced rule is a JSON object with some of {', '.join(sorted(known))}")
        try:
            return cls(**{**given, "calls": tuple(given.get("calls", ()))})
        except TypeError as error:
            raise ValueError(f"a forced rule has a field of the wrong type: {error}") from None


def stop_reasons() -> tuple[str, ...]:
    """The stop reasons that botocore's model of Converse knows."""
    return tuple(converse_operation().output_shape.members["stopReason"].enum)


JobEnd = Literal["PartiallyCompleted", "Expired", "Failed"]
"""How a job ends when it does not end well."""


@dataclass(frozen=True, slots=True)
class JobRules:
    """How batch inference jobs behave. Raises `ValueError` when a rule is out of its bounds.

    A job is Submitted, Validating and Scheduled for `status_seconds` each, and stays Scheduled as long as there is a
    file at `hold_file`. `end` makes it end otherwise than well, after `end_after` records. The bounds of records are
    Bedrock's quotas for one job; `max_jobs` is how many may be at work at once.
    """

    min_records: int = 100
    max_records: int = 50_000
    max_jobs: int = 20
    status_seconds: float = 0.0
    hold_file: Path | None = None
    end: JobEnd | None = None
    end_after: int = 0
    message: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_records <= self.max_records or self.max_jobs < 1:
            raise ValueError("min_records is 1 or more and at most max_records, max_jobs 1 or more")
        if self.status_seconds < 0 or self.end_after < 0:
            raise ValueError("status_seconds and end_after are 0 or more")
        if self.end is not None and self.end not in get_args(JobEnd):
            raise ValueError(f"end is one of {', '.join(get_args(JobEnd))}")


@dataclass(frozen=True, slots=True)
class StandInSettings:
    """Settings of a stand-in. Raises `ValueError` when one is out of its bounds.

    `port` 0 takes a free one; `host` is another than loopback only where nobody else can reach it, as in a container's
    own network. `throttle_rate` (0..1) of the calls are throttled: which ones follows from
    `throttle_seed` and the call's number alone. `latency_ms` is what each answer takes at least; refusals are quick, as
    Bedrock's are. `log_path` gets one JSON line a call, and one for each record of a job. Without `looks` a call's
    pictures are neither fetched nor judged, and it is answered as if it had none: for measuring how fast a client asks,
    as to look at a picture takes about as much CPU as to ask about it.
    """

    port: int = 0
    throttle_rate: float = 0.0
    throttle_seed: int = 0
    latency_ms: int = 0
    forced: tuple[Forced, ...] = ()
    log_path: Path | None = None
    jobs: JobRules = JobRules()
    host: str = HOST
    looks: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:  # noqa: PLR2004
            raise ValueError("port is 0..65535")
        if not 0 <= self.throttle_rate <= 1:
            raise ValueError("throttle_rate is a fraction, 0..1")
        if self.latency_ms < 0:
            raise ValueError("latency_ms is 0 or more")

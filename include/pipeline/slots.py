"""Whether the pools that a run's tasks take slots of can ever give them: where they cannot, a task waits for ever."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from include.pipeline.refusals import NeedsAPerson

POOL_FACTS = "pools"  # key under which the scheduler's listener leaves them for a run's first task


class PoolUnfit(NeedsAPerson):
    """A pool is missing, or has fewer slots than one task takes; the message says what to type."""

    code = "pool_unfit"


def check_pools(facts: Sequence[Mapping[str, Any]]) -> None:
    """Raise `PoolUnfit` unless each pool has the slots that one task needs.

    A fact is {"pool": name, "needed": slots of the task that takes most, "slots": its size, -1 for no bound, None where
    there is no such pool, "task_id": that task}.
    """
    problems = [_problem(fact) for fact in facts if not _fits(fact)]
    if problems:
        raise PoolUnfit("; ".join(problems))


def _fits(fact: Mapping[str, Any]) -> bool:
    slots = fact["slots"]
    return slots is not None and (slots < 0 or slots >= fact["needed"])


def _problem(fact: Mapping[str, Any]) -> str:
    pool, needed, slots = fact["pool"], fact["needed"], fact["slots"]
    found = f"pool {pool!r} " + ("does not exist" if slots is None else f"has {slots} slot{'' if slots == 1 else 's'}")
    command = f'airflow pools set {shlex.quote(pool)} {needed} "Requests to Nova in flight"'
    return (
        f"{found}, and a task {fact['task_id']} takes {needed}: it would wait for ever. Type: {command} "
        "(more slots let more tasks call Nova at once), or lower IMAGE_PROXY_NOVA_CONCURRENCY"
    )

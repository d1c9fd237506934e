"""Tells a run's first task which pools there are. The scheduler knows; a task has no way to ask.

Airflow leaves a task whose pool is missing or too small scheduled for ever, with a line in the scheduler's log only.
When the scheduler starts a run of a DAG that plans batches, this listener, which runs in the scheduler, reads the pools
of the DAG's tasks and leaves the facts in the state store of the planning task, where its operator judges them. Under
`dags test` no scheduler starts the run and pools bound nothing, so nothing is checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

PLANS = frozenset({"PlanBatchesOperator", "PlanBatchJobsOperator", "PlanEvaluationOperator"})


class PoolListener:
    """Called by the scheduler, in its own session, which it commits itself."""

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun, msg: str) -> None:
        """Leave the facts before the first task of the run is scheduled."""
        dag: Any = dag_run.dag
        planning = [task.task_id for task in dag.tasks if task.task_type in PLANS] if dag is not None else []
        if not planning:
            return
        from sqlalchemy.orm import object_session

        session = object_session(dag_run)
        if session is not None:
            _leave(session, dag_run, planning, pool_facts(dag.tasks, session))


def pool_facts(tasks: Any, session: Session) -> list[dict[str, Any]]:
    """Return a fact for each pool that one of the tasks takes slots of; see `include.pipeline.slots`."""
    from airflow.models.pool import Pool
    from sqlalchemy import select

    greediest = {task.pool: task for task in sorted(tasks, key=lambda task: int(task.pool_slots))}
    found = session.execute(select(Pool.pool, Pool.slots).where(Pool.pool.in_(greediest)))
    sizes = {row.pool: row.slots for row in found}
    return [
        {"pool": pool, "needed": int(task.pool_slots), "slots": sizes.get(pool), "task_id": task.task_id}
        for pool, task in sorted(greediest.items())
    ]


def _leave(session: Session, dag_run: DagRun, planning: list[str], facts: list[dict[str, Any]]) -> None:
    from airflow.state import TaskScope, get_state_backend

    from include.pipeline.slots import POOL_FACTS

    for task_id in planning:
        scope = TaskScope(dag_id=dag_run.dag_id, run_id=dag_run.run_id, task_id=task_id)
        get_state_backend().set(scope, POOL_FACTS, json.dumps(facts), session=session)

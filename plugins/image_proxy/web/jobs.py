"""Jobs: runs of `image_proxy_pipeline`, named by their Airflow run id. The work itself happens on workers.

Functions here are called by the API and by the pages alike, in a thread of the pool; they raise `Problem`.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.core_api.datamodels.dag_run import DagRunMutableStates
from airflow.api_fastapi.core_api.services.public.dag_run import patch_dag_run_state
from airflow.exceptions import DagRunAlreadyExists, ParamValidationError
from airflow.models.dag import DagModel
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from image_proxy.web.problems import Problem
from image_proxy.web.security import DAG_ID
from include.catalog.errors import UnknownRun
from include.pipeline.identity import RunIdentity
from include.pipeline.params import PipelineParams

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from sqlalchemy.orm import Session

    from include.catalog.browse_records import RunProgress
    from include.catalog.catalog import Catalog

UNFINISHED = (DagRunState.QUEUED, DagRunState.RUNNING)
MOST_UNFINISHED = 200  # runs that are looked through for one image
CANCELLED = "cancelled by "
FINISHING = "all images are decided; the run's last tasks go on (summary, checks, announcements)"
PAUSED = f"the DAG {DAG_ID} is paused, so nothing would run: unpause it in Airflow, then try again"


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A run as Airflow and the catalog have it. `progress` is None until its images are listed."""

    job_id: str
    state: JobState
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    requested_by: str | None
    asked_for: int | None  # images named when it was started; None for "everything unprocessed"
    stuck: str | None  # why it does not move, and what to do
    progress: RunProgress | None

    @property
    def ended(self) -> bool:
        """Whether Airflow has closed the run."""
        return self.state not in (JobState.QUEUED, JobState.RUNNING)

    @property
    def finishing(self) -> bool:
        """Whether every image is decided and only the run's last tasks go on: summary, gate, announcements."""
        return self.state is JobState.RUNNING and self.progress is not None and not self.progress.undecided


def catalog_run_id(job_id: str) -> str:
    """Return the name under which the catalog keeps a job."""
    return RunIdentity(DAG_ID, job_id).run_id


def now() -> datetime:
    """Return the moment, in UTC."""
    return datetime.now(UTC)


def start(user: BaseUser, params: PipelineParams) -> str:
    """Start a run with these params and return its job id. 409 while the DAG is paused, 422 for params it refuses."""
    stamp = now().strftime("%Y%m%dT%H%M%SZ")
    return _trigger(user, params, f"api__{stamp}_{secrets.token_hex(4)}")


def start_one(user: BaseUser, params: PipelineParams, file_id: int, catalog: Catalog) -> str:
    """Start a run for this one image, whatever images the params name.

    409, naming the job, when a run that has not ended is about to do it already.

    Run ids count up for an image, and Airflow keeps them unique. The number is taken before looking whether a run is
    there: so of two who ask at the same moment, the second either sees the first's run or asks for its number.
    """
    params = dataclasses.replace(params, file_ids=(file_id,))
    prefix = f"api__file_{file_id}_"
    with create_session() as session:
        _require_startable(session)
        number = _next_number(session, prefix)
    with create_session() as session:
        _refuse_second(session, catalog, file_id, params)
    return _trigger(user, params, f"{prefix}{number}")


def find(job_id: str, catalog: Catalog) -> Job:
    """Return a job. 404 when there is no such run."""
    with create_session() as session:
        run = _run(session, job_id)
        progress = progress_of(catalog, job_id)
        asked = (run.conf or {}).get("file_ids")
        return Job(
            job_id=job_id,
            state=_state(run, progress),
            queued_at=run.queued_at,
            started_at=run.start_date,
            ended_at=run.end_date,
            requested_by=run.triggering_user_name,
            asked_for=len(asked) if isinstance(asked, list) else None,
            stuck=_stuck(session, run),
            progress=progress,
        )


def has_ended(job_id: str) -> bool:
    """Whether Airflow has closed the run, or does not know it any more."""
    with create_session() as session:
        state = session.scalar(select(DagRun.state).where(DagRun.dag_id == DAG_ID, DagRun.run_id == job_id))
    return state not in UNFINISHED


def cancel(user: BaseUser, job_id: str, catalog: Catalog) -> Job:
    """End a run: its tasks are stopped and its claims given back; what is decided stays. 409 when it has ended.

    Airflow skips the summary of a run that is marked failed, so the catalog's run is closed here. A task notices within
    a heartbeat; what it finishes until then is not its own any more, and goes back to pending.
    """
    with create_session() as session:
        run = _run(session, job_id)
        if run.state not in UNFINISHED:
            raise Problem(409, "job_ended", f"the run ended before ({run.state})", job_id=job_id)
        dag = DBDagBag().get_dag_for_run(run, session=session)
        if dag is None:
            raise Problem(503, "dag_unavailable", f"Airflow has no DAG {DAG_ID} for this run", job_id=job_id)
        run.note = (f"{CANCELLED}{user.get_name()}", user.get_id())
        patch_dag_run_state(dag=dag, dag_run=run, state=DagRunMutableStates.FAILED, session=session)
    close(catalog, job_id, f"{CANCELLED}{user.get_name()}")
    return find(job_id, catalog)


def close(catalog: Catalog, job_id: str, note: str) -> None:
    """Mark a cancelled run as ended in the catalog and give back what it holds."""
    run_id = catalog_run_id(job_id)
    try:
        catalog.finish_run(run_id, note)
    except UnknownRun:
        return  # cancelled before its images were listed
    catalog.release_run(run_id)


def progress_of(catalog: Catalog, job_id: str) -> RunProgress | None:
    """Return how far the run's images are; None until they are listed."""
    try:
        return catalog.progress(catalog_run_id(job_id))
    except UnknownRun:
        return None


def _trigger(user: BaseUser, params: PipelineParams, run_id: str) -> str:
    with create_session() as session:
        _require_startable(session)
    try:
        trigger_dag(
            DAG_ID,
            run_id=run_id,
            conf=_conf(params),
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=user.get_name(),
        )
    except ParamValidationError as error:
        raise Problem(422, "invalid_params", str(error)) from error
    except (DagRunAlreadyExists, IntegrityError) as error:
        raise Problem(409, "already_being_made", "another request started this a moment ago", job_id=run_id) from error
    return run_id


def _conf(params: PipelineParams) -> dict[str, Any]:
    """Only what differs from the DAG's own defaults, so that a person who looks at the run sees what was asked."""
    usual = PipelineParams().as_json()
    return {name: value for name, value in params.as_json().items() if value != usual[name]}


def _require_startable(session: Session) -> None:
    dag = session.get(DagModel, DAG_ID)
    if dag is None or dag.is_stale or dag.has_import_errors:
        raise Problem(503, "dag_unavailable", f"Airflow has no usable DAG {DAG_ID}: see its import errors")
    if dag.is_paused:
        raise Problem(409, "dag_paused", PAUSED)


def _refuse_second(session: Session, catalog: Catalog, file_id: int, params: PipelineParams) -> None:
    query = select(DagRun.run_id, DagRun.conf).where(DagRun.dag_id == DAG_ID, DagRun.state.in_(UNFINISHED))
    runs = session.execute(query.order_by(DagRun.id.desc()).limit(MOST_UNFINISHED)).all()
    names = {catalog_run_id(run.run_id): run.run_id for run in runs}
    found = [catalog.undecided_in(list(names), file_id, stage) for stage in sorted(params.wanted)] if names else []
    busy = next((names[run_id] for run_id in found if run_id), None) or _queued_for(runs, file_id, params)
    if busy is not None:
        raise Problem(409, "already_being_made", f"run {busy} is about to do this", job_id=busy)


def _queued_for(runs: Sequence[Any], file_id: int, params: PipelineParams) -> str | None:
    """A run that names the image, whose plan is not stored yet or was just now."""
    for run in runs:
        conf = run.conf or {}
        stages = conf.get("stages", PipelineParams().stages)
        if file_id in (conf.get("file_ids") or ()) and set(params.stages) & set(stages):
            return str(run.run_id)
    return None


def _next_number(session: Session, prefix: str) -> int:
    query = select(DagRun.run_id).where(DagRun.dag_id == DAG_ID, DagRun.run_id.startswith(prefix, autoescape=True))
    newest = session.scalar(query.order_by(DagRun.id.desc()).limit(1))
    number = (newest or "").removeprefix(prefix)
    return int(number) + 1 if number.isdecimal() else 1


def _run(session: Session, job_id: str) -> DagRun:
    run = session.scalar(select(DagRun).where(DagRun.dag_id == DAG_ID, DagRun.run_id == job_id))
    if run is None:
        raise Problem(404, "unknown_job", "there is no such job")
    return run


def _state(run: DagRun, progress: RunProgress | None) -> JobState:
    state = JobState(run.state)
    # A scheduler that looked at the run in the moment of its cancellation may close it as a success: all that was left
    # of it is skipped.
    if state not in (JobState.FAILED, JobState.SUCCESS):
        return state
    note = run.note or (progress.note if progress else None) or ""
    return JobState.CANCELLED if note.startswith(CANCELLED) else state


def _stuck(session: Session, run: DagRun) -> str | None:
    if run.state not in UNFINISHED:
        return None
    dag = session.get(DagModel, DAG_ID)
    return PAUSED if dag is not None and dag.is_paused else None

"""Who may do what. One guard stands around the whole application, so a route cannot be left out of it.

Before any routing: a login (401), read access to the DAG for reading and the right to trigger it for anything else
(403), and for writes the proof that they come from our own pages or from a program (403). Whatever goes wrong while
checking ends in a refusal.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, bearer_scheme, get_user, requires_access_dag
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.configuration import conf
from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders

from image_proxy.web.one_writer import READING
from image_proxy.web.problems import Problem, as_problem, refusal

DAG_ID = "image_proxy_pipeline"
MAX_BODY_BYTES = 256 * 1024  # ten thousand file ids take about 100 kB

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "font-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'self'",  # Airflow shows the pages in an iframe
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
KEPT_IF_SET = frozenset({"Cache-Control", "Content-Security-Policy"})  # by static files, and by images (a stricter one)


class Guard:
    """The ASGI middleware around everything: checks on the way in, headers on the way out, no trace of an error."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, serve, and answer whatever is raised as a problem."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _secure(MutableHeaders(scope=message))
            await send(message)

        try:
            scope.setdefault("state", {})["image_proxy_user"] = await _admit(request)
            await self._app(scope, _bounded(request, receive), guarded_send)
        except Exception as error:
            if started:  # half an answer is out: breaking off is all that is left
                raise
            problem = as_problem(error, request.url.path)
            await refusal(problem, request, getattr(error, "headers", None))(scope, receive, guarded_send)


def current_user(request: Request) -> BaseUser:
    """Return the user whom the guard admitted."""
    return request.state.image_proxy_user  # type: ignore[no-any-return]


CurrentUser = Annotated[BaseUser, Depends(current_user)]


async def may_trigger(request: Request) -> bool:
    """Whether the user may start runs: for pages, to show what can be done."""
    try:
        await run_in_threadpool(_right_to_trigger, request, current_user(request))
    except Exception:
        return False
    return True


def may_change_runs(request: Request, user: CurrentUser) -> None:
    """Refuse whoever may not change a run's state: a dependency of routes that end runs, on top of the guard."""
    requires_access_dag("PUT", DagAccessEntity.RUN, DAG_ID)(request, user)


def audited(event: str) -> Any:
    """Return the dependency that leaves a line in Airflow's audit log, under the DAG, before the work begins.

    Airflow's function is asynchronous and commits without giving way: it runs in a thread, on a loop of its own, so
    that a database that lets it wait holds up no other request.
    """
    write = action_logging(f"image_proxy.{event}")

    async def log_write(request: Request, session: SessionDep, user: GetUserDep) -> None:
        if "application/json" in request.headers.get("content-type", ""):
            await request.body()  # what comes from the client comes through this loop; the request keeps it
        await run_in_threadpool(lambda: asyncio.run(write(_Audited(request), session, user)))

    return Depends(log_write)


class _Audited:
    """A request as Airflow's audit log may read it.

    The log takes from query and body under which DAG, run and task its line belongs, and what cannot be read fails it:
    here these names come from the address alone, and a body that is no JSON is the route's own matter.
    """

    _PLACES = frozenset({"dag_id", "dag_run_id", "run_id", "task_id", "logical_date", "is_paused"})

    def __init__(self, request: Request) -> None:
        self._request = request
        self.path_params = {**request.path_params, "dag_id": DAG_ID}
        if "job_id" in request.path_params:
            self.path_params["dag_run_id"] = request.path_params["job_id"]
        self.query_params = self._without_places(request.query_params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    async def json(self) -> Any:
        """Return the body without names of places; None for one that cannot be read."""
        try:
            body = await self._request.json()
        except (ValueError, RecursionError):
            return None
        return self._without_places(body) if isinstance(body, dict) else None

    def _without_places(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in self._PLACES}


async def _admit(request: Request) -> BaseUser:
    """Return the user, or raise: the order is login, rights, then where the request comes from."""
    user = await get_user(request, None, await bearer_scheme(request))
    if request.method in READING:
        await run_in_threadpool(_right_to_read, request, user)
    else:
        await run_in_threadpool(_right_to_trigger, request, user)
        _refuse_foreign_origin(request)
    return user


_right_to_read = requires_access_dag("GET", None, DAG_ID)
_right_to_trigger = requires_access_dag("POST", DagAccessEntity.RUN, DAG_ID)


def _refuse_foreign_origin(request: Request) -> None:
    """A browser sends our cookie with whatever page makes it; so a write says where it comes from, or is refused.

    A program that sends a token of its own, and no Origin, is no browser: it is let through.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        raise Problem(403, "foreign_origin", "writes are taken from our own pages only")
    if origin is not None:
        if not _is_ours(origin, request, same_origin=site is not None):
            raise Problem(403, "foreign_origin", "writes are taken from our own pages only")
    elif site is None and not headers.get("authorization", "").lower().startswith("bearer "):
        raise Problem(403, "no_origin", "a write with a cookie needs an Origin header; programs send a bearer token")


def _is_ours(origin: str, request: Request, *, same_origin: bool) -> bool:
    """Whether the origin is this server's. Behind a proxy that ends TLS the scheme is [api] base_url's, or the
    browser's own word for it (`same_origin`)."""
    host = request.headers.get("host", "").lower()
    origin = origin.lower()
    if origin in (f"{request.url.scheme}://{host}", _configured_origin()):
        return True
    return same_origin and host != "" and urlsplit(origin).netloc == host


@functools.cache
def _configured_origin() -> str | None:
    parts = urlsplit(conf.get("api", "base_url", fallback=""))
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.netloc else None


def _bounded(request: Request, receive: Receive) -> Receive:
    """Refuse a body above the limit, as announced or as it comes."""
    # FastAPI lets this kind through where it reads the body, and calls everything else a bad request.
    too_large = HTTPException(413, f"a request's body has at most {MAX_BODY_BYTES} bytes")
    announced = Headers(scope=request.scope).get("content-length", "0")
    if not announced.isdecimal() or int(announced) > MAX_BODY_BYTES:
        raise too_large
    seen = 0

    async def bounded_receive() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY_BYTES:
            raise too_large
        return message

    return bounded_receive


def _secure(headers: MutableHeaders) -> None:
    for name, value in HEADERS.items():
        if name in KEPT_IF_SET and name in headers:
            continue
        headers[name] = value

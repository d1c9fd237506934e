"""Errors as the API answers them: problem+json (RFC 9457) with a stable `code`. What went wrong inside never leaves."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from include.catalog.errors import CatalogError
from include.pipeline.settings import SettingsError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
SHOWN_ERRORS = 20  # of a body with thousands of wrong ids


class Problem(Exception):
    """An answer that is not the one asked for. `detail` is written for the person who reads it."""

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.extra = int(status), code, detail, extra

    def body(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.extra,
        }


class ProblemDocument(BaseModel):
    """A problem document (RFC 9457): what every error is answered with."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="Stable; branch on this")
    detail: str = Field(description="For people; may change")
    job_id: str | None = Field(None, description="The run that has to do with it, if any")
    reference: str | None = Field(None, description="Names the server's log entry of an unexpected error")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of a route's `responses` for these statuses."""
    return {int(status): {"model": ProblemDocument, "description": HTTPStatus(status).phrase} for status in statuses}


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the problem as a response."""
    return JSONResponse(problem.body(), problem.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def refusal(problem: Problem, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """Return the problem as a response: a page for a person whose browser went to one of the pages."""
    from image_proxy.web.pages.refusals import as_page

    page = as_page(problem, request) if "/pages" in request.url.path else None
    return page or answer(problem, headers)


def unexpected(error: BaseException, where: str) -> Problem:
    """Log an error that nobody foresaw; return what may be said about it: where the log has it."""
    reference = uuid.uuid4().hex[:12]
    log.error("unexpected error at %r (reference %s)", where, reference, exc_info=error)
    return Problem(
        500, "internal_error", f"unexpected error; the server's log has it as {reference}", reference=reference
    )


def as_problem(error: Exception, where: str) -> Problem:
    """Return the problem of any exception."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors())
    if isinstance(error, HTTPException):
        return Problem(error.status_code, _code_of(error.status_code), _plain(error.detail))
    if isinstance(error, (CatalogError, SettingsError)):  # the deployment is not set up; its text may hold addresses
        problem = unexpected(error, where)
        return Problem(503, error.code, f"not set up: {error.code}; see the log", **problem.extra)
    if isinstance(error, OperationalError):  # its text holds the statement and the server's address
        problem = unexpected(error, where)
        return Problem(503, "database_unavailable", "a database does not answer; see the log", **problem.extra)
    return unexpected(error, where)


def handle(app: FastAPI) -> None:
    """Have every foreseen error of `app` answered as a problem; the rest is caught around it."""

    async def respond(request: Request, error: Exception) -> Response:
        headers = getattr(error, "headers", None)
        return refusal(as_problem(error, request.url.path), request, headers)

    for kind in (Problem, RequestValidationError, HTTPException, CatalogError, SettingsError):
        app.add_exception_handler(kind, respond)


def _invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """What was wrong with a request, without repeating what was sent."""
    shown = [
        {"where": [str(part) for part in error["loc"]], "message": error["msg"]} for error in errors[:SHOWN_ERRORS]
    ]
    detail = "; ".join(f"{'.'.join(error['where'])}: {error['message']}" for error in shown)
    return Problem(422, "invalid_request", detail, errors=shown)


def _code_of(status: int) -> str:
    known = {401: "not_authenticated", 413: "body_too_large"}
    return known.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))


def _plain(detail: Any) -> str:
    return detail if isinstance(detail, str) else "refused"

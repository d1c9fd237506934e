"""A refusal as a page, for a person whose browser went to one of ours; programs and htmx get the problem document."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from image_proxy.web.deployment import root
from image_proxy.web.pages.airflow_links import AirflowLinks
from image_proxy.web.pages.templates import environment
from image_proxy.web.problems import Problem


def as_page(problem: Problem, request: Request) -> Response | None:
    """Return the page, or None where a problem document is the right answer."""
    navigated = request.method == "GET" and request.headers.get("hx-request") != "true"
    if not navigated or "text/html" not in request.headers.get("accept", ""):
        return None
    mounted = root(request)
    text = (
        environment()
        .get_template("refused.html")
        .render(
            title=HTTPStatus(problem.status).phrase,
            detail=problem.detail,
            login=problem.status == HTTPStatus.UNAUTHORIZED,
            airflow=AirflowLinks.of(mounted),
            pages=f"{mounted}/pages",
        )
    )
    return HTMLResponse(text, problem.status)

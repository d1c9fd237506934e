"""Turning a template and values into a page. Everything is escaped: file names and a model's words are hostile."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from image_proxy.web.deployment import root
from image_proxy.web.pages import static, words
from image_proxy.web.pages.airflow_links import AirflowLinks

FILTERS = ("size", "percent", "money", "number", "duration", "moment", "reason")


@functools.cache
def environment() -> Environment:
    """Return the templates; autoescape is on for all of them, and a value that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update({name: getattr(words, name) for name in FILTERS})
    made.globals.update({"dimensions": words.dimensions, "status_of": words.status, "zip": zip})
    return made


def render(request: Request, template: str, *, status: int = 200, headers: Any = None, **values: Any) -> HTMLResponse:
    """Return a page or a part of one. Every template knows `root`, `pages`, `static`, and `airflow`'s addresses."""
    mounted = root(request)
    text = (
        environment()
        .get_template(template)
        .render(
            root=mounted,
            pages=f"{mounted}/pages",
            static=f"{mounted}/pages/static",
            version=static.version(),
            airflow=AirflowLinks.of(mounted),
            **values,
        )
    )
    return HTMLResponse(text, status_code=status, headers=headers)


def is_part(request: Request) -> bool:
    """Whether htmx asks, for a part of a page that is there already."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-history-restore-request") != "true"

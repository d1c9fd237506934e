"""The pages for people, under `/pages/`: HTML made here, parts of it swapped by htmx, no other host involved."""

from __future__ import annotations

from fastapi import FastAPI

from image_proxy.web.pages import figures, images, one, static, work

PREFIX = "/pages"


def attach(app: FastAPI) -> None:
    """Add the pages' routes and static files to the application; its guard stands around them too."""
    for part in (images, one, figures, work):
        app.include_router(part.router, prefix=PREFIX, include_in_schema=False)
    app.mount(f"{PREFIX}/static", static.files(), name="static")

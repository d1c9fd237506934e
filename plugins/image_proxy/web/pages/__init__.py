"""The pages for people, under `/pages/`."""

from __future__ import annotations

from fastapi import FastAPI


def attach(app: FastAPI) -> None:
    """Add the pages' routes and static files to the application; its guard stands around them too."""

"""Style, scripts and the two vendored libraries: the only files that are served, from one folder of this package."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[1] / "static"
SERVED = (".css", ".js")


class _Versioned(StaticFiles):
    """Files whose addresses name their content, so that a browser may keep them."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        versioned = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if versioned else "no-cache"
        return response


def files() -> StaticFiles:
    """Return the application that serves the folder."""
    return _Versioned(directory=FOLDER)


@functools.cache
def version() -> str:
    """Return a name of the files' content; addresses carry it."""
    found = hashlib.sha256()
    for path in sorted(path for path in FOLDER.rglob("*") if path.suffix in SERVED):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]

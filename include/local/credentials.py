"""Access keys of the embedded S3 server, made once for an installation and kept where only its owner reads them."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Credentials:
    """An S3 access key. The secret half is left out of `repr`, and with it out of logs and tracebacks."""

    access_key: str
    secret_key: str = field(repr=False)


def make_credentials() -> Credentials:
    """New random keys in AWS's form: 20 characters and 40 characters."""
    return Credentials(f"AKIALOCAL{secrets.token_hex(6)[:11].upper()}", secrets.token_hex(20))


def load_credentials(path: Path) -> Credentials:
    """The keys kept at `path`, made on the first call, so that server and connections agree after a restart.

    Two first calls at once end with the same keys. Raises `PermissionError` when others may read the file, and
    `ValueError` when it holds something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = make_credentials()
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    write_private(draft, json.dumps({"access_key": made.access_key, "secret_key": made.secret_key}))
    try:
        os.link(draft, path)  # fails if another was first; a plain rename would replace theirs
    except FileExistsError:
        return _read(path)
    finally:
        draft.unlink()
    return made


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` with mode 0600 from its first moment on."""
    path.unlink(missing_ok=True)  # an older file would keep its own mode
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def _read(path: Path) -> Credentials:
    if path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} can be read by others; make new keys by deleting it")
    try:
        stored = json.loads(path.read_text())
        return Credentials(str(stored["access_key"]), str(stored["secret_key"]))
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} does not hold access keys; make new ones by deleting it") from None

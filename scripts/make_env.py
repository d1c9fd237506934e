"""Write `.env` for docker-compose.yaml: a copy of `.env.example` with a fresh random secret in each empty place.

`python3 -m scripts.make_env [PATH]` needs no installed package. An existing file is left as it is.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EMPTY = re.compile(r"^([A-Z0-9_]+)=$", re.MULTILINE)


def filled(template: str) -> str:
    """Return the template with a secret of its own after each `NAME=` that stands empty."""
    return EMPTY.sub(lambda found: f"{found[1]}={_secret(found[1])}", template)


def _secret(name: str) -> str:
    if name == "FERNET_KEY":  # the form that cryptography.fernet takes
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return secrets.token_hex(24)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when the file was written, 1 when there is one already or it cannot be written."""
    parser = argparse.ArgumentParser(prog="python3 -m scripts.make_env", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", nargs="?", type=Path, default=ROOT / ".env", help="default: .env beside .env.example")
    path: Path = parser.parse_args(arguments).path
    text = filled((ROOT / ".env.example").read_text(encoding="utf-8"))
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        print(f"{path} exists and is left as it is; delete it for new secrets", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

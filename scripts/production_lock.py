"""The part of requirements.lock that a deployment needs: without the embedded cloud's servers, tests and checks.

`python -m scripts.production_lock` prints it, with hashes; `--constraints` prints names and versions only. Needs no
installed package. What is direct stands in the first section of requirements.txt; what that brings, in the lock file's
own `# via` comments.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
END_OF_PRODUCTION = "# -- the embedded cloud"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ENTRY = re.compile(r"^[A-Za-z0-9].*?(?=^[A-Za-z0-9]|\Z)", re.MULTILINE | re.DOTALL)


def direct_requirements(root: Path = ROOT) -> list[str]:
    """Return the requirement lines of the first section of requirements.txt, without comments."""
    section = (root / "requirements.txt").read_text(encoding="utf-8").partition(END_OF_PRODUCTION)[0]
    lines = (line.partition("#")[0].strip() for line in section.splitlines())
    return [line for line in lines if line]


def production_entries(root: Path = ROOT) -> list[str]:
    """Return the lock file's entries (requirement, hashes, comments) that a deployment needs, in its order."""
    entries = _ENTRY.findall((root / "requirements.lock").read_text(encoding="utf-8"))
    wanted = {_name(line) for line in direct_requirements(root)}
    while more := {_name(entry) for entry in entries if _parents(entry) & wanted} - wanted:
        wanted |= more
    return [entry for entry in entries if _name(entry) in wanted]


def constraints(root: Path = ROOT) -> list[str]:
    """Return `name==version`, with markers, without hashes and extras: what pip takes as a constraints file."""
    return [re.sub(r"\[[^]]*\]", "", entry.splitlines()[0].rstrip(" \\")) for entry in production_entries(root)]


def _name(text: str) -> str:
    found = _NAME.match(text)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _parents(entry: str) -> set[str]:
    """Return who asked for it: the names after `# via`, on that line or one a line below it."""
    comments = [line.strip().removeprefix("#").strip() for line in entry.splitlines() if line.startswith("    #")]
    return {_name(comment.removeprefix("via").strip()) for comment in comments} - {""}


def main() -> int:
    """The command line."""
    if "--constraints" in sys.argv[1:]:
        print("\n".join(constraints()))
    else:
        print("".join(production_entries()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

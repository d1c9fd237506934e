"""Words of others on a person's terminal: shown as they are, never obeyed.

Messages hold paths, names of files and values that somebody typed. Rich would read ``[/x]`` in them as markup, and a
terminal an escape sequence.
"""

from __future__ import annotations

import argparse
from datetime import date

from rich.console import Console
from rich.text import Text

FIRST, LAST = date(2000, 1, 1), date(2199, 12, 31)


def shown(words: str) -> str:
    """Return the words on one line, each character that is not for reading spelled out, as in ``\\x1b``."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in words)


def day(words: str) -> date:
    """Return the day that was typed, for argparse; one centuries away is a slip of the hand."""
    try:
        found = date.fromisoformat(words)
    except ValueError:
        found = date.min
    if not FIRST <= found <= LAST:
        raise argparse.ArgumentTypeError(f"type a day from {FIRST} to {LAST}, not {words!r}")
    return found


def complain(console: Console, words: object, *, code: str | None = None) -> None:
    """Print what went wrong. Lines stay whole, so that a command in them can be copied."""
    text = "\n".join(shown(line) for line in str(words).expandtabs().splitlines())
    console.print(Text.assemble((f"{code}: ", "red"), text) if code else Text(text, style="red"), soft_wrap=True)

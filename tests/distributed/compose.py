"""docker-compose.yaml as a program reads it: merged, with its variables filled in from an `.env` file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# $$, $NAME, ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?message}, ${NAME?message}
_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<rule>:?[-?])(?P<word>[^}]*))?\})"
)


class MissingVariable(ValueError):
    """A variable that the file requires is not set; the message is the file's own."""


@dataclass(frozen=True)
class ComposeService:
    """One service with all variables filled in."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]  # wins over what is in the files
    env_files: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Fill in variables by the rules of the compose specification (interpolation). Raises `MissingVariable`."""

    def value(found: re.Match[str]) -> str:
        if found["dollar"]:
            return "$"
        name, rule = found["plain"] or found["name"], found["rule"] or ""
        given = variables.get(name)
        if given or (given is not None and ":" not in rule):
            return given
        if rule.endswith("?"):
            raise MissingVariable(f"{name}: {found['word']}")
        return found["word"] or ""

    return _VARIABLE.sub(value, text)


def read_env_file(text: str) -> dict[str, str]:
    """Return the variables of an `.env` file; each may use those above it."""
    variables: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            variables[name.strip()] = interpolate(value.strip(), variables)
    return variables


def read_services(text: str, variables: dict[str, str]) -> dict[str, ComposeService]:
    """Return the services of a compose file, with merge keys followed and variables filled in."""
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return {
        name: ComposeService(
            name=name,
            command=tuple(interpolate(part, variables) for part in service.get("command", ())),
            environment={
                key: interpolate(str(value), variables) for key, value in service.get("environment", {}).items()
            },
            env_files=tuple(file["path"] for file in service.get("env_file", ())),
            healthcheck=tuple(interpolate(part, variables) for part in service.get("healthcheck", {}).get("test", ())),
        )
        for name, service in services.items()
    }


def image_content(dockerfile: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return what a Dockerfile copies from this repository below /opt (from, to), and its ENV variables."""
    copies = re.findall(r"^COPY (?:--\S+ )*(\S+) (/opt/\S+)$", dockerfile, re.MULTILINE)
    return copies, dict(re.findall(r"^ENV (\w+)=(\S+)$", dockerfile, re.MULTILINE))

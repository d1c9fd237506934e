"""Put this package's files where a kind of deployment looks for them.

`python -m scripts.package_layout KIND FOLDER` with KIND one of:

- `stock`: dags/, plugins/, include/, scripts/ side by side, and `airflow.env` that points an Airflow without DAGs to
  them. One that has DAGs keeps its folders, and gets copies (see docs/deployment.md).
- `mwaa`:  what goes into the environment's S3 bucket: dags/, plugins.zip, requirements.txt with its constraints.
- `astro`: an Astro project: dags/, plugins/, include/, requirements.txt, packages.txt, Dockerfile.

FOLDER must not exist, or be empty, and lie outside of what is copied into it. Needs no installed package.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from scripts.production_lock import constraints, direct_requirements

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = "image_proxy_constraints.txt"
COPIED = ("dags", "plugins", "include", "scripts")
MWAA_DAGS = "/usr/local/airflow/dags"
# Airflow is part of these images; asking for it again would ask pip to replace it.
OF_THE_IMAGE = ("apache-airflow[", "apache-airflow==")
ASTRO_DOCKERFILE = """\
# The Astro Runtime that carries the Airflow version you run, in its distribution for Python 3.11 (docs/deployment.md).
ARG RUNTIME=3.3-1
FROM astrocrpublic.azurecr.io/runtime:${RUNTIME}-python-3.11
ENV PYTHONPATH=/usr/local/airflow
"""


def stock(target: Path) -> None:
    """A folder for any Airflow.

    Its `airflow.env` is for one that has no DAGs and plugins yet, since Airflow has one folder for each. PYTHONPATH is
    extended all the same: what is on it is anybody's.
    """
    _copy("dags", target / "dags")
    _copy("plugins", target / "plugins")
    _copy("include", target / "include")
    _copy("scripts", target / "scripts")
    here = target.resolve()
    lines = {
        "AIRFLOW__CORE__DAGS_FOLDER": shlex.quote(str(here / "dags")),
        "AIRFLOW__CORE__PLUGINS_FOLDER": shlex.quote(str(here / "plugins")),
        "PYTHONPATH": shlex.quote(str(here)) + '"${PYTHONPATH:+:$PYTHONPATH}"',
    }
    _write(target / "airflow.env", "".join(f"export {name}={value}\n" for name, value in lines.items()))
    _write(target / "requirements.txt", _requirements())
    _write(target / CONSTRAINTS, "\n".join(constraints()) + "\n")


def mwaa(target: Path) -> None:
    """The bucket of an Amazon MWAA environment.

    `include` travels in plugins.zip: the plugins folder is importable in every component, the DAG folder is not in the
    web server. `.airflowignore` in it keeps Airflow from executing the packages as plugins.
    """
    _copy("dags", target / "dags")
    plugins = target / "plugins"
    _copy("plugins", plugins)
    _copy("include", plugins / "include")
    with (plugins / ".airflowignore").open("a", encoding="utf-8") as ignore:
        ignore.write("include/\n")
    with zipfile.ZipFile(target / "plugins.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(plugins.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(plugins))
    shutil.rmtree(plugins)
    _write(target / "dags" / CONSTRAINTS, "\n".join(constraints()) + "\n")
    _write(target / "requirements.txt", f'--constraint "{MWAA_DAGS}/{CONSTRAINTS}"\n{_requirements()}')


def astro(target: Path) -> None:
    """An Astro project, to be built with `astro dev start` or deployed with `astro deploy`."""
    _copy("dags", target / "dags")
    _copy("plugins", target / "plugins")
    _copy("include", target / "include")
    _write(target / "requirements.txt", _requirements())
    _write(target / "packages.txt", "")
    _write(target / "Dockerfile", ASTRO_DOCKERFILE)


KINDS: dict[str, Callable[[Path], None]] = {"stock": stock, "mwaa": mwaa, "astro": astro}


def _requirements() -> str:
    """Return the direct requirements that the image does not have, each at the lock file's version."""
    pinned = {_name(line): line for line in constraints()}
    wanted = [line for line in direct_requirements() if not line.startswith(OF_THE_IMAGE)]
    return "".join(f"{_pinned(line, pinned[_name(line)])}\n" for line in wanted)


def _pinned(requirement: str, pin: str) -> str:
    """Return `name[extras]==version`: the extras of the one, the version of the other."""
    extras = re.search(r"\[[^]]*\]", requirement)
    name, version = pin.partition(" ;")[0].split("==")
    return f"{name}{extras[0] if extras else ''}=={version}"


def _name(line: str) -> str:
    return re.split(r"[\[=<>~! ;]", line, maxsplit=1)[0].lower()


def _copy(source: str, target: Path) -> None:
    shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__", "samples"))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """The command line: 0 when the folder was made, 2 with a message when it cannot be."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    if len(arguments) != 2 or arguments[0] not in KINDS:  # noqa: PLR2004
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(arguments[1])
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        print(f"{target} is there already, and not an empty folder", file=sys.stderr)
        return 2
    if any(target.resolve().is_relative_to(ROOT / source) for source in COPIED):
        print(f"{target} lies in a folder that is to be copied into it: name one outside", file=sys.stderr)
        return 2
    try:
        target.mkdir(parents=True, exist_ok=True)
        KINDS[arguments[0]](target)
    except (OSError, shutil.Error) as error:
        print(f"{target} cannot be written: {error}", file=sys.stderr)
        return 2
    print(f"{arguments[0]}: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

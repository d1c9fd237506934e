"""Airflow's options as this version of it describes them. One that it does not know does nothing, in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable

VARIABLE = re.compile(r"AIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)")


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Those AIRFLOW__SECTION__OPTION among the names of environment variables that name no option."""
    found = [VARIABLE.fullmatch(name) for name in names if name.startswith("AIRFLOW__")]
    options = [(match[1].lower(), match[2].lower()) for match in found if match]
    assert len(options) == len(found), "a variable without a section or an option"
    return unknown_options(options)


def unknown_options(options: Iterable[tuple[str, str]]) -> list[str]:
    """Those among (section, option) that neither Airflow nor an installed provider describes."""
    from airflow.configuration import conf

    described = conf.configuration_description
    return [
        f"{section}.{option}"
        for section, option in options
        if option not in described.get(section, {}).get("options", {})
    ]

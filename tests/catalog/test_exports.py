"""What leaves the catalog: the view's rows as a stream, or those that pass a filter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from include.catalog.catalog import Catalog
from include.catalog.records import AnalysisFilter, WorkKey
from include.catalog.tables import current_image_analyses
from tests.catalog.conftest import Clock
from tests.catalog.making import KEY, add, image, process

OTHER_MODEL = WorkKey(KEY.recipe_version, "nova-pro", KEY.prompt_version)


def exported(catalog: Catalog, **wanted: Any) -> list[Mapping[str, Any]]:
    return list(catalog.current_analyses(AnalysisFilter(**wanted)))


def ids(catalog: Catalog, **wanted: Any) -> list[int]:
    return [row["file_id"] for row in exported(catalog, **wanted)]


def test_without_a_filter_it_is_the_view_without_the_images_that_wait(catalog: Catalog, engine: Engine) -> None:
    one, two, _ = add(catalog, 3)
    process(catalog, "first", one, two)
    view = current_image_analyses
    with engine.connect() as connection:
        rows = connection.execute(select(view).where(view.c.analysed_at.is_not(None)).order_by(view.c.file_id))
        assert exported(catalog) == [dict(row) for row in rows.mappings()]
    assert ids(catalog) == [one, two]
    assert list(exported(catalog)[0]) == [column.name for column in view.c]


def test_what_a_run_or_a_day_wrote(catalog: Catalog, clock: Clock) -> None:
    one, two = add(catalog, 2)
    process(catalog, "first", one)
    midnight = clock.now.replace(hour=0) + timedelta(days=1)
    clock.now = midnight
    process(catalog, "second", two)
    assert ids(catalog, run_id="dag/first") == [one]
    assert ids(catalog, written_to=midnight) == [one]
    assert ids(catalog, written_from=midnight, written_to=midnight + timedelta(days=1)) == [two]
    assert ids(catalog, run_id="dag/none") == []


def test_one_models_words_are_found_though_another_was_asked_since(catalog: Catalog) -> None:
    (one,) = add(catalog)
    process(catalog, "first", one)
    process(catalog, "pro", one, key=OTHER_MODEL)
    assert [row["model_id"] for row in exported(catalog)] == ["nova-pro"]
    assert [row["model_id"] for row in exported(catalog, model_id="nova-2-lite")] == ["nova-2-lite"]
    assert [row["model_id"] for row in exported(catalog, run_id="dag/first")] == ["nova-2-lite"]


def test_what_was_done_again_or_is_of_older_content_stays_behind(catalog: Catalog, clock: Clock) -> None:
    (one,) = add(catalog)
    process(catalog, "first", one)
    clock.forward(60)
    process(catalog, "again", one, force=True)
    assert ids(catalog, run_id="dag/first") == []
    assert ids(catalog, run_id="dag/again") == [one]
    catalog.register([image("00000", content_version="content-2")])
    assert ids(catalog) == []


@pytest.mark.parametrize("endpoint", ["aws", "stand-in"])
def test_who_answered(catalog: Catalog, endpoint: str) -> None:
    (one,) = add(catalog)
    process(catalog, "first", one)
    assert ids(catalog, endpoint=endpoint) == ([one] if endpoint == "stand-in" else [])


def test_a_stream_left_early_holds_nobody_up(catalog: Catalog) -> None:
    one, two = add(catalog, 2)
    process(catalog, "first", one, two)
    stream = iter(catalog.current_analyses(AnalysisFilter()))
    next(stream)
    process(catalog, "second", *add(catalog, 1), force=True)
    assert next(stream)["file_id"] == two


def test_each_column_of_the_view_is_documented_in_its_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text("utf-8")
    section = page.partition("## `current_image_analyses`")[2].partition("\n## ")[0]
    names = [name for line in section.splitlines() if line.startswith("| `") for name in line.split("|")[1].split(",")]
    assert [name.strip(" `") for name in names] == [column.name for column in current_image_analyses.c]

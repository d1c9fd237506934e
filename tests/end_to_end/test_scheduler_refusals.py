"""A retry that could not help is not made: Airflow's own decision, in a mapped task of a real scheduler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.dags.conftest import photograph
from tests.end_to_end.conftest import DAG_ID, RunningAirflow

pytestmark = pytest.mark.end_to_end

NAME = "refused by nova.jpg"


@pytest.fixture
def picture(airflow: RunningAirflow, tmp_path: Path) -> Iterator[int]:
    """A registered picture, which no other test's run takes afterwards."""
    photograph(tmp_path / NAME, 1000, 950)
    airflow.register(tmp_path)
    with airflow.machine.engine.connect() as connection:
        file_id = connection.execute(text("SELECT id FROM files WHERE filename = :name"), {"name": NAME}).scalar_one()
    yield int(file_id)
    with airflow.machine.engine.begin() as connection:
        connection.execute(text("UPDATE files SET media_type = 'video/none' WHERE id = :id"), {"id": file_id})


def test_a_model_that_cannot_be_called_fails_its_task_at_the_first_try(airflow: RunningAirflow, picture: int) -> None:
    run = airflow.trigger(file_ids=[picture], model_id="amazon.nova-2-lite-v1:0")
    assert airflow.wait(run) == "failed"
    (analyse,) = [task for task in airflow.tasks(run) if task["task_id"] == "images.analyse"]
    assert (analyse["state"], analyse["try_number"], analyse["max_tries"]) == ("failed", 1, 2)
    place = f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/images.analyse/logs/1"
    answer = airflow.client.get(place, params={"full_content": True, "map_index": analyse["map_index"]})
    assert answer.status_code == httpx.codes.OK
    assert "us.amazon.nova-2-lite-v1:0" in json.dumps(answer.json())

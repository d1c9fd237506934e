"""The small ground: the DAG in this process, for trouble that does not need a topology to show."""

from tests.dags.conftest import airflow_database, deployment

__all__ = ["airflow_database", "deployment"]

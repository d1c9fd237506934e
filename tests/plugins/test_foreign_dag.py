"""The README's ten-line DAG in somebody else's Airflow: other folders, another working directory, no PYTHONPATH."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.catalog.catalog import Catalog
from include.local.registration import register_folders
from include.local.seaweedfs import SeaweedFS
from tests.catalog.migrated import migrated_catalog
from tests.dags.conftest import photograph

ROOT = Path(__file__).resolve().parents[2]


def readme_dag() -> str:
    found = re.search(r"<!-- foreign dag -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found, "the README shows no DAG"
    return found[1]


def foreign_environment(home: Path) -> dict[str, str]:
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "IMAGE_PROXY"))
    }
    return env | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }


def airflow(env: dict[str, str], cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_dag_is_ten_lines() -> None:
    assert len([line for line in readme_dag().splitlines() if line.strip()]) <= 10


def test_it_makes_proxies_from_another_working_directory(
    tmp_path: Path, seaweedfs: SeaweedFS, s3: Any, bucket: str
) -> None:
    home, elsewhere, pictures = tmp_path / "airflow", tmp_path / "elsewhere", tmp_path / "pictures"
    for folder in (home / "dags", elsewhere, pictures):
        folder.mkdir(parents=True)
    photograph(pictures / "a.jpg", 1300, 1000)
    (home / "dags" / "foreign.py").write_text(readme_dag())
    engine = migrated_catalog(tmp_path / "catalog.db")
    catalog = Catalog(engine)
    register_folders(catalog, [pictures], datetime.now(UTC))
    aws = {
        "conn_type": "aws",
        "login": seaweedfs.credentials.access_key,
        "password": seaweedfs.credentials.secret_key,
        "extra": {
            "region_name": "us-east-1",
            "endpoint_url": seaweedfs.endpoint_url,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    env = foreign_environment(home) | {
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_CATALOG_DEFAULT": json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "catalog.db")}),
        "IMAGE_PROXY_BUCKET": bucket,
    }
    airflow(env, elsewhere, "db", "migrate")
    airflow(env, elsewhere, "dags", "test", "nightly_proxies")
    (stored,) = s3.list_objects_v2(Bucket=bucket, Prefix="proxy_image/")["Contents"]
    assert stored["Key"].endswith("_nova.jpg")
    assert '"image_proxy"' in airflow(env, elsewhere, "plugins", "--output", "json").replace("'", '"')
    engine.dispose()

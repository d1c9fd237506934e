"""The command for people without a scheduler, as a real process on real S3 and the Nova stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from include.catalog.engine import create_catalog_engine
from include.catalog.records import Selection, Stage
from include.local.nova_stand_in import NovaStandIn, StandInSettings
from include.local.seaweedfs import SeaweedFS
from include.pipeline.params import parse_params
from include.pipeline.plan import work_key
from include.pipeline.settings import load_settings
from scripts.create_image_proxies import main
from tests.dags.conftest import photograph
from tests.pipeline.conftest import Ground

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60


@dataclass
class Shell:
    """Where the command is typed."""

    ground: Ground
    env: dict[str, str]
    url: str
    printed: pytest.CaptureFixture[str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "scripts.create_image_proxies", "--catalog-url", self.url, *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """In this process, which has done all the imports."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
                patch.delenv(name)  # another test's server in this process has connections
            for name, value in self.env.items():
                patch.setenv(name, value)
            try:
                code = main(["--catalog-url", self.url, *arguments])
            except SystemExit as ended:  # argparse's way
                code = int(str(ended.code))
        return code, " ".join("".join(self.printed.readouterr()).split())

    def register(self, count: int, width: int = 1300, height: int = 1000) -> None:
        for number in range(count):
            photograph(self.ground.pictures / f"{number:02}.jpg", width, height)
        self.ground.register()

    def register_copies(self, count: int, width: int, height: int) -> None:
        """One picture under many names: made once."""
        first = photograph(self.ground.pictures / "000.jpg", width, height)
        for number in range(1, count):
            (self.ground.pictures / f"{number:03}.jpg").hardlink_to(first)
        self.ground.register()

    def count(self, query: str) -> int:
        engine = create_catalog_engine(self.url)
        with engine.connect() as connection:
            found = int(connection.execute(text(query)).scalar_one())
        engine.dispose()
        return found

    def wait_for(self, query: str) -> int:
        return until(lambda: self.count(query))

    def pending(self) -> int:
        key = work_key(parse_params({}), load_settings())
        return len(self.ground.catalog.select_unprocessed(Selection(key, frozenset({Stage.PROXY}), "dag/looking")))


def until(answer: Callable[[], int]) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := answer():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE} s")


@pytest.fixture
def shell(
    ground: Ground,
    seaweedfs: SeaweedFS,
    stand_in: NovaStandIn,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Shell:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AIRFLOW"))}
    env |= {
        "AWS_ACCESS_KEY_ID": seaweedfs.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweedfs.credentials.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": seaweedfs.endpoint_url,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": stand_in.url,
        "IMAGE_PROXY_BUCKET": ground.bucket,
        "IMAGE_PROXY_TEMP_DIR": str(tmp_path),
        "IMAGE_PROXY_WORKERS": "1",
        "COLUMNS": "120",
    }
    return Shell(ground, env, f"sqlite:///{tmp_path / 'catalog.db'}", capfd)


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(shell: Shell) -> None:
    shell.register(3)
    code, output = shell.run("--dry-run", "--analyse", "--limit", "2")
    assert code == 0
    assert "would take 2 images of" in output and "Nova would cost about $0.0" in output
    assert (shell.count("SELECT count(*) FROM image_runs"), shell.ground.objects()) == (0, [])


def test_it_makes_proxies_up_to_the_limit_and_then_the_rest(shell: Shell) -> None:
    shell.register(3)
    code, output = shell.run("--limit", "2")
    assert code == 0, output
    assert "2 listed, 2 proxies made" in output and "2/2" in output
    assert (shell.pending(), len(shell.ground.objects())) == (1, 2)
    code, output = shell.run()
    assert (code, shell.pending()) == (0, 0), output
    assert "1 listed, 1 proxies made" in output, output


def test_it_analyses_and_forces_with_params_of_the_pipeline(shell: Shell) -> None:
    shell.register(1)
    assert shell.run("--analyse")[0] == 0
    assert shell.count("SELECT count(*) FROM image_analyses WHERE status = 'analysed'") == 1
    code, output = shell.run("--force", "--set", "target_short_side=512", "--set", "graphics_format=webp")
    assert code == 0, output
    assert shell.count("SELECT count(*) FROM image_proxies WHERE min(width, height) = 512") == 1
    file_id = shell.count("SELECT min(id) FROM files")
    assert "1 listed" in shell.run("--force", "--file-ids", f"{file_id}, 99999")[1]


def test_proxies_come_first_however_the_stages_are_typed(shell: Shell) -> None:
    shell.register(1)
    code, output = shell.run("--set", 'stages=["analyse", "proxy"]')
    assert (code, "1 analysed" in output) == (0, True), output


def test_in_lazy_mode_an_analysis_makes_the_proxies_that_it_lacks(shell: Shell) -> None:
    shell.register(1)
    shell.env["IMAGE_PROXY_PROXY_MODE"] = "lazy"
    code, output = shell.run("--stages", "analyse")
    assert (code, "1 proxies made" in output, "1 analysed" in output) == (0, True, True), output


def test_too_many_failures_are_exit_status_1_and_a_few_are_not(shell: Shell) -> None:
    shell.register(4)
    (shell.ground.pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    shell.ground.register()
    code, output = shell.run()
    assert (code, "1 failed" in output, "corrupt" in output or "truncated" in output) == (0, True, True)
    code, output = shell.run("--force", "--set", "max_failure_ratio=0.1")
    assert (code, "more than max_failure_ratio allows" in output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--limit", "0"], {}, "limit: 0 is less than the minimum of 1"),
        (["--limit", "ten"], {}, "argument --limit: invalid int value"),
        (["--stages", "resize"], {}, "'resize' is not one of"),
        (["--set", "qualty=90"], {}, "did you mean quality?"),
        (["--set", "quality"], {}, "type NAME=VALUE, for example quality=90"),
        (["--file-ids", "one"], {}, "type whole numbers with commas between, for example 1,2,3, not 'one'"),
        (["--file-ids", ""], {}, "type whole numbers with commas between"),
        (["--file-ids", "9" * 20], {}, "is greater than the maximum"),
        (["--catalog-url", "oracle://host/catalog"], {}, "the catalog is SQLite or PostgreSQL"),
        (["--catalog-url", "sybase://host/catalog"], {}, "the catalog is SQLite or PostgreSQL"),
        (["--catalog-url", "what"], {}, "--catalog-url: Could not parse"),
        (["--catalog-url", "sqlite:///relative.db"], {}, "use an absolute one"),
        (["--catalog-url", "sqlite:////tmp/nowhere/at/all.db"], {}, "unable to open database file"),
        (["--bucket", "no-such-bucket-here"], {}, "no bucket no-such-bucket-here"),
        (["--bucket", "b a d"], {}, 'Invalid bucket name "b a d"'),
        (
            ["--catalog-url", ""],
            {"AIRFLOW_CONN_CATALOG_DEFAULT": "http://x"},
            "AIRFLOW_CONN_CATALOG_DEFAULT is no conn",
        ),
        (["--catalog-url", ""], {"AIRFLOW_CONN_CATALOG_DEFAULT": "{"}, "AIRFLOW_CONN_CATALOG_DEFAULT is no conn"),
        (["--catalog-url", ""], {"AIRFLOW_CONN_CATALOG_DEFAULT": "words"}, "AIRFLOW_CONN_CATALOG_DEFAULT is no conn"),
        (["--catalog-url", ""], {}, "give --catalog-url, or set AIRFLOW_CONN_CATALOG_DEFAULT"),
        ([], {"IMAGE_PROXY_BUCKET": ""}, "IMAGE_PROXY_BUCKET is not set"),
        ([], {"IMAGE_PROXY_NOVA_CONCURRENCY": "lots"}, "IMAGE_PROXY_NOVA_CONCURRENCY"),
        ([], {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "Could not connect"),
        (["--analyse", "--set", "max_cost_usd=0"], {}, "above max_cost_usd"),
    ],
)
def test_wrong_usage_and_setup_are_exit_status_2_with_a_message(
    shell: Shell, arguments: list[str], env: dict[str, str], said: str
) -> None:
    shell.register(1)
    shell.env |= env
    code, output = shell.run(*arguments)
    assert (code, said in output) == (2, True), output
    assert shell.count("SELECT count(*) FROM image_runs") == 0


def test_ctrl_c_finishes_what_is_in_flight_and_leaves_the_rest_pending(shell: Shell) -> None:
    many = 150
    shell.register_copies(many, 1800, 1400)
    process = shell.start()
    shell.wait_for("SELECT count(*) FROM image_run_items WHERE proxy_outcome IS NOT NULL")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert "what is in flight ends" in output and f"{many} listed" in " ".join(output.split())
    done = shell.count("SELECT count(*) FROM image_run_items WHERE proxy_outcome = 'proxied'")
    assert 0 < done < many
    # Whatever was begun is done: no claim is left, and there is one object for each proxy, and no more.
    assert shell.count("SELECT count(*) FROM image_claims") == 0
    assert (len(shell.ground.objects()), shell.pending()) == (done, many - done)
    assert not list(shell.ground.pictures.parent.glob("image-proxy-*"))
    code, shown = shell.run()
    assert (code, shell.pending(), len(shell.ground.objects())) == (0, 0, many), shown


@pytest.fixture
def slow_nova(s3: Any) -> Iterator[NovaStandIn]:
    with NovaStandIn(StandInSettings(latency_ms=20_000), s3) as server:
        yield server


def test_a_second_ctrl_c_kills(shell: Shell, slow_nova: NovaStandIn) -> None:
    shell.register(2)
    shell.env["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = slow_nova.url
    process = shell.start("--analyse")
    shell.wait_for("SELECT count(*) FROM image_claims WHERE stage = 'analyse'")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    for line in process.stdout:
        if "what is in flight ends" in line:
            break
    assert process.poll() is None  # it waits for an answer that may be paid for
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == -signal.SIGINT


def test_airflow_connections_from_the_environment_serve_without_a_database(
    shell: Shell, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    shell.register(1)
    aws = {
        "conn_type": "aws",
        "login": seaweedfs.credentials.access_key,
        "password": seaweedfs.credentials.secret_key,
        "extra": {"region_name": "us-east-1", "service_config": {"s3": {"endpoint_url": seaweedfs.endpoint_url}}},
    }
    shell.env = {name: value for name, value in shell.env.items() if not name.startswith("AWS_")}
    shell.env |= {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_CATALOG_DEFAULT": json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "catalog.db")}),
    }
    shell.url = ""
    process = shell.start()
    output, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, shell.pending()) == (0, 0), output
    assert not list((tmp_path / "airflow").rglob("*.db"))

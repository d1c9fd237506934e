"""Analyses out of the catalog: typed Parquet and JSON lines, whole files, a manifest that says what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.catalog.catalog import Catalog
from include.catalog.tables import current_image_analyses
from include.pipeline.exports import (
    ROWS_A_GROUP,
    WRITERS,
    Export,
    ExportRequest,
    InvalidExport,
    export_analyses,
    parse_export,
    schema,
)
from include.pipeline.params import InvalidParams
from include.pipeline.settings import load_settings
from include.storage.destinations import UnusableDestination
from include.storage.errors import StorageUnavailable
from tests.catalog.making import add, process
from tests.catalog.migrated import migrated_catalog

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def catalog(database: Path) -> Iterator[Catalog]:
    engine = migrated_catalog(database)
    yield Catalog(engine)
    engine.dispose()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def export(catalog: Catalog, to: Path | str, s3: Any = None, **wanted: Any) -> Export:
    return export_analyses(catalog, ExportRequest(destination=str(to), **wanted), s3, load_settings())


def only(folder: Path, ending: str) -> Path:
    (found,) = [path for path in folder.iterdir() if path.name.endswith(ending)]
    return found


@pytest.mark.parametrize("day", [date.min, date.max])
def test_the_first_and_the_last_day_of_the_calendar_are_days(catalog: Catalog, out: Path, day: date) -> None:
    process(catalog, "first", *add(catalog))
    assert export(catalog, out, day=day).rows == 0


def test_parquet_has_typed_nested_columns_that_are_the_views(catalog: Catalog, out: Path) -> None:
    one, two, _ = add(catalog, 3)
    process(catalog, "first", one, two)
    made = export(catalog, out)
    assert made.rows == 2
    table = pq.read_table(only(out, ".parquet"))
    assert table.schema.names == [column.name for column in current_image_analyses.c]
    assert table.schema.equals(schema())
    assert table.schema.field("labels").type == pa.list_(
        pa.struct([("name", pa.string()), ("confidence", pa.float64())])
    )
    first = table.to_pylist()[0]
    assert (first["file_id"], first["run_id"], first["description"]) == (one, "dag/first", "a cat")
    assert first["labels"] == [{"name": "cat", "confidence": 0.9}]
    assert first["objects"] == [{"name": "cat", "box": [1, 2, 3, 4]}]
    assert first["uploaded_at"] == datetime(2026, 11, 1, tzinfo=UTC)
    assert (first["cost_usd"], first["cost_usd_projected"], first["input_tokens"]) == (None, 0.5, 300)


def test_json_lines_hold_the_same(catalog: Catalog, out: Path) -> None:
    process(catalog, "first", *add(catalog, 2))
    export(catalog, out)
    export(catalog, out, format="jsonl")
    lines = [json.loads(line) for line in only(out, ".jsonl").read_text("utf-8").splitlines()]
    table = pq.read_table(only(out, ".parquet")).to_pylist()
    for line, row in zip(lines, table, strict=True):
        assert line == row | {name: row[name].isoformat() for name in ("uploaded_at", "analysed_at")}


def test_the_manifest_lets_a_reader_check_the_file(catalog: Catalog, out: Path) -> None:
    process(catalog, "first", *add(catalog, 2))
    made = export(catalog, out, format="jsonl", run_id="dag/first")
    said = json.loads(only(out, ".manifest.json").read_text())
    written = only(out, ".jsonl").read_bytes()
    assert said["sha256"] == hashlib.sha256(written).hexdigest()
    assert (said["rows"], said["size_bytes"]) == (2, len(written)) == (made.rows, made.size_bytes)
    assert said["selection"] == {"run_id": "dag/first"}
    assert said["rows_by_endpoint"] == {"stand-in": 2}
    assert said["rows_by_model"] == {"nova-2-lite": 2}
    assert said["uri"] == only(out, ".jsonl").as_uri()
    assert "2 of them are the stand-in's words, not Nova's" in made.text()


def test_the_same_export_replaces_itself_and_another_does_not(catalog: Catalog, out: Path) -> None:
    one, two = add(catalog, 2)
    process(catalog, "first", one)
    export(catalog, out)
    process(catalog, "second", two)
    assert export(catalog, out).rows == 2
    assert len(list(out.iterdir())) == 2
    names = {export(catalog, out, **wanted).uri for wanted in ({"label": "a b"}, {"label": "a_b"}, {"model_id": "x"})}
    assert len(names) == 3
    assert len(list(out.iterdir())) == 8


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_an_empty_export_says_so_and_can_still_be_read(catalog: Catalog, out: Path, format_: str) -> None:
    made = export(catalog, out, format=format_, label="unicorn")
    assert made.rows == 0
    assert made.text().startswith("EMPTY: no current analysis matches (label unicorn)")
    path = only(out, f".{format_}")
    if format_ == "parquet":
        assert pq.read_table(path).schema.equals(schema())
    else:
        assert path.read_bytes() == b""


def test_a_label_is_found_in_any_case(catalog: Catalog, out: Path) -> None:
    process(catalog, "first", *add(catalog, 2))
    assert export(catalog, out, label=" CAT ").rows == 2
    assert export(catalog, out, label="ca").rows == 0


def test_a_day_is_a_day_in_utc(catalog: Catalog, out: Path) -> None:
    process(catalog, "first", *add(catalog, 1))
    today = datetime.now(UTC).date()
    assert export(catalog, out, day=today).rows == 1
    assert export(catalog, out, day=date(2020, 1, 1)).rows == 0


def test_a_run_that_is_not_there_is_no_empty_export(catalog: Catalog, out: Path) -> None:
    with pytest.raises(InvalidExport, match=r"'frist'.*dag_id/Airflow's run id"):
        export(catalog, out, run_id="frist")
    assert not out.exists()


def test_s3_gets_file_and_manifest(catalog: Catalog, s3: Any, bucket: str) -> None:
    process(catalog, "first", *add(catalog, 2))
    made = export(catalog, f"s3://{bucket}/exports", s3, run_id="dag/first")
    prefix = f"s3://{bucket}/"
    body = s3.get_object(Bucket=bucket, Key=made.uri.removeprefix(prefix))["Body"].read()
    assert hashlib.sha256(body).hexdigest() == made.sha256
    assert pq.read_table(pa.BufferReader(body)).num_rows == 2
    manifest = s3.get_object(Bucket=bucket, Key=made.manifest_uri.removeprefix(prefix))["Body"].read()
    assert json.loads(manifest)["rows"] == 2


def test_a_failure_half_way_leaves_what_stood_there(
    catalog: Catalog, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(catalog, "first", *add(catalog, 2))
    export(catalog, out, format="jsonl")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(
        Catalog,
        "current_analyses",
        lambda *_: iter([{"labels": [], "endpoint": "aws", "model_id": "x", "a": object()}]),
    )
    with pytest.raises(TypeError):
        export(catalog, out, format="jsonl")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    """What is in memory at a time is one group, however many rows follow."""
    path, read = tmp_path / "a.parquet", 0

    def rows() -> Iterator[Mapping[str, Any]]:
        nonlocal read
        for number in range(3 * ROWS_A_GROUP):
            if number == 2 * ROWS_A_GROUP + 1:
                assert path.stat().st_size > 10_000, "nothing was written before all rows were read"
            read += 1
            yield {"file_id": number, "uri": hashlib.sha256(str(number).encode()).hexdigest()}

    WRITERS["parquet"](rows(), path)
    assert (pq.ParquetFile(path).num_row_groups, pq.read_metadata(path).num_rows) == (3, 3 * ROWS_A_GROUP)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"formt": "jsonl"}, "did you mean format"),
        ({"format": "csv"}, "format: 'csv' is not one of"),
        ({"day": "yesterday"}, "'yesterday' is not a day; type for example 2026-11-01"),
        ({"day": "2026-02-30"}, "is not a day"),
        ({"endpoint": "nova"}, "endpoint: 'nova' is not one of"),
    ],
)
def test_a_wrong_param_is_named(conf: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        parse_export(conf)


def test_what_a_form_leaves_empty_is_not_asked_for() -> None:
    request = parse_export({"run_id": "", "day": None, "label": "cat", "format": "jsonl"})
    assert request == ExportRequest(format="jsonl", label="cat")


@pytest.mark.parametrize("address", ["https://example.com/x", "s3://"])
def test_a_destination_that_cannot_be_is_refused(catalog: Catalog, address: str) -> None:
    with pytest.raises(UnusableDestination):
        export(catalog, address)


def test_no_destination_at_all_says_what_to_set(catalog: Catalog) -> None:
    with pytest.raises(InvalidExport, match="IMAGE_PROXY_EXPORT_URI"):
        export_analyses(catalog, ExportRequest(), None, load_settings())


def test_a_folder_that_cannot_be_written_is_the_deployments_trouble(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageUnavailable):
        export(catalog, tmp_path / "file" / "below")


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.export_analyses", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(catalog: Catalog, database: Path, out: Path) -> None:
    process(catalog, "first", *add(catalog, 2))
    url = f"sqlite:///{database}"
    done = command("--catalog", url, "--format", "jsonl", "--run", "dag/first", "--to", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 analyses (run_id dag/first)" in done.stdout
    assert len(only(out, ".jsonl").read_text().splitlines()) == 2
    empty = command("--catalog", url, "--label", "unicorn", "--to", str(out))
    assert (empty.returncode, empty.stdout[:5]) == (3, "EMPTY")
    wrong = command("--catalog", url, "--run", "frist", "--to", str(out))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("invalid_export: ")


def test_the_command_without_a_catalog_says_what_to_type(out: Path, tmp_path: Path) -> None:
    done = command("--to", str(out), VAR_DIR=str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert "name the catalog with --catalog" in done.stderr


def test_the_command_writes_to_s3(catalog: Catalog, database: Path, seaweedfs: Any, s3: Any, bucket: str) -> None:
    process(catalog, "first", *add(catalog, 2))
    done = command(
        "--catalog",
        f"sqlite:///{database}",
        "--to",
        f"s3://{bucket}/exports",
        AWS_ENDPOINT_URL_S3=seaweedfs.endpoint_url,
        AWS_ACCESS_KEY_ID=seaweedfs.credentials.access_key,
        AWS_SECRET_ACCESS_KEY=seaweedfs.credentials.secret_key,
        AWS_DEFAULT_REGION="us-east-1",
    )
    assert done.returncode == 0, done.stderr
    assert len(s3.list_objects_v2(Bucket=bucket)["Contents"]) == 2

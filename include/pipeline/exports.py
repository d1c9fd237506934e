"""Getting it out: current analyses as one JSONL or Parquet file, and a manifest that says what is in it.

Rows are streamed from the catalog to the file, so that a million of them take no more memory than a thousand.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.catalog.records import AnalysisFilter
from include.pipeline.params import checked_values, param, param_schemas
from include.pipeline.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from include.catalog.catalog import Catalog

FORMATS = ("jsonl", "parquet")
CONTENT_TYPES = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
ROWS_A_GROUP = 5000  # of a Parquet file: what is in memory at a time, about 10 MB of analyses
ENDPOINTS = ("aws", "stand-in")


class InvalidExport(ValueError):
    """The export cannot be what was asked for; the message says what to change."""

    code = "invalid_export"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export and where to. None is any; all that is given must hold. Raises `InvalidExport`."""

    destination: str | None = param(
        None,
        "Destination",
        "A folder, or s3://bucket/folder. Empty: the setting IMAGE_PROXY_EXPORT_URI.",
        type=["null", "string"],
        maxLength=1024,
    )
    format: str = param(
        "parquet",
        "Format",
        "Parquet with typed, nested columns; or one JSON object a line.",
        type="string",
        enum=list(FORMATS),
    )
    run_id: str | None = param(
        None,
        "Run",
        "Only what this run wrote: its id in the catalog, dag_id/Airflow's run id.",
        type=["null", "string"],
        examples=["image_proxy_pipeline/scheduled__2026-11-01T00:00:00+00:00"],
    )
    day: date | None = param(
        None,
        "Day (UTC)",
        "Only what was written on this day.",
        type=["null", "string"],
        format="date",
        examples=["2026-11-01"],
    )
    model_id: str | None = param(None, "Model", "Only what this model or profile answered.", type=["null", "string"])
    prompt_version: str | None = param(
        None, "Prompt version", "Only what was asked with this prompt.", type=["null", "string"]
    )
    label: str | None = param(
        None, "Label", "Only images with this label, upper and lower case alike.", type=["null", "string"]
    )
    endpoint: str | None = param(
        None,
        "Endpoint",
        "Only what AWS answered, or only the stand-in's words.",
        type=["null", "string"],
        enum=[None, *ENDPOINTS],
    )

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InvalidExport(f"format is {self.format!r}, but must be one of {', '.join(FORMATS)}")
        if self.endpoint is not None and self.endpoint not in ENDPOINTS:
            raise InvalidExport(f"endpoint is {self.endpoint!r}, but must be one of {', '.join(ENDPOINTS)}")

    @property
    def selection(self) -> dict[str, str]:
        """What was asked for, without what was not: JSON values."""
        wanted = {name: value for name, value in asdict(self).items() if name not in ("destination", "format")}
        return {name: str(value) for name, value in wanted.items() if value}

    @property
    def stem(self) -> str:
        """The file's name without its ending: the same request has the same name, another has another."""
        named = "-".join(_slug(value) for value in (self.day and str(self.day), self.run_id, self.label) if value)
        digest = hashlib.sha256(json.dumps(self.selection, sort_keys=True).encode()).hexdigest()[:8]
        return f"image_analyses-{named[:80] or 'all'}-{digest}"

    @property
    def filter(self) -> AnalysisFilter:
        """What the catalog can choose by itself."""
        start = datetime.combine(self.day, time(), UTC) if self.day else None
        has_end = start is not None and self.day != date.max  # the calendar has no day after it
        return AnalysisFilter(
            run_id=self.run_id,
            written_from=start,
            written_to=start + timedelta(days=1) if start and has_end else None,
            model_id=self.model_id,
            prompt_version=self.prompt_version,
            endpoint=self.endpoint,
        )


@dataclass(frozen=True, slots=True)
class Export:
    """A file that was written, as its manifest says. `rows` 0: nothing matched, and the file holds no row."""

    uri: str
    manifest_uri: str
    format: str
    rows: int
    size_bytes: int
    sha256: str
    selection: Mapping[str, str]
    rows_by_endpoint: Mapping[str, int]
    rows_by_model: Mapping[str, int]
    columns: tuple[str, ...]
    exported_at: str

    def text(self) -> str:
        """Return one line for a log."""
        chosen = ", ".join(f"{name} {value}" for name, value in self.selection.items()) or "all current analyses"
        if not self.rows:
            return f"EMPTY: no current analysis matches ({chosen}); {self.uri} holds no row"
        made_up = self.rows_by_endpoint.get("stand-in", 0)
        return f"{self.rows} analyses ({chosen}) in {self.size_bytes} bytes at {self.uri}" + (
            f"; {made_up} of them are the stand-in's words, not Nova's" if made_up else ""
        )


def parse_export(conf: Mapping[str, Any]) -> ExportRequest:
    """Check a run's params and return them typed. Raises `InvalidParams`, naming each wrong one, or `InvalidExport`."""
    given = {name: value for name, value in conf.items() if value not in (None, "")}  # what a form leaves empty
    return ExportRequest(**checked_values(given, param_schemas(ExportRequest)))


def export_address(request: ExportRequest, settings: Settings) -> str:
    """Return where an export goes: as asked, or as set. Raises `InvalidExport` when neither says."""
    address = request.destination or settings.export_uri
    if not address:
        raise InvalidExport(f"no destination: name a folder or s3://bucket/folder, or set {ENV_PREFIX}EXPORT_URI")
    return address


def export_analyses(catalog: Catalog, request: ExportRequest, s3: Any | None, settings: Settings) -> Export:
    """Write one file and its manifest to the folder or ``s3://bucket/folder`` that was asked for.

    The file is replaced whole, then its manifest; nobody ever reads half of one. ``s3`` may be None for a folder.
    Raises `InvalidExport` (no destination, a run that is not stored), `UnusableDestination`, `StorageUnavailable`.
    """
    from include.storage.destinations import parse_destination, whole_file

    address = export_address(request, settings)
    _check_run(catalog, request)
    destination = parse_destination(address)
    name, manifest_name = f"{request.stem}.{request.format}", f"{request.stem}.{request.format}.manifest.json"
    rows = _Counted(_labelled(catalog.current_analyses(request.filter), request.label))
    opened = partial(whole_file, destination, s3=s3, rules=settings.object_rules, scratch=settings.temp_dir)
    with opened(name, content_type=CONTENT_TYPES[request.format]) as path:
        WRITERS[request.format](rows, path)
        with path.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        size = path.stat().st_size
    export = Export(
        uri=destination.uri(name),
        manifest_uri=destination.uri(manifest_name),
        format=request.format,
        rows=rows.count,
        size_bytes=size,
        sha256=sha256,
        selection=request.selection,
        rows_by_endpoint=dict(rows.endpoints),
        rows_by_model=dict(rows.models),
        columns=tuple(schema().names),
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with opened(manifest_name, content_type="application/json") as path:
        path.write_text(json.dumps(asdict(export), indent=2) + "\n", encoding="utf-8")
    return export


def _check_run(catalog: Catalog, request: ExportRequest) -> None:
    """A misspelt run must not look like one without analyses."""
    from include.catalog.errors import UnknownRun

    if request.run_id is None:
        return
    try:
        catalog.run_params(request.run_id)
    except UnknownRun as error:
        raise InvalidExport(f"{error}; a run is named dag_id/Airflow's run id") from error


def _labelled(rows: Iterable[Mapping[str, Any]], label: str | None) -> Iterator[Mapping[str, Any]]:
    """Rows that carry the label. Compared here, because SQLite knows upper and lower case of ASCII only."""
    if not label:
        yield from rows
        return
    wanted = label.strip().casefold()
    for row in rows:
        if any(str(found.get("name", "")).casefold() == wanted for found in row["labels"] or ()):
            yield row


class _Counted:
    """Rows that are counted while they pass."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows = rows
        self.count = 0
        self.endpoints: Counter[str] = Counter()
        self.models: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for row in self._rows:
            self.count += 1
            self.endpoints[row["endpoint"] or "unknown"] += 1
            self.models[row["model_id"]] += 1
            yield row


def _write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _write_parquet(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    typed = schema()
    with pq.ParquetWriter(path, typed, compression="zstd") as writer:
        left = iter(rows)
        while group := list(islice(left, ROWS_A_GROUP)):
            writer.write_table(pa.Table.from_pylist([_flat(row) for row in group], typed))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    extra = row.get("extra")
    return {**row, "extra": None if extra is None else json.dumps(extra, ensure_ascii=False)}


WRITERS: dict[str, Callable[[Iterable[Mapping[str, Any]], Path], None]] = {
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}


def schema() -> pa.Schema:
    """Return the columns of an export, those of the view `current_image_analyses` in its order, with Arrow's types."""
    import pyarrow as pa

    text, number, ratio, moment = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")
    label = pa.struct([("name", text), ("confidence", ratio)])
    found = pa.struct([("name", text), ("box", pa.list_(pa.int32()))])
    return pa.schema(
        [
            *(("file_id", number), ("uri", text), ("filename", text), ("content_version", text)),
            *(("uploaded_at", moment), ("proxy_status", text), ("proxy_uri", text), ("proxy_recipe_version", text)),
            *(("proxy_format", text), ("proxy_width", number), ("proxy_height", number)),
            *(("original_bytes", number), ("proxy_bytes", number), ("saved_bytes", number), ("saving_ratio", ratio)),
            *(("description", text), ("labels", pa.list_(label)), ("visible_text", text)),
            *(("objects", pa.list_(found)), ("model_id", text), ("prompt_version", text)),
            *(("analysed_recipe_version", text), ("endpoint", text), ("cost_usd", ratio), ("analysed_at", moment)),
            # A team's own fields have types of its own: in Parquet they are one JSON text.
            *(("extra", text), ("tier", text), ("input_tokens", number), ("billed_input_tokens", number)),
            *(("output_tokens", number), ("price_date", text)),
            *(("run_id", text), ("latency_ms", number), ("cost_usd_projected", ratio)),
        ]
    )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("._-")

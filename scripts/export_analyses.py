"""Export current analyses as JSONL or Parquet: python -m scripts.export_analyses --format parquet --to folder-or-s3://

The catalog is named by --catalog, or is the one that `make run` makes. `s3://` is written with the credentials that
boto3 finds (environment, profile, instance role); AWS_ENDPOINT_URL_S3 sends it to another S3 server. Deployment
settings (KMS key, tags, bucket owner) hold as in a DAG.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from include.catalog.errors import CatalogError
from include.pipeline.exports import (
    ENDPOINTS,
    FORMATS,
    ExportRequest,
    InvalidExport,
    export_address,
    export_analyses,
)
from include.pipeline.settings import SettingsError, load_settings
from include.storage.destinations import UnusableDestination
from include.storage.errors import StorageUnavailable
from scripts.connections import SetupError, reading_catalog
from scripts.words import day


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when a file was written, 3 when it holds no row, 2 when the request or the destination is wrong."""
    options = _parser().parse_args(arguments)
    try:
        return _export(options)
    except (InvalidExport, SettingsError, SetupError, UnusableDestination, StorageUnavailable, CatalogError) as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 2


def _export(options: argparse.Namespace) -> int:
    settings = load_settings()
    request = ExportRequest(
        destination=options.to,
        format=options.format,
        run_id=options.run,
        day=options.day,
        model_id=options.model,
        prompt_version=options.prompt_version,
        label=options.label,
        endpoint=options.endpoint,
    )
    address = export_address(request, settings)
    with reading_catalog(options.catalog or _catalog_of_make_run()) as catalog:
        s3 = _s3() if address.lower().startswith("s3://") else None
        export = export_analyses(catalog, request, s3, settings)
    print(export.text())
    return 0 if export.rows else 3


def _catalog_of_make_run() -> str:
    from include.local.laptop import VAR

    path = VAR.absolute() / "catalog.db"
    if not path.is_file():
        raise InvalidExport(f"name the catalog with --catalog; there is none at {path}, where make run has its own")
    return f"sqlite:///{path}"


def _s3() -> Any:
    import boto3

    return boto3.client("s3")


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m scripts.export_analyses", description=summary, epilog=details)
    parser.add_argument("--format", choices=FORMATS, default="parquet")
    parser.add_argument("--to", metavar="FOLDER", help="a folder, or s3://bucket/folder; default: the setting")
    parser.add_argument("--catalog", metavar="URL", help="sqlite:////absolute/path.db or postgresql://...")
    parser.add_argument("--run", metavar="ID", help="written by this run: dag_id/Airflow's run id")
    parser.add_argument("--day", type=day, metavar="YYYY-MM-DD", help="written on this day (UTC)")
    parser.add_argument("--model", metavar="ID", help="answered by this model or inference profile")
    parser.add_argument("--prompt-version", metavar="VERSION", help="asked with this prompt")
    parser.add_argument("--label", metavar="NAME", help="with this label")
    parser.add_argument("--endpoint", choices=ENDPOINTS, help="answered by AWS, or by the stand-in")
    return parser


if __name__ == "__main__":
    sys.exit(main())

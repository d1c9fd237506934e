"""The operator that gets analyses out of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from image_proxy.operators import CatalogOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.pipeline.exports import ExportRequest


class ExportAnalysesOperator(CatalogOperator):
    """Write current analyses as one JSONL or Parquet file, with a manifest, to a folder or to S3.

    What is exported are the rows of the view `current_image_analyses` that have an analysis and pass the filter. The
    file has a name that follows from the filter, so that a retry replaces it, and appears whole or not at all. An
    export without rows writes a file without rows and says so. Returns what the manifest says: where, how many rows,
    whose words.

    :param destination: A folder, or `s3://bucket/folder`; default: the setting ``IMAGE_PROXY_EXPORT_URI``. (templated)
    :param format: "parquet" or "jsonl". (templated)
    :param run_id: Only what this run of the catalog wrote. (templated)
    :param day: Only what was written on this UTC day, as YYYY-MM-DD. (templated)
    :param model_id: Only what this model or inference profile answered. (templated)
    :param prompt_version: Only what was asked with this prompt. (templated)
    :param with_label: Only images with this label. (templated)
    :param endpoint: Only what "aws" or the "stand-in" answered. (templated)
    :param from_params: Take all of these from the run's params instead, as the DAG `export_analyses` does.
    """

    template_fields: Sequence[str] = (
        "destination",
        "format",
        "run_id",
        "day",
        "model_id",
        "prompt_version",
        "with_label",
        "endpoint",
    )
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        destination: str | None = None,
        format: str | None = None,
        run_id: str | None = None,
        day: str | None = None,
        model_id: str | None = None,
        prompt_version: str | None = None,
        with_label: str | None = None,
        endpoint: str | None = None,
        from_params: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.format = format
        self.run_id = run_id
        self.day = day
        self.model_id = model_id
        self.prompt_version = prompt_version
        self.with_label = with_label
        self.endpoint = endpoint
        self.from_params = from_params

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        from include.pipeline.exports import InvalidExport, export_address, export_analyses
        from include.pipeline.params import InvalidParams
        from include.storage.destinations import UnusableDestination

        settings = self.settings()
        try:
            request = self._request(context)
            in_s3 = export_address(request, settings).lower().startswith("s3://")
            s3 = S3Hook(settings.aws_conn_id).conn if in_s3 else None
            export = export_analyses(self.catalog(settings), request, s3, settings)
        except (InvalidParams, InvalidExport, UnusableDestination) as error:
            raise AirflowFailException(f"{error.code}: {error}") from error
        self.log.info("%s", export.text())
        return {
            "uri": export.uri,
            "manifest_uri": export.manifest_uri,
            "rows": export.rows,
            "size_bytes": export.size_bytes,
            "rows_by_endpoint": dict(export.rows_by_endpoint),
        }

    def _request(self, context: Context) -> ExportRequest:
        from include.pipeline.exports import parse_export

        if self.from_params:
            return parse_export({**dict(context["params"]), **(context["dag_run"].conf or {})})
        given = {name: getattr(self, name) for name in self.template_fields}
        given["label"] = given.pop("with_label")  # an operator's own `label` is its name in the UI
        return parse_export(given)

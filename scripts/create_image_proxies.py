"""Make image proxies, and analyses if asked, without a scheduler: `python -m scripts.create_image_proxies --help`.

The same stages on the same catalog as the DAG `image_proxy_pipeline`, in this process and with all its cores. Neither
Airflow's scheduler nor its database is needed.

exit status: 0 done; 1 too many images failed, or infrastructure gave way; 2 wrong usage or set-up; 130 interrupted
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.logging import RichHandler

from include.catalog.records import Stage
from include.pipeline.batches import RunCancelled
from include.pipeline.gate import reasons_against
from include.pipeline.identity import RunIdentity, Window
from include.pipeline.params import InvalidParams, PipelineParams, parse_params
from include.pipeline.plan import CostLimitExceeded, Plan, plan_run, proxy_options, stages_of
from include.pipeline.settings import Settings, SettingsError, load_settings
from include.pipeline.summary import summarise
from scripts.connections import Connections, SetupError
from scripts.interrupts import stop_on_signals
from scripts.progress import BatchProgress
from scripts.run_view import show_summary, size
from scripts.words import complain

if TYPE_CHECKING:
    from include.catalog.catalog import Catalog

NAME = "create_image_proxies"
OK, FAILED, WRONG = 0, 1, 2
BATCH_SIZE = 200  # images claimed together; a batch ends with some cores idle, and a claim keeps others away
MOST_IMAGES = 100_000  # the highest limit of a run

log = logging.getLogger(NAME)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=False)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    stop = threading.Event()
    try:
        params = _params(given)
        settings = load_settings(**({"bucket": given.bucket} if given.bucket else {}))
        with stop_on_signals(stop) as signals:
            connections = Connections(settings, given.catalog_url, params.model_id)
            code = _Command(connections, params, settings, console, stop).run()
            return signals.exit_code or code
    except (InvalidParams, SettingsError, SetupError, CostLimitExceeded) as error:
        complain(console, error, code=error.code)
        return WRONG


@dataclass(frozen=True, slots=True)
class _Command:
    """One call of the command, its arguments checked."""

    connections: Connections
    params: PipelineParams
    settings: Settings
    console: Console
    stop: threading.Event

    def run(self) -> int:
        """Plan, work through the batches, show what became of them."""
        with self._setup_trouble():
            catalog = self.connections.catalog()
            if not self.params.dry_run:
                self.connections.check_bucket()
            identity = RunIdentity(NAME, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}-{os.getpid()}")
            plan = self._plan(catalog, identity)
        if self.params.dry_run:
            return self._tell(plan)
        trouble = self._work(catalog, identity.run_id, plan)
        return self._finish(catalog, identity.run_id, trouble)

    def _plan(self, catalog: Catalog, identity: RunIdentity) -> Plan:
        analyses = "analyse" in self.params.stages
        return plan_run(
            catalog,
            identity,
            self.params,
            self.settings,
            Window(None, datetime.now(UTC)),
            nova_endpoint=self.connections.nova_endpoint() if analyses and not self.params.dry_run else None,
            max_batches=MOST_IMAGES,
        )

    def _tell(self, plan: Plan) -> int:
        found = plan.projection
        self.console.print(
            f"Dry run, nothing was written: would take [bold]{found.images}[/bold] images of "
            f"{size(found.bytes_original)}, to about {size(found.bytes_proxies_estimated)} of proxies (estimated)",
            highlight=False,
        )
        if "analyse" in self.params.stages:
            self.console.print(f"Nova would cost about ${found.cost_usd_estimated:.4f} (estimated)", highlight=False)
        return OK

    def _work(self, catalog: Catalog, run_id: str, plan: Plan) -> int:
        """Work through the batches; return the exit status that trouble asks for, else 0."""
        from sqlalchemy.exc import SQLAlchemyError

        from include.pipeline.refusals import NeedsAPerson
        from include.storage.errors import StorageError

        stages = self._stages()
        steps = plan.projection.images * len(stages)
        with BatchProgress(self.console, catalog, steps, self.stop) as progress:
            try:
                for batch in plan.batches:
                    if self.stop.is_set():
                        raise RunCancelled
                    for stage in stages:
                        counts = self._stage(stage, progress.catalog).run(run_id, batch.batch_id)
                        progress.ended(counts, another_follows=stage != stages[-1])
            except RunCancelled:
                log.warning("stopped: the rest is pending, the next run takes it")
            except NeedsAPerson as error:
                log.error("%s: %s", error.code, error)
                return WRONG
            except (StorageError, SQLAlchemyError, OSError, RuntimeError) as error:
                log.error("%s; images without an outcome are pending", error)
                return FAILED
        return OK

    def _stages(self) -> list[Stage]:
        """Proxies first, however the stages were typed; in lazy mode an analysis makes those that it lacks."""
        wanted = stages_of(self.params, self.settings)
        return [stage for stage in Stage if stage in wanted]

    def _stage(self, stage: Stage, catalog: Catalog) -> Any:
        connections, settings = self.connections, self.settings
        if stage is Stage.PROXY:
            from include.pipeline.proxies import ProxyStage

            options = proxy_options(self.params)
            return ProxyStage(catalog, connections.s3, settings, options, self.stop, connections.source_s3)
        from include.pipeline.analysis import AnalysisStage

        concurrency = settings.nova_concurrency
        return AnalysisStage(catalog, connections.nova, connections.s3, settings, self.params, concurrency, self.stop)

    def _finish(self, catalog: Catalog, run_id: str, trouble: int) -> int:
        report = summarise(catalog, run_id)
        if report is None:
            raise SetupError(f"the run {run_id} is no longer in the catalog")
        places = {
            "catalog": self.connections.shown_catalog,
            "proxies": f"s3://{self.settings.bucket}/{self.settings.prefix}/",
            "run": run_id,
        }
        show_summary(self.console, report, catalog.run_images(run_id), places)
        reasons = (
            [] if self.stop.is_set() else reasons_against(catalog.run_counts(run_id), self.params.max_failure_ratio)
        )
        for reason in reasons:
            complain(self.console, reason)
        return trouble or (FAILED if reasons else OK)

    @contextmanager
    def _setup_trouble(self) -> Iterator[None]:
        """Whatever fails before the first image is a matter of set-up."""
        from sqlalchemy.exc import SQLAlchemyError

        from include.catalog.errors import CatalogError
        from include.nova import NovaError
        from include.storage.errors import StorageError

        try:
            yield
        except (CatalogError, SQLAlchemyError, StorageError, NovaError) as error:
            raise SetupError(str(error)) from error


def _params(given: argparse.Namespace) -> PipelineParams:
    """Return the pipeline's own params, checked by its own rules."""
    stages = given.stages.split(",") if given.stages else ["proxy", "analyse"] if given.analyse else ["proxy"]
    values: dict[str, Any] = {
        "stages": stages,
        "limit": MOST_IMAGES if given.limit is None else given.limit,
        "force": given.force,
        "dry_run": given.dry_run,
        "batch_size": BATCH_SIZE,
    }
    if given.file_ids is not None:
        values["file_ids"] = given.file_ids
    for name, text in given.set or ():
        values[name] = _value(text)
    return parse_params(values)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text  # a word, such as webp


def _ids(text: str) -> list[int]:
    """A variable of a shell that is empty names no image: it does not mean all of them."""
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise argparse.ArgumentTypeError(f"type whole numbers with commas between, for example 1,2,3, not {text!r}")
    return [int(part) for part in text.split(",")]


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"type NAME=VALUE, for example quality=90, not {text!r}")
    return name, value


def _parser() -> argparse.ArgumentParser:
    lines = str(__doc__).splitlines()
    parser = argparse.ArgumentParser(prog=f"python -m scripts.{NAME}", description=lines[0], epilog=lines[-1])
    parser.add_argument("--dry-run", action="store_true", help="write nothing: say what would be done")
    parser.add_argument("--limit", type=int, metavar="N", help=f"most images, oldest upload first ({MOST_IMAGES:,})")
    parser.add_argument("--force", action="store_true", help="redo what is done or failed before")
    parser.add_argument("--analyse", action="store_true", help="have Nova describe the proxies too")
    parser.add_argument("--stages", metavar="LIST", help="proxy, analyse or proxy,analyse, in place of --analyse")
    parser.add_argument("--file-ids", type=_ids, metavar="1,2,3", help="only these rows of the catalog's files")
    parser.add_argument(
        "--catalog-url", metavar="URL", help="sqlite:////absolute/path.db or postgresql://user@host/database"
    )
    parser.add_argument("--bucket", help="bucket of the proxies, in place of IMAGE_PROXY_BUCKET")
    parser.add_argument(
        "--set", action="append", type=_pair, metavar="NAME=VALUE", help="any other param of the pipeline: quality=90"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

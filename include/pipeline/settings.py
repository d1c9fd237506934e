"""Deployment settings: what a platform team sets once, where a run's params say what one run does.

Environment variables ``IMAGE_PROXY_<NAME>`` override an optional TOML file named by ``IMAGE_PROXY_SETTINGS_FILE``. A
wrong value raises `SettingsError`, which names the setting and says what it takes.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableValue

from include.imaging import Limits
from include.nova.prompts import MAX_TOKENS
from include.pipeline.refusals import NeedsAPerson
from include.storage.rules import ObjectRules

ENV_PREFIX = "IMAGE_PROXY_"
KMS_KEY = r"^(arn:aws[a-z-]*:kms:.+|alias/.+|mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
_YEAR = 366 * 86_400
_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")  # Airflow's
MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 10, 128, 256


class SettingsError(NeedsAPerson, ValueError):
    """A deployment setting is missing or wrong; the message names it."""

    code = "invalid_setting"


class Settings(BaseSettings):
    """Every deployment setting, with its default and bounds. Sizes are bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    bucket: str | None = Field(None, description="S3 bucket that proxies are uploaded to")
    prefix: str = Field("proxy_image", min_length=1, max_length=200, description="First part of every proxy's key")
    bucket_owner: str | None = Field(
        None, pattern=r"^\d{12}$", description="Account that owns the bucket; any other is refused"
    )
    catalog_conn_id: str = "catalog_default"
    aws_conn_id: str = "aws_default"
    nova_pool: str = "nova"
    nova_concurrency: int = Field(
        4, ge=1, le=64, description="Requests in flight per analysis task, and its pool slots"
    )
    workers: int | None = Field(None, ge=1, le=128, description="Decode processes per proxy task; default: all cores")
    lease_seconds: float = Field(120, ge=5, le=3600, description="How long a claim outlives a task that was killed")
    keep_original: Literal["never", "if_clean", "always"] = "if_clean"
    prompt_file: Path | None = Field(None, description="Your own prompt text in place of the packaged one")
    price_overrides: dict[str, Any] = Field(default_factory=dict, description="Your own prices, by model id")
    temp_dir: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()))
    min_free_bytes: int = Field(512 * 1024**2, ge=0, description="Free space below which a batch does not start")
    max_source_bytes: int = Field(Limits().max_bytes, ge=1, description="Largest original that is read")
    max_pixels: int = Field(Limits().max_pixels, ge=1, description="Most pixels of an original that are decoded")
    max_frames: int = Field(Limits().max_frames, ge=1, description="Most frames or pages an original may have")
    max_scans: int = Field(Limits().max_scans, ge=1, description="Most scans a JPEG may have")
    decode_seconds: float = Field(Limits().seconds, gt=0, le=3600, description="Wall-clock limit for one image")
    decode_memory_bytes: int = Field(
        Limits().memory_bytes, ge=256 * 1024**2, description="Address space of a decode process"
    )
    max_pixels_in_flight: int = Field(
        2 * Limits().max_pixels, ge=1, description="Most pixels that a proxy task decodes at once, over all its workers"
    )
    # Failure
    retry_seconds: float = Field(
        30, ge=1, le=3600, description="Wait before a task that infrastructure failed is tried again; then doubled"
    )
    # Nova: what is asked, and what may be spent
    output_model: str | None = Field(
        None, description="Your own Pydantic model in place of the packaged one: package.module:ClassName"
    )
    max_output_tokens: int = Field(
        MAX_TOKENS, ge=100, le=10_000, description="Longest answer; quota is reserved for it by every request"
    )
    max_cost_usd_per_day: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="What all runs together may spend on Nova in one UTC day"
    )
    storage_usd_per_gb_month: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Your own price of S3 storage, dollars a GiB and month"
    )
    # Corporate S3: docs/aws.md
    source_aws_conn_id: str | None = Field(None, description="Connection that reads originals; default: aws_conn_id")
    kms_key_id: str | None = Field(
        None, pattern=KMS_KEY, description="KMS key of every uploaded object: a key id, an alias or an ARN"
    )
    object_tags: dict[str, str] = Field(default_factory=dict, description="Tags of every uploaded object")
    bedrock_region: str | None = Field(None, description="Region that Nova is called in; default: the bucket's")
    # Evaluation and export: docs/evaluation.md and docs/export.md
    evaluation_prefix: str = Field(
        "proxy_evaluation", min_length=1, max_length=200, description="First part of the key of temporary copies"
    )
    report_uri: str | None = Field(None, description="Folder or s3:// address that evaluation reports go to")
    export_uri: str | None = Field(None, description="Folder or s3:// address that exports go to")
    # Batch inference
    batch_role_arn: str | None = Field(
        None,
        pattern=r"^(arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+)?$",
        max_length=2048,
        description="Role that Bedrock assumes to read a batch job's folder and to write its output",
    )
    batch_prefix: str = Field(
        "nova_batch",
        pattern=r"^[-!_*'().a-zA-Z0-9]+(/[-!_*'().a-zA-Z0-9]+)*$",
        max_length=200,
        description="First part of every batch job's folder in the bucket",
    )
    batch_timeout_hours: int = Field(48, ge=24, le=168, description="When Bedrock is to give a batch job up")
    batch_max_records: int = Field(50_000, ge=200, le=50_000, description="Most images in one batch job")
    batch_poll_seconds: float = Field(60, ge=0.1, le=3600, description="Time between two looks at a batch job")
    # Where new images come from
    ingest_sources: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="S3 prefixes and folders that are looked through for new images: JSON, or separated by commas"
    )
    ingest_schedule: str = Field("*/10 * * * *", min_length=1, description="When they are looked through (cron, UTC)")
    ingest_header_bytes: int = Field(
        64 * 1024, ge=4096, le=16 * 1024**2, description="First bytes of a new image that are read for its dimensions"
    )
    ingest_overlap_seconds: float = Field(
        86_400, ge=0, le=10 * _YEAR, description="How far behind the last listing the next one looks again"
    )
    ingest_queue_url: str | None = Field(
        None, pattern=r"^https?://", description="SQS queue that the bucket sends its events to"
    )

    # Adopting a table of the team's
    table_mapping: Path | None = Field(None, description="TOML file that maps a table of yours in place of `files`")
    # How runs are started, and who is told about them
    schedule: str = Field("0 * * * *", description="Cron expression (UTC) of image_proxy_pipeline")
    run_limit: int = Field(10_000, ge=1, le=100_000, description="Most images of a run whose params give no limit")
    proxy_mode: Literal["eager", "lazy"] = Field(
        "eager", description="eager: schedule and ingest make proxies; lazy: only a request for analyses does"
    )
    max_attempts: int = Field(5, ge=1, le=20, description="Tries of an image whose failures are transient")
    notifier: str | None = Field(None, description="Airflow notifier class that is told of late and failed runs")
    notifier_kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments, templated; as JSON")
    late_after_seconds: float = Field(
        3 * 3600, ge=1, le=_YEAR, description="A run that takes longer from its creation is late"
    )

    # Previews of originals, for the pages
    preview_side: int = Field(
        800, ge=0, le=1024, description="Most pixels of the longer side of an original's preview; 0: none"
    )
    preview_prefix: str = Field(
        "proxy_preview", min_length=1, max_length=200, description="First part of every preview's key"
    )

    @field_validator("ingest_sources", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.strip().startswith("["):
            return json.loads(value)  # its error is a ValueError, which names this setting
        return [part.strip() for part in value.split(",") if part.strip()]

    @field_validator("schedule", "ingest_schedule")
    @classmethod
    def _schedule_that_comes(cls, expression: str) -> str:
        """Airflow asks a cron expression for its next time only when the DAG is stored, and shows nobody that it fails:
        the DAG would just never run again."""
        from croniter import croniter

        if expression not in _PRESETS and not croniter.is_valid(expression):
            raise ValueError("type a cron expression such as 0 * * * *")
        return expression

    @field_validator("object_tags")
    @classmethod
    def _tags_that_s3_takes(cls, tags: dict[str, str]) -> dict[str, str]:
        """https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""
        if len(tags) > MAX_TAGS:
            raise ValueError(f"an object has at most {MAX_TAGS} tags")
        for name, value in tags.items():
            if not 1 <= len(name) <= MAX_TAG_NAME or len(value) > MAX_TAG_VALUE or name.lower().startswith("aws:"):
                raise ValueError(
                    f"tag {name!r}: a name has 1 to {MAX_TAG_NAME} characters and does not begin with aws:, "
                    f"a value has at most {MAX_TAG_VALUE}"
                )
        return tags

    @property
    def object_rules(self) -> ObjectRules:
        """Return what is asked of every object in the bucket of the proxies."""
        return ObjectRules(self.bucket_owner, self.kms_key_id, self.object_tags)

    @property
    def decode_limits(self) -> Limits:
        """Return what one image may cost a decode process."""
        return Limits(
            max_pixels=self.max_pixels,
            max_bytes=self.max_source_bytes,
            max_frames=self.max_frames,
            max_scans=self.max_scans,
            seconds=self.decode_seconds,
            memory_bytes=self.decode_memory_bytes,
        )

    @property
    def reads_apart(self) -> bool:
        """Return whether originals are read through another connection than proxies are written."""
        return self.source_aws_conn_id not in (None, self.aws_conn_id)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment over the file, and the file over the defaults."""
        path = os.environ.get(f"{ENV_PREFIX}SETTINGS_FILE")
        if not path:
            return init_settings, env_settings
        if not Path(path).is_file():
            raise SettingsError(f"{ENV_PREFIX}SETTINGS_FILE names {path}, which is not a file")
        try:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path)
        except (ValueError, OSError) as error:  # no TOML, no UTF-8, or not readable
            raise SettingsError(f"{ENV_PREFIX}SETTINGS_FILE names {path}, which cannot be read: {error}") from error

    @property
    def required_bucket(self) -> str:
        """Return the bucket, or say how to set it."""
        if not self.bucket:
            raise SettingsError(f"{ENV_PREFIX}BUCKET is not set: name the S3 bucket that proxies are uploaded to")
        return self.bucket

    @property
    def required_batch_role_arn(self) -> str:
        """Return the role for batch jobs, or say how to set it."""
        if not self.batch_role_arn:
            raise SettingsError(
                f"{ENV_PREFIX}BATCH_ROLE_ARN is not set: name the IAM role that Bedrock assumes for batch inference; "
                "it needs s3:GetObject, s3:ListBucket and s3:PutObject on the bucket"
            )
        return self.batch_role_arn


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from file and environment; ``overrides`` win over both. Raises `SettingsError`."""
    _refuse_unknown_variables()
    try:
        return Settings(**overrides) if overrides else _as_written(_written())
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from error
    except UnreadableValue as error:
        raise SettingsError(_explain_unreadable(str(error))) from error


def usable_settings() -> Settings:
    """Read the settings with the default in place of each wrong one.

    For what has to go on when a setting is wrong: the schedule must not change, and people must be told. The run's
    first task refuses the wrong one by name.
    """
    try:
        return _as_written(_written())
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors()}
    except SettingsError:
        wrong = {"settings_file"}
    if not wrong <= set(Settings.model_fields):  # not one of ours, so nothing can be put in its place
        return Settings.model_construct()
    return Settings(**{name: Settings.model_fields[name].get_default(call_default_factory=True) for name in wrong})


@lru_cache(maxsize=1)
def _as_written(_: tuple[object, ...]) -> Settings:
    """Read the settings once while nothing about them changes: to parse a DAG takes them four times, 7 ms each."""
    return Settings()


def _written() -> tuple[object, ...]:
    """Return what the settings are read from: variables, and which version of which file."""
    variables = sorted(item for item in os.environ.items() if item[0].upper().startswith(ENV_PREFIX))
    path = os.environ.get(f"{ENV_PREFIX}SETTINGS_FILE")
    try:
        file = Path(path).stat() if path else None
    except OSError:  # the settings themselves say so
        file = None
    return (*variables, file and (file.st_ino, file.st_mtime_ns, file.st_size))


def _refuse_unknown_variables() -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {f"{ENV_PREFIX}SETTINGS_FILE"}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    return f"{ENV_PREFIX}{name.upper()}: {problem['msg']} (got {problem.get('input')!r})"


def _explain_unreadable(said: str) -> str:
    """Pydantic tells the field of a value that is no JSON in its text only: error parsing value for field "x" ..."""
    name = next((name for name in Settings.model_fields if f'"{name}"' in said), None)
    return f"{ENV_PREFIX}{name.upper()}: its value is not JSON" if name else said

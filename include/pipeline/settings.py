"""Deployment settings: what a platform team sets once, where a run's params say what one run does.

Environment variables ``IMAGE_PROXY_<NAME>`` override an optional TOML file named by ``IMAGE_PROXY_SETTINGS_FILE``. A
wrong value raises `SettingsError`, which names the setting and says what it takes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from include.imaging import Limits

ENV_PREFIX = "IMAGE_PROXY_"


class SettingsError(ValueError):
    """A deployment setting is missing or wrong; the message names it."""

    code = "invalid_setting"


class Settings(BaseSettings):
    """Every deployment setting, with its default and bounds. Sizes are bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    bucket: str | None = Field(None, description="S3 bucket that proxies are uploaded to")
    prefix: str = Field("proxy_image", min_length=1, max_length=200, description="First part of every proxy's key")
    bucket_owner: str | None = Field(None, pattern=r"^\d{12}$", description="Account id of a bucket that is not yours")
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

    # How runs are started, and who is told about them
    schedule: str = Field("0 * * * *", description="Cron expression (UTC) of image_proxy_pipeline")
    run_limit: int = Field(10_000, ge=1, le=100_000, description="Most images of a run whose params give no limit")
    proxy_mode: Literal["eager", "lazy"] = Field(
        "eager", description="eager: schedule and ingest make proxies; lazy: only a request for analyses does"
    )
    max_attempts: int = Field(5, ge=1, le=20, description="Tries of an image whose failures are transient")
    notifier: str | None = Field(None, description="Airflow notifier class that is told of late and failed runs")
    notifier_kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments, templated; as JSON")
    late_after_seconds: float = Field(3 * 3600, ge=1, description="A run that takes longer from its creation is late")

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path)

    @property
    def required_bucket(self) -> str:
        """Return the bucket, or say how to set it."""
        if not self.bucket:
            raise SettingsError(f"{ENV_PREFIX}BUCKET is not set: name the S3 bucket that proxies are uploaded to")
        return self.bucket


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from file and environment; ``overrides`` win over both. Raises `SettingsError`."""
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from error


def usable_settings() -> Settings:
    """Read the settings with the default in place of each wrong one.

    For what has to go on when a setting is wrong: the schedule must not change, and people must be told. The run's
    first task refuses the wrong one by name.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors()}
    except SettingsError:
        wrong = {"settings_file"}
    if not wrong <= set(Settings.model_fields):  # not one of ours, so nothing can be put in its place
        return Settings.model_construct()
    return Settings(**{name: Settings.model_fields[name].get_default(call_default_factory=True) for name in wrong})


def _refuse_unknown_variables() -> None:
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {f"{ENV_PREFIX}SETTINGS_FILE"}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    return f"{ENV_PREFIX}{name.upper()}: {problem['msg']} (got {problem.get('input')!r})"

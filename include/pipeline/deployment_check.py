"""Is this deployment ready? Each check says in one line what it found, or what is wrong and what to do about it."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from include.catalog.errors import CatalogError
from include.nova import NovaError, card_for, cost_usd, endpoint_of
from include.nova.access import try_access
from include.pipeline.proxies import cores
from include.pipeline.settings import Settings, SettingsError
from include.storage.errors import StorageError
from include.storage.objects import delete_objects, write_and_read_back

if TYPE_CHECKING:
    from sqlalchemy import Engine

_GIB: Final = 1024**3
_SIDE: Final = 64  # pixels of the picture that Nova is shown
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class CheckFailed(RuntimeError):
    """A red line: what is wrong, and what to do."""

    code = "check_failed"


@dataclass(frozen=True, slots=True)
class DeploymentCheck:
    """All checks of one deployment. Engine and clients are made when a check asks for them, so that each fails alone.

    ``versions`` are names and versions of what the caller runs on.
    """

    settings: Settings
    connections: Callable[[], str]  # says what they are; raises when one is missing
    engine: Callable[[], Engine]
    s3: Callable[[], Any]
    nova: Callable[[], Any]
    model_id: str
    versions: Mapping[str, str]

    def run(self, name: str) -> str:
        """Return the green line of one of `CHECKS`. Raises `CheckFailed`."""
        try:
            return str(getattr(self, f"_{name}")())
        except CheckFailed:
            raise
        except (SettingsError, CatalogError, StorageError, NovaError) as error:
            raise CheckFailed(f"{name}: {error.code}: {error}") from error
        except Exception as error:
            raise CheckFailed(f"{name}: {type(error).__name__}: {error}; {_ADVICE[name]}") from error

    def _settings(self) -> str:
        settings = self.settings
        _ = settings.required_bucket
        probe = settings.temp_dir / f"deployment-check-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise CheckFailed(
                f"settings: {settings.temp_dir} cannot be written to ({error.strerror}): set IMAGE_PROXY_TEMP_DIR"
            ) from error
        return f"bucket {settings.bucket}, prefix {settings.prefix}, scratch folder {settings.temp_dir}"

    def _connections(self) -> str:
        return self.connections()

    def _catalog(self) -> str:
        from include.catalog.adoption import require_mapping
        from include.catalog.schema_version import require_migrated

        engine = self.engine()
        try:
            require_migrated(engine)
            require_mapping(engine, self.settings.table_mapping)
        except CatalogError as error:
            raise CheckFailed(f"catalog: {error}; or run this DAG with migrate_catalog") from error
        return f"migrated, at {engine.url.render_as_string(hide_password=True)}"

    def _bucket(self) -> str:
        bucket, key = self.settings.required_bucket, self._key("txt")
        deleted = write_and_read_back(self.s3(), bucket, key, uuid.uuid4().hex.encode())
        note = "" if deleted else "; may not delete: allow s3:DeleteObject if catalog_maintenance is to delete"
        return f"s3://{bucket}: written and read back{', and deleted' if deleted else ''}{note}"

    def _nova(self) -> str:
        bucket, key, s3 = self.settings.required_bucket, self._key("png"), self.s3()
        s3.put_object(Bucket=bucket, Key=key, Body=_picture(), ContentType="image/png")
        client = self.nova()
        try:
            usage = try_access(client, self.model_id, f"s3://{bucket}/{key}", self.settings.bucket_owner)
        finally:
            with contextlib.suppress(StorageError):  # the bucket's own line says so
                delete_objects(s3, bucket, [key])
        if endpoint_of(client) != "aws":
            return f"{self.model_id} answered: the stand-in's, not Amazon Nova's; nothing was paid"
        billed = card_for(self.model_id).billed_input_tokens(usage.input_tokens, _SIDE, _SIDE)
        cost = cost_usd(self.model_id, "default", billed, usage.output_tokens, overrides=self.settings.price_overrides)
        return f"{self.model_id} answered, for ${cost:.6f}"

    def _machine(self) -> str:
        settings = self.settings
        memory, free = memory_bytes(), shutil.disk_usage(settings.temp_dir).free
        workers = settings.workers or cores()
        if free < settings.min_free_bytes:
            raise CheckFailed(
                f"machine: {settings.temp_dir} has {free / _GIB:.1f} GiB free, a batch wants "
                f"{settings.min_free_bytes / _GIB:.1f}: free some, or set IMAGE_PROXY_TEMP_DIR"
            )
        if memory < settings.decode_memory_bytes:
            raise CheckFailed(
                f"machine: {memory / _GIB:.1f} GiB of memory, and one decode process may take "
                f"{settings.decode_memory_bytes / _GIB:.1f}: give the worker more, or lower "
                "IMAGE_PROXY_DECODE_MEMORY_BYTES"
            )
        fitting = max(1, memory // settings.decode_memory_bytes)
        note = ""
        if workers > fitting:
            note = (
                f"; all {workers} at their limit would take more than there is: IMAGE_PROXY_WORKERS={fitting} is safe"
            )
        return f"{memory / _GIB:.1f} GiB of memory, {free / _GIB:.1f} GiB of disk, {workers} decode processes{note}"

    def _versions(self) -> str:
        from include.imaging.codecs import codec_versions

        codecs = codec_versions()
        missing = sorted(name for name, version in codecs.items() if version is None)
        if missing:
            raise CheckFailed(f"versions: no codec for {', '.join(missing)}: install requirements.txt as it is pinned")
        return ", ".join(f"{name} {version}" for name, version in {**self.versions, **codecs}.items())

    def _key(self, suffix: str) -> str:
        return f"{self.settings.prefix.strip('/')}/deployment_check/{uuid.uuid4().hex}.{suffix}"


_ADVICE: Final = {
    "settings": "see include/pipeline/settings.py",
    "connections": "create it in the UI (Admin, Connections), or set AIRFLOW_CONN_<ID> in the environment",
    "catalog": "check the connection that IMAGE_PROXY_CATALOG_CONN_ID names (catalog_default)",
    "bucket": "check the connection that IMAGE_PROXY_AWS_CONN_ID names (aws_default) and IMAGE_PROXY_BUCKET",
    "nova": "check the AWS connection, its region and bedrock:InvokeModel",
    "machine": "check IMAGE_PROXY_TEMP_DIR",
    "versions": "install requirements.txt as it is pinned",
}


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container where that has a limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            return min(machine, int(text))
    return machine


def _picture() -> bytes:
    """A small gray PNG."""
    rows = b"".join(b"\0" + b"\x80" * _SIDE for _ in range(_SIDE))
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

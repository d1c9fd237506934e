"""The first catalog: files, runs, claims, proxies, analyses, attempts, and the view over them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
LISTED = sa.column("is_proxy") == sa.false()
CURRENT = sa.column("superseded_at").is_(None)


def upgrade() -> None:
    """Make everything."""
    _create_files()
    _create_runs()
    _create_claims()
    _create_proxies()
    _create_analyses()
    _create_attempts()
    op.execute(_VIEW)


def downgrade() -> None:
    """Remove everything."""
    op.execute("DROP VIEW current_image_analyses")
    for name in (
        "image_attempts",
        "image_analyses",
        "image_proxies",
        "image_claims",
        "image_run_items",
        "image_runs",
        "files",
    ):
        op.drop_table(name)


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("id", ID, nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("format", sa.Text),
        sa.Column("resolution_width", sa.Integer),
        sa.Column("resolution_height", sa.Integer),
        sa.Column("is_proxy", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("source_file_id", ID, sa.ForeignKey("files.id", name="fk_files_source_file_id")),
        sa.Column("content_version", sa.Text, nullable=False),
        sa.Column("uploaded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sa.UniqueConstraint("uri", name="uq_files_uri"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_files_listed", "files", ["uploaded_at", "id"], sqlite_where=LISTED, postgresql_where=LISTED)
    op.create_index("ix_files_source_file_id", "files", ["source_file_id"])


def _create_runs() -> None:
    op.create_table(
        "image_runs",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("dag_id", sa.Text, nullable=False),
        sa.Column("dag_run_id", sa.Text, nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("recipe_version", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("prompt_version", sa.Text, nullable=False),
        sa.Column("stages", sa.Text, nullable=False),
        sa.Column("force", sa.Boolean, nullable=False),
        sa.Column("nova_endpoint", sa.Text),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("note", sa.Text),
        sa.PrimaryKeyConstraint("run_id", name="pk_image_runs"),
    )
    op.create_table(
        "image_run_items",
        sa.Column(
            "run_id",
            sa.Text,
            sa.ForeignKey("image_runs.run_id", name="fk_image_run_items_run_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("file_id", ID, autoincrement=False, nullable=False),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("content_version", sa.Text, nullable=False),
        sa.Column("proxy_outcome", sa.Text),
        sa.Column("proxy_code", sa.Text),
        sa.Column("proxy_message", sa.Text),
        sa.Column("proxy_started_at", TIME),
        sa.Column("proxy_decided_at", TIME),
        sa.Column("proxy_id", ID),
        sa.Column("analysis_outcome", sa.Text),
        sa.Column("analysis_code", sa.Text),
        sa.Column("analysis_message", sa.Text),
        sa.Column("analysis_started_at", TIME),
        sa.Column("analysis_decided_at", TIME),
        sa.Column("analysis_id", ID),
        sa.PrimaryKeyConstraint("run_id", "file_id", name="pk_image_run_items"),
    )
    op.create_index("ix_image_run_items_batch", "image_run_items", ["run_id", "batch_id"])
    op.create_index("ix_image_run_items_file_id", "image_run_items", ["file_id"])


def _create_claims() -> None:
    op.create_table(
        "image_claims",
        sa.Column("file_id", ID, autoincrement=False, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("claimed_at", TIME, nullable=False),
        sa.Column("lease_until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("file_id", name="pk_image_claims"),
    )
    op.create_index("ix_image_claims_owner", "image_claims", ["owner"])
    op.create_index("ix_image_claims_run_id", "image_claims", ["run_id"])


def _create_proxies() -> None:
    op.create_table(
        "image_proxies",
        sa.Column("id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("content_version", sa.Text, nullable=False),
        sa.Column("recipe_version", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("action", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("uri", sa.Text),
        sa.Column("format", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("original_width", sa.Integer),
        sa.Column("original_height", sa.Integer),
        sa.Column("original_bytes", sa.BigInteger),
        sa.Column("proxy_bytes", sa.BigInteger),
        sa.Column("bytes_uploaded", sa.BigInteger),
        sa.Column("saved_bytes", sa.BigInteger),
        sa.Column("saving_ratio", sa.Double),
        sa.Column("seconds", sa.Double),
        sa.Column("sha256", sa.Text),
        sa.Column(
            "proxy_file_id", ID, sa.ForeignKey("files.id", name="fk_image_proxies_proxy_file_id", ondelete="SET NULL")
        ),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("transient", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try_at", TIME),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("superseded_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_image_proxies"),
        sa.CheckConstraint("status in ('proxied', 'kept', 'failed')", name=op.f("ck_image_proxies_status")),
    )
    op.create_index("ix_image_proxies_proxy_file_id", "image_proxies", ["proxy_file_id"])
    op.create_index("ix_image_proxies_run", "image_proxies", ["run_id", "file_id"])
    op.create_index(
        "uq_image_proxies_current",
        "image_proxies",
        ["file_id", "content_version", "recipe_version"],
        unique=True,
        sqlite_where=CURRENT,
        postgresql_where=CURRENT,
    )


def _create_analyses() -> None:
    op.create_table(
        "image_analyses",
        sa.Column("id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("content_version", sa.Text, nullable=False),
        sa.Column("recipe_version", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("prompt_version", sa.Text, nullable=False),
        sa.Column(
            "proxy_id", ID, sa.ForeignKey("image_proxies.id", name="fk_image_analyses_proxy_id", ondelete="SET NULL")
        ),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("labels", JSON),
        sa.Column("visible_text", sa.Text),
        sa.Column("objects", JSON),
        sa.Column("stop_reason", sa.Text),
        sa.Column("endpoint", sa.Text),
        sa.Column("tier", sa.Text),
        sa.Column("input_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("seconds", sa.Double),
        sa.Column("cost_usd", sa.Double),
        sa.Column("cost_usd_projected", sa.Double),
        sa.Column("price_date", sa.Text),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("transient", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try_at", TIME),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("superseded_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_image_analyses"),
        sa.CheckConstraint("status in ('analysed', 'failed')", name=op.f("ck_image_analyses_status")),
    )
    op.create_index("ix_image_analyses_proxy_id", "image_analyses", ["proxy_id"])
    op.create_index("ix_image_analyses_run", "image_analyses", ["run_id", "file_id"])
    op.create_index(
        "uq_image_analyses_current",
        "image_analyses",
        ["file_id", "content_version", "recipe_version", "model_id", "prompt_version"],
        unique=True,
        sqlite_where=CURRENT,
        postgresql_where=CURRENT,
    )


def _create_attempts() -> None:
    op.create_table(
        "image_attempts",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("called", sa.Boolean, nullable=False),
        sa.Column("endpoint", sa.Text),
        sa.Column("tier", sa.Text),
        sa.Column("started_at", TIME),
        sa.Column("seconds", sa.Double),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("input_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("cost_usd", sa.Double),
        sa.Column("cost_usd_projected", sa.Double),
        sa.Column("price_date", sa.Text),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_attempts"),
    )
    op.create_index("ix_image_attempts_file_id", "image_attempts", ["file_id"])
    op.create_index("ix_image_attempts_run", "image_attempts", ["run_id", "file_id"])


_VIEW = """
CREATE VIEW current_image_analyses AS
SELECT f.id AS file_id, f.uri, f.filename, f.content_version, f.uploaded_at,
       p.status AS proxy_status, p.uri AS proxy_uri, p.recipe_version AS proxy_recipe_version,
       p.format AS proxy_format, p.width AS proxy_width, p.height AS proxy_height,
       p.original_bytes, p.proxy_bytes, p.saved_bytes, p.saving_ratio,
       a.description, a.labels, a.visible_text, a.objects, a.model_id, a.prompt_version,
       a.recipe_version AS analysed_recipe_version, a.endpoint, a.cost_usd, a.created_at AS analysed_at
FROM files f
LEFT JOIN image_proxies p ON p.id = (
    SELECT max(newest.id) FROM image_proxies newest
    WHERE newest.file_id = f.id AND newest.content_version = f.content_version
      AND newest.superseded_at IS NULL AND newest.status <> 'failed')
LEFT JOIN image_analyses a ON a.id = (
    SELECT max(newest.id) FROM image_analyses newest
    WHERE newest.file_id = f.id AND newest.content_version = f.content_version
      AND newest.superseded_at IS NULL AND newest.status <> 'failed')
WHERE f.is_proxy = false AND f.media_type LIKE 'image/%'
"""

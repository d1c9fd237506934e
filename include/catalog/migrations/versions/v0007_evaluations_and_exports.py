"""Evaluations and their calls; and in the view of current analyses what a team needs to load and to pay for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
FINAL = sa.column("final") == sa.true()

ADDED = ",\n       a.run_id, a.latency_ms, a.cost_usd_projected"


def upgrade() -> None:
    """Make the two tables, and the view anew with more columns at its end."""
    _create_evaluations()
    _create_calls()
    op.execute("DROP VIEW current_image_analyses")
    op.execute(_VIEW.format(added=ADDED))


def downgrade() -> None:
    """Remove the tables; the view is as it was."""
    op.execute("DROP VIEW current_image_analyses")
    op.execute(_VIEW.format(added=""))
    op.drop_table("image_evaluation_calls")
    op.drop_table("image_evaluations")


def _create_evaluations() -> None:
    op.create_table(
        "image_evaluations",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("prompt_version", sa.Text, nullable=False),
        sa.Column("nova_endpoint", sa.Text, nullable=False),
        sa.Column("file_ids", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("note", sa.Text),
        sa.Column("report", JSON),
        sa.Column("report_uri", sa.Text),
        sa.PrimaryKeyConstraint("run_id", name="pk_image_evaluations"),
    )


def _create_calls() -> None:
    op.create_table(
        "image_evaluation_calls",
        sa.Column("id", ID, nullable=False),
        sa.Column(
            "run_id",
            sa.Text,
            sa.ForeignKey("image_evaluations.run_id", name="fk_image_evaluation_calls_run_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("variant", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, nullable=False),
        sa.Column("called", sa.Boolean, nullable=False),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("format", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("image_bytes", sa.BigInteger),
        sa.Column("original_bytes", sa.BigInteger),
        sa.Column("prepare_seconds", sa.Double),
        sa.Column("upload_seconds", sa.Double),
        sa.Column("endpoint", sa.Text),
        sa.Column("started_at", TIME),
        sa.Column("seconds", sa.Double),
        sa.Column("latency_ms", sa.Integer),
        sa.Column("input_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("cost_usd", sa.Double),
        sa.Column("cost_usd_projected", sa.Double),
        sa.Column("price_date", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("labels", JSON),
        sa.Column("visible_text", sa.Text),
        sa.Column("objects", JSON),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_evaluation_calls"),
    )
    op.create_index("ix_image_evaluation_calls_run", "image_evaluation_calls", ["run_id", "file_id"])
    op.create_index(
        "uq_image_evaluation_calls_final",
        "image_evaluation_calls",
        ["run_id", "file_id", "variant", "repeat"],
        unique=True,
        sqlite_where=FINAL,
        postgresql_where=FINAL,
    )


_VIEW = """
CREATE VIEW current_image_analyses AS
SELECT f.id AS file_id, f.uri, f.filename, f.content_version, f.uploaded_at,
       p.status AS proxy_status, p.uri AS proxy_uri, p.recipe_version AS proxy_recipe_version,
       p.format AS proxy_format, p.width AS proxy_width, p.height AS proxy_height,
       p.original_bytes, p.proxy_bytes, p.saved_bytes, p.saving_ratio,
       a.description, a.labels, a.visible_text, a.objects, a.model_id, a.prompt_version,
       a.recipe_version AS analysed_recipe_version, a.endpoint, a.cost_usd, a.created_at AS analysed_at,
       a.extra, a.tier, a.input_tokens, a.billed_input_tokens, a.output_tokens, a.price_date{added}
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

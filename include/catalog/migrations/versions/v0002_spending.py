"""What an analysis costs: request bytes and billed tokens on rows, reserved dollars on claims, a team's own fields."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
CALLS = ("image_analyses", "image_attempts")  # both say what a request was
BY_TIME = (("image_proxies", "created_at"), ("image_analyses", "created_at"), ("image_attempts", "recorded_at"))


def upgrade() -> None:
    """Add the columns, the indexes that a report by day walks, and the view with what a team's own model answered."""
    op.execute("DROP VIEW current_image_analyses")
    for table in CALLS:
        op.add_column(table, sa.Column("request_bytes", sa.Integer))
        op.add_column(table, sa.Column("billed_input_tokens", sa.Integer))
    op.add_column("image_analyses", sa.Column("extra", JSON))
    op.add_column("image_claims", sa.Column("reserved_usd", sa.Double))
    op.add_column("image_runs", sa.Column("plan_note", sa.Text))
    for table, column in BY_TIME:
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.execute(_view(", a.extra, a.tier, a.input_tokens, a.billed_input_tokens, a.output_tokens, a.price_date"))


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP VIEW current_image_analyses")
    for table, column in BY_TIME:
        op.drop_index(f"ix_{table}_{column}", table)
    op.drop_column("image_runs", "plan_note")
    op.drop_column("image_claims", "reserved_usd")
    op.drop_column("image_analyses", "extra")
    for table in CALLS:
        op.drop_column(table, "billed_input_tokens")
        op.drop_column(table, "request_bytes")
    op.execute(_view(""))


def _view(more: str) -> str:
    return _VIEW.replace("/* more */", more)


_VIEW = """
CREATE VIEW current_image_analyses AS
SELECT f.id AS file_id, f.uri, f.filename, f.content_version, f.uploaded_at,
       p.status AS proxy_status, p.uri AS proxy_uri, p.recipe_version AS proxy_recipe_version,
       p.format AS proxy_format, p.width AS proxy_width, p.height AS proxy_height,
       p.original_bytes, p.proxy_bytes, p.saved_bytes, p.saving_ratio,
       a.description, a.labels, a.visible_text, a.objects, a.model_id, a.prompt_version,
       a.recipe_version AS analysed_recipe_version, a.endpoint, a.cost_usd, a.created_at AS analysed_at/* more */
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

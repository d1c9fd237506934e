"""How a run was started and since when it redoes things; and each image's failures in one view."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add three columns and a view; a run that was forced before now has redone things since it began."""
    op.add_column("image_runs", sa.Column("run_type", sa.Text))
    op.add_column("image_runs", sa.Column("forced_at", sa.DateTime(timezone=True)))
    op.add_column("image_runs", sa.Column("mapped_batches", sa.Integer))
    op.execute("UPDATE image_runs SET forced_at = started_at WHERE force = true")
    op.execute(_VIEW)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP VIEW image_failures")
    op.drop_column("image_runs", "mapped_batches")
    op.drop_column("image_runs", "forced_at")
    op.drop_column("image_runs", "run_type")


_VIEW = """
CREATE VIEW image_failures AS
SELECT f.id AS file_id, f.uri, f.filename, 'proxy' AS stage, p.recipe_version,
       NULL AS model_id, NULL AS prompt_version,
       p.code, p.message, p.transient, p.attempts, p.created_at AS last_try_at, p.next_try_at, p.run_id
FROM image_proxies p JOIN files f ON f.id = p.file_id AND f.content_version = p.content_version
WHERE p.status = 'failed' AND p.superseded_at IS NULL
UNION ALL
SELECT f.id, f.uri, f.filename, 'analyse', a.recipe_version, a.model_id, a.prompt_version,
       a.code, a.message, a.transient, a.attempts, a.created_at, a.next_try_at, a.run_id
FROM image_analyses a JOIN files f ON f.id = a.file_id AND f.content_version = a.content_version
WHERE a.status = 'failed' AND a.superseded_at IS NULL
"""

"""What people look at: previews of originals, and indexes that find images of a rare status."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


CURRENT = sa.column("superseded_at").is_(None)


def upgrade() -> None:
    """Make them."""
    for table in ("image_proxies", "image_analyses"):
        op.create_index(
            f"ix_{table}_status", table, ["status", "file_id"], sqlite_where=CURRENT, postgresql_where=CURRENT
        )
    op.create_table(
        "image_previews",
        sa.Column("file_id", ID, autoincrement=False, nullable=False),
        sa.Column("content_version", sa.Text, nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("file_id", "content_version", name="pk_image_previews"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("image_previews")
    for table in ("image_proxies", "image_analyses"):
        op.drop_index(f"ix_{table}_status", table)

"""Where listings stopped, which originals vanished, and which table of the team's stands in for `files`.

Revision ID: 0005
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables, and find an image's history by its id."""
    op.create_table(
        "image_sources",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("watermark", TIME, nullable=False),
        sa.Column("listed", sa.BigInteger, nullable=False),
        sa.Column("listed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_image_sources"),
    )
    op.create_table(
        "image_vanished",
        sa.Column("file_id", ID, autoincrement=False, nullable=False),
        sa.Column("vanished_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("file_id", name="pk_image_vanished"),
    )
    op.create_table(
        "image_table_mapping",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("mapping", JSON, nullable=False),
        sa.Column("applied_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_table_mapping"),
        sa.CheckConstraint("id = 1", name=op.f("ck_image_table_mapping_one_row")),
    )
    op.create_index("ix_image_proxies_file_id", "image_proxies", ["file_id"])
    op.create_index("ix_image_analyses_file_id", "image_analyses", ["file_id"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_image_analyses_file_id", "image_analyses")
    op.drop_index("ix_image_proxies_file_id", "image_proxies")
    op.drop_table("image_table_mapping")
    op.drop_table("image_vanished")
    op.drop_table("image_sources")

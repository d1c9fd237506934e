"""Failures that are found without reading what is done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

FAILED = sa.and_(sa.column("superseded_at").is_(None), sa.column("status") == "failed")
TABLES = ("image_proxies", "image_analyses")


def upgrade() -> None:
    """Make the indexes."""
    for table in TABLES:
        columns = ["created_at", "id"]
        op.create_index(f"ix_{table}_failed", table, columns, sqlite_where=FAILED, postgresql_where=FAILED)


def downgrade() -> None:
    """Remove them."""
    for table in TABLES:
        op.drop_index(f"ix_{table}_failed", table_name=table)

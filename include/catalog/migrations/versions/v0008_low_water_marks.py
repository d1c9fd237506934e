"""Planning that does not walk past what is done: low-water marks, and an index of retries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
RETRY = sa.and_(sa.column("superseded_at").is_(None), sa.column("next_try_at").is_not(None))
TABLES = ("image_proxies", "image_analyses")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "image_low_water_marks",
        sa.Column("stages", sa.Text, nullable=False),
        sa.Column("recipe_version", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("prompt_version", sa.Text, nullable=False),
        sa.Column("uploaded_at", TIME, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("listed", sa.BigInteger, nullable=False),
        sa.Column("id_sum", sa.BigInteger, nullable=False),
        sa.Column("measured_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint(
            "stages", "recipe_version", "model_id", "prompt_version", name="pk_image_low_water_marks"
        ),
    )
    for table in TABLES:
        op.create_index(f"ix_{table}_retry", table, ["next_try_at"], sqlite_where=RETRY, postgresql_where=RETRY)


def downgrade() -> None:
    """Remove them."""
    for table in TABLES:
        op.drop_index(f"ix_{table}_retry", table_name=table)
    op.drop_table("image_low_water_marks")

"""Batch inference jobs, stored before they are started."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
STATES = "state in ('preparing', 'starting', 'waiting', 'joined', 'refused', 'handed_over')"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "image_batch_jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column(
            "run_id",
            sa.Text,
            sa.ForeignKey("image_runs.run_id", name="fk_image_batch_jobs_run_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("batch_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("client_request_token", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("job_arn", sa.Text),
        sa.Column("records", sa.Integer),
        sa.Column("analysed", sa.Integer),
        sa.Column("failed", sa.Integer),
        sa.Column("returned", sa.Integer),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("joined_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_image_batch_jobs"),
        sa.UniqueConstraint("client_request_token", name="uq_image_batch_jobs_client_request_token"),
        sa.CheckConstraint(STATES, name=op.f("ck_image_batch_jobs_state")),
    )
    op.create_index("uq_image_batch_jobs_number", "image_batch_jobs", ["run_id", "batch_id", "number"], unique=True)
    op.create_index("ix_image_batch_jobs_state", "image_batch_jobs", ["state"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("image_batch_jobs")

"""Run by Alembic. The connection comes from `include.catalog.migrate`, which also names the version table."""

from __future__ import annotations

from alembic import context

from include.catalog.migrate import ours
from include.catalog.schema_version import VERSION_TABLE
from include.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=ours,
    render_as_batch=True,
)
context.run_migrations()

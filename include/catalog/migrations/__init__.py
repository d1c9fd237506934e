"""The catalog's Alembic history, run by `include.catalog.migrate`."""

"""The catalog: which images exist, what was done with each, what it cost. SQLAlchemy on SQLite and PostgreSQL alike."""

"""The REST API, one module a topic."""

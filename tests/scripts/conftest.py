"""The command works on what the pipeline's tests work on."""

from __future__ import annotations

from tests.pipeline.conftest import ground

__all__ = ["ground"]

"""The prompt of a deployment: the packaged one, or a team's own text and output model."""

from __future__ import annotations

from include.nova import Prompt, load_output_model, load_prompt
from include.pipeline.settings import Settings


def prompt_of(settings: Settings) -> Prompt:
    """Return what is asked of Nova. Raises NovaError `invalid_prompt` or `invalid_output_model` (FATAL)."""
    model = load_output_model(settings.output_model)
    return load_prompt(settings.prompt_file, output_model=model, max_tokens=settings.max_output_tokens)

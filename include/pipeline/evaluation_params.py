"""The parameters of one evaluation: which pictures, at which sizes, how often, and for how much money at most."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from include.pipeline.params import FILE_ID, InvalidParams, PipelineParams, checked_values, param, param_schemas

ORIGINAL = "original"
AUTO = "auto"
_SIZE = re.compile(r"[1-9][0-9]{2,3}")
MIN_SHORT_SIDE, MAX_SHORT_SIDE = 256, 2048  # of a proxy, as in the main job
_MODEL = param_schemas(PipelineParams)["model_id"]


@dataclass(frozen=True, slots=True)
class EvaluationParams:
    """What a person may choose for one run of `proxy_quality_evaluation`."""

    sample_size: int = param(
        30,
        "Sample size",
        "Pictures taken at random. Below 10 no confidence interval is given; 30 tell large losses, 200 small ones.",
        type="integer",
        minimum=1,
        maximum=1000,
    )
    seed: int = param(
        1, "Seed", "Chooses the sample and the order of calls: the same seed takes the same pictures.", type="integer"
    )
    file_ids: tuple[int, ...] | None = param(
        None,
        "File ids",
        "These rows of the catalog's table files instead of a random sample.",
        type=["null", "array"],
        items=FILE_ID,
        maxItems=1000,
    )
    detail: tuple[str, ...] = param(
        ("896", ORIGINAL),
        "Sizes",
        "What Nova is shown, one a line: a shorter side in px (256 to 2048), auto, original. The original is always "
        "among them: it is what the others are compared with.",
        type="array",
        items={"type": ["string", "integer"]},
        minItems=1,
        maxItems=8,
        uniqueItems=True,
        examples=["896", "1344", AUTO, ORIGINAL],
    )
    repeats: int = param(
        2,
        "Repeats of the original",
        "How often Nova is asked about each original. From 2 on, how much its own answers differ is the yardstick.",
        type="integer",
        minimum=1,
        maximum=5,
    )
    model_id: str = param(
        _MODEL["default"],
        _MODEL["title"],
        _MODEL["description"],
        type="string",
        minLength=1,
        maxLength=2048,
        examples=_MODEL["examples"],
    )
    quality: int = param(85, "JPEG quality", "Quality of photographs' proxies.", type="integer", minimum=50, maximum=95)
    graphics_format: Literal["png", "webp"] = param(
        "png", "Format of graphics", "Of proxies of graphics and text.", type="string", enum=["png", "webp"]
    )
    max_cost_usd: float | None = param(
        5.0,
        "Highest cost (US dollars)",
        "Refuse to start above this projected cost, and stop when real cost reaches it. Empty: no limit.",
        type=["null", "number"],
        minimum=0,
    )
    report_uri: str | None = param(
        None,
        "Report folder",
        "A folder, or s3://bucket/folder, that gets the report as JSON and Markdown. Empty: the setting "
        "IMAGE_PROXY_REPORT_URI. The catalog keeps it in any case.",
        type=["null", "string"],
        maxLength=1024,
    )

    @property
    def calls_a_picture(self) -> tuple[tuple[str, int], ...]:
        """Return each size with its repeat: what is asked about one picture."""
        return tuple(
            (size, repeat) for size in self.detail for repeat in range(self.repeats if size == ORIGINAL else 1)
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values, to be stored with the evaluation."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def parse_evaluation(conf: Mapping[str, Any]) -> EvaluationParams:
    """Check a run's params and return them typed, sizes in order. Raises `InvalidParams`, naming each wrong one."""
    values = checked_values(conf, param_schemas(EvaluationParams))
    if "detail" in values:
        values["detail"] = _sizes(values["detail"])
    if values.get("file_ids") is not None and not values["file_ids"]:
        raise InvalidParams("file_ids: an empty list has no pictures; leave it out for a random sample")
    return EvaluationParams(**values)


def _sizes(given: tuple[Any, ...]) -> tuple[str, ...]:
    """Smallest first, `auto` and the original last; the original is always there."""
    names = {str(size).strip().lower() for size in given} | {ORIGINAL}
    numbers = {name for name in names if _SIZE.fullmatch(name) and MIN_SHORT_SIDE <= int(name) <= MAX_SHORT_SIDE}
    wrong = sorted(names - numbers - {ORIGINAL, AUTO})
    if wrong:
        raise InvalidParams(
            f"detail: {', '.join(map(repr, wrong))}: a size is a shorter side of {MIN_SHORT_SIDE} to "
            f"{MAX_SHORT_SIDE} px, {AUTO} or {ORIGINAL}"
        )
    if names == {ORIGINAL}:
        raise InvalidParams("detail: name at least one size beside the original, for example 896")
    return (*sorted(numbers, key=int), *(name for name in (AUTO, ORIGINAL) if name in names))

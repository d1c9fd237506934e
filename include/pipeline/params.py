"""The parameters of one run: one list, from which the trigger form, the REST schema and the check are all made."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from include.catalog.records import Stage
from include.pipeline.refusals import NeedsAPerson

DEFAULT_MODEL_ID = "us.amazon.nova-2-lite-v1:0"


class InvalidParams(NeedsAPerson, ValueError):
    """A param does not exist or its value does not fit; the message says what to type."""

    code = "invalid_params"


def param(default: Any, title: str, description: str, **schema: Any) -> Any:
    """Return the field of a params dataclass, with what the trigger form shows and its JSON schema."""
    return dataclasses.field(default=default, metadata={"title": title, "description": description, "schema": schema})


_param = param

_TIME = {"type": ["null", "string"], "format": "date-time", "examples": ["2026-11-01T00:00:00+00:00"]}

FILE_ID = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}  # what a column of ids holds

# Headings of the trigger form. What has none stands on top, and is the only part that Airflow shows unfolded.
IMAGES, PROXIES, ANALYSIS, BOUNDS = "Which images", "Proxies", "Analysis", "Bounds"


@dataclass(frozen=True, slots=True)
class PipelineParams:
    """What a person may choose for one run of `image_proxy_pipeline`."""

    stages: tuple[str, ...] = _param(
        ("proxy", "analyse"),
        "Stages",
        "Make proxies, have Nova analyse them, or both. An analysis alone takes images that have a proxy already "
        "(with IMAGE_PROXY_PROXY_MODE=lazy it makes the proxies that are missing).",
        values_display={"proxy": "make proxies", "analyse": "analyse with Nova"},
        type="array",
        items={"type": "string", "enum": ["proxy", "analyse"]},
        minItems=1,
        uniqueItems=True,
        examples=["proxy", "analyse"],
    )
    limit: int | None = _param(
        None,
        "Limit",
        "Take at most this many images (1 to 100,000), oldest upload first. Empty: 10,000, and no limit in a backfill.",
        examples=[100, 1000],
        type=["null", "integer"],
        minimum=1,
        maximum=100_000,
    )
    force: bool = _param(
        False,
        "Force",
        "Redo images that are done, or failed before. The old proxies and analyses stay as history; what this run has "
        "redone is not redone, nor paid, again when it is cleared.",
        type="boolean",
    )
    dry_run: bool = _param(
        False,
        "Dry run",
        "Write nothing and call nobody: the log of plan says what would be done, with projected bytes and cost.",
        type="boolean",
    )
    file_ids: tuple[int, ...] | None = _param(
        None,
        "File ids",
        "Only these rows of the catalog's table files, as a list of whole numbers: [1, 2, 3]. Empty: all unprocessed "
        "images.",
        section=IMAGES,
        type=["null", "array"],
        items=FILE_ID,
        maxItems=10_000,
    )
    uploaded_from: datetime | None = _param(
        None,
        "Uploaded from",
        "Only images uploaded at or after this time; in JSON with its UTC offset: 2026-11-01T00:00:00+00:00.",
        section=IMAGES,
        **_TIME,
    )
    uploaded_to: datetime | None = _param(
        None,
        "Uploaded to",
        "Only images uploaded before this time; in JSON with its UTC offset: 2026-11-01T00:00:00+00:00.",
        section=IMAGES,
        **_TIME,
    )
    target_short_side: int = _param(
        896,
        "Target short side (px)",
        "Shorter side of a proxy, 256 to 2048. 896 is Nova's own threshold; more keeps small text readable.",
        section=PROXIES,
        type="integer",
        minimum=256,
        maximum=2048,
    )
    detail: Literal["fixed", "auto"] = _param(
        "fixed",
        "Detail",
        "fixed: all proxies have the target short side. auto: pictures of small text keep the pixels that it needs.",
        section=PROXIES,
        type="string",
        enum=["fixed", "auto"],
        values_display={"fixed": "fixed: the target short side", "auto": "auto: small text keeps its pixels"},
    )
    quality: int = _param(
        85,
        "JPEG quality",
        "Quality of photographs' proxies, 50 to 95.",
        section=PROXIES,
        type="integer",
        minimum=50,
        maximum=95,
    )
    graphics_format: Literal["png", "webp"] = _param(
        "png",
        "Format of graphics",
        "For graphics, text and transparency: PNG, or lossless WebP (about a third smaller).",
        section=PROXIES,
        type="string",
        enum=["png", "webp"],
        values_display={"png": "PNG", "webp": "WebP, lossless"},
    )
    model_id: str = _param(
        DEFAULT_MODEL_ID,
        "Model",
        "Inference profile that answers, and where it may process images: us. (Virginia, Ohio, Oregon), eu. "
        "(Frankfurt, Stockholm, Milan, Spain, Ireland, Paris), jp. (Tokyo, Osaka), global. (any commercial AWS "
        "region). It is called from the bucket's region.",
        section=ANALYSIS,
        type="string",
        minLength=1,
        maxLength=2048,
        examples=[f"{geography}.amazon.nova-2-lite-v1:0" for geography in ("us", "eu", "jp", "global")],
    )
    tier: Literal["default", "flex", "priority"] = _param(
        "default",
        "Service tier",
        "default: on demand. flex: half the price, slower when Bedrock is busy. priority: 1.75 times the price, served "
        "first.",
        section=ANALYSIS,
        type="string",
        enum=["default", "flex", "priority"],
        values_display={
            "default": "on demand",
            "flex": "flex: half the price, may wait",
            "priority": "priority: 1.75 times the price, served first",
        },
    )
    max_failure_ratio: float = _param(
        0.2,
        "Highest failure ratio",
        "The run is marked failed when more than this share (0 to 1) of its attempted images failed.",
        section=BOUNDS,
        type="number",
        minimum=0,
        maximum=1,
    )
    max_cost_usd: float | None = _param(
        None,
        "Highest cost (US dollars)",
        "Take only as many images as this many US dollars pay for by projection, and stop when real cost reaches it: "
        "the rest stays pending. Empty: no limit of this run's own.",
        section=BOUNDS,
        examples=[5.0],
        type=["null", "number"],
        minimum=0,
    )
    batch_size: int | None = _param(
        None,
        "Batch size",
        "Images per mapped task, 1 to 5000. Empty: chosen so that scheduling stays under a tenth of the work.",
        section=BOUNDS,
        type=["null", "integer"],
        minimum=1,
        maximum=5000,
    )

    @property
    def wanted(self) -> frozenset[Stage]:
        """Return the stages as the catalog names them."""
        return frozenset(Stage(name) for name in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, to be stored with the run."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: value.isoformat()
            if isinstance(value, datetime)
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in values.items()
        }


def param_schemas(kind: type[Any] = PipelineParams) -> dict[str, dict[str, Any]]:
    """Return name -> JSON schema with default, title and description, in the order of the form."""
    return {
        field.name: {
            "default": list(field.default) if isinstance(field.default, tuple) else field.default,
            "title": field.metadata["title"],
            "description": field.metadata["description"],
            **_commented(field.metadata["schema"]),
        }
        for field in dataclasses.fields(kind)
    }


def _commented(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Say in a schema what to type: Airflow's REST API answers a wrong value with the schema that it broke."""
    told = {**schema, "$comment": f"type {what_to_type(schema)}"}
    return told | {"items": {**schema["items"], "$comment": told["$comment"]}} if "items" in schema else told


def parse_params(conf: Mapping[str, Any]) -> PipelineParams:
    """Check ``conf`` against the schemas and return it typed. Raises `InvalidParams`, naming each wrong param."""
    params = PipelineParams(**checked_values(conf, param_schemas()))
    if params.uploaded_from and params.uploaded_to and params.uploaded_from >= params.uploaded_to:
        raise InvalidParams("uploaded_from must be before uploaded_to")
    return params


def checked_values(conf: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of ``conf``, typed. Raises `InvalidParams`, naming each param that is unknown or wrong."""
    problems = [_unknown(name, schemas) for name in conf if name not in schemas]
    problems += [text for name, value in conf.items() if name in schemas for text in _wrong(name, value, schemas[name])]
    if problems:
        raise InvalidParams("; ".join(problems))
    return {name: _typed(name, value, schemas[name]) for name, value in conf.items()}


def _unknown(name: str, schemas: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, schemas, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(schemas)}"
    return f"unknown param {name!r}: {hint}"


def _wrong(name: str, value: Any, schema: Mapping[str, Any]) -> list[str]:
    from jsonschema import Draft202012Validator

    if isinstance(value, float) and not math.isfinite(value):
        return [f"{name}: {value} is not a number that can be compared"]
    found = [error.message for error in Draft202012Validator(schema).iter_errors(value)]
    problems = [f"{name}: {message}; type {what_to_type(schema)}" for message in found]
    if not problems and schema.get("format") == "date" and value is not None:
        try:
            date.fromisoformat(value)
        except ValueError:
            problems.append(f"{name}: {value!r} is not a day; type for example {schema['examples'][0]}")
    if not problems and schema.get("format") == "date-time" and value is not None:
        try:
            if datetime.fromisoformat(value).tzinfo is None:
                problems.append(f"{name}: {value!r} has no UTC offset; type for example {schema['examples'][0]}")
            _typed(name, value, schema)
        except (ValueError, OverflowError):
            problems.append(f"{name}: {value!r} is not a time; type for example {schema['examples'][0]}")
    return problems


def what_to_type(schema: Mapping[str, Any]) -> str:
    """Return in words what a param takes, made from its schema: kind, bounds, choices, an example."""
    kinds = [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
    words = _choice(schema) or _kind(schema, next(kind for kind in kinds if kind != "null"))
    return f"{words}, or leave it empty (null)" if "null" in kinds else words


def _choice(schema: Mapping[str, Any]) -> str | None:
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    choices = schema.get("items", {}).get("enum")
    return f"a list of some of {json.dumps(choices)}" if choices else None


def _kind(schema: Mapping[str, Any], kind: str) -> str:
    example = f", for example {schema['examples'][0]}" if schema.get("examples") else ""
    if kind == "array" and schema["items"].get("type") == "integer":
        length = f" of at most {schema['maxItems']:,}" if "maxItems" in schema else " of"
        return f"a list{length} whole numbers above 0, for example [1, 2, 3]"
    moment = {"date-time": "a time with its UTC offset", "date": "a day"}.get(schema.get("format", ""))
    if moment is not None:
        return moment + example
    name = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(kind)
    if name is None:
        return ("a list" if kind == "array" else "text") + example
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{name} from {least} to {most}"
    return f"{name} of at least {least}" if least is not None else name


def _typed(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        whole = schema["items"].get("type") == "integer"
        return tuple(int(item) if whole else item for item in value)
    if schema.get("format") == "date" and value is not None:
        return date.fromisoformat(value)
    if schema.get("format") == "date-time" and value is not None:
        return datetime.fromisoformat(value).astimezone(UTC)
    if isinstance(value, float) and "integer" in schema["type"]:  # 5.0 is an integer to JSON, and to nobody else
        return int(value)
    return value

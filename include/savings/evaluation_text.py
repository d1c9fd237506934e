"""The report of an evaluation in Markdown: the answer first, then the figures, then how they were come by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.savings.evaluation import ORIGINAL, EvaluationReport

_Figure = Mapping[str, Any] | None


def evaluation_markdown(report: EvaluationReport) -> str:
    """Return the report as one Markdown page."""
    data = report.data
    parts = ["# Proxy quality evaluation", *_warnings(data), _about(data), "## What is lost, what is gained"]
    for size, compared in data["comparisons"].items():
        parts.append(f"### {_named(size)} against the original, {_count(compared['pictures'])}")
        parts += [_answer_lines(compared), _agreement_table(compared)]
    parts += ["## Each size", _size_table(data["sizes"]), "## Calls and cost", _calls(data)]
    parts += ["## Methods", "\n".join(f"- `{name}`: {says}" for name, says in data["methods"].items())]
    return "\n\n".join(parts) + "\n"


def _warnings(data: Mapping[str, Any]) -> list[str]:
    found = []
    if data["warning"]:
        found.append(f"> **{data['warning']}**")
    if not data["complete"]:
        why = "the highest cost was reached" if data["stopped_by_cost"] else "the task did not come to its end"
        found.append(f"> **INCOMPLETE**: {data['calls']['open']} calls were not made or not answered, because {why}.")
    return found


def _about(data: Mapping[str, Any]) -> str:
    pictures, params = data["pictures"], data["params"]
    lines = [
        f"- `{data['model_id']}`, prompt `{data['prompt_version']}`, answered by **{data['nova_endpoint']}**",
        f"- {_count(pictures['sampled'])} sampled (seed {params['seed']}), {pictures['compared']} compared; "
        f"the original asked {params['repeats']} times",
    ]
    lines += [
        f"- {_count(number)} not larger than {_named(size)}: nothing to compare there"
        for size, number in pictures["not_larger"].items()
    ]
    lines += [f"- {_count(number)} refused: `{code}`" for code, number in pictures["refused"].items()]
    return "\n".join(lines)


def _answer_lines(compared: Mapping[str, Any]) -> str:
    if not compared["pictures"]:
        return "No picture was answered at both sizes: nothing can be said."
    lines = [_latency_line("at the client, in seconds", compared["latency"]["seconds"])]
    lines.append(_latency_line("by the model's own figure, in milliseconds", compared["latency"]["latency_ms"]))
    for of, name in (
        ("text", "text_word_recall"),
        ("labels", "label_jaccard"),
        ("descriptions", "description_token_f1"),
    ):
        lines.append(_loss_line(of, compared[of][name], name))
    return "\n".join(f"- {line}" for line in lines)


def _latency_line(what: str, found: Mapping[str, Any]) -> str:
    gain, share = found["gain"], found["gain_share"]
    if gain is None:
        return f"**Latency** {what}: not measured"
    if gain["excludes_zero"] is None:
        said = "too few pictures for an interval; the mean gain is"
    elif not gain["excludes_zero"]:
        said = "no difference can be told, by"
    else:
        said = "sooner, by" if gain["value"] > 0 else "LATER, by"
    return f"**Latency** {what}: {said} {_interval(gain)} ({_interval(share, percent=True)})"


def _loss_line(of: str, found: Mapping[str, _Figure], name: str) -> str:
    title, loss, agreement = f"**{of.capitalize()}** (`{name}`)", found["loss"], found["agreement"]
    if agreement is None:
        return f"{title}: nothing to compare in these pictures"
    if loss is None:
        return f"{title}: agreement {_interval(agreement)}; without repeats there is no yardstick for it"
    if loss["excludes_zero"] is None:
        said = "too few pictures for an interval; the mean loss is"
    elif not loss["excludes_zero"]:
        said = "no loss can be told from the model's own variation:"
    else:
        said = "lost beyond the model's own variation:" if loss["value"] > 0 else "closer than the original to itself:"
    return f"{title}, {_count(loss['pictures'])}: {said} {_interval(loss)}"


def _agreement_table(compared: Mapping[str, Any]) -> str:
    rows = ["| method | pictures | original with itself | with the original | loss |", "|---|---|---|---|---|"]
    for of in ("text", "labels", "descriptions"):
        for name, found in compared[of].items():
            number = found["agreement"]["pictures"] if found["agreement"] else 0
            cells = (_interval(found[column]) for column in ("own_variation", "agreement", "loss"))
            rows.append(f"| `{name}` | {number} | {' | '.join(cells)} |")
    return "\n".join(rows)


_ROWS = (
    ("pictures", "pictures"),
    ("megapixels", "megapixels"),
    ("image_bytes", "bytes"),
    ("seconds", "latency at the client, s"),
    ("seconds_p50", "median, s"),
    ("seconds_p95", "95th percentile, s"),
    ("latency_ms", "the model's latency, ms"),
    ("input_tokens", "input tokens"),
    ("output_tokens", "output tokens"),
    ("cost_usd_projected", "cost an answer by the price list, US dollars"),
    ("prepare_seconds", "making the copy, s"),
    ("upload_seconds", "uploading it, s"),
)


def _size_table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [f"| mean a picture | {' | '.join(map(_named, sizes))} |", f"|---|{'---|' * len(sizes)}"]
    for key, title in _ROWS:
        rows.append(f"| {title} | {' | '.join(_cell(found[key]) for found in sizes.values())} |")
    return "\n".join(rows)


def _calls(data: Mapping[str, Any]) -> str:
    calls = data["calls"]
    failed = ", ".join(f"{number} {code}" for code, number in calls["failed"].items()) or "none"
    paid = "nothing was paid" if calls["cost_usd"] is None else f"${calls['cost_usd']:.6f} paid"
    return (
        f"{calls['made']} calls, {calls['answered']} answered, {calls['open']} open; failed: {failed}. "
        f"{calls['input_tokens']} input and {calls['output_tokens']} output tokens; {paid} "
        f"(${calls['cost_usd_projected']:.6f} by the prices of {calls['price_date']})."
    )


def _cell(value: Any) -> str:
    return _interval(value) if isinstance(value, Mapping) else "-" if value is None else _number(value)


def _interval(figure: _Figure, *, percent: bool = False) -> str:
    if figure is None:
        return "-"
    value, low, high = (
        None if figure[name] is None else _number(figure[name], percent=percent) for name in ("value", "low", "high")
    )
    return f"{value}" if low is None else f"{value} ({low} to {high})"


def _number(value: float, *, percent: bool = False) -> str:
    if percent:
        return f"{100 * value:.1f} %"
    if isinstance(value, int) or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.01 and value else f"{value:.3f}"  # noqa: PLR2004


def _named(size: str) -> str:
    return f"{size} px" if size.isdigit() else "The original" if size == ORIGINAL else size


def _count(number: int) -> str:
    return f"{number} picture{'' if number == 1 else 's'}"

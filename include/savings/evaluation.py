"""What do we lose at a smaller size, on these pictures, and what latency do we gain? From the calls of one evaluation.

One figure a picture and size; differences are paired within a picture. The yardstick is how much the model's answers
about the *same* original differ from each other: a proxy loses something only where its answer differs by more.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations, product
from typing import Any

from include.catalog.records import Evaluation, EvaluationCall
from include.savings.agreement import METHODS, Answer, Method, mean_of
from include.savings.intervals import CONFIDENCE, MIN_SAMPLE, RESAMPLES, Estimate, mean, saved_share
from include.savings.report import percentile

ORIGINAL = "original"
SAME_SIZE = "same_as_original"
STAND_IN_WARNING = (
    "MEANINGLESS FOR NOVA: the answers came from the Nova stand-in, which recognises nothing and reads nothing. "
    "Latency, tokens and agreement below show only that the evaluation works."
)
NO_ANSWER_WARNING = "NO ANSWER: Nova answered nothing, so that nothing can be said about it."
HOW = {
    "interval": f"percentile bootstrap over pictures, {RESAMPLES} resamples, {CONFIDENCE:.0%}; none below "
    f"{MIN_SAMPLE} pictures, and none of a share where a picture has a zero to take it of. No width means that all "
    "pictures gave the same figure.",
    "latency": "seconds from the request to its answer at the client, without the attempts that were throttled; "
    "latency_ms is the model's own figure. The calls of one picture follow each other in random order.",
    "own_variation": "agreement of the answers about the same original with each other",
    "loss": "own variation minus agreement, paired within a picture; above zero, something is lost",
    "reference": "what Nova says of the original, or of the largest version of it that Nova accepts",
    "cost_usd_projected": "tokens as reported, billed as the model card says, at its price",
}


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The report as plain JSON values, and as text for people."""

    data: Mapping[str, Any]

    def as_json(self) -> str:
        """Return the content of the report's JSON file."""
        return json.dumps(self.data, indent=2, ensure_ascii=False) + "\n"

    def headline(self) -> dict[str, Any]:
        """Return what may travel through XCom: counts, cost, and whether any of it is Nova's."""
        pictures, calls = self.data["pictures"], self.data["calls"]
        return {
            "meaningful_for_nova": self.data["meaningful_for_nova"],
            "complete": self.data["complete"],
            "pictures_compared": pictures["compared"],
            "calls": calls["made"],
            "cost_usd": calls["cost_usd"],
            "cost_usd_projected": calls["cost_usd_projected"],
        }


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers of an evaluation by picture and size, repeats in order."""

    by_picture: Mapping[int, Mapping[str, Sequence[EvaluationCall]]]

    def pairs(self, size: str) -> Iterator[tuple[Sequence[EvaluationCall], Sequence[EvaluationCall]]]:
        """Answers about the original and about the same picture at `size`, of each picture that has both."""
        for sizes in self.by_picture.values():
            if sizes.get(ORIGINAL) and sizes.get(size):
                yield sizes[ORIGINAL], sizes[size]

    def at(self, size: str) -> list[Sequence[EvaluationCall]]:
        """Answers at `size`, one item a picture."""
        return [sizes[size] for sizes in self.by_picture.values() if sizes.get(size)]


def build_evaluation_report(
    evaluation: Evaluation, calls: Sequence[EvaluationCall], *, open_calls: int, stopped_by_cost: bool
) -> EvaluationReport:
    """Turn the calls of one evaluation into its report. `open_calls` of those that were wanted have no answer."""
    answers = _answers(calls)
    sizes = list(evaluation.params["detail"])
    proxies = [size for size in sizes if size != ORIGINAL]
    nova = ({call.endpoint for call in calls if call.called} or {evaluation.nova_endpoint}) == {"aws"}
    answered = any(call.answered for call in calls)
    data = {
        "evaluation": evaluation.run_id,
        "meaningful_for_nova": nova and answered,
        "warning": STAND_IN_WARNING if not nova else None if answered else NO_ANSWER_WARNING,
        "complete": open_calls == 0,
        "stopped_by_cost": stopped_by_cost,
        "model_id": evaluation.model_id,
        "prompt_version": evaluation.prompt_version,
        "nova_endpoint": evaluation.nova_endpoint,
        "created_at": evaluation.created_at.isoformat(),
        "params": dict(evaluation.params),
        "pictures": _pictures(evaluation, calls, answers, proxies),
        "comparisons": {size: _comparison(answers, size) for size in proxies},
        "sizes": {size: _size(answers, size) for size in sizes},
        "calls": _call_figures(calls, open_calls),
        "methods": {method.name: f"{method.of}: {method.says}" for method in METHODS} | HOW,
    }
    return EvaluationReport(data)


def _answers(calls: Sequence[EvaluationCall]) -> _Answers:
    found: dict[int, dict[str, list[EvaluationCall]]] = defaultdict(lambda: defaultdict(list))
    for call in sorted(calls, key=lambda call: (call.file_id, call.variant, call.repeat)):
        if call.answered and call.final:
            found[call.file_id][call.variant].append(call)
    return _Answers({file_id: dict(sizes) for file_id, sizes in found.items()})


def _pictures(
    evaluation: Evaluation, calls: Sequence[EvaluationCall], answers: _Answers, proxies: Sequence[str]
) -> dict[str, Any]:
    verdicts = [call for call in calls if call.final and not call.called]
    compared = {
        file_id
        for file_id, sizes in answers.by_picture.items()
        if ORIGINAL in sizes and any(size in sizes for size in proxies)
    }
    small = {(call.file_id, call.variant) for call in verdicts if call.code == SAME_SIZE and call.variant != ORIGINAL}
    refused = {(call.file_id, call.code or "") for call in verdicts if call.code not in (SAME_SIZE, None)}
    return {
        "sampled": len(evaluation.file_ids),
        "compared": len(compared),
        "not_larger": dict(Counter(size for _, size in sorted(small))),
        "refused": dict(Counter(code for _, code in refused)),
        "refused_file_ids": sorted({file_id for file_id, _ in refused}),
    }


def _call_figures(calls: Sequence[EvaluationCall], open_calls: int) -> dict[str, Any]:
    made = [call for call in calls if call.called]
    billed = [call.cost_usd for call in made if call.cost_usd is not None]
    return {
        "made": len(made),
        "answered": sum(call.answered for call in made),
        "open": open_calls,
        "failed": dict(Counter(call.code for call in made if call.code is not None)),
        "input_tokens": sum(call.input_tokens for call in made),
        "output_tokens": sum(call.output_tokens for call in made),
        "cost_usd": round(sum(billed), 6) if billed else None,
        "cost_usd_projected": round(sum(call.cost_usd_projected or 0.0 for call in made), 6),
        "price_date": next((call.price_date for call in made if call.price_date), None),
    }


# -- one size by itself ----------------------------------------------------------------------------------------------


def _size(answers: _Answers, size: str) -> dict[str, Any]:
    pictures = answers.at(size)
    calls = [call for repeats in pictures for call in repeats]
    seconds = sorted(call.seconds for call in calls if call.seconds is not None)

    def average(name: str) -> dict[str, Any] | None:
        per_picture = (mean_of([getattr(call, name) for call in repeats]) for repeats in pictures)
        return _shown(mean([value for value in per_picture if value is not None]))

    return {
        "pictures": len(pictures),
        "seconds": average("seconds"),
        "seconds_p50": percentile(seconds, 0.50),
        "seconds_p95": percentile(seconds, 0.95),
        "latency_ms": average("latency_ms"),
        "input_tokens": average("input_tokens"),
        "output_tokens": average("output_tokens"),
        "cost_usd_projected": average("cost_usd_projected"),
        "image_bytes": average("image_bytes"),
        "megapixels": _shown(mean([_pixels(repeats[0]) / 1e6 for repeats in pictures])),
        "prepare_seconds": average("prepare_seconds"),
        "upload_seconds": average("upload_seconds"),
    }


def _pixels(call: EvaluationCall) -> int:
    return (call.width or 0) * (call.height or 0)


# -- a size against the original -------------------------------------------------------------------------------------


def _comparison(answers: _Answers, size: str) -> dict[str, Any]:
    pairs = list(answers.pairs(size))
    figures: dict[str, Any] = {
        "pictures": len(pairs),
        "latency": {"seconds": _gain(pairs, "seconds"), "latency_ms": _gain(pairs, "latency_ms")},
    }
    for method in METHODS:
        figures.setdefault(method.of, {})[method.name] = _loss(pairs, method)
    tokens = {name: _gain(pairs, name) for name in ("input_tokens", "output_tokens")}
    return figures | {"tokens": tokens, "cost_usd_projected": _gain(pairs, "cost_usd_projected")}


_Pairs = Sequence[tuple[Sequence[EvaluationCall], Sequence[EvaluationCall]]]


def _gain(pairs: _Pairs, name: str) -> dict[str, Any]:
    """What the smaller picture saves: original minus proxy, a picture at a time, and as a share of the original's."""
    both = []
    for originals, smaller in pairs:
        first = mean_of([getattr(call, name) for call in originals])
        second = mean_of([getattr(call, name) for call in smaller])
        if first is not None and second is not None:
            both.append((first, second))
    share = saved_share(both) if both else None
    return {"gain": _shown(mean([first - second for first, second in both])), "gain_share": _shown(share)}


def _loss(pairs: _Pairs, method: Method) -> dict[str, Any]:
    own, agreement, loss = [], [], []
    for originals, smaller in pairs:
        references, others = [_answer(call) for call in originals], [_answer(call) for call in smaller]
        agreed = mean_of([method.compare(one, two) for one, two in product(references, others)])
        itself = mean_of([method.compare(one, two) for one, two in permutations(references, 2)])
        if agreed is None:
            continue
        agreement.append(agreed)
        if itself is not None:
            own.append(itself)
            loss.append(itself - agreed)
    return {
        "agreement": _shown(mean(agreement)),
        "own_variation": _shown(mean(own)),
        "loss": _shown(mean(loss)),
    }


def _answer(call: EvaluationCall) -> Answer:
    labels = tuple(str(label.get("name", "")) for label in call.labels)
    return Answer(call.description or "", labels, call.visible_text or "")


def _shown(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(estimate).items()
    } | {"excludes_zero": estimate.excludes_zero}

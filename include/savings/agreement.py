"""How much two answers about the same picture agree. Each method is named in the report; none of them asks a model.

All figures run from 0 (nothing in common) to 1 (the same). None means that the question does not arise: no text in the
reference, no labels on either side. The first answer is always the reference.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+")
_GRAM = 4  # characters: whole short words, most stems of long ones
_TRIGRAM = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What is compared of one analysis."""

    description: str
    labels: tuple[str, ...]
    visible_text: str


def normalised(text: str) -> str:
    """Lower case, without accents and punctuation, single blanks: `Café-Terrace` and `cafe terrace` are one name."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(_WORD.findall(plain.casefold()))


def label_jaccard(reference: Answer, other: Answer) -> float | None:
    """Labels that both have, over all labels that either has, by normalised name."""
    first, second = _names(reference), _names(other)
    return len(first & second) / len(first | second) if first | second else None


def label_soft_agreement(reference: Answer, other: Answer) -> float | None:
    """Mean over all labels of both sides of the likeness to the nearest label of the other side.

    Likeness is the Dice coefficient of character trigrams, so that `sports car` and `car` count for something.
    """
    first, second = _names(reference), _names(other)
    if not first and not second:
        return None
    if not first or not second:
        return 0.0
    nearest = [max(_likeness(name, known) for known in second) for name in first]
    nearest += [max(_likeness(name, known) for known in first) for name in second]
    return math.fsum(nearest) / len(nearest)


def text_word_recall(reference: Answer, other: Answer) -> float | None:
    """Share of the words of the reference's visible text that the other has too, repeated words counted."""
    return _recall(_words(reference.visible_text), _words(other.visible_text))


def text_gram_recall(reference: Answer, other: Answer) -> float | None:
    """Share of the character 4-grams of the reference's visible text that the other has too: one wrong letter in a
    long word costs four of its grams, not all of it. A shorter text is one gram of its own length."""
    size = min(_GRAM, len(normalised(reference.visible_text)))
    return _recall(_grams(reference.visible_text, size), _grams(other.visible_text, size))


def description_token_f1(reference: Answer, other: Answer) -> float | None:
    """Harmonic mean of precision and recall over the words of both descriptions, repeated words counted."""
    first, second = _words(reference.description), _words(other.description)
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else None


def description_cosine(reference: Answer, other: Answer) -> float | None:
    """Cosine of the angle between the word counts of both descriptions."""
    first, second = _words(reference.description), _words(other.description)
    if not first or not second:
        return None if not first and not second else 0.0
    product = sum(count * second[word] for word, count in first.items())
    return min(1.0, product / (_length(first) * _length(second)))


@dataclass(frozen=True, slots=True)
class Method:
    """One way of comparing: its name in the report, what it compares, and how, in words."""

    name: str
    of: str  # text, labels, descriptions
    says: str
    compare: Callable[[Answer, Answer], float | None]


# In the order of the report: text and labels first.
METHODS = (
    Method("text_word_recall", "text", "words of the reference's visible text that were read too", text_word_recall),
    Method("text_4gram_recall", "text", "character 4-grams of the reference's visible text read too", text_gram_recall),
    Method("label_jaccard", "labels", "labels in common over labels in all, by normalised name", label_jaccard),
    Method(
        "label_soft_agreement",
        "labels",
        "likeness (Dice, character trigrams) of each label to the nearest of the other answer",
        label_soft_agreement,
    ),
    Method("description_token_f1", "descriptions", "F1 over words", description_token_f1),
    Method("description_cosine", "descriptions", "cosine of word counts", description_cosine),
)


def _names(answer: Answer) -> frozenset[str]:
    return frozenset(filter(None, map(normalised, answer.labels)))


def _words(text: str) -> Counter[str]:
    return Counter(normalised(text).split())


def _grams(text: str, size: int) -> Counter[str]:
    plain = normalised(text)
    if not plain:
        return Counter()
    return Counter(plain[start : start + size] for start in range(max(1, len(plain) - size + 1)))


def _recall(reference: Counter[str], other: Counter[str]) -> float | None:
    return (reference & other).total() / reference.total() if reference else None


def _likeness(first: str, second: str) -> float:
    if first == second:
        return 1.0
    one, two = _grams(first, _TRIGRAM), _grams(second, _TRIGRAM)
    return 2 * (one & two).total() / (one.total() + two.total())


def _length(counts: Mapping[str, int]) -> float:
    return math.sqrt(sum(count * count for count in counts.values()))


def mean_of(values: Collection[float | None]) -> float | None:
    """Mean of those that are figures; None where none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None

"""Agreement of two answers, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.savings.agreement import (
    METHODS,
    Answer,
    description_cosine,
    description_token_f1,
    label_jaccard,
    label_soft_agreement,
    normalised,
    text_gram_recall,
    text_word_recall,
)


def labels(*names: str) -> Answer:
    return Answer("", names, "")


def text(words: str) -> Answer:
    return Answer("", (), words)


def said(words: str) -> Answer:
    return Answer(words, (), "")


def test_names_that_only_look_different_are_one() -> None:
    assert normalised("  Café-Terrace! ") == normalised("CAFE terrace") == "cafe terrace"
    assert normalised("東京 タワー") == "東京 タワー"
    assert label_jaccard(labels("Café", "Dog"), labels("cafe", "dog.")) == 1.0


def test_labels_in_common_over_labels_in_all() -> None:
    assert label_jaccard(labels("dog", "cat", "grass"), labels("dog", "cat", "sky")) == pytest.approx(2 / 4)
    assert label_jaccard(labels("dog"), labels()) == 0.0
    assert label_jaccard(labels(), labels()) is None


def test_a_label_that_is_nearly_the_same_counts_for_something() -> None:
    # trigrams of "dog": {dog}; of "dogs": {dog, ogs}: Dice 2*1/3
    assert label_soft_agreement(labels("dog"), labels("dogs")) == pytest.approx(2 / 3)
    assert label_jaccard(labels("dog"), labels("dogs")) == 0.0
    assert label_soft_agreement(labels("dog"), labels()) == 0.0
    assert label_soft_agreement(labels(), labels()) is None


def test_recall_of_text_asks_what_of_the_reference_was_read() -> None:
    assert text_word_recall(text("no parking no stopping"), text("No Parking")) == pytest.approx(2 / 4)
    assert text_word_recall(text("no parking"), text("no parking today, thanks")) == 1.0
    assert text_word_recall(text("stop"), text("")) == 0.0
    assert text_word_recall(text(" .. "), text("stop")) is None


def test_one_wrong_letter_costs_its_grams_and_not_the_word() -> None:
    # "parking" has the 4-grams park, arki, rkin, king; "parkinq" lacks king
    assert text_gram_recall(text("parking"), text("parkinq")) == pytest.approx(3 / 4)
    assert text_word_recall(text("parking"), text("parkinq")) == 0.0
    assert text_gram_recall(text("no"), text("no")) == 1.0
    assert text_gram_recall(text("42"), text("exit 42 north")) == 1.0, "read, with more beside it"
    assert text_gram_recall(text("42"), text("43")) == 0.0
    assert text_gram_recall(text(""), text("no")) is None


def test_descriptions_by_their_words() -> None:
    # 3 words in common of 4 and 5: 2*3/9
    assert description_token_f1(said("a dog on grass"), said("a dog near green grass")) == pytest.approx(6 / 9)
    # counts (a 1, dog 2) and (a 1, cat 2): product 1, lengths sqrt 5 each
    assert description_cosine(said("a dog dog"), said("a cat cat")) == pytest.approx(1 / 5)
    assert description_cosine(said("a"), said("")) == 0.0
    assert description_cosine(said(""), said("")) is None


ANSWERS = st.builds(
    Answer,
    st.text(max_size=60),
    st.lists(st.text(max_size=12), max_size=5).map(tuple),
    st.text(max_size=60),
)


@given(ANSWERS, ANSWERS)
def test_every_method_gives_a_share_whatever_the_answers(one: Answer, two: Answer) -> None:
    for method in METHODS:
        found = method.compare(one, two)
        assert found is None or 0 <= found <= 1, method.name
        itself = method.compare(one, one)
        assert itself is None or itself == pytest.approx(1), method.name

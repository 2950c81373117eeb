"""Training the micro models: repeatable, and policies chosen by what they can do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.micro import train
from examples.micro.lessons import Teacher
from examples.micro.policies import choose
from examples.micro.problems import WORDINGS

MODELS = Path(__file__).resolve().parents[1] / "examples/micro/models"


def test_the_tokenizer_from_nothing_is_the_shipped_one() -> None:
    from transformers import AutoTokenizer

    shipped = AutoTokenizer.from_pretrained(MODELS / "judge")
    assert train.tokenizer().get_vocab() == shipped.get_vocab()


def test_held_out_sentences_are_new_and_their_words_are_known() -> None:
    for (kind, wording), lines in WORDINGS.items():
        if wording == "held_out":
            known = {sentence for line in WORDINGS[kind, "train"] for sentence in line}
            words = {word.strip(".?").lower() for text in known for word in text.split()}
            for sentence in (sentence for line in lines for sentence in line):
                assert sentence not in known
                assert {word.strip(".?").lower() for word in sentence.split()} <= words


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=40).map(sorted))
def test_where_accuracy_rises_the_nearest_one_is_chosen(goal: float, rising: list[float]) -> None:
    age = choose(goal, range(len(rising)), rising.__getitem__)
    assert abs(rising[age] - goal) == min(abs(value - goal) for value in rising)


def test_around_the_crossing_the_nearest_of_uneven_ones_is_chosen() -> None:
    found = [0.1, 0.2, 0.46, 0.36, 0.51, 0.6, 0.7]
    asked: list[int] = []

    def accuracy(age: int) -> float:
        asked.append(age)
        return found[age]

    assert choose(0.5, range(7), accuracy) == 4
    assert choose(None, range(7), accuracy) == 6
    assert 0 not in asked


@pytest.mark.slow
def test_the_same_seed_makes_the_same_model(tmp_path: Path) -> None:
    import torch

    made = []
    course = replace(train.SOLVE, steps=4, tokens=2048)
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    train.make_repeatable()
    try:
        for name in ("a", "b"):
            words = train.tokenizer()
            pupil = train.Learner(train.nothing(words, 0))
            (tmp_path / name).mkdir()
            lessons = train.solving(Teacher(words))
            train.take(course, "solve", pupil, words, lessons, tmp_path / name, 0)
            weights = b"".join(p.detach().numpy().tobytes() for p in pupil.model.parameters())
            made.append(hashlib.sha256(weights).hexdigest())
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])
    assert made[0] == made[1]

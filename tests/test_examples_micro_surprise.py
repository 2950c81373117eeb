"""How the base for reward models learns to notice what a solver did not expect."""

from __future__ import annotations

import random

import pytest
import torch

from examples.micro import problems, world
from examples.micro.learner import Course, learn
from examples.micro.lessons import Lesson, Teacher
from examples.micro.surprise import NEW, Noticer, _told_apart, deepen
from examples.micro.train import nothing, tokenizer

WORDS = tokenizer()


@pytest.fixture
def solver():
    model = nothing(WORDS, 1)
    with torch.no_grad():
        model.model.norm.weight.uniform_(0.5, 1.5)  # as training leaves it
    return model


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    items = world.solutions(problems.micro_problems(0, 4), samples=1)
    return [
        Teacher(WORDS).read(item.solution, reference=index % 2 == 0)
        for index, item in enumerate(items)
    ]


def test_below_the_new_layers_the_solver_is_the_same(solver):
    ids = torch.tensor([WORDS("Tom has 12 eggs and 3 more.")["input_ids"]])
    model = deepen(solver, 0)
    with torch.inference_mode():
        expected = solver(ids).logits
        below = model.model(ids, output_hidden_states=True).hidden_states[-NEW - 1]
        again = model.lm_head(solver.model.norm(below))
    torch.testing.assert_close(again, expected)


def test_half_of_the_first_new_heads_look_at_the_token_before(solver):
    model = deepen(solver, 0)
    model.set_attn_implementation("eager")
    ids = torch.tensor([WORDS("Tom has 12 eggs. Tom finds 3 more. How many eggs?")["input_ids"]])
    with torch.inference_mode():
        attention = model.model(ids, output_attentions=True).attentions[-NEW][0]
    places = torch.arange(5, ids.shape[1])
    before = attention[:, places, places - 1]
    assert before[:2].mean() > 0.4
    assert before[2:].mean() < 0.25


def test_a_lesson_in_reading_weighs_the_solution_and_nothing_else(lessons):
    for lesson in lessons:
        begin = lesson.weights.index(1.0)
        assert set(lesson.weights[:begin]) == {0.0}
        assert set(lesson.weights[begin:]) == {1.0}
        assert WORDS.decode(lesson.ids[:begin]).endswith("<|im_start|>assistant\n")
        assert "answer is" in WORDS.decode(lesson.ids[begin:])
        assert lesson.probes == []


def test_new_layers_learn_and_the_solver_stays(solver, lessons):
    model = deepen(solver, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[dict[str, float]] = []
    learn(
        Noticer(model, WORDS),
        Course(steps=12, tokens=1500, rate=5e-3, warmup=3),
        lambda rng: rng.choice(lessons),
        random.Random(0),
        lambda step, measured: seen.append(measured),
    )
    assert seen[-1]["loss"] < seen[0]["loss"]
    first = len(model.model.layers) - NEW
    for name, value in model.state_dict().items():
        new = name == "model.norm.weight" or any(
            name.startswith(f"model.layers.{first + index}.") for index in range(NEW)
        )
        changed = not torch.equal(value, before[name])
        assert changed <= new, f"{name} belongs to the solver and changed"
    assert not torch.equal(model.model.norm.weight, before["model.norm.weight"])


def test_told_apart_is_the_mean_of_both_shares():
    likely = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.1, 0.2])
    scores = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, 1.0])
    assert _told_apart(scores, likely) == pytest.approx((0.75 + 0.5) / 2)
    assert _told_apart(scores[:4], likely[:4]) == 0.5

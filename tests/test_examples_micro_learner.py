"""The micro models' training loop."""

from __future__ import annotations

import random

import pytest
import torch

from examples.micro import problems, world
from examples.micro.learner import Course, Learner, batches, learn
from examples.micro.lessons import Lesson, Teacher
from examples.micro.train import nothing, solving, tokenizer


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(tokenizer())


def test_the_rate_rises_stays_and_falls():
    course = Course(steps=100, tokens=1, rate=2.0, warmup=10, decay=0.5)
    rates = [course.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:50] == pytest.approx([2.0] * 41)
    assert rates[75] == pytest.approx(1.0)
    assert 0 < rates[99] < 0.05


def test_batches_keep_their_budget_and_hold_like_lengths():
    course = Course(steps=1, tokens=400, rate=1.0)
    rng = random.Random(0)

    def draw(rng: random.Random) -> Lesson:
        length = rng.randint(5, 100)
        return Lesson([1] * length, [1.0] * length)

    source = batches(course, draw, rng)
    drawn = [next(source) for _ in range(60)]
    widths = [max(len(lesson.ids) for lesson in batch) for batch in drawn]
    assert all(len(batch) * width <= 400 for batch, width in zip(drawn, widths, strict=True))
    filled = sum(len(lesson.ids) for batch in drawn for lesson in batch)
    total = sum(len(batch) * width for batch, width in zip(drawn, widths, strict=True))
    assert filled / total > 0.9


def test_padding_and_neighbours_do_not_matter(teacher: Teacher):
    """One lesson's loss is the same alone and beside a longer one, apart from bfloat16."""
    rng = random.Random(1)
    short, long = sorted((solving(teacher)(rng) for _ in range(2)), key=lambda i: len(i.ids))
    silent = Lesson(long.ids, [0.0] * len(long.ids))
    losses = []
    for batch in ([short], [short, silent]):
        learner = Learner(nothing(tokenizer(), 0))
        losses.append(learner.step(Course(steps=1, tokens=1, rate=0.0), batch)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_a_model_learns_lessons_of_both_kinds(teacher: Teacher):
    items = world.solutions(problems.micro_problems(0, 4), samples=1)
    lessons = [teacher.judge(items[0].solution, "p1"), teacher.split(items[3].solution.steps[0])]
    torch.manual_seed(0)
    learner = Learner(nothing(tokenizer(), 0))
    course = Course(steps=30, tokens=1200, rate=5e-3, warmup=5)
    seen: list[dict[str, float]] = []
    learn(
        learner,
        course,
        lambda rng: rng.choice(lessons),
        random.Random(0),
        lambda step, measured: seen.append(measured),
    )
    assert len(seen) == 30
    assert seen[-1]["loss"] < 0.5 * seen[0]["loss"]
    assert seen[-1]["probe"] < seen[0]["probe"]

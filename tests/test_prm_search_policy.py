"""A policy that writes a step at a time: boundaries, ends, seeds, tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from annotate.pieces import split_steps
from prm.engines import TOO_LONG, Completion, Engine, EngineConfig, Message, Request
from prm.engines.fake import ScriptedEngine
from prm.engines.meter import Meter
from prm.records import Problem
from prm.search.budget import Budget
from prm.search.policy import MOST_EQUAL, PolicyConfig, Stepper, is_boundary
from prm.search.tree import Growth, Path

PROBLEM = Problem(id="p", problem="What is 2 + 3?", answer="5")
SOLUTION = "We add.\n\n2 + 3 = 5\n\nThe answer is 5."


def config(**keys: Any) -> PolicyConfig:
    return PolicyConfig(engine=EngineConfig("none"), **keys)


def goes_on(text: str) -> Callable[[Request], str]:
    """A policy that knows one solution by heart."""

    def reply(request: Request) -> str:
        assert text.startswith(request.prefill)
        return text[len(request.prefill) :]

    return reply


def stepper(engine: Any, seed: int = 0, **keys: Any) -> Stepper:
    return Stepper(engine, config(**keys), seed)


def grow(policy: Stepper, path: Path, count: int = 1, **keys: Any) -> list[Path]:
    [(paths, _)] = policy.grow([Growth(path=path, count=count, **keys)])
    return paths


def to_the_end(policy: Stepper, most: int = 50) -> Path:
    path = Path(problem=PROBLEM)
    for _ in range(most):
        [path] = grow(policy, path)
        if path.end:
            break
    return path


class Once:
    """An engine with one answer."""

    name = "once"

    def __init__(self, **fields: Any) -> None:
        fields = {"prompt_tokens": 3, "completion_tokens": 2, "finish_reason": "stop"} | fields
        self._answer = Completion(**fields)

    def generate(self, requests: Any) -> list[list[Completion]]:
        return [[self._answer] * request.n for request in requests]

    def close(self) -> None:
        pass


def test_a_solution_is_written_step_by_step_and_ends_with_its_turn() -> None:
    engine = ScriptedEngine(goes_on(SOLUTION))
    policy = stepper(engine, system="Be brief.", template="{problem} Think.")
    path = to_the_end(policy)
    assert path.steps == ("We add.", "2 + 3 = 5", "The answer is 5.")
    assert (path.text, path.end) == (SOLUTION, "turn")
    assert path.tokens == len(SOLUTION.split())
    assert [request.prefill for request in engine.requests] == [
        "",
        "We add.\n\n",
        "We add.\n\n2 + 3 = 5\n\n",
    ]
    first = engine.requests[0]
    assert [turn.content for turn in first.messages] == ["Be brief.", "What is 2 + 3? Think."]
    assert (first.stop, first.group) == (("\n\n",), "p")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("So\n\\[ x = 1\n\n+ 2 \\]\n\nThus 3.", ("So\n\\[ x = 1\n\n+ 2 \\]", "Thus 3.")),
        ("**Setting up**\n\nWe add.\n\nIt is 5.", ("**Setting up**\n\nWe add.", "It is 5.")),
        (
            "\\begin{align}a\n\nb\\end{align}\n\nIt is 5.",
            ("\\begin{align}a\n\nb\\end{align}", "It is 5."),
        ),
        ("```\na\n\nb\n```\n\nIt is 5.", ("```\na\n\nb\n```", "It is 5.")),
    ],
)
def test_a_boundary_that_step_rules_do_not_cut_at_ends_nothing(
    text: str, steps: tuple[str, ...]
) -> None:
    policy = stepper(ScriptedEngine(goes_on(text)))
    assert to_the_end(policy).steps == steps == split_steps(text)
    [whole] = grow(policy, Path(problem=PROBLEM), whole=True)
    assert whole.steps == steps


def test_a_step_that_reaches_no_boundary_within_its_tokens_is_cut() -> None:
    policy = stepper(ScriptedEngine(goes_on("\\[ a\n\nb\n\nc\n\nd")), step_tokens=3)
    path = to_the_end(policy)
    assert (path.end, path.tokens) == ("length", 3)


PARTS = st.sampled_from(["We add 1", "x = 1", "**Title**", "\\[ a", "b \\]", "- item", "3. third"])


@given(st.lists(PARTS, min_size=1, max_size=6), st.sampled_from(["\n\n", "\n", ". ", "\n\n\n"]))
def test_steps_one_by_one_are_those_of_the_whole(parts: list[str], joiner: str) -> None:
    # No step thrice, which would end the path; ". " cuts this one before its number.
    assume(joiner != ". " or parts.count("We add 1.") <= MOST_EQUAL)
    text = joiner.join(f"{part} {index}" for index, part in enumerate(parts))
    keys: dict[str, Any] = {"boundaries": [joiner]}
    # What follows a blank is a matter of the prefill, which has none at its end.
    words = lambda request: text[len(request.prefill) :]  # noqa: E731
    policy = stepper(ScriptedEngine(words), **keys)
    [whole] = grow(policy, Path(problem=PROBLEM), whole=True)
    path = to_the_end(policy)
    assert path.end == whole.end == "turn"
    assert path.steps == whole.steps
    assert "".join("".join(path.steps).split()) == "".join(text.split())


def test_what_a_boundary_holds_besides_white_space_is_part_of_the_step() -> None:
    engine = ScriptedEngine(lambda request: "Ben has 3 cups. Now 4" if not request.prefill else "!")
    [path] = grow(stepper(engine, boundaries=[". "]), Path(problem=PROBLEM))
    assert (path.texts, path.end) == (("Ben has 3 cups.",), "")  # no space before the next word
    assert not is_boundary("Dr", ". ")
    assert is_boundary("Ben has 3 cups", ". ")


def at(*texts: str, tokens: int = 0) -> Path:
    return Path(problem=PROBLEM, texts=texts, scores=(0.5,) * len(texts), tokens=tokens)


@pytest.mark.parametrize(
    ("path", "answer", "end", "steps"),
    [
        (at(), {"text": ""}, "empty", ()),
        (at(), {"text": " \n"}, "empty", ()),
        (at("a\n\n"), {"text": ""}, "turn", ("a",)),  # the solution had come to its end
        (at("a\n\n"), {"text": "", "stopped_at": "\n\n"}, "empty", ("a",)),
        (at("a\n\n"), {"text": "b", "finish_reason": "length"}, "length", ("a", "b")),
        (at("a\n\n"), {"text": "", "finish_reason": TOO_LONG}, "too_long", ("a",)),
        (at(), {"text": "", "finish_reason": "content_filter"}, "content_filter", ()),
        (at("a\n\n", "a\n\n"), {"text": "a", "stopped_at": "\n\n"}, "repeats", ("a", "a")),
        (at("a\n\n"), {"text": "a", "stopped_at": "\n\n"}, "", ("a", "a")),
        (at("a\n\n", tokens=4094), {"text": "b", "stopped_at": "\n\n"}, "length", ("a", "b")),
        # A server that does not tell what ended the text.
        (at("a\n\n"), {"text": "b", "stopped_at": None}, "", ("a", "b")),
        (at("a\n\n"), {"text": "", "stopped_at": None}, "turn", ("a",)),
        (at("a\n\n"), {"text": "The answer is 5.", "stopped_at": None}, "turn", None),
    ],
)
def test_ends_have_names(
    path: Path, answer: dict[str, Any], end: str, steps: tuple[str, ...] | None
) -> None:
    [found] = grow(stepper(Once(**answer)), path)
    assert found.end == end
    assert found.tokens == path.tokens + 2
    assert found.steps == (("a", "The answer is 5.") if steps is None else steps)
    assert found.scores == path.scores  # of the new step there is none yet


def test_limits_of_tokens_reach_the_engine() -> None:
    engine = ScriptedEngine(lambda request: "word " * 100)
    policy = stepper(engine, step_tokens=10, max_tokens=16)
    assert grow(policy, at())[0].tokens == 10
    assert grow(policy, at("a", tokens=12))[0].tokens == 16
    assert grow(policy, at(), whole=True)[0].tokens == 16
    assert [request.max_tokens for request in engine.requests] == [10, 4, 16]


def seeds(policy: Stepper, engine: ScriptedEngine, *growths: Growth) -> list[int | None]:
    before = len(engine.requests)
    policy.grow(growths)
    return [request.seed for request in engine.requests[before:]]


def test_seeds_belong_to_problem_path_and_key() -> None:
    engine = ScriptedEngine(lambda request: "x")
    one = Growth(path=at("a\n\n"), count=3)
    others = [
        replace(one, key="subtree 1"),
        replace(one, path=at("b\n\n")),
        replace(one, path=replace(one.path, problem=replace(PROBLEM, id="q"))),
    ]
    policy = stepper(engine)
    together = seeds(policy, engine, one, *others)
    assert len(set(together)) == 4
    assert seeds(policy, engine, one) == together[:1]  # whatever the company
    assert seeds(stepper(engine, seed=1), engine, one) != together[:1]


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=4))
def test_budgets_add_up_to_what_the_engine_was_asked(asked: list[tuple[int, bool]]) -> None:
    def reply(request: Request) -> str:
        return "\\[ a\n\nb \\]\n\nc"[len(request.prefill) :]

    engine = ScriptedEngine(reply)
    meter = Meter(engine)
    growths = [Growth(path=Path(problem=PROBLEM), count=n, whole=whole) for n, whole in asked]
    results = stepper(meter).grow(growths)
    spent = sum((budget for _, budget in results), Budget())
    assert spent.prompt == meter.prompt_tokens
    assert spent.written == meter.completion_tokens
    assert spent.requests == len(engine.requests)
    assert [len(paths) for paths, _ in results] == [n for n, _ in asked]
    written = sum(path.tokens for paths, _ in results for path in paths)
    assert written == spent.written
    # One call for all, and one more for all steps that a first boundary did not end.
    assert engine.calls == 1 + (not all(whole for _, whole in asked))


@pytest.mark.parametrize(
    "wrong",
    [
        {"boundaries": []},
        {"boundaries": [""]},
        {"step_tokens": 0},
        {"step_tokens": 10, "max_tokens": 5},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"template": "no place"},
    ],
)
def test_wrong_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"boundaries|tokens|temperature|template"):
        config(**wrong)


# Real engines


def check_engine(engine: Any) -> None:
    """What ended a text is told, and the same seed writes the same steps, in any company."""
    ask = Request(messages=(Message(role="user", content="What is 2 + 3?"),), max_tokens=24)
    [[whole]] = engine.generate([ask])
    assert whole.stopped_at == ""
    letter = max((char for char in whole.text if char.isalnum()), key=whole.text.count)
    [[cut]] = engine.generate([replace(ask, stop=("never written", letter))])
    assert cut.text == whole.text[: whole.text.index(letter)]
    assert (cut.stopped_at, cut.finish_reason) == (letter, "stop")

    policy = stepper(engine, boundaries=[" ", "\n"], step_tokens=12, max_tokens=24)
    root = Growth(path=Path(problem=PROBLEM), count=3)
    [(alone, budget)] = policy.grow([root])
    [(again, _), (other, _)] = policy.grow([root, replace(root, key="other")])
    assert alone == again
    assert [path.text for path in alone] != [path.text for path in other]
    assert budget.written == sum(path.tokens for path in alone)
    for path in alone:
        assert path.end in ("", "turn", "length", "empty")
        assert len(path.texts) <= 1


def test_steps_of_the_transformers_engine(transformers_engine: Engine) -> None:
    check_engine(transformers_engine)


@pytest.mark.slow
def test_steps_of_the_vllm_engine(vllm_engine: Engine) -> None:
    check_engine(vllm_engine)

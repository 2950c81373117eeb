"""`prm sample`: every policy answers every problem, and no answer is lost or asked for twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from annotate import sample
from annotate.sample import Config, PolicyConfig, PromptConfig, run
from prm import config, jsonl
from prm.engines import Completion, EngineConfig, Request
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError, RunConflictError
from prm.records import Failure, Problem, Solution
from prm.sources import Place

PROBLEMS = [
    Problem(id=f"p{index}", problem=f"What is {index} + 1?", answer=str(index + 1), source="t")
    for index in range(5)
]


class Policies:
    """Stands in for `prm.engines.load`; keeps the engines it made."""

    def __init__(self, context: int | None = None) -> None:
        self.engines: list[ScriptedEngine] = []
        self.fails_at: int | None = None
        self._context = context

    def __call__(self, engine: EngineConfig) -> ScriptedEngine:
        self.engines.append(ScriptedEngine(self.reply, name=engine.name, context=self._context))
        return self.engines[-1]

    def reply(self, request: Request) -> str:
        asked = sum(len(engine.requests) for engine in self.engines)
        if self.fails_at is not None and asked > self.fails_at:
            raise KeyboardInterrupt
        text = request.messages[-1].content
        return " \n" if "3 + 1" in text else f"{text}\nIt is so."

    @property
    def requests(self) -> list[Request]:
        return [request for engine in self.engines for request in engine.requests]


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> Policies:
    made = Policies()
    monkeypatch.setattr(sample, "load", made)
    return made


def policy(name: str = "a", **values: Any) -> PolicyConfig:
    return PolicyConfig(name=name, engine=EngineConfig(model=f"models/{name}"), **values)


def made(tmp_path: Path, *chosen: PolicyConfig, **values: Any) -> Config:
    jsonl.write(tmp_path / "problems.jsonl", PROBLEMS)
    place = Place(path=str(tmp_path / "problems.jsonl"))
    return Config(out=str(tmp_path / "out"), problems=place, policies=list(chosen), **values)


def outputs(folder: str | Path) -> tuple[bytes, bytes]:
    return (
        (Path(folder) / "solutions.jsonl").read_bytes(),
        (Path(folder) / "failures.jsonl").read_bytes(),
    )


def test_every_policy_answers_every_problem(tmp_path: Path, policies: Policies) -> None:
    chosen = [policy("a", samples=2), policy("b", system="Be brief.", template="Q: {problem}?")]
    stage = made(tmp_path, *chosen, chunk=2)
    counts = run(stage)
    assert (counts.read, counts.written, counts.rejected) == (15, 12, {"no text": 3})
    found = list(jsonl.read(Path(stage.out) / "solutions.jsonl", Solution))
    assert [item.id for item in found] == [
        *(f"p{index}/a/{k}" for index in (0, 1, 2, 4) for k in (0, 1)),
        *(f"p{index}/b/0" for index in (0, 1, 2, 4)),
    ]
    assert found[0] == Solution(
        id="p0/a/0",
        problem="What is 0 + 1?",
        steps=("What is 0 + 1?\nIt is so.",),
        answer="1",
        generator="a",
        source="t",
        metadata={"finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 8},
    )
    assert counts.tokens == sum(
        item.metadata["prompt_tokens"] + item.metadata["completion_tokens"] for item in found
    )
    assert found[-1].steps[0].startswith("Q: What is 4 + 1??")
    failed = list(jsonl.read(Path(stage.out) / "failures.jsonl", Failure))
    assert failed[0] == Failure(id="p3/a/0", reason="no text (stop)")
    last = policies.requests[-1]
    assert [message.role for message in last.messages] == ["system", "user"]


def test_requests_carry_the_settings_and_seeds_of_their_own(
    tmp_path: Path, policies: Policies
) -> None:
    run(made(tmp_path, policy("a", max_tokens=9, temperature=0.5, top_p=0.9), policy("b")))
    first = policies.requests[0]
    assert (first.max_tokens, first.n, first.temperature, first.top_p) == (9, 1, 0.5, 0.9)
    assert len({request.seed for request in policies.requests}) == 10


def test_a_prompt_that_does_not_fit_is_a_failure_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "load", Policies(context=3))
    stage = made(tmp_path, policy())
    assert run(stage).rejected == {"no text": 5}
    reasons = {item.reason for item in jsonl.read(Path(stage.out) / "failures.jsonl", Failure)}
    assert reasons == {"no text (too_long)"}


def test_the_problem_is_text_and_no_template(tmp_path: Path, policies: Policies) -> None:
    jsonl.write(tmp_path / "p.jsonl", [Problem(id="x", problem="{problem} {0} \\1 {problem}")])
    place = Place(path=str(tmp_path / "p.jsonl"))
    stage = Config(
        out=str(tmp_path / "o"), problems=place, policies=[policy(template="<{problem}>")]
    )
    run(stage)
    assert policies.requests[0].messages[0].content == "<{problem} {0} \\1 {problem}>"


@pytest.mark.parametrize("interrupted_at", range(1, 11))
def test_resumed_run_asks_for_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted_at: int
) -> None:
    chosen = [policy("a"), policy("b")]
    stage = made(tmp_path, *chosen, chunk=2)
    whole = dataclasses.replace(stage, out=str(tmp_path / "whole"))
    monkeypatch.setattr(sample, "load", Policies())
    run(whole)

    policies = Policies()
    policies.fails_at = interrupted_at - 1
    monkeypatch.setattr(sample, "load", policies)
    with pytest.raises(KeyboardInterrupt):
        run(stage)
    assert not (Path(stage.out) / "solutions.jsonl").exists()
    kept = sum(
        len((Path(stage.out) / f"{name}.jsonl.partial").read_text().splitlines())
        for name in ("solutions", "failures")
    )
    policies = Policies()
    monkeypatch.setattr(sample, "load", policies)
    run(stage)
    assert len(policies.requests) == 10 - kept
    assert outputs(stage.out) == outputs(whole.out)


def test_prompt_variants_are_generators_of_one_loaded_model(
    tmp_path: Path, policies: Policies
) -> None:
    prompts = [
        PromptConfig("bare"),
        PromptConfig("steps", system="Be kind.", template="{problem}!"),
    ]
    shared = EngineConfig(model="m")
    chosen = [
        PolicyConfig(name="a", engine=shared, prompts=prompts, samples=2),
        PolicyConfig(name="b", engine=EngineConfig(model="m")),
        PolicyConfig(name="c", engine=EngineConfig(model="n")),
    ]
    stage = made(tmp_path, *chosen)
    run(stage)
    found = list(jsonl.read(Path(stage.out) / "solutions.jsonl", Solution))
    ids = [item.id for item in found if item.id.startswith("p0/a")]
    assert ids == ["p0/a-bare/0", "p0/a-bare/1", "p0/a-steps/0", "p0/a-steps/1"]
    assert {item.generator for item in found} == {"a-bare", "a-steps", "b", "c"}
    assert [engine.name for engine in policies.engines] == ["m", "n"]
    asked = [request for request in policies.requests if len(request.messages) == 2]
    assert {request.messages[0].content for request in asked} == {"Be kind."}
    assert len({request.seed for request in policies.requests if request.n == 2}) == 10


THOUGHT = "1 + 1 is 2."


@pytest.mark.parametrize(
    ("text", "reasoning", "thinking", "steps", "apart"),
    [
        ("It is 2.", THOUGHT, "keep", f"<think>\n{THOUGHT}\n</think>\n\nIt is 2.", None),
        ("It is 2.", THOUGHT, "apart", "It is 2.", THOUGHT),
        (f"<think>{THOUGHT}</think>\nIt is 2.", "", "apart", "It is 2.", THOUGHT),
        (f"{THOUGHT}\n</think>\n\nIt is 2.", "", "apart", "It is 2.", THOUGHT),
        (f"<think>{THOUGHT}</think>It is 2.", "", "keep", None, None),
        ("It is 2.", "", "apart", "It is 2.", None),
    ],
)
def test_thinking_is_kept_or_told_apart(
    text: str, reasoning: str, thinking: Any, steps: str | None, apart: str | None
) -> None:
    answer = Completion(
        text=text, reasoning=reasoning, finish_reason="stop", prompt_tokens=1, completion_tokens=1
    )
    engine = ScriptedEngine(lambda _: "")
    engine.generate = lambda requests: [[answer] for _ in requests]  # type: ignore[method-assign]
    (found,) = sample.sample(PROBLEMS[:1], policy(thinking=thinking), engine, 0)
    assert isinstance(found, Solution)
    assert found.steps == (text if steps is None else steps,)
    assert found.metadata.get("thinking") == apart


@pytest.mark.parametrize("text", [f"<think>{THOUGHT}", f"<think>{THOUGHT}</think>\n"])
def test_thoughts_without_an_answer_are_no_solution_where_they_stand_apart(text: str) -> None:
    engine = ScriptedEngine(lambda _: text)
    (found,) = sample.sample(PROBLEMS[:1], policy(thinking="apart"), engine, 0)
    assert found == Failure(id="p0/a/0", reason="thoughts and no answer (stop)")


def test_equal_texts_are_set_aside_and_nothing_is_lost(tmp_path: Path, policies: Policies) -> None:
    stage = made(tmp_path, policy("a", samples=3), policy("b"), distinct=True, balanced=True)
    counts = run(stage)
    # Each text comes four times; `a` wrote the first one, which leaves `b` none.
    assert counts.read == 20
    assert counts.rejected == {"no text": 4, "the same text": 12}
    assert counts.written == 4
    failures = list(jsonl.read(Path(stage.out) / "failures.jsonl", Failure))
    assert Failure(id="p0/a/1", reason="the same text as p0/a/0") in failures
    assert len(list(jsonl.read(Path(stage.out) / "sampled.jsonl", Solution))) == 16


def test_finished_run_loads_no_engine(tmp_path: Path, policies: Policies) -> None:
    stage = made(tmp_path, policy())
    first = run(stage)
    assert run(dataclasses.replace(stage, chunk=1)) == first
    assert len(policies.engines) == 1
    with pytest.raises(RunConflictError, match="seed was 0 and is now 1"):
        run(dataclasses.replace(stage, seed=1))


def test_refused_before_an_engine_starts(tmp_path: Path, policies: Policies) -> None:
    for chosen, message in (
        ([], "at least one entry in `policies`"),
        ([policy("a"), policy("b"), policy("a")], "two policies are named 'a'"),
        ([policy(template="Solve it.")], "template must hold {problem} once"),
        ([policy(template="{problem} {problem}")], "template must hold {problem} once"),
    ):
        with pytest.raises(ConfigError, match=message.replace("{", r"\{")):
            run(made(tmp_path, *chosen))
    assert policies.engines == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("chunk=0", "chunk is 0; it starts at 1"),
        ("policies=[{name: a, engine: {model: m}, samples: 0}]", "start at 1"),
        ("policies=[{name: a, engine: {model: m}, max_tokens: 0}]", "start at 1"),
        ("policies=[{name: a, engine: {model: m}, temperature: -1}]", "temperature starts at 0"),
        ("policies=[{name: a, engine: {model: m}, top_p: 0}]", "top_p lies above 0"),
        (
            "policies=[{name: a, engine: {model: m}, samples: 2, temperature: 0}]",
            "samples is 2 but temperature 0 writes the same text every time",
        ),
    ],
)
def test_settings_that_no_engine_could_obey(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(Config, None, ["out=o", "problems.path=p", override])

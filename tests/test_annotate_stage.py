"""`prm annotate`: every voter's vote on every solution, whatever interrupts the work."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import killed

from annotate import stage
from annotate.judge import JudgeSettings
from annotate.sequential import NOT_ASKED, SequentialConfig
from annotate.stage import Config, JudgeConfig, run
from examples.micro import world
from prm import config, jsonl
from prm.engines import EngineConfig, Request
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError, EngineError, RecordError, RunConflictError
from prm.records import Annotation, Problem, Solution
from prm.sources import Place, Source
from verify.arithmetic import TRUE

ROOT = Path(__file__).parents[1]
SOLUTIONS = [
    Solution(
        id=f"s{index}",
        problem=f"What is {index} + 1?",
        steps=(
            f"{index} + 1 = {index + 1 + index % 2}",
            "Right so far.",
            f"The answer is {index + 1}.",
        ),
        answer=str(index + 1),
    )
    for index in range(7)
]
Reply = Callable[[Request], str]


def verdicts(text: str) -> Reply:
    """A judge that says `text` where it must give a list."""
    return lambda request: text if request.regex else "It is so."


class Judges:
    """Stands in for `prm.engines.load`: replies by model name; keeps the engines it made."""

    def __init__(self, **replies: Reply) -> None:
        self.replies = replies
        self.engines: list[ScriptedEngine] = []

    def __call__(self, engine: EngineConfig) -> ScriptedEngine:
        reply = self.replies[engine.model]
        self.engines.append(ScriptedEngine(reply, name=engine.name, constrains=False))
        return self.engines[-1]


def judged(monkeypatch: pytest.MonkeyPatch, **replies: Reply) -> Judges:
    judges = Judges(**replies)
    monkeypatch.setattr(stage, "load", judges)
    return judges


def made(folder: Path, *models: str, max_errors: float = 0.05, **values: object) -> Config:
    path = folder / "solutions.jsonl"
    jsonl.write(path, SOLUTIONS)
    judges = [
        JudgeConfig(engine=EngineConfig(model=model), strategies=["p1"], max_errors=max_errors)
        for model in models
    ]
    return dataclasses.replace(
        Config(out=str(folder / "out"), source=Source(path=str(path)), judges=judges), **values
    )


def annotations(settings: Config) -> list[Annotation]:
    return list(jsonl.read(Path(settings.out) / "annotations.jsonl", Annotation))


def test_all_votes_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged(monkeypatch, a=verdicts("[1,0,1]"), b=verdicts("[0,0,0]"))
    settings = made(tmp_path, "a", "b", chunk=3)
    settings.judges[1].strategies = ["p0", "p1"]
    counts = run(settings)
    assert (counts.read, counts.written, counts.failed) == (7, 7, {})
    found = annotations(settings)
    assert [item.solution for item in found] == SOLUTIONS
    for item in found:
        assert [(vote.judge, vote.strategy) for vote in item.judgments] == [
            ("rules", "arithmetic"),
            ("rules", "reference"),
            ("a", "p1"),
            ("b", "p0"),
            ("b", "p1"),
        ]
        assert item.judgments[2].verdicts == (1.0, 0.0, 1.0)
        assert item.judgments[1].verdicts == (1.0, 1.0, 1.0)  # the final answer matches
    assert [item.judgments[0].verdicts[0] for item in found[:2]] == [TRUE, 0.0]
    assert counts.tokens == sum(
        sum(vote.usage.values()) for item in found for vote in item.judgments
    )
    assert counts.tokens > 0


def test_rules_alone_load_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judges = judged(monkeypatch)
    settings = made(tmp_path, rules=["arithmetic"])
    run(settings)
    assert judges.engines == []
    assert [len(item.judgments) for item in annotations(settings)] == [1] * 7


def test_references_are_joined(tmp_path: Path) -> None:
    settings = made(tmp_path)
    problems = [Problem(id="x", problem="what is 2 + 1", reference="2 + 1 = 3", answer="3")]
    jsonl.write(tmp_path / "problems.jsonl", problems)
    settings.source.references = Place(path=str(tmp_path / "problems.jsonl"))
    run(settings)
    found = annotations(settings)
    assert found[2].solution.reference == "2 + 1 = 3"
    assert found[2].judgments[1].verdicts == (1.0, 1.0, 1.0)
    assert found[1].solution.reference is None


def test_changed_references_are_another_input(tmp_path: Path) -> None:
    settings = made(tmp_path)
    path = tmp_path / "problems.jsonl"
    jsonl.write(path, [Problem(id="x", problem="What is 2 + 1?", reference="2 + 1 = 3")])
    settings.source.references = Place(path=str(path))
    run(settings)
    jsonl.write(path, [Problem(id="x", problem="What is 2 + 1?", reference="1 + 2 = 3")])
    with pytest.raises(RunConflictError, match=r"content of inputs\.source changed"):
        run(settings)


def test_changed_prompts_are_another_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judges = judged(monkeypatch, a=verdicts("[1,1,1]"))
    prompts = tmp_path / "prompts"
    shutil.copytree(ROOT / "annotate" / "prompts" / "default", prompts)
    settings = made(tmp_path, "a")
    settings.judges[0].settings = JudgeSettings(prompts=str(prompts))
    run(settings)
    (prompts / "p1.toml").write_text((prompts / "p1.toml").read_text() + "\n# changed\n")
    with pytest.raises(
        RunConflictError, match=r"content of inputs\.judges\[0\]\.settings\.prompts changed"
    ):
        run(settings)
    assert len(judges.engines) == 1


def test_too_many_unusable_answers_stop_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(request: Request) -> str:
        return "[1,1]" if "What is 3 + 1?" in request.messages[-1].content else "[1,1,1]"

    judges = judged(monkeypatch, a=sometimes)
    settings = made(tmp_path, "a", max_errors=0.1)
    with pytest.raises(EngineError) as caught:
        run(settings)
    assert "a: 14% of its answers are unusable (mostly: 2 verdicts for 3 steps)" in str(
        caught.value
    )
    assert "more than max_errors 10%" in str(caught.value)
    assert "votes-0.jsonl. Raise max_errors" in str(caught.value)
    assert not (tmp_path / "out" / "annotations.jsonl").exists()
    asked = len(judges.engines[0].requests)
    assert asked == 7 + 1  # one retry

    with pytest.raises(EngineError, match="14%"):  # the same command says the same
        run(settings)
    settings.judges[0].max_errors = 0.2
    counts = run(settings)
    assert sum(len(engine.requests) for engine in judges.engines) == asked
    assert (counts.written, counts.failed) == (7, {"p1": 1})
    unusable = annotations(settings)[3].judgments[2]
    assert unusable.verdicts == (None, None, None)
    assert unusable.error == "2 verdicts for 3 steps"


def test_a_hopeless_judge_is_stopped_long_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = judged(monkeypatch, a=verdicts("no list"))
    settings = made(tmp_path, "a", max_errors=0.1, chunk=10)
    jsonl.write(
        tmp_path / "many.jsonl",
        (dataclasses.replace(SOLUTIONS[0], id=str(index)) for index in range(1000)),
    )
    settings.source = Source(path=str(tmp_path / "many.jsonl"))
    settings.rules = []
    with pytest.raises(EngineError, match="100% of its answers are unusable"):
        run(settings)
    assert len(judges.engines[0].requests) == 2 * stage.HOPELESS_AFTER


def test_sequential_voting_spares_calls_and_counts_the_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made(tmp_path, "a", "b", chunk=3)
    settings.judges[0].strategies = ["p1", "p3"]
    settings.sequential = SequentialConfig()
    judges = judged(monkeypatch, a=verdicts("[1,1,1]"), b=verdicts("[1,1,1]"))
    counts = run(settings)
    spared = counts.not_asked
    asked = sum(len(engine.requests) for engine in judges.engines)
    assert asked + sum(spared.values()) == 3 * len(SOLUTIONS)
    # The rules vote, too: `reference` finds all right, `arithmetic` half of the first steps.
    assert spared
    assert "not asked" in str(counts)
    for item in annotations(settings):
        assert len(item.judgments) == 5
        ended = [vote.finish_reason for vote in item.judgments]
        assert ended == sorted(ended, key=lambda reason: reason == NOT_ASKED)
    assert counts.failed == {}

    again = dataclasses.replace(settings, out=str(tmp_path / "again"))
    asking = 0

    def dying(request: Request) -> str:
        nonlocal asking
        asking += 1
        if asking == 5:
            raise EngineError("the engine died")
        return "[1,1,1]"

    judged(monkeypatch, a=dying, b=dying)
    with pytest.raises(EngineError, match="the engine died"):
        run(again)
    judged(monkeypatch, a=verdicts("[1,1,1]"), b=verdicts("[1,1,1]"))
    run(again)
    assert written(again.out) == written(settings.out)


@pytest.mark.parametrize("dies_at", [1, 2, 5, 9, 13])
def test_a_dead_engine_leaves_a_folder_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    def reply(request: Request) -> str:
        bits = request.seed or 0
        return f"[{bits & 1},{bits >> 1 & 1},{bits >> 2 & 1}]"

    settings = made(tmp_path, "a", "b", chunk=2)
    whole = dataclasses.replace(settings, out=str(tmp_path / "whole"))
    judged(monkeypatch, a=reply, b=reply)
    run(whole)

    asked = 0

    def dying(request: Request) -> str:
        nonlocal asked
        asked += 1
        if asked == dies_at:
            raise EngineError("the engine died")
        return reply(request)

    judged(monkeypatch, a=dying, b=dying)
    with pytest.raises(EngineError, match="the engine died"):
        run(settings)
    kept = sum(
        len(path.read_text().splitlines()) for path in Path(settings.out).glob("votes-[01].jsonl*")
    )
    judges = judged(monkeypatch, a=reply, b=reply)
    run(settings)
    assert sum(len(engine.requests) for engine in judges.engines) == 14 - kept
    assert written(settings.out) == written(whole.out)


def written(folder: str | Path) -> bytes:
    return (Path(folder) / "annotations.jsonl").read_bytes()


def test_finished_run_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judges = judged(monkeypatch, a=verdicts("[1,1,1]"))
    settings = made(tmp_path, "a")
    first = run(settings)
    settings.chunk = 1
    settings.judges[0].max_errors = 0.5
    assert run(settings) == first
    assert len(judges.engines) == 1
    settings.judges[0].settings = JudgeSettings(seed=1)
    with pytest.raises(RunConflictError, match="judges"):
        run(settings)


def test_duplicates_in_the_input_are_refused_before_a_token_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = judged(monkeypatch, a=verdicts("[1,1,1]"))
    settings = made(tmp_path, "a")
    jsonl.write(tmp_path / "solutions.jsonl", [*SOLUTIONS, SOLUTIONS[2]])
    with pytest.raises(RecordError, match=r":8: field 'id': 's2' occurs twice, first on line 3"):
        run(settings)
    assert judges.engines == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("chunk=0", "chunk is 0; it starts at 1"),
        ("chunk=-5", "chunk is -5"),
        ("rules=[magic]", "Invalid value 'magic'"),
        ("source.limit=0", "limit is 0"),
    ],
)
def test_refused_settings(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.load(Config, None, ["out=o", "source.path=p", override])


def test_no_voter(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="annotate needs a voter"):
        run(made(tmp_path, rules=[]))
    with pytest.raises(ConfigError, match="'magic' is not among arithmetic, reference"):
        run(made(tmp_path, rules=["magic"]))
    assert not (tmp_path / "out").exists()


# SIGKILL, through the real command line


def test_killed_at_every_commit(tmp_path: Path) -> None:
    settings = made(tmp_path)
    points = killed(
        tmp_path,
        "all",
        "annotate",
        f"source.path={settings.source.path}",
        "rules=[arithmetic]",
        "judges=[{engine: {model: a}, max_errors: 1.0}]",
        "chunk=4",
    )
    assert points >= 25
    whole = written(tmp_path / "whole")
    assert whole.count(b"\n") == 7
    for point in range(points):
        assert written(tmp_path / str(point)) == whole, f"killed at {point}"
        left = {path.suffix for path in (tmp_path / str(point)).iterdir()}
        assert ".partial" not in left


def test_sample_killed_at_every_commit(tmp_path: Path) -> None:
    problems = [Problem(id=str(index), problem=f"{index} + 1?") for index in range(5)]
    jsonl.write(tmp_path / "problems.jsonl", problems)
    points = killed(
        tmp_path,
        "all",
        "sample",
        f"problems.path={tmp_path / 'problems.jsonl'}",
        "policies=[{name: a, engine: {model: a}, samples: 2}, {name: b, engine: {model: b}}]",
        "chunk=3",
    )
    assert points >= 20
    for name in ("solutions.jsonl", "failures.jsonl"):
        whole = (tmp_path / "whole" / name).read_bytes()
        for point in range(points):
            assert (tmp_path / str(point) / name).read_bytes() == whole, f"killed at {point}"


def test_killed_in_the_middle_of_hundreds_of_solutions(tmp_path: Path) -> None:
    world.write(tmp_path, problems=12, test_problems=1, samples=5)
    path = tmp_path / "train_solutions.jsonl"
    count = len(path.read_text().splitlines())
    assert count >= 200
    # Two events a chunk, after the first few for the run record.
    command = ("annotate", f"source.path={path}", "chunk=4")
    assert killed(tmp_path, "40,77", *command) == 2
    whole = written(tmp_path / "whole")
    assert whole.count(b"\n") == count
    for point in (40, 77):
        assert written(tmp_path / str(point)) == whole

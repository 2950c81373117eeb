"""`prm solve`: records, counts, resuming, faults; and what a search costs and gains."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path as Folder
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_prm_search_prefix import write_aurora

from prm import jsonl
from prm.cli import main
from prm.engines import Completion, EngineConfig, Request
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError, EngineError, RecordError, RunConflictError
from prm.records import Failure, Problem, Solution, StepScores, steps_digest
from prm.scorers import ScorerConfig
from prm.search import online
from prm.search.budget import Budget, parameters, shared_out
from prm.search.curves import Point, curve, format_curve
from prm.search.online import Config, SearchConfig, Spent
from prm.search.policy import PolicyConfig
from prm.search.scoring import Rescoring
from prm.search.tree import Path
from prm.sources import Place

ROOT = Folder(__file__).resolve().parents[1]
PROBLEMS = [
    Problem(id=f"p{number}", problem=f"What is {number} + 1?", answer=str(number + 1))
    for number in range(5)
]
SEARCHES = [
    SearchConfig("best_of_n", 1),
    SearchConfig("best_of_n", 6, aggregation="last"),
    SearchConfig("beam", 6, width=2, steps=6),
    SearchConfig("dvts", 6, width=2, steps=6, choice="majority"),
]


def write_step(request: Request) -> str:
    """A policy that drifts: three steps and an answer that is often wrong, all by the seed."""
    number = int(request.messages[-1].content.split()[2])
    text = ""
    for index in range(request.prefill.count("\n\n"), 4):
        draw = hashlib.sha256(f"{request.seed} {index}".encode()).digest()[0]
        step = f"Step {index} goes by way {draw % 3}."
        text += f"The answer is {number + draw % 3}." if index == 3 else step + "\n\n"
    return text


class Policy(ScriptedEngine):
    """Writes each sample with its own seed, as real engines do; dies after so many calls."""

    def __init__(self, reply: Any = write_step, *, calls: int = 10**6, **keys: Any) -> None:
        super().__init__(reply, **keys)
        self._left = calls

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        self._left -= 1
        if self._left < 0:
            raise EngineError("the engine died; run the same command again to resume")
        return [
            [
                super(Policy, self).generate([replace(one, n=1, seed=(one.seed or 0) + index)])[0][
                    0
                ]
                for index in range(one.n)
            ]
            for one in requests
        ]


class Scorer:
    """Likes way 1 and right answers; cannot score what says so."""

    name = "fake"
    family = "fake"
    reference = "none"
    threshold = None

    def __init__(self, bad: str = "never") -> None:
        self.tokens = 0
        self.bad = bad
        self.closed = False

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        found: list[StepScores | Failure] = []
        for item in batch:
            assert item.answer is None  # it is what is searched for
            assert item.reference is None
            if self.bad in item.steps[-1]:
                found.append(Failure(id=item.id, reason=f"{self.bad} (3 times)"))
                continue
            self.tokens += sum(len(step.split()) for step in item.steps)
            number = int(item.problem.split()[2])
            scores = [0.9 if "way 1" in s or f" {number + 1}." in s else 0.4 for s in item.steps]
            found.append(
                StepScores(
                    solution_id=item.id,
                    steps_digest=steps_digest(item),
                    model="fake",
                    scores=tuple(scores),
                )
            )
        return found

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def files(tmp_path: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Problems, and stand-ins for both models."""
    jsonl.write(tmp_path / "problems.jsonl", PROBLEMS)
    use(monkeypatch, Policy(), Scorer())
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, engine: Any, scorer: Any) -> None:
    monkeypatch.setattr(online.engines, "load", lambda config: engine)
    monkeypatch.setattr(online, "load", lambda config: scorer)
    monkeypatch.setattr(online, "identify_scorer", lambda config: "fake")


def config(files: Folder, **keys: Any) -> Config:
    given: dict[str, Any] = {
        "out": str(files / "run"),
        "problems": Place(path=str(files / "problems.jsonl")),
        "policy": PolicyConfig(engine=EngineConfig("none")),
        "scorer": ScorerConfig("none"),
        "searches": SEARCHES,
        "chunk": 2,
    }
    return Config(**(given | keys))


def outputs(files: Folder) -> dict[str, str]:
    return {
        name: (files / "run" / name).read_text()
        for name in ("solutions.jsonl", "failures.jsonl", "spent.jsonl", "results.json")
    }


def test_a_solution_a_problem_and_search(files: Folder, capsys: Any) -> None:
    counts = online.run(config(files))
    assert (counts.read, counts.written, counts.rejected) == (20, 20, {})
    solutions = {item.id: item for item in jsonl.read(files / "run/solutions.jsonl", Solution)}
    spent = {item.id: item for item in jsonl.read(files / "run/spent.jsonl", Spent)}
    names = [search.name for search in SEARCHES]
    assert names[1:3] == ["best_of_n-6-last-reward", "beam-6-2-min-reward"]
    assert solutions.keys() == spent.keys()
    assert set(solutions) == {f"{item.id}/{name}" for item in PROBLEMS for name in names}
    total = Budget()
    for name, item in solutions.items():
        assert item.metadata["end"] == "turn"
        scores = item.metadata["scores"]
        assert item.metadata["reward"] == (scores[-1] if "-last-" in name else min(scores))
        assert len(scores) == len(item.steps) == 4
        assert Budget(**item.metadata["budget"]) == spent[name].budget
        assert spent[name].ends.keys() <= {"turn", "beaten"}
        total += spent[name].budget
    assert counts.tokens == total.prompt + total.written
    results = json.loads(outputs(files)["results.json"])
    assert (results["problems"], results["without_answer"]) == (5, 0)
    for row, search in zip(results["rows"], SEARCHES, strict=True):
        own = [solutions[f"{item.id}/{search.name}"] for item in PROBLEMS]
        right = [f" {item.answer}." in item.steps[-1] for item in own]
        assert row["accuracy"] == pytest.approx(sum(right) / 5)
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        mean = sum(item.metadata["budget"]["written"] for item in own) / 5
        assert row["written"] == pytest.approx(mean)
        assert sum(row["ends"].values()) >= 5 * (search.width or search.n)
    # The reward model knows right answers: more draws find them.
    assert results["rows"][1]["accuracy"] > results["rows"][0]["accuracy"]
    shown = capsys.readouterr().out
    assert "beam-6-2-min-reward" in shown
    before = outputs(files)
    online.run(config(files))  # done: nothing is loaded, the table is shown again
    assert outputs(files) == before
    assert capsys.readouterr().out == shown


def test_what_a_dead_engine_left_is_taken_up(
    files: Folder, tmp_path: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.run(config(files))
    expected = outputs(files)
    again = config(files, out=str(tmp_path / "other" / "run"))
    for calls in (3, 5, 9):
        scorer = Scorer()
        use(monkeypatch, Policy(calls=calls), scorer)
        with pytest.raises(EngineError, match="died"):
            online.run(again)
        assert scorer.closed
    # Killed between two files: what was spent is there, the solution is not.
    partial = tmp_path / "other" / "run" / "solutions.jsonl.partial"
    lines = partial.read_text().splitlines(keepends=True)
    assert len(lines) >= 2
    partial.write_text("".join(lines[:-1]) + lines[-1][:20])
    use(monkeypatch, Policy(), Scorer())
    online.run(again)
    found = outputs(tmp_path / "other")
    for name, text in expected.items():
        assert sorted(found[name].splitlines()) == sorted(text.splitlines()), name
    with pytest.raises(RunConflictError, match="seed was 0 and is now 1"):
        online.run(replace(again, seed=1))
    online.run(replace(again, chunk=7))  # decides nothing


def test_company_changes_nothing(files: Folder) -> None:
    online.run(config(files))
    expected = outputs(files)
    online.run(config(files, out=str(files / "one" / "run"), chunk=1))
    found = outputs(files / "one")
    assert found["solutions.jsonl"] == expected["solutions.jsonl"]


def test_what_cannot_be_scored_ends_its_path_alone(
    files: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Policy(), Scorer(bad="way 1"))
    counts = online.run(config(files))
    assert counts.written + sum(counts.rejected.values()) == 20
    solutions = list(jsonl.read(files / "run/solutions.jsonl", Solution))
    failures = list(jsonl.read(files / "run/failures.jsonl", Failure))
    assert len(solutions) > 10
    ends: dict[str, int] = {}
    for item in jsonl.read(files / "run/spent.jsonl", Spent):
        for end, count in item.ends.items():
            ends[end] = ends.get(end, 0) + count
    assert ends["not scored"] > 0
    assert all(item.reason == "no solution: not scored (way 1 (3 times))" for item in failures)
    for item in solutions:
        if item.metadata["end"] == "turn":
            assert "beam" not in item.generator or all("way 1" not in step for step in item.steps)
    results = json.loads(outputs(files)["results.json"])  # a failure is a wrong answer
    assert all(0 <= row["accuracy"] <= 1 for row in results["rows"])


@pytest.mark.parametrize(
    ("reply", "end"), [("", "empty"), ("\n\n\n\n", "empty"), ("word " * 4500, "length")]
)
def test_a_policy_that_writes_nothing_of_use(
    files: Folder, monkeypatch: pytest.MonkeyPatch, reply: str, end: str
) -> None:
    use(monkeypatch, Policy(lambda request: reply), Scorer())
    counts = online.run(config(files))
    if end == "empty":
        assert counts.written == 0
        assert counts.rejected == {"no solution: empty": 20}
        rows = json.loads(outputs(files)["results.json"])["rows"]
        assert [row["accuracy"] for row in rows] == [0.0] * 4
    else:  # cut, but all there is
        assert counts.written == 20
        for item in jsonl.read(files / "run/solutions.jsonl", Solution):
            assert item.metadata["end"] == "length"


def test_a_prompt_that_does_not_fit(files: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Policy(context=3), Scorer())
    assert online.run(config(files)).rejected == {"no solution: too_long": 20}


def test_problems_without_answers_have_no_accuracy(files: Folder, capsys: Any) -> None:
    jsonl.write(files / "problems.jsonl", [replace(item, answer=None) for item in PROBLEMS])
    assert online.run(config(files)).written == 20
    assert "none of the 5 problems has a true answer" in capsys.readouterr().out
    assert json.loads(outputs(files)["results.json"])["rows"] == []
    (files / "problems.jsonl").write_text("")
    with pytest.raises(RecordError, match="no problems"):
        online.run(config(files, out=str(files / "none")))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"searches": []}, "at least one entry"),
        ({"searches": [SEARCHES[0], SEARCHES[0]]}, "two searches are best_of_n-1-min-reward"),
        (
            {"policy": PolicyConfig(engine=EngineConfig("none"), temperature=0.0)},
            "temperature is 0",
        ),
    ],
)
def test_wrong_configurations_are_refused(
    files: Folder, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        online.run(config(files, **keys))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "beam", "n": 4}, "width is for beam and dvts"),
        ({"method": "best_of_n", "n": 4, "width": 2}, "width is for beam and dvts"),
        ({"method": "dvts", "n": 4, "width": 3}, "3 does not divide n 4"),
        ({"method": "best_of_n", "n": 0}, "start at 1"),
        ({"method": "beam", "n": 4, "width": 2, "steps": 0}, "start at 1"),
    ],
)
def test_wrong_searches_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**wrong)


def test_a_reward_model_that_is_told_the_answer_is_refused(files: Folder) -> None:
    with pytest.raises(ValueError, match="is what is searched for"):
        config(files, scorer=ScorerConfig("none", reference="worked"))


@pytest.mark.slow
def test_the_shipped_configuration_on_real_models(
    tmp_path: Folder, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(ROOT)  # it names the shipped models from here
    words = "Ben has {} cups. Then Ben gets {} more cups. How many cups does Ben have?"
    numbers = [(8, 11), (23, 14), (30, 5)]
    jsonl.write(
        tmp_path / "problems.jsonl",
        [Problem(id=f"{a}+{b}", problem=words.format(a, b), answer=str(a + b)) for a, b in numbers],
    )
    out = tmp_path / "run"
    command = [
        *("solve", "configs/solve/micro.yaml", f"out={out}"),
        f"problems.path={tmp_path / 'problems.jsonl'}",
        f"scorer.model={write_aurora(tmp_path / 'model')}",
    ]
    assert main(command) == 0
    assert "solve: in 15, out 15, rejected 0" in capsys.readouterr().out
    spent = list(jsonl.read(out / "spent.jsonl", Spent))
    beams = [item for item in spent if "/beam" in item.id or "/dvts" in item.id]
    assert all(0 < item.budget.read < 0.5 * item.budget.whole for item in beams)
    # The policy does not read again what it wrote either.
    assert all(item.budget.cached > 0.5 * item.budget.prompt for item in beams)
    # Nor does a search profit by those before it.
    alone = tmp_path / "alone"
    command[2] = f"out={alone}"
    assert main([*command, "searches=[{method: dvts, n: 8, width: 2, steps: 12}]"]) == 0
    own = {item.id: item.budget for item in jsonl.read(alone / "spent.jsonl", Spent)}
    assert own == {item.id: item.budget for item in spent if item.id in own}
    assert len(own) == 3
    solutions = list(jsonl.read(out / "solutions.jsonl", Solution))
    assert sum(len(item.steps) > 1 for item in solutions) > 10
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert all(row["flops"] > 0 for row in rows)


# What it costs


budgets = st.builds(Budget, **{name: st.integers(0, 99) for name in asdict(Budget())})


@given(budgets, budgets)
def test_budgets_add(one: Budget, other: Budget) -> None:
    both = one + other
    assert asdict(both) == {name: getattr(one, name) + getattr(other, name) for name in asdict(one)}
    assert both.computed == one.computed + other.computed
    assert both.flops(3, 5) == pytest.approx(one.flops(3, 5) + other.flops(3, 5))
    assert Budget(prompt=10, cached=4, written=3, read=2).flops(3, 5) == 2 * (3 * 9 + 5 * 2)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 500), max_size=9))
def test_tokens_shared_out_add_up(total: int, weights: list[int]) -> None:
    shares = shared_out(total, weights)
    assert len(shares) == len(weights)
    if weights:
        assert sum(shares) == total
        for share, weight in zip(shares, weights, strict=True):
            assert abs(share - total * weight / sum(weights)) < 1 + 1e-9


def test_rescoring_shares_out_what_was_read() -> None:
    scorer = Scorer(bad="way 2")
    problem = PROBLEMS[0]
    paths = [
        Path(problem=problem, texts=("Step goes by way 1.",)),
        Path(problem=problem, texts=("way 1", "way 2")),
        Path(problem=problem, texts=("a b c", "d")),
    ]
    found = Rescoring(scorer).score(paths)  # type: ignore[arg-type]
    assert found[1][0] == "way 2 (3 times)"
    assert found[2][0] == (0.4, 0.4)
    assert sum(budget.read for _, budget in found) == scorer.tokens == 9


def test_parameters_are_those_in_the_files(tmp_path: Folder) -> None:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(5)}, tmp_path / "1.safetensors")
    save_file({"c": torch.zeros(())}, tmp_path / "2.safetensors", metadata={"format": "pt"})
    assert parameters(str(tmp_path)) == 12
    assert parameters("owner/model") is None
    assert parameters(str(tmp_path / "none")) is None


# What it gains


def point(name: str, right: Sequence[int], tokens: int, method: str = "best_of_n") -> Point:
    return Point(name, method, [bool(one) for one in right], [Budget(written=tokens)] * len(right))


TEXTS = [f"problem {letter}" for letter in "abcdefgh"]


def test_equal_compute_is_read_off_between_two_n() -> None:
    points = [
        point("4", [1, 1, 1, 0, 1, 1, 0, 0], 400),  # 5 of 8
        point("1", [1, 0, 0, 0, 1, 0, 0, 0], 100),  # 2 of 8
        point("b", [1, 1, 1, 1, 1, 1, 1, 0], 200, "beam"),  # 7 of 8, half-way in log compute
        point("far", [1] * 8, 500, "beam"),
    ]
    rows = curve(points, TEXTS, (None, None))
    assert [row["search"] for row in rows] == ["4", "1", "b", "far"]
    assert [row["computed"] for row in rows] == [400, 100, 200, 500]
    assert [row["flops"] for row in rows] == [None] * 4
    peer = rows[2]["equal_compute"]
    assert peer["accuracy"] == pytest.approx(3.5 / 8)
    assert peer["gain"] == pytest.approx(3.5 / 8)
    assert peer["interval"][0] < peer["gain"] < peer["interval"][1]
    assert [row["equal_compute"] for row in (rows[0], rows[1], rows[3])] == [None] * 3
    # At the same compute as one of them, that one is the peer: the paired gain is exact.
    same = curve(
        [points[0], points[1], point("s", [1, 1, 1, 1, 1, 1, 1, 1], 400, "dvts")], TEXTS, (7, 9)
    )
    assert same[2]["equal_compute"]["accuracy"] == pytest.approx(5 / 8)
    assert same[2]["flops"] == 2 * 7 * 400
    assert format_curve(rows).count("\n") == 4
    assert curve(points, [], (None, None)) == []


def test_a_gain_on_every_problem_has_no_spread() -> None:
    half = [1, 0] * 4
    points = [point("1", [0] * 8, 100), point("4", [0] * 8, 400), point("b", [1] * 8, 200, "beam")]
    peer = curve(points, TEXTS, (None, None))[2]["equal_compute"]
    assert peer["interval"] == (1.0, 1.0)
    points = [point("1", half, 100), point("4", half, 400), point("b", half, 200, "beam")]
    peer = curve(points, TEXTS, (None, None))[2]["equal_compute"]
    assert peer["interval"] == pytest.approx((0.0, 0.0))


def test_problems_that_read_alike_are_drawn_as_one() -> None:
    right = [1, 1, 1, 1, 0, 0, 0, 0]
    apart = curve([point("1", right, 1)], TEXTS, (None, None))[0]["interval"]
    alike = ["a!"] * 4 + ["b?"] * 4
    together = curve([point("1", right, 1)], alike, (None, None))[0]["interval"]
    assert together == (0.0, 1.0)
    assert not math.isclose(apart[0], 0.0)

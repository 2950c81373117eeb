"""Kinds of benchmarks: what each loads, what it refuses, and the published figures beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm import jsonl
from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution, Solution
from prm.sources import Place, Source
from universalbench.published import published
from universalbench.tasks import Task, TaskConfig, load, restrict

MICRO = Path(__file__).parents[1] / "universalbench" / "data" / "micro.jsonl"


def item(id: str, subset: Any = "AIME", length: Any = "long", **changes: Any) -> LabelledSolution:
    fields: dict[str, Any] = {
        "id": id,
        "problem": f"Problem {id}?",
        "steps": ("one", "two", "three"),
        "generator": "policy",
        "reference": "worked",
        "metadata": {"subset": subset, "length": length},
    }
    return LabelledSolution(solution=Solution(**fields | changes), labels=(1.0, 0.0, 1.0))


def universal(folder: Path, *items: LabelledSolution, **keys: Any) -> Task:
    jsonl.write(folder / "bench.jsonl", items)
    source = Source(path=str(folder / "bench.jsonl"), **keys)
    return load(TaskConfig("u", "universalbench", source))


def test_universalbench(tmp_path):
    clean = replace(item("b", "GSM8K", "short"), labels=(1.0, 1.0, 1.0))
    task = universal(tmp_path, item("a"), clean, item("c"))
    assert (task.name, task.kind) == ("u", "universalbench")
    assert task.subsets == ["AIME long", "GSM8K short", "AIME long"]
    assert task.first_errors == [1, -1, 1]
    # After the first error each step has a label of its own.
    assert task.wrong == [[False, True, False], [False] * 3, [False, True, False]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": None}, r"metadata.subset is None; it must be a name, such as AIME"),
        ({"subset": " "}, r"metadata.subset is ' '"),
        ({"subset": 3}, r"metadata.subset is 3"),
        ({"length": None}, r"metadata.length is None; it must be long or short"),
        ({"length": "middle"}, r"metadata.length is 'middle'; it must be long or short"),
        ({"generator": ""}, r"generator is empty; name the policy"),
        ({"reference": None}, r"reference is null; join one through source\.references"),
    ],
)
def test_what_the_format_asks_for(tmp_path, changes, message):
    with pytest.raises(RecordError, match=rf"bench\.jsonl: solution 'b': {message}"):
        universal(tmp_path, item("a"), item("b", **changes))


def test_universalbench_refuses_opinions_and_other_formats(tmp_path):
    soft = replace(item("a"), labels=(1.0, 0.5, 0.0))
    with pytest.raises(RecordError, match="'a' has soft labels; a benchmark needs 0 or 1"):
        universal(tmp_path, soft)
    with pytest.raises(ConfigError, match="kind universalbench reads our own records"):
        universal(tmp_path, item("a"), format="stepwise")


def test_references_may_be_joined(tmp_path):
    problem = {"id": "x", "problem": "Problem A?", "answer": "4", "reference": "2 + 2 = 4"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    places = Place(path=str(tmp_path / "problems.jsonl"))
    task = universal(tmp_path, item("a", reference=None), references=places)
    assert task.solutions[0].reference == "2 + 2 = 4"


def test_micro_has_a_subset_for_each_policy():
    task = load(TaskConfig("m", "universalbench", Source(path=str(MICRO))))
    names = [f"{item.generator} {item.metadata['length']}" for item in task.solutions]
    assert task.subsets == names
    sizes = {name: names.count(name) for name in dict.fromkeys(names)}
    assert sizes == {
        "plain-weak short": 100,
        "plain-middle short": 100,
        "plain-strong short": 100,
        "long-middle long": 100,
    }


def test_generators_restrict_every_list(tmp_path):
    jsonl.write(
        tmp_path / "bench.jsonl",
        [item("a"), item("b", "AMC", "short", generator="other"), item("c")],
    )
    source = Source(path=str(tmp_path / "bench.jsonl"))
    task = load(TaskConfig("u", "universalbench", source, generators=["other"]))
    assert [item.id for item in task.solutions] == ["b"]
    assert (task.subsets, task.first_errors) == (["AMC short"], [1])
    with pytest.raises(ConfigError, match="task 'u': nothing is by 'x'; there are other, policy"):
        load(TaskConfig("u", "universalbench", source, generators=["x"]))


@given(st.lists(st.booleans(), max_size=6))
def test_restrict_keeps_entries_together(kept):
    ids = [f"s{index}" for index in range(len(kept))]
    task = Task(
        name="t",
        kind="candidates",
        solutions=[item(id).solution for id in ids],
        first_errors=[],
        subsets=ids,
        correct=[index % 2 == 0 for index in range(len(kept))],
        answer_groups=dict.fromkeys(ids, 0),
    )
    part = restrict(task, [index for index, keep in enumerate(kept) if keep])
    expected = [(id, index % 2 == 0) for index, id in enumerate(ids) if kept[index]]
    assert [item.id for item in part.solutions] == part.subsets == [id for id, _ in expected]
    assert part.correct == [right for _, right in expected]
    assert (part.first_errors, part.wrong) == ([], None)


def test_prm800k_and_stepwise_are_kinds_of_steps(tmp_path):
    def completion(text: str, rating: int) -> dict[str, Any]:
        return {"text": text, "rating": rating}

    def step(*completions: dict[str, Any], chosen: int | None) -> dict[str, Any]:
        return {
            "completions": list(completions),
            "human_completion": None,
            "chosen_completion": chosen,
        }

    row = {
        "labeler": "x",
        "question": {"problem": "1 + 1?", "ground_truth_answer": "2"},
        "label": {
            "finish_reason": "found_error",
            "steps": [
                step(completion("1 + 1", 1), completion("1 - 1", -1), chosen=0),
                step(completion("hm", 0), chosen=0),
                step(completion("is 3", -1), chosen=None),
            ],
        },
    }
    (tmp_path / "prm800k.jsonl").write_text(json.dumps(row) + "\n")
    source = Source(format="prm800k", path=str(tmp_path / "prm800k.jsonl"))
    task = load(TaskConfig("p", "steps", source))
    assert task.solutions[0].steps == ("1 + 1", "hm", "is 3")
    assert (task.wrong, task.first_errors) == ([[False, False, True]], [2])

    rows = [{"prompt": "1 + 1?", "completions": ["a", "b"], "labels": [True, False]}]
    (tmp_path / "stepwise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(format="stepwise", path=str(tmp_path / "stepwise.jsonl"))
    task = load(TaskConfig("s", "steps", source))
    assert (task.wrong, task.first_errors, task.subsets) == ([[False, True]], [1], [""])


# ── published figures ────────────────────────────────────────────────────────────────────────


def test_published_averages_are_plain_means_as_printed():
    assert set(published()) == {"universalbench", "processbench"}
    for table in published().values():
        assert len({row.model for row in table.rows}) == len(table.rows)
        for row in table.rows:
            assert row.source
            if not row.values:
                assert row.note
                continue
            assert tuple(row.values) == table.subsets
            # One decimal, and some of the printed averages are cut rather than rounded.
            assert abs(fmean(row.values.values()) - row.average) < 0.1 + 1e-9, row.model


def test_published_says_what_ours_is():
    table = published()["universalbench"]
    assert "on another data set" in table.statement
    ours = next(row for row in table.rows if row.model == "Universal-PRM-7B")
    assert (ours.values["AIME long"], ours.average) == (59.5, 74.5)
    assert "told of reference answers" in ours.note

"""`prm build-bench`: rules, the draw, the card, and a run that may be killed."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from killing import killed

from prm import config as configuration
from prm import jsonl
from prm.cli import main
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import Failure, LabelledSolution, Solution, problem_key, steps_digest
from prm.sources import Place, Source
from universalbench.build import stage
from universalbench.build.draw import Entry, draw
from universalbench.build.rules import (
    Cell,
    LabelRule,
    LengthRule,
    hardened,
    length_of,
    subset_of,
)
from universalbench.tasks import TaskConfig, load

ROOT = Path(__file__).resolve().parents[1]
CHARACTERS = LengthRule(by="characters", long_from=40)


def item(
    id: str, labels: tuple[float, ...] = (1.0, 0.0), *, problem: str = "", **changes: Any
) -> LabelledSolution:
    fields: dict[str, Any] = {
        "id": id,
        "problem": problem or f"Problem {id}?",
        "steps": tuple(f"step {index} of {id}" for index in range(len(labels))),
        "generator": "policy",
        "source": "GSM8K",
        "reference": "worked",
    }
    return LabelledSolution(solution=Solution(**fields | changes), labels=labels)


def config(folder: Path, items: list[LabelledSolution], **keys: Any) -> stage.Config:
    jsonl.write(folder / "labelled.jsonl", items)
    return stage.Config(
        out=str(folder / "run"),
        source=Source(path=str(folder / "labelled.jsonl")),
        name="Small benchmark",
        licence="cc-by-4.0",
        **{"length": CHARACTERS} | keys,
    )


def benchmark(folder: Path) -> list[LabelledSolution]:
    return list(jsonl.read(folder / "run" / "benchmark.jsonl", LabelledSolution))


def reasons(folder: Path) -> dict[str, str]:
    return {row.id: row.reason for row in jsonl.read(folder / "run" / "rejected.jsonl", Failure)}


# ── rules ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("labels", "low", "high", "expected"),
    [
        ((1.0, 0.0), 0.0, 1.0, (1.0, 0.0)),
        ((1.0, 0.25), 0.0, 1.0, None),
        ((0.75, 0.25), 0.25, 0.75, (1.0, 0.0)),  # on an edge is sure enough
        ((0.75, 0.26), 0.25, 0.75, None),
        ((0.74,), 0.25, 0.75, None),
        ((0.5,), 0.4, 0.5, (1.0,)),
    ],
)
def test_hardening(labels, low, high, expected):
    assert hardened(labels, LabelRule(low, high)) == expected


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_cuts_out_of_order(low, high):
    with pytest.raises(ValueError, match="0 <= low < high <= 1"):
        LabelRule(low, high)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (LengthRule(by="characters", long_from=9), "long"),  # 5 and 4, without what joins them
        (LengthRule(by="characters", long_from=10), "short"),
        (LengthRule(by="steps", long_from=2), "long"),
        (LengthRule(by="steps", long_from=3), "short"),
        (LengthRule(by="tokens", long_from=3, tokenizer="t"), "long"),
        (LengthRule(by="tokens", long_from=4, tokenizer="t"), "short"),
        (LengthRule(by="generator", long_from=None, long_generators=["policy"]), "long"),
        (LengthRule(by="generator", long_from=None, long_generators=["other"]), "short"),
    ],
)
def test_lengths(rule, expected):
    solution = item("a", steps=("a b c", "five"), labels=(1.0, 1.0)).solution
    assert length_of(solution, rule, lambda text: text.count(" ") + (text == "five")) == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"by": "tokens"}, "`by: tokens` needs tokenizer; set it, or choose another `by`"),
        (
            {"by": "steps", "tokenizer": "t"},
            "tokenizer is set, but `by` is steps; set `by: tokens`",
        ),
        ({"by": "generator", "long_from": None}, "`by: generator` needs long_generators"),
        (
            {"by": "generator", "long_generators": ["x"]},
            "with `by: generator`, long_from must be null",
        ),
        ({"by": "steps", "long_from": None}, "with `by: steps`, long_from must be a number"),
        ({"by": "steps", "long_from": 0}, "long_from is 0"),
    ],
)
def test_length_rules_that_do_not_fit(keys, message):
    with pytest.raises(ValueError, match=message):
        LengthRule(**keys)


def test_subsets():
    solution = item("a", metadata={"contest": "AIME", "year": 2020, "blank": " "}).solution
    assert subset_of(solution, "source") == "GSM8K"
    assert subset_of(solution, "generator") == "policy"
    assert subset_of(solution, "metadata.contest") == "AIME"
    for nothing in ("metadata.year", "metadata.blank", "metadata.other"):
        assert subset_of(solution, nothing) is None
    assert subset_of(replace(solution, source=""), "source") is None


# ── the draw ─────────────────────────────────────────────────────────────────────────────────

entry_lists = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from("ABC"), st.booleans()), max_size=30
).map(
    lambda rows: [
        Entry(f"s{index}", key, Cell(subset, "long", "m", error))
        for index, (key, subset, error) in enumerate(rows)
    ]
)


@given(
    entry_lists, st.none() | st.integers(1, 30), st.none() | st.integers(1, 4), st.integers(0, 3)
)
def test_a_draw_keeps_its_word(entries, size, per_problem, seed):
    found = draw(entries, size, per_problem, seed)
    assert list(found) == [entry.id for entry in entries]
    drawn = [entry for entry in entries if found[entry.id] is None]
    if size is not None:
        assert len(drawn) <= size
    problems = Counter(entry.key for entry in drawn)
    if per_problem is not None:
        assert max(problems.values(), default=0) <= per_problem
    # Nothing is left out for no reason.
    for entry in entries:
        reason = found[entry.id]
        if reason == "its problem has enough solutions":
            assert problems[entry.key] == per_problem
        elif reason is not None:
            assert (reason, len(drawn)) == ("beyond the size asked for", size)


@given(entry_lists, st.integers(1, 30), st.integers(0, 3))
def test_cells_are_even(entries, size, seed):
    """A cell with fewer than another (by more than one) has given all that it has."""
    found = draw(entries, size, None, seed)
    available = Counter(entry.cell for entry in entries)
    drawn = Counter(entry.cell for entry in entries if found[entry.id] is None)
    assert sum(drawn.values()) == min(size, len(entries))
    most = max(drawn.values(), default=0)
    for cell in available:
        assert drawn[cell] == available[cell] or drawn[cell] >= most - 1


@given(entry_lists, st.integers(1, 10), st.integers(0, 3), st.randoms())
def test_a_draw_depends_on_nothing_but_ids_and_seed(entries, size, seed, chance):
    mixed = entries.copy()
    chance.shuffle(mixed)
    found, again = draw(entries, size, 2, seed), draw(mixed, size, 2, seed)
    assert found == again


def test_seeds_draw_differently():
    entries = [Entry(f"s{index}", f"p{index}", Cell("A", "long", "m", True)) for index in range(20)]
    drawn = {
        tuple(id for id, reason in draw(entries, 5, None, seed).items() if reason is None)
        for seed in range(5)
    }
    assert len(drawn) == 5


# ── the stage ────────────────────────────────────────────────────────────────────────────────


def test_everything_is_kept_or_has_its_reason(tmp_path):
    (tmp_path / "trained.jsonl").write_text(
        json.dumps({"question": "PROBLEM leaked ?!", "answer": "x #### 1"}) + "\n"
    )
    twice = item("twice", steps=("same", "steps"), problem="Problem same?")
    items = [
        item("sure"),
        item("soft", (0.9, 0.1)),
        item("torn", (1.0, 0.5)),
        item("leaked"),
        item("bare", reference=None),
        item("nobody", generator=""),
        item("nowhere", source=""),
        twice,
        replace(twice, solution=replace(twice.solution, id="again")),
        replace(twice, solution=replace(twice.solution, id="other", generator="other")),
    ]
    counts = stage.run(
        config(
            tmp_path,
            items,
            labels=LabelRule(low=0.2, high=0.8),
            training=[Place(format="gsm8k", path=str(tmp_path / "trained.jsonl"))],
        )
    )
    assert reasons(tmp_path) == {
        "torn": "a label between low and high",
        "leaked": "its problem is one of `training`",
        "bare": "no reference",
        "nobody": "no generator",
        "nowhere": "no subset",
        "again": "the same policy wrote the same steps before",
    }
    built = {row.id: row for row in benchmark(tmp_path)}
    assert list(built) == ["sure", "soft", "twice", "other"]
    assert (counts.read, counts.written, sum(counts.rejected.values())) == (10, 4, 6)
    assert built["sure"].solution.metadata == {"subset": "GSM8K", "length": "short"}
    assert built["soft"].labels == (1.0, 0.0)
    assert built["soft"].solution.metadata["soft_labels"] == [0.9, 0.1]
    assert replace(built["sure"].solution, metadata={}) == items[0].solution


def test_the_benchmark_is_read_as_its_kind(tmp_path):
    items = [
        item("a", steps=("x" * 30, "y" * 30), source="AIME"),
        item("b", (1.0, 1.0), source="GSM8K"),
    ]
    stage.run(config(tmp_path, items))
    source = Source(path=str(tmp_path / "run" / "benchmark.jsonl"))
    task = load(TaskConfig("u", "universalbench", source))
    assert task.subsets == ["AIME long", "GSM8K short"]
    assert task.wrong == [[False, True], [False, False]]


def many(count: int = 60) -> list[LabelledSolution]:
    chance = random.Random(0)
    return [
        item(
            f"i{index}",
            (1.0, chance.choice((0.0, 1.0))),
            problem=f"Problem {index // 4}?",
            generator=chance.choice(("short", "short", "long")),
            source=chance.choice(("AIME", "GSM8K")),
        )
        for index in range(count)
    ]


def test_a_run_is_even_deterministic_and_says_what_it_did(tmp_path):
    by = LengthRule(by="generator", long_from=None, long_generators=["long"])
    keys: dict[str, Any] = {"length": by, "size": 24, "per_problem": 3, "seed": 5}
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        counts = stage.run(config(folder, many(), **keys))
        assert (counts.read, counts.written) == (60, 24)
    for name in ("benchmark.jsonl", "README.md", "rejected.jsonl"):
        assert (first / "run" / name).read_bytes() == (second / "run" / name).read_bytes()
    built = benchmark(first)
    assert max(Counter(row.solution.problem for row in built).values()) <= 3
    assert [row.id for row in built] == sorted((row.id for row in built), key=lambda x: int(x[1:]))
    sizes = Counter(
        (row.solution.metadata["subset"], row.solution.generator, 0.0 in row.labels)
        for row in built
    )
    assert len(sizes) == 8
    assert max(sizes.values()) - min(sizes.values()) <= 1

    text = (first / "run" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["configs"][0]["data_files"] == [{"split": "test", "path": "benchmark.jsonl"}]
    for (subset, generator, flawed), size in sizes.items():
        end = f"| {'wrong step' if flawed else 'all right'} | "
        [line] = [
            line
            for line in text.splitlines()
            if line.startswith(f"| {subset} | {generator} | {generator} {end}")
        ]
        assert line.endswith(f" | {size} |")
    assert "Draw: 24 solutions, at most 3 of one problem" in text
    assert "Seed 5." in text
    assert "Leak check: none; no training source was named." in text
    assert "none of its content" in text

    stage.run(config(first, many(), **keys))  # again: nothing to do
    with pytest.raises(RunConflictError, match="seed was 5 and is now 6"):
        stage.run(config(first, many(), **keys | {"seed": 6}))


def test_the_card_names_what_was_checked_and_no_folder(tmp_path):
    jsonl.write(tmp_path / "trained.jsonl", [item("t")])
    stage.run(config(tmp_path, [item("a")], training=[Place(path=str(tmp_path / "trained.jsonl"))]))
    text = (tmp_path / "run" / "README.md").read_text()
    assert "letters and digits of one of `trained.jsonl`" in text
    assert "Every solution of the source is in it." in text
    assert str(tmp_path) not in text


def test_rows_that_their_data_set_left_unlabelled_are_counted(tmp_path):
    rows = [
        {"input": "What? Step 1: a ки\nStep 2: b", "label": "What? Step 1: a +\nStep 2: b"},
        {"input": "Who? Step 1: a ки", "label": "Who? Step 1: a +"},
    ]
    path = tmp_path / "shepherd.jsonl"
    path.write_text("".join(json.dumps(row | {"task": "GSM8K"}) + "\n" for row in rows))
    references = {"id": "x", "problem": "Who?", "reference": "worked"}
    (tmp_path / "problems.jsonl").write_text(json.dumps(references) + "\n")
    source = Source(
        format="math_shepherd",
        path=str(path),
        references=Place(path=str(tmp_path / "problems.jsonl")),
    )
    counts = stage.run(replace(config(tmp_path, []), source=source, subset="metadata.task"))
    assert (counts.read, counts.written) == (2, 1)
    assert reasons(tmp_path) == {"math-shepherd-0": "text after the last step tag"}


def test_nothing_fit_is_an_error_that_says_why(tmp_path):
    message = "no solution is fit for the benchmark; most often: a label between low and high"
    with pytest.raises(RecordError, match=message):
        stage.run(config(tmp_path, [item("a", (0.5,)), item("b", (0.5,))]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "UniversalBench"}, "name is that of another, unpublished data set"),
        ({"name": " "}, "it must be one line"),
        ({"licence": "Apache 2"}, "write it as the Hub does"),
        ({"subset": "contest"}, r"it must be source, generator or metadata\.KEY"),
        ({"size": 0}, "size is 0; it starts at 1"),
        ({"per_problem": 0}, "per_problem is 0"),
    ],
)
def test_configurations_that_do_not_fit(keys, message):
    given = {"out": "x", "source": {"path": "x.jsonl"}, "name": "n", "licence": "other"} | keys
    with pytest.raises(ConfigError, match=message):
        configuration.from_dict(stage.Config, given, "here")


@pytest.mark.slow
def test_a_tokenizer_counts(tmp_path, causal_lm):
    by = LengthRule(by="tokens", long_from=30, tokenizer=str(causal_lm))
    items = [item("a", steps=("word " * 40, "end")), item("b", steps=("one", "end"))]
    stage.run(config(tmp_path, items, length=by))
    assert [row.solution.metadata["length"] for row in benchmark(tmp_path)] == ["long", "short"]
    missing = LengthRule(by="tokens", long_from=30, tokenizer=str(tmp_path / "nowhere"))
    (tmp_path / "more").mkdir()
    with pytest.raises(ConfigError, match=r"length\.tokenizer .*nowhere' cannot be read"):
        stage.run(config(tmp_path / "more", items, length=missing))


def test_the_configurations_that_come_with_it(tmp_path):
    for path in sorted((ROOT / "configs/build-bench").glob("*.yaml")):
        configuration.load(stage.Config, str(path), [])
    # UniversalBench-micro goes through its own configuration unchanged.
    path = ROOT / "universalbench/data/micro.jsonl"
    before = list(jsonl.read(path, LabelledSolution))
    code = main(
        ["build-bench", str(ROOT / "configs/build-bench/micro.yaml"), f"out={tmp_path / 'run'}",
         f"source.path={path}"]
    )  # fmt: skip
    assert code == 0
    assert benchmark(tmp_path) == before
    assert len({steps_digest(row.solution) for row in before}) < len(before)  # between policies
    assert len({problem_key(row.solution.problem) for row in before}) == 100


def test_help_describes_the_keys(capsys):
    with pytest.raises(SystemExit):
        main(["build-bench", "--help"])
    shown = capsys.readouterr().out
    for text in ("per_problem: null", "long_from: 4000", "When a soft label is sure enough"):
        assert text in shown


def test_the_folder_is_a_data_set_of_the_hub(tmp_path):
    import datasets

    items = [item("soft", (0.9, 0.1), metadata={"seen": 1}), *many(4)]
    stage.run(config(tmp_path, items, labels=LabelRule(0.2, 0.8)))
    table = datasets.load_dataset(
        str(tmp_path / "run"), split="test", cache_dir=str(tmp_path / "cache")
    )
    assert [row["labels"] for row in table] == [list(row.labels) for row in benchmark(tmp_path)]
    assert table[0]["solution"]["metadata"]["soft_labels"] == [0.9, 0.1]


@pytest.mark.slow
def test_killed_at_every_durable_write(tmp_path):
    jsonl.write(tmp_path / "labelled.jsonl", many(12))
    points = killed(
        tmp_path / "runs",
        "all",
        "build-bench",
        f"source={{path: {tmp_path / 'labelled.jsonl'}}}",
        "name=Small",
        "licence=other",
        "size=6",
    )
    assert points > 8
    names = ("benchmark.jsonl", "README.md", "rejected.jsonl")
    for point in range(points):
        for name in names:
            whole = (tmp_path / "runs" / "whole" / name).read_bytes()
            assert (tmp_path / "runs" / str(point) / name).read_bytes() == whole, (point, name)

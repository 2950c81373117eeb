"""`prm export`: nothing is lost on the way into a data set, and the card tells what is in it."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import killed

from prm import config, jsonl
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.export import stage
from prm.export.card import Summary, card
from prm.export.rows import row, schema
from prm.export.stage import Config, run
from prm.records import Annotation, Evidence, Judgment, LabelledSolution, Solution
from prm.sources import Source
from prm.sources import labelled as read_labelled

ROOT = Path(__file__).resolve().parents[1]
Record = Annotation | LabelledSolution

# Records of all shapes

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
words = text.filter(str.strip)
chance = st.floats(0, 1)
solutions = st.builds(
    Solution,
    id=words,
    problem=words,
    steps=st.lists(words, min_size=1, max_size=3).map(tuple),
    answer=st.none() | text,
    reference=st.none() | text,
    generator=text,
    source=text,
    final_answer_correct=st.none() | st.booleans(),
    metadata=st.dictionaries(text, st.integers() | text | st.none() | st.lists(text), max_size=2),
)


@st.composite
def labelled(draw: st.DrawFn) -> LabelledSolution:
    solution = draw(solutions)
    steps = len(solution.steps)
    shares = st.lists(chance, min_size=steps, max_size=steps).map(tuple)
    verdicts = st.sampled_from(["pass", "fail", "unknown"])
    evidence = st.builds(Evidence, check=text, verdict=verdicts, reason=text)
    return LabelledSolution(
        solution=solution,
        labels=draw(shares),
        agreement=draw(st.none() | shares),
        weight=draw(st.floats(0, 1, exclude_min=True)),
        evidence=draw(st.lists(evidence, max_size=2).map(tuple)),
    )


@st.composite
def annotations(draw: st.DrawFn) -> Annotation:
    solution = draw(solutions)
    steps = len(solution.steps)
    judgment = st.builds(
        Judgment,
        judge=text,
        strategy=text,
        verdicts=st.lists(st.none() | chance, min_size=steps, max_size=steps).map(tuple),
        text=text,
        usage=st.dictionaries(text, st.integers(0, 2**40), max_size=2),
        mass=st.none() | st.lists(chance, min_size=steps, max_size=steps).map(tuple),
    )
    return Annotation(solution=solution, judgments=draw(st.lists(judgment, max_size=2).map(tuple)))


def record_of(columns: dict[str, Any], kind: type) -> Any:
    """The inverse of `row`."""
    names = [item.name for item in dataclasses.fields(Solution)]
    solution = {name: columns.pop(name) for name in names}
    solution["metadata"] = json.loads(solution["metadata"])
    for judgment in columns.get("judgments", ()):
        judgment["usage"] = json.loads(judgment["usage"])
    return jsonl.convert({"solution": solution, **columns}, kind)


def some(count: int) -> list[LabelledSolution]:
    return [
        LabelledSolution(
            solution=Solution(
                id=str(number),
                problem=f"What is {number} + 1?",
                steps=(f"{number} + 1 = {number + 1}", "That is all."),
                generator="a|b" if number % 2 else "",
                source="sums",
            ),
            labels=(1.0, 0.25),
            agreement=(1.0, 0.75),
            weight=0.5 if number == 0 else 1.0,
            evidence=(Evidence(check="outcome", verdict="unknown", reason="no answer"),),
        )
        for number in range(count)
    ]


def configured(tmp_path: Path, records: list[Any] | None = None, **keys: Any) -> Config:
    source = tmp_path / "records.jsonl"
    if records is not None:
        jsonl.write(source, records)
    keys = {"name": "Sums", "licence": "cc-by-4.0"} | keys
    return Config(out=str(tmp_path / "out"), source=str(source), **keys)


def loaded(tmp_path: Path, folder: Path) -> Any:
    import datasets

    cache = str(tmp_path / "cache")
    return datasets.load_dataset(str(folder), split="train", cache_dir=cache)


# What is written


@pytest.mark.parametrize(("strategy", "kind"), [(labelled(), "labels"), (annotations(), "votes")])
def test_every_record_comes_back_as_it_was(
    strategy: Any, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = LabelledSolution if kind == "labels" else Annotation

    @settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(strategy, min_size=1, max_size=5, unique_by=lambda item: item.id))
    def comes_back(records: list[Record]) -> None:
        folder = tmp_path_factory.mktemp(kind)
        counts = run(configured(folder, records, shard_rows=2))
        assert (counts.read, counts.written) == (len(records), len(records))
        shards = sorted((folder / "out" / "data").iterdir())
        number = -(-len(records) // 2)
        assert [path.name for path in shards] == [
            f"train-{index:05d}-of-{number:05d}.parquet" for index in range(number)
        ]
        rows = [item for path in shards for item in pq.read_table(path).to_pylist()]
        assert [record_of(item, record) for item in rows] == records

    comes_back()


@pytest.mark.parametrize("kind", [Annotation, LabelledSolution])
def test_there_is_a_column_for_every_field_of_a_row(kind: Any) -> None:
    [solution] = [some(1)[0].solution]
    judgment = Judgment(judge="j", strategy="s", verdicts=(1.0, None))
    example = {
        Annotation: Annotation(solution=solution, judgments=(judgment,)),
        LabelledSolution: some(1)[0],
    }[kind]
    columns = schema(kind)
    assert columns.names == list(row(example))
    assert len(set(columns.names)) == len(columns.names)  # of a solution and of what holds it
    card("n", "mit", columns, Summary(None))  # has a meaning for each


def test_the_folder_loads_with_datasets(tmp_path: Path) -> None:
    records = some(5)
    run(configured(tmp_path, records, shard_rows=2))
    table = loaded(tmp_path, tmp_path / "out")
    assert len(table) == 5
    assert [record_of(item, LabelledSolution) for item in table] == records


@pytest.mark.parametrize(
    ("cut", "labels"), [(None, [1.0, 0.25]), (0.2, [True, True]), (0.5, [True, False])]
)
def test_stepwise_has_the_columns_of_trl(tmp_path: Path, cut: float | None, labels: list) -> None:
    records = some(3)
    run(configured(tmp_path, records, format="stepwise", cut=cut))
    table = loaded(tmp_path, tmp_path / "out")
    assert table.column_names == ["prompt", "completions", "labels"]
    assert list(table) == [item.to_stepwise(cut) for item in records]
    assert table[0]["labels"] == labels
    assert type(table[0]["labels"][0]) is type(labels[0])
    [shard] = (tmp_path / "out" / "data").iterdir()
    again = list(read_labelled(Source(format="stepwise", path=str(shard))))
    assert [item.labels for item in again] == [tuple(map(float, labels))] * 3
    assert [item.solution.steps for item in again] == [item.solution.steps for item in records]


def test_large_files_pass_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ROW_GROUP", 3)
    run(configured(tmp_path, some(10), shard_rows=7))
    shards = sorted((tmp_path / "out" / "data").iterdir())
    groups = [
        [pq.ParquetFile(path).metadata.row_group(index).num_rows for index in range(count)]
        for path, count in zip(shards, (3, 1), strict=True)
    ]
    assert groups == [[3, 3, 1], [3]]


# The card


def front_and_text(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_card_of_labels(tmp_path: Path) -> None:
    run(configured(tmp_path, some(5), name='Sums: "all"'))
    front, body = front_and_text(tmp_path / "out")
    assert front == {
        "pretty_name": 'Sums: "all"',
        "license": "cc-by-4.0",
        "size_categories": ["n<1K"],
        "tags": ["process-reward-model", "reasoning"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    for line in (
        "| solutions | 5 |",
        "| steps | 10 |",
        "| wrong steps (label below 0.5) | 50.0% |",
        "| solutions with a wrong step | 100.0% |",
        "| solutions with a weight below 1 | 1 |",
        "| agreement of the voters, mean over steps | 0.875 |",
        "| a\\|b | 2 | 4 | 50.0% |",
        "| not known | 3 | 6 | 50.0% |",
        "| sums | 5 | 10 | 50.0% |",
        "| outcome | 0 | 0 | 5 |",
        "| `labels` | `list<item: double>` | one for each step, see above |",
    ):
        assert line in body.splitlines(), line
    assert "the probability that it is right" in body
    assert "## Voters" not in body


def test_the_card_of_votes(tmp_path: Path) -> None:
    solution = some(1)[0].solution
    cast = (
        Judgment(judge="rules", strategy="arithmetic", verdicts=(1.0, None)),
        Judgment(judge="big", strategy="p0", verdicts=(0.0, 0.9)),
        Judgment(judge="big", strategy="p1", verdicts=(None, None), error="no list"),
    )
    run(configured(tmp_path, [Annotation(solution=solution, judgments=cast)]))
    _, body = front_and_text(tmp_path / "out")
    for line in (
        "| big | p0 | 1 | 0 | 2 | 50.0% |",
        "| big | p1 | 1 | 1 | 0 | none |",
        "| rules | arithmetic | 1 | 0 | 1 | 0.0% |",
        "| sums | 1 | 2 |",
    ):
        assert line in body.splitlines(), line
    assert "null where it abstains" in body
    assert "label" not in body


def test_the_card_of_cut_labels_tells_the_cut(tmp_path: Path) -> None:
    run(configured(tmp_path, some(2), format="stepwise", cut=0.2))
    _, body = front_and_text(tmp_path / "out")
    assert "true where that reaches 0.2" in body
    assert "| wrong steps (label below 0.2) | 0.0% |" in body
    assert "weight" not in body


@pytest.mark.parametrize(
    ("rows", "word"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**12, "n>1T")],
)
def test_sizes_are_in_the_words_of_the_hub(rows: int, word: str) -> None:
    summary = Summary(None)
    summary.all.solutions = rows
    text = card("n", "mit", schema(LabelledSolution), summary)
    assert yaml.safe_load(text.split("---\n")[1])["size_categories"] == [word]


# Mistakes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("licence=''", "licence is ''"),
        ("licence=Apache 2.0", "write it as the Hub does, such as apache-2.0"),
        ("name=''", "name is ''; it must be one line"),
        ("cut=0.5", "cut is for format stepwise alone"),
        ("format=messages", "key 'format'"),
        ("shard_rows=0", "shard_rows is 0"),
    ],
)
def test_a_wrong_configuration_is_refused(wrong: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(Config, ROOT / "configs/export/default.yaml", [wrong])


def test_a_licence_and_a_name_must_be_given() -> None:
    with pytest.raises(ConfigError, match="required key 'licence', 'name' is not set"):
        config.load(Config, None, ["out=o", "source=s"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([some(1)[0].solution], "neither an annotation nor a labelled solution; name"),
        ([], "no records in it"),
    ],
)
def test_another_kind_of_file_is_named_and_leaves_nothing(
    tmp_path: Path, lines: list[Any], message: str
) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        run(configured(tmp_path, lines))
    assert "records.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_stepwise_of_annotations_is_refused(tmp_path: Path) -> None:
    item = Annotation(solution=some(1)[0].solution, judgments=())
    with pytest.raises(ConfigError, match="annotations have no labels"):
        run(configured(tmp_path, [item], format="stepwise"))


def test_a_bad_line_amid_the_file_leaves_no_data_and_a_mended_file_may_take_the_folder(
    tmp_path: Path,
) -> None:
    records = some(5)
    made = configured(tmp_path, records, shard_rows=2)
    path = tmp_path / "records.jsonl"
    good = path.read_text()
    item = Annotation(solution=records[0].solution, judgments=())
    path.write_text(good + jsonl.encode(item) + "\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:6: "):
        run(made)
    assert {item.name for item in (tmp_path / "out").iterdir()} == {".lock"}
    path.write_text(good)
    assert run(made).written == 5


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    made = configured(tmp_path, some(2000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(ConfigError, match=r"data: cannot be written \(.*large") as caught:
            run(made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert run(made).written == 2000


# Runs


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    made = configured(tmp_path, some(3))
    run(made)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    assert run(made).written == 3
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    with pytest.raises(RunConflictError, match=r'licence was "cc-by-4\.0" and is now "mit"'):
        run(dataclasses.replace(made, licence="mit"))


def test_killed_anywhere_the_same_command_gives_the_same_folder(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "records.jsonl", some(5))
    # After each fsync and rename between the first `run.json` and the last: two shards, their
    # names, the folder, the card.
    points = [str(point) for point in range(7, 28, 2)]
    command = ("export", f"source={tmp_path / 'records.jsonl'}", "name=n", "licence=mit")
    killed(tmp_path, ",".join(points), *command, "shard_rows=3")
    whole = files(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".parquet")]) == 2
    for point in points:
        assert files(tmp_path / point) == whole, f"killed at {point}"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json" and not path.name.startswith(".")
    }

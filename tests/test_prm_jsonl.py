"""JSON Lines: strict reading that says where, durable writing that survives a kill."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm import jsonl
from prm.errors import ConfigError, RecordError
from prm.records import (
    Annotation,
    Evidence,
    Failure,
    Judgment,
    LabelledSolution,
    Problem,
    Ranking,
    Rejection,
    Solution,
    StepScores,
)

SOLUTION = {"id": "a", "problem": "p", "steps": ["x", "y"]}


# Reading


@pytest.mark.parametrize(
    ("record", "line", "field", "message"),
    [
        (Solution, SOLUTION | {"stps": []}, "stps", "unknown field"),
        (Solution, {"id": "a", "problem": "p"}, "steps", "Missing|required"),
        (Solution, SOLUTION | {"steps": "xy"}, "steps", "array"),
        (Solution, SOLUTION | {"steps": ["x", 2]}, "steps.1", "string"),
        (Solution, SOLUTION | {"id": 1}, "id", "string"),
        (Solution, SOLUTION | {"final_answer_correct": 1}, "final_answer_correct", "boolean"),
        (Solution, SOLUTION | {"steps": []}, None, "at least one step"),
        (Solution, SOLUTION | {"steps": ["x", " "]}, None, r"steps\[1\] is blank"),
        (Solution, SOLUTION | {"metadata": {"x": float("nan")}}, None, "not plain JSON"),
        (LabelledSolution, {"solution": SOLUTION, "labels": [1]}, None, "1 labels for 2 steps"),
        (LabelledSolution, {"solution": SOLUTION, "labels": [1, True]}, "labels.1", "number"),
        (LabelledSolution, {"solution": SOLUTION, "labels": [1, None]}, "labels.1", "number"),
        (LabelledSolution, {"solution": SOLUTION, "labels": [1, "1"]}, "labels.1", "number"),
        (LabelledSolution, {"solution": SOLUTION, "labels": [1, -100]}, None, r"labels\[1\]"),
        (
            LabelledSolution,
            {"solution": SOLUTION | {"x": 1}, "labels": [1, 1]},
            "solution.x",
            "unknown field",
        ),
        (
            StepScores,
            {
                "solution_id": "a",
                "steps_digest": "d",
                "model": "m",
                "scores": [0.5, float("nan")],
            },
            "scores.1",
            "finite",
        ),
        (Evidence, {"check": "c", "verdict": "maybe", "reason": ""}, "verdict", "'pass'"),
        (Problem, {"id": "a", "problem": 1, "answer": 2}, "problem", r"\(and 1 more\)"),
    ],
)
def test_strict_decoding_names_file_line_and_field(
    record: type, line: dict[str, Any], field: str | None, message: str
) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        jsonl.decode(json.dumps(line), record, path="f.jsonl", number=7)
    assert (caught.value.path, caught.value.line, caught.value.field) == ("f.jsonl", 7, field)
    assert str(caught.value).startswith("f.jsonl:7: " + (f"field {field!r}: " if field else ""))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "a", "problem": "p", "steps": ["x"',
        b'{"id": "\xff", "problem": "p", "steps": ["x"]}',
        b'{"id": "\\ud800", "problem": "p", "steps": ["x"]}',
        b'{"id": "a"} {"id": "b"}',
        b"not JSON",
        b"\x00",
        b"[" * 100_000,
    ],
)
def test_torn_or_invalid_lines(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(json.dumps(SOLUTION).encode() + b"\n" + line + b"\n")
    for read in (lambda: list(jsonl.read(path, Solution)), lambda: list(jsonl.read_rows(path))):
        with pytest.raises(RecordError, match="torn or invalid JSON") as caught:
            read()
        assert caught.value.line == 2


def test_a_torn_line_has_one_line_number(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(SOLUTION) + '\n{"id": "a')
    for read in (lambda: list(jsonl.read(path, Solution)), lambda: list(jsonl.read_rows(path))):
        with pytest.raises(RecordError, match=r":2: torn .*EOF.* at column [0-9]+\)$"):
            read()


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(SOLUTION), encoding="utf-8-sig")
    assert [item.id for item in jsonl.read(path, Solution)] == ["a"]
    assert list(jsonl.read_rows(path)) == [(1, SOLUTION)]
    path.write_bytes(b"\n" + path.read_bytes())  # anywhere else it is no mark
    with pytest.raises(RecordError, match=":2: torn or invalid JSON"):
        list(jsonl.read(path, Solution))


@pytest.mark.parametrize("line", ["[]", "1", '"a"', "null"])
def test_a_line_must_hold_an_object(tmp_path: Path, line: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(f"{line}\n")
    for read in (lambda: list(jsonl.read(path, Solution)), lambda: list(jsonl.read_rows(path))):
        with pytest.raises(RecordError, match="object") as caught:
            read()
        assert caught.value.line == 1


def test_torn_last_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    whole = json.dumps(SOLUTION) + "\n" + json.dumps(SOLUTION | {"id": "b"})
    for length in range(len(json.dumps(SOLUTION)) + 2, len(whole)):
        path.write_text(whole[:length])
        with pytest.raises(RecordError, match=r":2: torn or invalid JSON"):
            list(jsonl.read(path, Solution))
    path.write_text(whole)  # only the newline is missing: nothing is torn
    assert [item.id for item in jsonl.read(path, Solution)] == ["a", "b"]


def test_flipped_byte_is_never_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    good = (json.dumps(SOLUTION) + "\n").encode()
    for index in range(len(good) - 1):
        broken = bytearray(good)
        broken[index] ^= 0x80  # what was ASCII is no UTF-8 any more
        path.write_bytes(bytes(broken))
        with pytest.raises(RecordError, match=r"f\.jsonl:1: "):
            list(jsonl.read(path, Solution))


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    lines = [SOLUTION, SOLUTION | {"id": "b"}, SOLUTION]
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    with pytest.raises(RecordError, match=r":5: field 'id': 'a' occurs twice, first on line 1$"):
        list(jsonl.read(path, Solution))
    assert len(list(jsonl.read(path, Solution, unique=False))) == 3


def test_unreadable_places(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for path, message in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "a folder where a file is needed"),
        (tmp_path / "f" / "g.jsonl", "cannot be read"),
    ):
        with pytest.raises(RecordError, match=message) as caught:
            list(jsonl.read(path, Solution))
        assert caught.value.path == path


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_forbidden_file(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.touch(mode=0)
    with pytest.raises(RecordError, match="cannot be read"):
        list(jsonl.read(path, Solution))


def test_convert_refuses_what_is_not_json() -> None:
    with pytest.raises(RecordError, match="not plain JSON"):
        jsonl.convert(SOLUTION | {"metadata": {"x": object()}}, Solution)
    with pytest.raises(RecordError, match="not plain JSON"):
        jsonl.convert(SOLUTION | {"metadata": {"x": float("inf")}}, Solution)


# Round trip of every record

words = st.text(st.characters(exclude_categories=["Cs"]))
filled = words.filter(lambda text: text.strip() != "")
probabilities = st.floats(0, 1)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
evidence = st.builds(
    Evidence, check=words, verdict=st.sampled_from(["pass", "fail", "unknown"]), reason=words
)
problems = st.builds(
    Problem,
    id=words.filter(bool),
    problem=filled,
    answer=st.none() | words,
    reference=st.none() | words,
    source=words,
)
solutions = st.builds(
    Solution,
    id=words.filter(bool),
    problem=filled,
    steps=st.lists(filled, min_size=1, max_size=4).map(tuple),
    answer=st.none() | words,
    reference=st.none() | words,
    generator=words,
    source=words,
    final_answer_correct=st.none() | st.booleans(),
    metadata=st.dictionaries(words, plain, max_size=3),
)


def judgments(steps: int) -> st.SearchStrategy[Judgment]:
    return st.builds(
        Judgment,
        judge=words,
        strategy=words,
        verdicts=st.tuples(*[st.none() | probabilities] * steps),
        text=words,
        finish_reason=words,
        usage=st.dictionaries(words, st.integers(0, 2**40), max_size=2),
    )


annotations = solutions.flatmap(
    lambda solution: st.builds(
        Annotation,
        solution=st.just(solution),
        judgments=st.lists(judgments(len(solution.steps)), max_size=3).map(tuple),
    )
)
labelled = solutions.flatmap(
    lambda solution: st.builds(
        LabelledSolution,
        solution=st.just(solution),
        labels=st.tuples(*[probabilities] * len(solution.steps)),
        agreement=st.none() | st.tuples(*[probabilities] * len(solution.steps)),
        weight=st.floats(0, 1, exclude_min=True),
        evidence=st.lists(evidence, max_size=2).map(tuple),
    )
)
finite = st.floats(allow_nan=False, allow_infinity=False)
records = st.one_of(
    problems,
    solutions,
    judgments(2),
    annotations,
    evidence,
    labelled,
    st.builds(
        Rejection,
        annotation=annotations,
        rule=words,
        reason=words,
        evidence=st.lists(evidence, max_size=2).map(tuple),
    ),
    st.builds(
        StepScores,
        solution_id=words,
        steps_digest=words,
        model=words,
        scores=st.lists(finite, min_size=1).map(tuple),
    ),
    st.builds(Failure, id=words, reason=words),
    st.lists(finite, min_size=1).flatmap(
        lambda rewards: st.builds(
            Ranking,
            id=words,
            problem=words,
            method=words,
            solution_ids=st.just(tuple(str(index) for index in range(len(rewards)))),
            rewards=st.just(tuple(rewards)),
        )
    ),
)


@given(records)
def test_round_trip(record: Any) -> None:
    line = jsonl.encode(record)
    assert "\n" not in line
    assert jsonl.decode(line, type(record)) == record
    assert jsonl.decode(line.encode(), type(record)) == record


def test_non_finite_numbers_are_never_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        jsonl.encode({"x": float("nan")})


# Writing

ITEMS = [Failure(id=f"é{index}", reason="r" * index + "\n„“") for index in range(6)]


def finish(path: Path, chunk: int = 2) -> list[str]:
    """Write what is missing of ITEMS, as a stage does; returns the ids found finished."""
    with jsonl.Writer(path, Failure) as out:
        done = list(out.finished)
        todo = [item for item in ITEMS if item.id not in done]
        for start in range(0, len(todo), chunk):
            out.write(todo[start : start + chunk])
        out.commit()
    return done


def test_the_name_appears_with_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with jsonl.Writer(path, Failure) as out:
        assert out.finished == []
        out.write(ITEMS[:2])
        out.write([])
        assert not path.exists()
        partial = path.with_name("f.jsonl.partial")
        assert list(jsonl.read(partial, Failure)) == ITEMS[:2]  # durable without closing
    assert not path.exists()
    assert finish(path) == [item.id for item in ITEMS[:2]]
    assert list(jsonl.read(path, Failure)) == ITEMS
    assert [item.name for item in tmp_path.iterdir()] == ["f.jsonl"]


def test_resumed_after_a_kill_at_every_byte(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    finish(whole)
    data = whole.read_bytes()
    path = tmp_path / "f.jsonl"
    partial = tmp_path / "f.jsonl.partial"
    for length in range(len(data) + 1):
        partial.write_bytes(data[:length])
        assert len(finish(path)) == data[:length].count(b"\n")
        assert path.read_bytes() == data
        assert not partial.exists()


def test_a_file_that_got_its_name_before_the_kill_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    with jsonl.Writer(path, Problem) as out:
        out.write([Problem(id="a", problem="1 + 1?")])
        out.commit()
    with jsonl.Writer(path, Problem) as out:
        assert out.finished == ["a"]
        out.write([Problem(id="b", problem="1 + 2?")])
        out.commit()
    assert [item.id for item in jsonl.read(path, Problem)] == ["a", "b"]


@pytest.mark.parametrize("tail", [0, 1, 70_000, 200_000])
def test_a_torn_tail_of_any_length_is_cut_off(tmp_path: Path, tail: int) -> None:
    partial = tmp_path / "f.jsonl.partial"
    line = jsonl.encode(Problem(id="a", problem="1 + 1?")).encode() + b"\n"
    for whole in (b"", line):
        partial.write_bytes(whole + b"x" * tail)
        with jsonl.Writer(tmp_path / "f.jsonl", Problem) as out:
            assert out.finished == (["a"] if whole else [])
        assert partial.read_bytes() == whole


def test_a_partial_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl.partial").write_text('{"x": 1}\n')
    with pytest.raises(RecordError, match=r"f\.jsonl\.partial:1: field"):
        jsonl.Writer(tmp_path / "f.jsonl", Failure)


class _FullDisk:
    """A file that takes a few bytes of what it is given, then none."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: memoryview) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(len(data), self._room)
        self._room -= taken
        return self._file.write(data[:taken])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 40, 150])
def test_full_disk_is_one_clear_error_and_resumes(tmp_path: Path, room: int) -> None:
    finish(tmp_path / "whole.jsonl")
    path = tmp_path / "f.jsonl"
    with pytest.raises(ConfigError, match=r"f\.jsonl: cannot be written \(No space left"):
        fill_until_full(path, room)
    assert not path.exists()
    finish(path)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def fill_until_full(path: Path, room: int) -> None:
    with jsonl.Writer(path, Failure) as out:
        out._file = _FullDisk(out._file, room)  # type: ignore[assignment]
        for item in ITEMS:
            out.write([item])


def _fail(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_writing_whole_files_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "f.jsonl"
    jsonl.write(path, ITEMS[:1])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _fail)
        with pytest.raises(ConfigError, match=r"cannot be written .No space left"):
            jsonl.write(path, ITEMS)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["f.jsonl"]
    jsonl.write(path, ITEMS)
    assert list(jsonl.read(path, Failure)) == ITEMS


def test_dev_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own full disk; its temporary file would stand beside it in /dev."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(Path, "with_name", lambda self, name: self)
    monkeypatch.setattr(Path, "unlink", _fail)
    with pytest.raises(ConfigError, match="/dev/full: cannot be written"):
        jsonl.write_text("/dev/full", "x")


def nowhere(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "f.jsonl"


@pytest.mark.parametrize(
    "write",
    [lambda path: jsonl.Writer(path, Failure), lambda path: jsonl.write(path, ITEMS)],
    ids=["Writer", "write"],
)
def test_a_folder_that_cannot_be_written(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    for path in (nowhere(tmp_path), tmp_path / "none" / "f.jsonl"):
        with pytest.raises(ConfigError, match="cannot be written"):
            write(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="cannot be written"):
        jsonl.write(folder / "f.jsonl", ITEMS)
    with pytest.raises(ConfigError, match="cannot be written"):
        jsonl.Writer(folder / "f.jsonl", Failure)

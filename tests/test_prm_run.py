"""Run folders: the same command resumes or does nothing; any other is refused with reasons."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.run import Counts, Run, fingerprint


@dataclass
class Inner:
    seed: int = 0
    speed: int = field(default=1, metadata=MAY_CHANGE)


@dataclass
class Config:
    out: str
    name: str = "a"
    inner: Inner = field(default_factory=Inner)
    chunk: int = field(default=64, metadata=MAY_CHANGE)


COUNTS = Counts(read=3, written=2, rejected={"rule": 1})


def finished(folder: Path, **values: Any) -> None:
    with Run(folder, "stage", Config(out=str(folder), **values), {"source": "1"}) as run:
        run.path("out.jsonl").write_text("{}\n")
        run.finish(COUNTS, ["out.jsonl"])


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def test_a_run_record_says_what_ran(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with Run(folder, "stage", Config(out=str(folder)), {"source": "1"}) as run:
        assert run.counts is None
        assert "finished" not in record(folder)
    finished(folder)
    found = record(folder)
    assert found["stage"] == "stage"
    assert found["config"] == {
        "out": str(folder),
        "name": "a",
        "inner": {"seed": 0, "speed": 1},
        "chunk": 64,
    }
    assert found["identity"] == {"name": "a", "inner": {"seed": 0}}
    assert found["inputs"] == {"source": "1"}
    assert found["outputs"] == ["out.jsonl"]
    assert found["counts"]["rejected"] == {"rule": 1}
    assert found["versions"]["torch"]


def test_unfinished_is_resumed_and_finished_is_left_alone(tmp_path: Path) -> None:
    with Run(tmp_path, "stage", Config(out="x")) as run:
        started = record(tmp_path)["started"]
    with Run(tmp_path, "stage", Config(out="x")) as run:
        assert run.counts is None
        run.finish(COUNTS, [])
    with Run(tmp_path, "stage", Config(out="x")) as run:
        assert run.counts == COUNTS
    assert record(tmp_path)["started"] == started


@pytest.mark.parametrize(
    ("stage", "config", "source", "message"),
    [
        ("other", Config(out=""), "1", 'stage was "stage" and is now "other"'),
        ("stage", Config(out="", name="b"), "1", 'name was "a" and is now "b"'),
        ("stage", Config(out="", inner=Inner(seed=7)), "1", "inner.seed was 0 and is now 7"),
        ("stage", Config(out=""), "2", "the content of inputs.source changed"),
        ("other", Config(out="", name="b", inner=Inner(seed=7)), "2", r"\(and 1 more\)"),
    ],
)
def test_a_conflict_names_what_differs(
    tmp_path: Path, stage: str, config: Config, source: str, message: str
) -> None:
    finished(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunConflictError, match=message) as caught:
        Run(tmp_path, stage, config, {"source": source})
    assert str(caught.value).startswith(f"{tmp_path}: holds another run: ")
    assert "set another `out`, or delete the folder" in str(caught.value)
    assert (tmp_path / "run.json").read_bytes() == before
    finished(tmp_path)  # the refused attempt holds no lock


def test_long_values_are_shortened_in_a_conflict(tmp_path: Path) -> None:
    finished(tmp_path, name="x" * 1000)
    with pytest.raises(RunConflictError) as caught:
        Run(tmp_path, "stage", Config(out="", name="y" * 1000), {"source": "1"})
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_what_may_change_is_recorded_but_no_conflict(tmp_path: Path) -> None:
    finished(tmp_path)
    config = Config(out="", chunk=1, inner=Inner(speed=5))
    with Run(tmp_path, "stage", config, {"source": "1"}) as run:
        assert run.counts == COUNTS
        run.finish(COUNTS, ["out.jsonl"])
    assert record(tmp_path)["config"]["chunk"] == 1


def test_a_folder_may_be_moved(tmp_path: Path) -> None:
    finished(tmp_path / "old")
    moved = (tmp_path / "old").rename(tmp_path / "new")
    with Run(moved, "stage", Config(out=str(moved)), {"source": "1"}) as run:
        assert run.counts == COUNTS


def test_a_deleted_output_is_made_again(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "out.jsonl").unlink()
    with Run(tmp_path, "stage", Config(out=""), {"source": "1"}) as run:
        assert run.counts is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"identity": null}',
        b'{"identity": {}, "outputs": []}',
        b'{"identity": {}, "outputs": [], "counts": {"red": 1}}',
        b'{"identity": {}, "outputs": [], "counts": 5}',
    ],
)
def test_a_corrupted_record_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunConflictError, match=r"run\.json: not a run record .*; delete the"):
        Run(tmp_path, "stage", Config(out=""))
    assert (tmp_path / "run.json").read_bytes() == content


HOLDER = """
import sys
from prm.run import Run
from dataclasses import dataclass
@dataclass
class Config:
    out: str
with Run(sys.argv[1], "stage", Config(out="")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunConflictError, match="another process is at work here"):
            Run(tmp_path, "stage", Config(out=""))
    finally:
        holder.kill()  # what dies holds no lock
        holder.communicate()
    with Run(tmp_path, "stage", Config(out="")):  # and claims no folder, having written nothing
        assert record(tmp_path)["config"]["name"] == "a"


def test_a_run_that_wrote_nothing_claims_no_folder(tmp_path: Path) -> None:
    with Run(tmp_path, "other", Config(out="", name="wrong"), {"source": "torn"}) as run:
        run.path("out.jsonl.partial").touch()  # opened, then the input was refused
    (tmp_path / ".run.json.123").write_text("{")  # a kill in the midst of writing
    with Run(tmp_path, "stage", Config(out=""), {"source": "mended"}) as run:
        assert run.counts is None
    assert record(tmp_path)["stage"] == "stage"
    assert record(tmp_path)["inputs"] == {"source": "mended"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "run.json"]


@pytest.mark.parametrize("name", ["out.jsonl.partial", "out.jsonl", "checkpoint"])
def test_a_run_that_wrote_something_keeps_its_folder(tmp_path: Path, name: str) -> None:
    with Run(tmp_path, "stage", Config(out=""), {"source": "1"}) as run:
        if name == "checkpoint":
            run.path(name).mkdir()
        else:
            run.path(name).write_text("{}\n")
    with pytest.raises(RunConflictError, match=r"the content of inputs\.source changed"):
        Run(tmp_path, "stage", Config(out=""), {"source": "2"})
    assert (tmp_path / name).exists()


def test_a_finished_run_without_output_keeps_its_folder(tmp_path: Path) -> None:
    with Run(tmp_path, "stage", Config(out="")) as run:
        run.finish(COUNTS, [])
    with pytest.raises(RunConflictError, match="name was"):
        Run(tmp_path, "stage", Config(out="", name="b"))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(ConfigError, match=r"cannot be written .*; set `out`"):
            Run(folder, "stage", Config(out=""))


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (Counts(read=2, written=2), "in 2, out 2, rejected 0, failed 0"),
        (
            Counts(read=9, written=4, rejected={"b": 2, "a": 3}, failed={"p0": 1}, tokens=12345),
            "in 9, out 4, rejected 5 (a 3, b 2), failed 1 (p0 1), 12,345 tokens",
        ),
    ],
)
def test_counts_line(counts: Counts, line: str) -> None:
    assert str(counts) == line


def test_fingerprints(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "weights").write_text("w")
        (folder / "run.json").write_text(folder.name)  # machine and times, not content
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one / "sub" / "weights") == fingerprint(other / "sub" / "weights")
    (other / "sub" / "weights").write_text("v")
    assert fingerprint(one) != fingerprint(other)
    (other / "sub" / "weights").write_text("w")
    (other / "sub" / "weights").rename(other / "weights")
    assert fingerprint(one) != fingerprint(other)
    with pytest.raises(RecordError, match="no such file"):
        fingerprint(tmp_path / "none")


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.partial", "model"])
def test_what_no_run_left_is_not_taken_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir() if name == "model" else (tmp_path / name).write_text("mine\n")
    with pytest.raises(RunConflictError, match=rf"holds {name}, which no run left; set another"):
        Run(tmp_path, "stage", Config(out=""), {}, ["out.jsonl", "model"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".lock", name])
    if name != "model":
        assert (tmp_path / name).read_text() == "mine\n"
    with Run(tmp_path, "stage", Config(out=""), {}, ["other.jsonl"]):  # a file of another name
        assert record(tmp_path)["stage"] == "stage"


def test_outputs_without_their_run_record_are_not_taken_over(tmp_path: Path) -> None:
    finished(tmp_path)
    with Run(tmp_path, "stage", Config(out=""), {"source": "1"}, ["out.jsonl"]) as run:
        assert run.counts == COUNTS  # with its record, all is well
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunConflictError, match=r"holds out\.jsonl, which no run left"):
        Run(tmp_path, "stage", Config(out="", name="b"), {"source": "1"}, ["out.jsonl"])
    assert not (tmp_path / "run.json").exists()


def refused(folder: Path, inputs: dict[str, str], wrote: str) -> None:
    run = Run(folder, "stage", Config(out=""), inputs)
    with contextlib.suppress(RecordError), run:
        run.path("out.jsonl.partial").write_text(wrote)
        raise RecordError("torn")


def test_a_refused_run_leaves_a_shared_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "solutions.jsonl").write_text("torn")
    refused(tmp_path, {"source": "torn"}, "")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".lock", "solutions.jsonl"]
    with Run(tmp_path, "stage", Config(out=""), {"source": "mended"}):
        assert record(tmp_path)["inputs"] == {"source": "mended"}


def test_a_run_that_fails_after_its_first_record_keeps_its_folder(tmp_path: Path) -> None:
    refused(tmp_path, {}, "{}\n")
    assert record(tmp_path)["stage"] == "stage"
    with Run(tmp_path, "stage", Config(out=""), {}, ["out.jsonl"]) as run:  # and is resumed
        assert run.counts is None

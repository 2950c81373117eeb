"""`prm verify`: the files, the counts, and resuming."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from killing import killed

from prm import config, jsonl
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import Annotation, Judgment, LabelledSolution, Rejection, Solution
from verify.decision import Rules
from verify.stage import Config, run

ROOT = Path(__file__).parents[1]

SPOILT = ("It is 3.", "The answer is 3.")


def labelled_file(folder: Path, count: int = 9) -> Path:
    """A file of annotations of all kinds: by their number, right, rejected, lighter, unknown."""
    items = []
    for index in range(count):
        answer = (None, "3", "4")[index % 3]
        cast = ((1.0, 1.0), (1.0, 0.0), (1.0, None))[index // 3 % 3]
        solution = Solution(id=f"s{index}", problem="p" * 1500, steps=SPOILT, answer=answer)
        vote = Judgment(judge="j", strategy="s", verdicts=cast)
        items.append(Annotation(solution=solution, judgments=(vote,)))
    path = folder / "annotations.jsonl"
    jsonl.write(path, items)
    return path


def made(folder: Path, **values: object) -> Config:
    settings = Config(out=str(folder / "out"), annotations=str(labelled_file(folder)))
    return dataclasses.replace(settings, **values)


def outputs(folder: str | Path) -> tuple[bytes, bytes]:
    return (
        (Path(folder) / "labelled.jsonl").read_bytes(),
        (Path(folder) / "rejected.jsonl").read_bytes(),
    )


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_counts_add_up(tmp_path: Path, chunk: int) -> None:
    settings = made(tmp_path, chunk=chunk)
    counts = run(settings)
    kept = list(jsonl.read(Path(settings.out) / "labelled.jsonl", LabelledSolution))
    rejected = list(jsonl.read(Path(settings.out) / "rejected.jsonl", Rejection))
    assert counts.read == 9
    assert counts.written == len(kept) == 5
    assert counts.rejected == Counter(item.rule for item in rejected)
    assert counts.rejected == {"all_right_but_answer_wrong": 1, "step_without_a_vote": 3}
    assert counts.read == counts.written + sum(counts.rejected.values())
    assert [item.id for item in kept] == ["s0", "s1", "s3", "s4", "s5"]
    assert [item.weight for item in kept] == [1.0, 1.0, 1.0, 0.5, 1.0]


def test_the_summary_tells_what_each_check_said_and_did(tmp_path: Path) -> None:
    solution = Solution(id="0", problem="p", steps=("2 + 2 = 5", "3 + 3 = 7"), answer="4")
    items = [
        Annotation(
            solution=dataclasses.replace(solution, id=str(index), answer=("7", "8")[index % 2]),
            judgments=(Judgment(judge="j", strategy="s", verdicts=(1.0, float(index < 3))),),
        )
        for index in range(4)
    ]
    jsonl.write(tmp_path / "annotations.jsonl", items)
    settings = Config(out=str(tmp_path / "o"), annotations=str(tmp_path / "annotations.jsonl"))
    counts = run(settings)
    assert counts.corrected == {"false_equation_called_right": 4}
    found = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (found["kept"], found["lighter"], found["rejected"]) == (4, 2, {})
    assert found["checks"]["outcome"] == {
        **{"action": "keep", "passed": 2, "failed": 2, "unknown": 0, "labels": 0}
    }
    assert found["checks"]["false_equation_called_right"] == {
        **{"action": "correct", "passed": 0, "failed": 4, "unknown": 0, "labels": 7}
    }
    assert found["checks"]["wrong_step_but_answer_right"]["failed"] == 2


def test_finished_run_does_nothing_and_other_rules_are_refused(tmp_path: Path) -> None:
    settings = made(tmp_path)
    counts = run(settings)
    before = (tmp_path / "out" / "labelled.jsonl").stat().st_mtime_ns
    assert run(dataclasses.replace(settings, chunk=1)) == counts
    assert (tmp_path / "out" / "labelled.jsonl").stat().st_mtime_ns == before
    with pytest.raises(RunConflictError, match=r"rules\.down_weight was 0\.5 and is now 0\.6"):
        run(dataclasses.replace(settings, rules=Rules(down_weight=0.6)))
    (tmp_path / "out" / "labelled.jsonl").unlink()
    assert run(settings) == counts
    assert (tmp_path / "out" / "labelled.jsonl").exists()


def test_another_input_is_refused(tmp_path: Path) -> None:
    settings = made(tmp_path)
    run(settings)
    labelled_file(tmp_path, count=8)
    with pytest.raises(RunConflictError, match=r"content of inputs\.annotations changed"):
        run(settings)


def test_an_input_that_moved_is_the_same_input(tmp_path: Path) -> None:
    settings = made(tmp_path)
    counts = run(settings)
    moved = Path(settings.annotations).rename(tmp_path / "moved.jsonl")
    assert run(dataclasses.replace(settings, annotations=str(moved))) == counts


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_torn_input_is_refused_before_anything_is_written(tmp_path: Path, cut: int) -> None:
    settings = made(tmp_path)
    path = Path(settings.annotations)
    path.write_bytes(path.read_bytes()[: -cut - 1])
    with pytest.raises(RecordError, match=r"annotations\.jsonl:9: torn or invalid JSON"):
        run(settings)
    assert not (tmp_path / "out" / "labelled.jsonl").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rules.down_weight=0.0", r"down_weight is 0\.0; it must lie in"),
        ("rules.down_weight=.nan", r"down_weight is nan; it must lie in"),
        ("rules.low_agreement=correct", "low_agreement cannot tell better labels"),
        ("chunk=0", "chunk is 0; it starts at 1"),
        ("rules.wrong_step_but_answer_right=drop", "Invalid value 'drop'"),
        ("rules.wrong_step=keep", "did you mean"),
    ],
)
def test_refused_settings(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(Config, None, ["out=o", "annotations=a", override])


def test_killed_at_every_commit(tmp_path: Path) -> None:
    path = labelled_file(tmp_path)
    points = killed(tmp_path, "all", "verify", f"annotations={path}", "chunk=4")
    assert points >= 25
    whole = outputs(tmp_path / "whole")
    assert sum(part.count(b"\n") for part in whole) == 9
    for point in range(points):
        assert outputs(tmp_path / str(point)) == whole, f"killed at {point}"


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from prm.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("room", [10, 5000, 9000])
def test_no_room_left_is_one_line_and_resumes(tmp_path: Path, room: int) -> None:
    """The kernel refuses to let a file grow, in the middle of a line."""
    path = labelled_file(tmp_path)
    command = ["verify", f"annotations={path}", f"out={tmp_path / 'out'}", "chunk=2"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(room), *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"prm verify: {tmp_path / 'out'}/")
    assert "cannot be written (File too large); make room" in last
    assert not (tmp_path / "out" / "labelled.jsonl").exists()
    settings = Config(out=str(tmp_path / "out"), annotations=str(path), chunk=2)
    run(settings)
    whole = dataclasses.replace(settings, out=str(tmp_path / "whole"))
    run(whole)
    assert outputs(settings.out) == outputs(whole.out)

"""`prm verify`: each rule, the counts, and resuming."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prm import config, jsonl
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import Annotation, Judgment, LabelledSolution, Rejection, Solution
from verify.checker_pool import Comparison
from verify.stage import Config, Rules, run, verify

ROOT = Path(__file__).parents[1]
EQUAL = Comparison("equal", "number", "the numbers agree")
DIFFERENT = Comparison("different", "number", "the numbers differ")
UNKNOWN = Comparison("unknown", "timeout", "no verdict within 5 s")


def annotation(*verdicts: tuple[float | None, ...], identity: str = "a") -> Annotation:
    steps = tuple(f"step {index}" for index in range(len(verdicts[0])))
    return Annotation(
        solution=Solution(id=identity, problem="p", steps=steps),
        judgments=tuple(
            Judgment(judge=str(index), strategy="s", verdicts=cast)
            for index, cast in enumerate(verdicts)
        ),
    )


def decided(
    item: Annotation, outcome: Comparison | None, **rules: object
) -> LabelledSolution | Rejection:
    [found] = verify([item], [outcome], Rules(**rules))  # type: ignore[arg-type]
    return found


def evidence(item: LabelledSolution | Rejection) -> dict[str, str]:
    return {found.check: found.verdict for found in item.evidence}


@pytest.mark.parametrize(
    ("verdicts", "outcome", "weight", "checks"),
    [
        ((1.0, 1.0), EQUAL, 1.0, ("pass", "pass", "pass")),
        ((1.0, 0.0), DIFFERENT, 1.0, ("fail", "pass", "pass")),
        ((1.0, 0.0), EQUAL, 0.5, ("pass", "pass", "fail")),
        ((0.5, 0.5), EQUAL, 1.0, ("pass", "pass", "pass")),
        ((1.0, 1.0), UNKNOWN, 1.0, ("unknown",) * 3),
        ((1.0, 0.0), UNKNOWN, 1.0, ("unknown",) * 3),
        ((1.0, 1.0), None, 1.0, ("unknown",) * 3),
        ((0.0, 0.0), None, 1.0, ("unknown",) * 3),
    ],
)
def test_kept(
    verdicts: tuple[float, ...], outcome: Comparison | None, weight: float, checks: tuple[str, ...]
) -> None:
    found = decided(annotation(verdicts), outcome)
    assert isinstance(found, LabelledSolution)
    assert found.labels == verdicts
    assert found.weight == weight
    assert evidence(found) == dict(
        zip(("outcome", "all steps right", "right answer from right steps"), checks, strict=True)
    )


def test_all_right_with_a_wrong_answer_is_rejected() -> None:
    item = annotation((1.0, 0.6))
    found = decided(item, DIFFERENT)
    assert isinstance(found, Rejection)
    assert found.annotation == item
    assert found.rule == "all_right_but_answer_wrong"
    assert found.reason == "the answer is wrong, yet the lowest label is 0.60"
    assert evidence(found)["all steps right"] == "fail"


@pytest.mark.parametrize(
    ("verdicts", "outcome", "rule"),
    [
        ((1.0, 1.0), DIFFERENT, "all_right_but_answer_wrong"),
        ((1.0, 0.4), EQUAL, "wrong_step_but_answer_right"),
    ],
)
def test_every_action_of_every_rule(
    verdicts: tuple[float, ...], outcome: Comparison, rule: str
) -> None:
    item = annotation(verdicts)
    kept = decided(item, outcome, **{rule: "keep"})
    assert isinstance(kept, LabelledSolution)
    assert kept.weight == 1.0
    lighter = decided(item, outcome, **{rule: "down_weight", "down_weight": 0.25})
    assert isinstance(lighter, LabelledSolution)
    assert lighter.weight == 0.25
    rejected = decided(item, outcome, **{rule: "reject"})
    assert isinstance(rejected, Rejection)
    assert rejected.rule == rule
    assert evidence(kept) == evidence(lighter) == evidence(rejected)  # kept, not forgotten


def test_a_step_without_a_vote_is_rejected() -> None:
    found = decided(annotation((1.0, None, None), (1.0, 0.0, None)), EQUAL)
    assert isinstance(found, Rejection)
    assert (found.rule, found.reason) == ("step without a vote", "nobody voted on step 2")
    nobody = Annotation(solution=annotation((1.0,)).solution, judgments=())
    assert decided(nobody, None).reason == "nobody voted on step 0"  # type: ignore[union-attr]


def test_votes_are_averaged_and_abstentions_left_out() -> None:
    found = decided(annotation((1.0, None), (0.0, 0.9), (1.0, None)), UNKNOWN)
    assert isinstance(found, LabelledSolution)
    assert found.labels == (pytest.approx(2 / 3), 0.9)
    assert found.agreement == (pytest.approx(2 / 3), 1.0)


votes = st.none() | st.floats(0, 1)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(votes, votes), max_size=3),
            st.sampled_from([EQUAL, DIFFERENT, UNKNOWN, None]),
        ),
        max_size=5,
    ),
    st.sampled_from(["keep", "down_weight", "reject"]),
    st.sampled_from(["keep", "down_weight", "reject"]),
)
def test_every_annotation_comes_out_once(
    items: list[tuple[list[tuple[float | None, ...]], Comparison | None]], one: str, other: str
) -> None:
    annotations = [
        dataclasses.replace(
            annotation((None, None), *cast),
            solution=Solution(id=str(index), problem="p", steps=("x", "y")),
        )
        for index, (cast, _) in enumerate(items)
    ]
    rules = Rules(all_right_but_answer_wrong=one, wrong_step_but_answer_right=other)
    found = list(verify(annotations, [outcome for _, outcome in items], rules))
    assert [item.id for item in found] == [str(index) for index in range(len(items))]


# The stage

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
    assert counts.rejected == {"all_right_but_answer_wrong": 1, "step without a vote": 3}
    assert counts.read == counts.written + sum(counts.rejected.values())
    assert [item.id for item in kept] == ["s0", "s1", "s3", "s4", "s5"]
    assert [item.weight for item in kept] == [1.0, 1.0, 1.0, 0.5, 1.0]


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
        ("chunk=0", "chunk is 0; it starts at 1"),
        ("rules.wrong_step_but_answer_right=drop", "Invalid value 'drop'"),
        ("rules.wrong_step=keep", "did you mean"),
    ],
)
def test_refused_settings(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(Config, None, ["out=o", "annotations=a", override])


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.1, float("nan")])
def test_refused_weights(tmp_path: Path, weight: float) -> None:
    with pytest.raises(ConfigError, match=r"down_weight is .*; it must lie in"):
        run(made(tmp_path, rules=Rules(down_weight=weight)))
    assert not (tmp_path / "out").exists()


def test_killed_at_every_commit(tmp_path: Path) -> None:
    path = labelled_file(tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "killed.py"),
            str(tmp_path),
            "all",
            "verify",
            f"annotations={path}",
            "chunk=4",
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    points = int(done.stdout.splitlines()[-1])
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

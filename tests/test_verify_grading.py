"""`prm verify-answers`: what is compared, the counts, bad input, and resuming after a kill."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from killing import killed

from prm import jsonl
from prm.cli import main
from prm.errors import RecordError, RunConflictError
from prm.records import Grade, Prediction, Solution
from prm.sources import Source
from verify.checker_pool import CheckerPool
from verify.grading import Config, grade_all, run

ROOT = Path(__file__).parents[1]


HARD = {"answer": r"1-\cos^2(x)", "prediction": r"\sin^2(x)"}
"""Equal, and only a process can tell."""


def graded(prediction: str, answer: str | None) -> Grade:
    [grade] = grade_all([Prediction(id="a", prediction=prediction, answer=answer)], deadline_s=60)
    return grade


def solution(last: str, answer: str | None = "5", identity: str = "a", **more: Any) -> Solution:
    steps = ("Let us see.", last)
    return Solution(id=identity, problem="p", steps=steps, answer=answer, **more)


# What is compared


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("5", "5"),
        (" 5\n", "5.0"),
        ("x = 5", "5"),
        ("$x=5$", "5"),
        ("(1, 2)", "(1,2)"),
        ("[1, 2)", "[1,2)"),
        (r"[1, 2) \cup (3, 4)", r"[1,2)\cup(3,4)"),
        ("3:45 pm", "3:45 pm"),
        ("3, 4", "4, 3"),
        (r"\frac{1}{2}", "0.5"),
        ("2x+3", "3 + 2x"),
        ("**36**", "36"),
        ("yes", "Yes"),
        ("5 dollars", "$5"),
    ],
)
def test_a_bare_answer_is_compared_as_it_stands(prediction: str, answer: str) -> None:
    grade = graded(prediction, answer)
    assert (grade.found, grade.found_by) == (prediction.strip(), "whole text")
    assert grade.verdict == "equal", grade


@pytest.mark.parametrize(
    ("prediction", "answer"), [("(1, 2)", "2"), (r"\frac{1}{2}", "2"), ("2x+3", "3"), ("3, 4", "4")]
)
def test_the_last_number_of_a_bare_answer_is_not_taken_for_it(prediction: str, answer: str) -> None:
    assert graded(prediction, answer).verdict != "equal"


@pytest.mark.parametrize(
    ("prediction", "found", "rule"),
    [
        (r"So it is \boxed{5}.", "5", "boxed"),
        ("#### 5", "5", "####"),
        ("A: 5", "5", "A:"),
        ("The answer is 5.", "5", "answer phrase"),
        ("He buys **3**.\nSo he has 3 + 2 = 5.", "5", "last number"),
        ("He buys 3 apples.\n\nNow there are **5** of them, not 4.", "5", "bold"),
        ("He " + "really " * 14 + "has 5", "5", "last number"),
    ],
)
def test_a_whole_solution_is_searched_for_its_answer(
    prediction: str, found: str, rule: str
) -> None:
    grade = graded(prediction, "5")
    assert (grade.found, grade.found_by, grade.verdict) == (found, rule, "equal")


@pytest.mark.parametrize("length", [99, 100, 101])
def test_a_bare_answer_has_at_most_100_characters(length: int) -> None:
    text = "1, " * 50
    text = text[: length - 1] + "7"
    assert len(text) == length
    assert (graded(text, "7").found_by == "whole text") == (length <= 100)


def test_a_short_sentence_without_a_mark_is_unknown_rather_than_wrong() -> None:
    grade = graded("So he has 5 apples.", "5")
    assert (grade.verdict, grade.rule, grade.found_by) == ("unknown", "unparsed", "whole text")


def test_a_short_solution_is_never_taken_for_a_bare_answer() -> None:
    item = Solution(id="a", problem="p", steps=("So he has 5 apples.",), answer="5")
    [grade] = grade_all([item])
    assert (grade.found, grade.found_by, grade.verdict) == ("5", "last number", "equal")


@pytest.mark.parametrize("prediction", ["", " \n\t", "\u2028"])
def test_a_blank_prediction_is_no_answer(prediction: str) -> None:
    assert graded(prediction, "5") == Grade(
        id="a",
        answer="5",
        found=None,
        found_by="none",
        verdict="unknown",
        rule="no answer",
        reason="the solution is blank",
    )


def test_a_solution_without_an_answer() -> None:
    [grade] = grade_all([solution("I do not know.")])
    assert (grade.verdict, grade.rule, grade.found) == ("unknown", "no answer", None)
    assert "no answer is marked" in grade.reason


@pytest.mark.parametrize("last", ["So 5.", "I do not know."])
def test_without_a_reference_answer_the_verdict_is_unknown(last: str) -> None:
    [grade] = grade_all([solution(last, answer=None)])
    assert (grade.verdict, grade.rule) == ("unknown", "no reference answer")
    assert grade.found == ("5" if "5" in last else None)


@pytest.mark.parametrize("text", ["\x00", "5\x00\x1b[0m", "\u202e5", "9^{9^{9^9}}", "{" * 90])
def test_hostile_text_is_graded(text: str) -> None:
    grade = graded(text, "7")
    assert grade.found == text
    assert grade.verdict == "unknown" or text == "\u202e5"
    assert jsonl.decode(jsonl.encode(grade), Grade) == grade


def test_the_deadline_and_the_pool_are_those_given() -> None:
    hard = Prediction(id="a", **HARD)
    with CheckerPool(1) as pool:
        [grade] = grade_all([hard], deadline_s=60, pool=pool)
        assert grade.verdict == "equal"
        [grade] = grade_all([hard], deadline_s=0.0, pool=pool)
        assert (grade.verdict, grade.rule) == ("unknown", "timeout")


MIXED = st.lists(
    st.tuples(
        st.sampled_from(["5", "4", "", r"\boxed{5}", "I do not know,\nreally"]),
        st.sampled_from(["5", "6", None]),
        st.booleans(),
    ),
    max_size=12,
)


@given(MIXED)
def test_every_item_is_graded_once_in_its_place_and_as_if_alone(
    rows: list[tuple[str, str | None, bool]],
) -> None:
    items = [
        Solution(id=str(index), problem="p", steps=(text,), answer=answer)
        if whole and text
        else Prediction(id=str(index), prediction=text, answer=answer)
        for index, (text, answer, whole) in enumerate(rows)
    ]
    found = list(grade_all(items))
    assert [grade.id for grade in found] == [str(index) for index in range(len(rows))]
    assert found == [grade for item in items for grade in grade_all([item])]
    for grade, (_, answer, _) in zip(found, rows, strict=True):
        assert grade.answer == answer
        assert answer is not None or grade.rule == "no reference answer"


# The stage


def solutions_file(folder: Path, count: int = 12) -> Path:
    """Solutions: by their number, right, wrong, without an answer, without a reference answer.

    Their source calls every fifth right, whatever it is, and says nothing of the next one.
    """
    items = []
    for index in range(count):
        last = ("So 5.", "So 6.", "I do not know.", "So 5.")[index % 4]
        word = (True, None)[index % 5] if index % 5 < 2 else index % 4 == 0
        answer = None if index % 4 == 3 else "5"
        items.append(solution(last, answer, f"s{index}", final_answer_correct=word))
    path = folder / "solutions.jsonl"
    jsonl.write(path, items)
    return path


def made(folder: Path, **values: Any) -> Config:
    config = Config(
        out=str(folder / "out"), sources=[Source(path=str(solutions_file(folder)))], chunk=5
    )
    return dataclasses.replace(config, **values)


def answers_file(folder: Path, *rows: Any, name: str = "answers.jsonl") -> Path:
    path = folder / name
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_counts_add_up(tmp_path: Path, chunk: int) -> None:
    counts = run(made(tmp_path, chunk=chunk))
    grades = list(jsonl.read(tmp_path / "out" / "grades.jsonl", Grade))
    assert [grade.id for grade in grades] == [f"s{index}" for index in range(12)]
    assert counts.read == counts.written == 12
    assert counts.failed == {"no answer": 3, "no reference answer": 3}
    table = Counter((grade.verdict, grade.rule) for grade in grades)
    listed = {
        (verdict, rule): count
        for verdict, rules in counts.verdicts.items()
        for rule, count in rules.items()
    }
    assert listed == table
    assert table == {
        ("equal", "exact"): 3,
        ("different", "number"): 3,
        ("unknown", "no answer"): 3,
        ("unknown", "no reference answer"): 3,
    }


def test_disagreements_with_the_source_are_counted_and_named(tmp_path: Path) -> None:
    counts = run(made(tmp_path))
    # Of s0, 4, 8 (right) and s1, 5, 9 (wrong), the source says nothing of s1 and calls s5 right.
    assert (counts.compared, counts.agreed, counts.disagreements) == (5, 4, ["s5"])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["disagreements"] == ["s5"]
    assert summary["verdicts"] == counts.verdicts


def test_at_most_20_disagreements_are_named(tmp_path: Path) -> None:
    items = [solution("So 6.", "5", str(index), final_answer_correct=True) for index in range(30)]
    jsonl.write(tmp_path / "f.jsonl", items)
    counts = run(made(tmp_path, sources=[Source(path=str(tmp_path / "f.jsonl"))]))
    assert (counts.compared, counts.agreed) == (30, 0)
    assert counts.disagreements == [str(index) for index in range(20)]


def test_answers_that_take_too_long_are_unknown_by_timeout(tmp_path: Path) -> None:
    rows = [HARD, {"answer": "5", "prediction": "5"}]
    source = Source(format="answers", path=str(answers_file(tmp_path, *rows)))
    counts = run(made(tmp_path, sources=[source], deadline_s=1e-12))
    assert counts.failed == {"timeout": 1}
    assert counts.verdicts["equal"] == {"exact": 1}


def test_several_sources_in_their_order(tmp_path: Path) -> None:
    rows = [{"id": "p", "answer": 5, "prediction": "x = 5"}, {"answer": "5", "prediction": ""}]
    answers = Source(format="answers", path=str(answers_file(tmp_path, *rows)))
    counts = run(made(tmp_path, sources=[answers, *made(tmp_path).sources]))
    grades = list(jsonl.read(tmp_path / "out" / "grades.jsonl", Grade))
    assert [grade.id for grade in grades][:4] == ["p", "2", "s0", "s1"]
    assert counts.read == counts.written == 14
    assert counts.compared == 5  # a prediction's source says nothing of its outcome


def test_a_finished_run_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    config = made(tmp_path)
    counts = run(config)
    path = tmp_path / "out" / "grades.jsonl"
    before = path.stat().st_mtime_ns
    assert run(dataclasses.replace(config, chunk=1, workers=1)) == counts
    assert path.stat().st_mtime_ns == before
    with pytest.raises(RunConflictError, match=r"deadline_s was 5\.0 and is now 6\.0"):
        run(dataclasses.replace(config, deadline_s=6.0))
    solutions_file(tmp_path, 11)
    with pytest.raises(RunConflictError, match=r"content of inputs\.sources\[0\] changed"):
        run(config)


@pytest.mark.parametrize("name", ["grades.jsonl", "summary.json"])
def test_a_lost_output_is_made_again(tmp_path: Path, name: str) -> None:
    counts = run(made(tmp_path))
    path = tmp_path / "out" / name
    before = path.read_bytes()
    path.unlink()
    assert run(made(tmp_path)) == counts
    assert path.read_bytes() == before


def outputs(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "grades.jsonl").read_bytes(), (folder / "summary.json").read_bytes()


def test_killed_at_every_commit(tmp_path: Path) -> None:
    source = f"sources=[{{path: {solutions_file(tmp_path)}}}]"
    points = killed(tmp_path, "all", "verify-answers", source, "chunk=5")
    assert points >= 20
    whole = outputs(tmp_path / "whole")
    assert whole[0].count(b"\n") == 12
    for point in range(points):
        assert outputs(tmp_path / str(point)) == whole, f"killed at {point}"


def test_killed_amid_algebra_and_resumed(tmp_path: Path) -> None:
    rows = [{key: text.replace("x", f"{n}x") for key, text in HARD.items()} for n in range(2, 62)]
    path = answers_file(tmp_path, *rows)
    command = ["verify-answers", f"sources=[{{format: answers, path: {path}}}]"]
    command += ["chunk=2", "deadline_s=120"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "prm", *command, f"out={tmp_path / 'out'}"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    partial = tmp_path / "out" / "grades.jsonl.partial"
    try:
        end = time.monotonic() + 240
        while not (partial.exists() and partial.read_bytes().count(b"\n") >= 4):
            assert time.monotonic() < end
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert 4 <= partial.read_bytes().count(b"\n") < 60
    assert not (tmp_path / "out" / "grades.jsonl").exists()
    for folder in ("out", "whole"):
        assert main([*command, f"out={tmp_path / folder}"]) == 0
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
    grades = list(jsonl.read(tmp_path / "out" / "grades.jsonl", Grade))
    assert [grade.id for grade in grades] == [str(number) for number in range(1, 61)]
    assert {grade.verdict for grade in grades} == {"equal"}


# Bad input

GOOD = {"id": "a", "answer": "5", "prediction": "5"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD], ":2: field 'id': 'a' occurs twice"),
        ([{"answer": "5", "prediction": "5"}, GOOD | {"id": "1"}], "'1' occurs twice"),
        ([GOOD | {"gold": "5"}], ":1: unknown field 'gold'; there are id, answer, prediction"),
        ([{"id": "a", "answer": "5"}], ":1: missing column 'prediction'"),
        ([{"id": "a", "prediction": "5"}], ":1: missing column 'answer'"),
        ([GOOD | {"answer": ["5"]}], ":1: column 'answer' is ['5']"),
        ([GOOD, json.dumps(GOOD)[:-4]], ":2: torn or invalid JSON"),
        (['{"id": "a", "answer": "5", "prediction": "a\x01b"}'], ":1: torn or invalid JSON"),
        (['{"id": "a", "answer": "5", "prediction": "\\ud800"}'], ":1: torn or invalid JSON"),
        (["[5]"], ":1: the line is not a JSON object"),
    ],
)
def test_bad_answers_are_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], message: str
) -> None:
    path = answers_file(tmp_path, *rows)
    source = f"sources=[{{format: answers, path: {path}}}]"
    assert main(["verify-answers", f"out={tmp_path / 'out'}", source]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"prm verify-answers: {path}")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {item.name for item in (tmp_path / "out").iterdir()} <= {"run.json", ".lock"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required key 'sources' is not set"),
        (["sources=[]"], "sources is empty; give at least one"),
        (["sources=[{path: none.jsonl}]"], "none.jsonl: no such file"),
        (["sources=[{format: answers, path: none.jsonl}]"], "none.jsonl: no such file"),
        (["sources=[{path: a.jsonl}]"], "looks like answers: set `format: answers`"),
        (["sources=[{format: gsm8k, path: a.jsonl}]"], "'gsm8k' holds no Solution"),
        (["sources=[{format: answer, path: a.jsonl}]"], "Invalid value 'answer'"),
        (
            ["sources=[{format: answers, path: a.jsonl, references: {path: a.jsonl}}]"],
            "a.jsonl: `references` are joined by the question, which predictions do not have",
        ),
        (["sources=[{format: answers, path: a.jsonl}]", "workers=0"], "workers and chunk start"),
        (["sources=[{format: answers, path: a.jsonl}]", "chunk=0"], "workers and chunk start at 1"),
        (["sources=[{format: answers, path: a.jsonl}]", "deadline_s=0"], "deadline_s is 0.0; it"),
        (["sources=[{format: answers, path: a.jsonl}]", "deadline_s=.nan"], "deadline_s is nan"),
        (["sources=[{format: answers, path: a.jsonl}]", "deadline_s=.inf"], "deadline_s is inf"),
        (["sources=[{format: answers, path: a.jsonl}]", "worker=1"], "did you mean 'workers'?"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    answers_file(tmp_path, GOOD, name="a.jsonl")
    assert main(["verify-answers", "out=out", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("prm verify-answers: ")
    assert captured.err.count("\n") == 1


def test_an_id_in_two_sources_is_refused(tmp_path: Path) -> None:
    one = Source(format="answers", path=str(answers_file(tmp_path, GOOD)))
    other = Source(format="answers", path=str(answers_file(tmp_path, GOOD, name="b.jsonl")))
    message = r"b\.jsonl: field 'id': 'a' occurs in an earlier source, too; grade the sources in"
    with pytest.raises(RecordError, match=message):
        run(made(tmp_path, sources=[one, other]))
    assert not (tmp_path / "out" / "grades.jsonl.partial").exists()


# The command


def test_the_line_of_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify-answers", str(ROOT / "configs/verify-answers/default.yaml")]
    command += [f"out={tmp_path / 'out'}", f"sources=[{{path: {solutions_file(tmp_path)}}}]"]
    expected = (
        "verify-answers: 12 read, 12 written, equal 3, different 3, unknown 6 (no answer 3, "
        f"no reference answer 3), agrees with the source on 4 of 5 → {tmp_path / 'out'} ("
    )
    for _ in range(2):  # the second finds the run finished
        assert main(command) == 0
        assert capsys.readouterr().out.startswith(expected)


def test_the_line_says_nothing_of_sources_that_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"sources=[{{format: answers, path: {answers_file(tmp_path, GOOD)}}}]"
    assert main(["verify-answers", f"out={tmp_path / 'out'}", source]) == 0
    assert capsys.readouterr().out.startswith(
        f"verify-answers: 1 read, 1 written, equal 1, different 0, unknown 0 → {tmp_path / 'out'}"
    )


def test_as_a_stage_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"out: {tmp_path / 'out'}\n"
        "stages:\n"
        "  - stage: verify-answers\n"
        '    config: {out: "${out}/answers", sources: [{path: "${data}/solutions.jsonl"}]}\n'
    )
    assert main(["run", str(recipe), f"data={tmp_path}"]) == 2
    assert "(verify-answers): sources[0].path:" in capsys.readouterr().err
    solutions_file(tmp_path)
    assert main(["run", str(recipe), f"data={tmp_path}"]) == 0
    assert "verify-answers: 12 read, 12 written" in capsys.readouterr().out
    assert (tmp_path / "out" / "answers" / "grades.jsonl").exists()


# The published files


@pytest.mark.data
def test_agrees_with_gsm8k_on_all_its_example_solutions(tmp_path: Path, data_dir: Path) -> None:
    path = str(data_dir / "gsm8k" / "example_model_solutions.jsonl")
    counts = run(made(tmp_path, sources=[Source(format="gsm8k_solutions", path=path)], chunk=256))
    assert counts.read == counts.written == 5_276
    assert counts.disagreements == []
    assert counts.compared == counts.agreed >= 5_274
    assert sum(counts.verdicts["equal"].values()) == 2_001


@pytest.mark.data
def test_predictions_are_graded_as_the_solutions_they_are(tmp_path: Path, data_dir: Path) -> None:
    rows = []
    for line in (data_dir / "gsm8k" / "example_model_solutions.jsonl").read_text().splitlines():
        row = json.loads(line)
        said = row["175b_verification"]
        answer = row["ground_truth"].rpartition("\nA:")[2].strip()
        rows.append((said["is_correct"], {"answer": answer, "prediction": said["solution"]}))
    path = answers_file(tmp_path, *(row for _, row in rows))
    run(made(tmp_path, sources=[Source(format="answers", path=str(path))]))
    grades = list(jsonl.read(tmp_path / "out" / "grades.jsonl", Grade))
    assert len(grades) == len(rows) == 1_319
    for grade, (correct, _) in zip(grades, rows, strict=True):
        assert grade.verdict == "unknown" or (grade.verdict == "equal") == correct, grade
    assert sum(grade.verdict == "unknown" for grade in grades) <= 1

"""Data sets: each format becomes records, and what is not what it says is refused with its line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prm import jsonl, sources
from prm.errors import ConfigError, PRMError, RecordError
from prm.records import Failure, LabelledSolution, Prediction, Problem, Solution
from prm.sources import (
    Place,
    Source,
    gradable,
    identify,
    labelled,
    problem_texts,
    problems,
    solutions,
)

GSM8K = {"question": "Tom has 2 eggs and 3 more?", "answer": "2 + 3 = <<2+3=5>>5 eggs\n#### 5"}
GSM8K_SOLUTIONS = {
    "question": GSM8K["question"],
    "ground_truth": "2 + 3 = <<2+3=5>>5 eggs\nA: 5",
    "small": {"is_correct": False, "solution": "2 * 3 = <<2*3=6>>6\n\nA: 6"},
    "large": {"is_correct": True, "solution": "2 + 3 = <<2+3=5>>5\nA: 5"},
}
PROCESSBENCH = {
    "id": "gsm8k-0",
    "generator": "m",
    "problem": GSM8K["question"],
    "steps": ["2 * 3 = 6", "So 6."],
    "final_answer_correct": False,
    "label": 0,
}
PRMBENCH = {
    "idx": "p1",
    "classification": "confidence",
    "original_question": "q",
    "modified_question": "2 + 3?",
    "modified_process": ["one", "two", "three"],
    "error_steps": [2],
}
STEPWISE = {"prompt": "2 + 3?", "completions": ["2 + 3 = 5", "So 5."], "labels": [1, 0.7]}
ANSWERS = {"answer": "5", "prediction": "x = 5"}


def rated(text: str, rating: int | None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": False}


def prm800k_step(
    *completions: dict[str, Any], chosen: int | None = 0, human: str | None = None
) -> dict[str, Any]:
    written = human and rated(human, None) | {"source": "human"}
    return {
        "completions": list(completions) or None,
        "human_completion": written,
        "chosen_completion": chosen,
    }


def prm800k_row(*steps: dict[str, Any], reason: str = "solution", **question: Any) -> Any:
    return {
        "labeler": "0000",
        "question": {"problem": "2 + 3?", "ground_truth_answer": "5"} | question,
        "label": {"steps": list(steps), "finish_reason": reason},
    }


PRM800K = prm800k_row(
    prm800k_step(rated("We add.", 0)),
    prm800k_step(rated("2 + 3 = 6", -1), rated("2 + 3 = 5", 1), chosen=1),
    prm800k_step(rated("# Answer\n\n5", 1)),
)
MATH_SHEPHERD = {
    "input": "2 + 3? Step 1: We add -1. ки\nStep 2: It is 6. The answer is: 6 ки",
    "label": "2 + 3? Step 1: We add -1. +\nStep 2: It is 6. The answer is: 6 -",
    "task": "GSM8K",
}
ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": GSM8K,
    "gsm8k_solutions": GSM8K_SOLUTIONS,
    "processbench": PROCESSBENCH,
    "prmbench": PRMBENCH,
    "stepwise": STEPWISE,
    "prm800k": PRM800K,
    "math_shepherd": MATH_SHEPHERD,
    "answers": ANSWERS,
}


def file(folder: Path, *rows: Any, suffix: str = ".jsonl") -> str:
    path = folder / f"data{suffix}"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) if suffix == ".jsonl" else f"[{', '.join(lines)}]")
    return str(path)


def read(source: Source) -> list[Any]:
    """All records of a source, as the richest kind its format gives."""
    kind: dict[str, Any] = {"gsm8k": problems, "answers": gradable}
    kind |= dict.fromkeys(("prmbench", "stepwise", "prm800k", "math_shepherd"), labelled)
    return list(kind.get(source.format, solutions)(source))


# What each format gives


def test_gsm8k(tmp_path: Path) -> None:
    [found] = problems(Place(format="gsm8k", path=file(tmp_path, GSM8K)))
    assert found == Problem(
        id="gsm8k-0",
        problem=GSM8K["question"],
        answer="5",
        reference="2 + 3 = 5 eggs",
        source="gsm8k",
    )


def test_gsm8k_solutions(tmp_path: Path) -> None:
    found = list(solutions(Source(format="gsm8k_solutions", path=file(tmp_path, GSM8K_SOLUTIONS))))
    assert [item.id for item in found] == ["gsm8k-0/small", "gsm8k-0/large"]
    assert found[0] == Solution(
        id="gsm8k-0/small",
        problem=GSM8K["question"],
        steps=("2 * 3 = 6", "A: 6"),
        answer="5",
        reference="2 + 3 = 5 eggs",
        generator="small",
        source="gsm8k",
        final_answer_correct=False,
    )


def test_processbench(tmp_path: Path) -> None:
    rows = [PROCESSBENCH, PROCESSBENCH | {"id": "b", "label": -1, "final_answer_correct": True}]
    path = file(tmp_path, *rows, suffix=".json")
    found = list(solutions(Source(format="processbench", path=path)))
    assert found[0] == Solution(
        id="gsm8k-0",
        problem=GSM8K["question"],
        steps=("2 * 3 = 6", "So 6."),
        generator="m",
        source="processbench",
        final_answer_correct=False,
        metadata={"first_error": 0},
    )
    assert found[1].metadata["first_error"] == -1


def test_prmbench(tmp_path: Path) -> None:
    rows = [
        PRMBENCH,
        PRMBENCH | {"classification": "deception", "error_steps": [3, 7]},
        PRMBENCH | {"idx": "p2", "modified_process": json.dumps(["a", "b"]), "error_steps": []},
    ]
    found = list(labelled(Source(format="prmbench", path=file(tmp_path, *rows))))
    assert [item.labels for item in found] == [(1, 0, 1), (1, 1, 0), (1, 1)]
    assert [item.id for item in found] == ["confidence/p1", "deception/p1", "confidence/p2"]
    assert found[0].solution.problem == "2 + 3?"
    assert found[1].solution.metadata == {
        "classification": "deception",
        "absent_error_steps": [7],
    }
    assert found[2].solution.steps == ("a", "b")


@pytest.mark.parametrize("errors", [[99], [0], [4, 5]])
def test_a_prmbench_row_is_not_made_free_of_errors(tmp_path: Path, errors: list[int]) -> None:
    source = Source(
        format="prmbench",
        path=file(tmp_path, PRMBENCH, PRMBENCH | {"idx": "p2", "error_steps": errors}),
    )
    with pytest.raises(RecordError, match=r":2: error_steps that name none of its steps; remove"):
        list(labelled(source))
    aside: list[Failure] = []
    assert len(list(labelled(source, aside))) == 1
    assert [item.reason for item in aside] == ["error_steps that name none of its steps"]
    assert len(list(solutions(source))) == 2  # no label is taken


def test_stepwise_labels_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [STEPWISE, STEPWISE | {"id": 7, "labels": [True, False]}]
    found = list(labelled(Source(format="stepwise", path=file(tmp_path, *rows))))
    assert [item.labels for item in found] == [(1.0, 0.7), (1.0, 0.0)]
    assert all(type(label) is float for item in found for label in item.labels)
    assert [item.id for item in found] == ["1", "7"]


def test_prm800k_is_the_path_of_the_labeller(tmp_path: Path) -> None:
    [found] = labelled(Source(format="prm800k", path=file(tmp_path, PRM800K)))
    assert found.labels == (1.0, 1.0, 1.0)  # the rating 0 is no error
    assert found.solution == Solution(
        id="prm800k-0",
        problem="2 + 3?",
        steps=("We add.", "2 + 3 = 5", "# Answer\n\n5"),
        answer="5",
        generator="prm800k",
        source="prm800k",
        final_answer_correct=True,
        metadata={
            "finish_reason": "solution",
            "ratings": [0, 1, 1],
            "human_steps": [],
            "completions_beside": 1,
        },
    )
    assert list(problems(Place(format="prm800k", path=file(tmp_path, PRM800K)))) == [
        Problem(id="prm800k-0", problem="2 + 3?", answer="5", source="prm800k")
    ]


@pytest.mark.parametrize("own", [["We add.", "2 + 3 = 6", "So 6."], [], None])
def test_prm800k_ends_at_the_first_error_of_phase_2(tmp_path: Path, own: Any) -> None:
    wrong, other = rated("2 + 3 = 6", -1), rated("2 + 3 = 5", 1)
    first, skipped = prm800k_step(rated("We add.", 1)), rated("2 + 3 = 7", None)
    for last in ((wrong, other), (other, wrong), (skipped, wrong, other)):
        row = prm800k_row(
            first,
            prm800k_step(*last, chosen=None),
            reason="found_error",
            pre_generated_steps=own,
            ground_truth_solution="2 + 3 is 5.",
        )
        [found] = labelled(Source(format="prm800k", path=file(tmp_path, row)))
        # Without the solution's own steps, the first completion with a rating.
        taken = wrong if own or last[0] is not other else other
        assert found.solution.steps == ("We add.", taken["text"])
        assert found.labels == (1.0, float(taken is other))
        assert found.solution.reference == "2 + 3 is 5."
        assert found.solution.final_answer_correct is None
        assert found.solution.metadata["completions_beside"] == len(last) - 1


def test_prm800k_steps_that_a_person_wrote_are_right(tmp_path: Path) -> None:
    row = prm800k_row(
        prm800k_step(rated("2 + 3 = 6", -1), rated("2 + 3 = 7", -1), chosen=None, human="It is 5."),
        prm800k_step(chosen=None),  # nothing was written here
        prm800k_step(chosen=None),
        reason="give_up",
        ground_truth_answer=None,
    )
    [found] = labelled(Source(format="prm800k", path=file(tmp_path, row)))
    assert (found.solution.steps, found.labels) == (("It is 5.",), (1.0,))
    assert found.solution.answer is None
    assert found.solution.metadata["human_steps"] == [0]
    assert found.solution.metadata["completions_beside"] == 2


UNLABELLED = [
    ("prm800k", prm800k_row(prm800k_step(rated("a", None))), "a step without a rating"),
    (
        "prm800k",
        prm800k_row(prm800k_step(rated("a", 1)), reason="bad_problem"),
        "its labeller called broken",
    ),
    ("prm800k", prm800k_row(), "no steps"),
    ("prm800k", prm800k_row(prm800k_step(chosen=None)), "no steps"),
    ("prm800k", prm800k_row(prm800k_step(rated(" ", 1))), "a blank step"),
    (
        "prm800k",
        prm800k_row(
            *(prm800k_step(rated("a", 1), chosen=chosen) for chosen in (0, None, 0)),
        ),
        "a step without a choice",
    ),
    ("math_shepherd", ("2 + 3? It is 5.", ""), "no step tag"),
    ("math_shepherd", ("", ""), "not one 'Step 1:' before the first step tag"),
    ("math_shepherd", ("2 + 3? # It is 5. #", "+-"), "not one 'Step 1:' before the first step tag"),
    (
        "math_shepherd",
        ("Is step 1: a? Step 1: b #", "+"),
        "not one 'Step 1:' before the first step tag",
    ),
    ("math_shepherd", ("2 + 3? Step 1: a # \n#", "++"), "a blank step"),
    ("math_shepherd", ("Step 1: a #", "+"), "a blank problem"),
    ("math_shepherd", ("2 + 3? Step 1: a # Step 2: b", "+"), "text after the last step tag"),
]


@pytest.mark.parametrize(("format", "row", "reason"), UNLABELLED)
def test_rows_without_labels_are_set_aside(
    tmp_path: Path, format: Any, row: Any, reason: str
) -> None:
    if format == "math_shepherd":
        text, marks = row
        label = "".join(
            part + mark for part, mark in zip(text.split("#"), [*marks, ""], strict=True)
        )
        row = {"input": text.replace("#", "ки"), "label": label, "task": "MATH"}
    source = Source(format=format, path=file(tmp_path, ROWS[format], row))
    aside: list[Failure] = []
    found = list(labelled(source, aside))
    assert [item.id for item in found] == [f"{format.replace('_', '-')}-0"]
    assert [item.id for item in aside] == [f"{format.replace('_', '-')}-1"]
    assert reason in aside[0].reason
    with pytest.raises(RecordError, match=rf":2: .*{reason}.*; remove the row"):
        list(labelled(source))


def test_unrated_steps_are_steps_all_the_same(tmp_path: Path) -> None:
    row = prm800k_row(prm800k_step(rated("a", None)), prm800k_step(rated("b", 1)))
    [found] = solutions(Source(format="prm800k", path=file(tmp_path, row)))
    assert found.steps == ("a", "b")
    assert found.metadata["ratings"] == [None, 1]


@pytest.mark.parametrize("first", ["Step 1:", "step 1:"])
def test_math_shepherd(tmp_path: Path, first: str) -> None:
    row = {key: text.replace("Step 1:", first) for key, text in MATH_SHEPHERD.items()}
    [found] = labelled(Source(format="math_shepherd", path=file(tmp_path, row)))
    assert found == LabelledSolution(
        solution=Solution(
            id="math-shepherd-0",
            problem="2 + 3?",
            steps=(f"{first} We add -1.", "Step 2: It is 6. The answer is: 6"),
            generator="math-shepherd",
            source="math-shepherd",
            metadata={"task": "GSM8K"},
        ),
        labels=(1.0, 0.0),
    )


def test_records_of_our_own(tmp_path: Path) -> None:
    items = [
        LabelledSolution(
            solution=Solution(id=name, problem=f"p {name}", steps=("s",)), labels=(0.7,)
        )
        for name in "ab"
    ]
    jsonl.write(tmp_path / "f.jsonl", items)
    source = Source(path=str(tmp_path / "f.jsonl"))
    assert list(labelled(source)) == items
    assert list(problem_texts(source)) == ["p a", "p b"]
    array = file(tmp_path, *(jsonl.encode(item) for item in items), suffix=".json")
    assert list(labelled(Source(path=array))) == items


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = str(tmp_path / "data.parquet")
    datasets.Dataset.from_list([STEPWISE | {"labels": [1.0, 0.7]}] * 2).to_parquet(path)
    found = list(labelled(Source(format="stepwise", path=path)))
    assert [item.labels for item in found] == [(1.0, 0.7)] * 2
    Path(path).write_bytes(b"PAR1 torn")
    with pytest.raises(RecordError, match=r"data\.parquet: not a parquet file"):
        list(labelled(Source(format="stepwise", path=path)))


def test_answers_with_and_without_an_id(tmp_path: Path) -> None:
    rows = [ANSWERS, ANSWERS | {"id": "b"}, ANSWERS | {"id": 7}, ANSWERS]
    found = list(gradable(Source(format="answers", path=file(tmp_path, *rows))))
    assert found[1] == Prediction(id="b", prediction="x = 5", answer="5")
    assert [item.id for item in found] == ["1", "b", "7", "4"]


@pytest.mark.parametrize("columns", [{}, {"answer": "answer", "prediction": "prediction"}])
@pytest.mark.parametrize(
    ("row", "prediction", "answer"),
    [
        ({"answer": 5, "prediction": 2.5}, "2.5", "5"),
        ({"answer": None, "prediction": ""}, "", None),
        ({"answer": " ", "prediction": "a\u0000\u2028b"}, "a\u0000\u2028b", " "),
    ],
)
def test_what_stands_in_answers(
    tmp_path: Path, columns: dict[str, str], row: Any, prediction: str, answer: str | None
) -> None:
    source = Source(
        format="columns" if columns else "answers", path=file(tmp_path, row), columns=columns
    )
    assert list(gradable(source)) == [Prediction(id="1", prediction=prediction, answer=answer)]


def test_predictions_in_columns_of_any_name(tmp_path: Path) -> None:
    path = file(tmp_path, {"gold": 5, "output": "So 5.", "model": "m"})
    columns = {"answer": "gold", "prediction": "output"}
    source = Source(format="columns", path=path, columns=columns)
    assert list(gradable(source)) == [Prediction(id="1", prediction="So 5.", answer="5")]
    without = Source(format="columns", path=path, columns={"prediction": "output"})
    assert [item.answer for item in gradable(without)] == [None]


@pytest.mark.parametrize(
    "format",
    ["gsm8k_solutions", "processbench", "prmbench", "stepwise", "prm800k", "math_shepherd"],
)
def test_solutions_are_gradable(tmp_path: Path, format: Any) -> None:
    source = Source(format=format, path=file(tmp_path, ROWS[format]))
    assert list(gradable(source)) == list(solutions(source)) != []


def test_answers_hold_no_problems_and_no_solutions(tmp_path: Path) -> None:
    source = Source(format="answers", path=file(tmp_path, ANSWERS))
    with pytest.raises(ConfigError, match="'answers' holds no Solution"):
        list(solutions(source))
    with pytest.raises(ConfigError, match="'answers' holds no Problem"):
        list(problems(source))
    with pytest.raises(ConfigError, match="'answers' holds no Solution"):
        list(problem_texts(source))


def test_predictions_are_not_joined_with_references(tmp_path: Path) -> None:
    place = Place(format="gsm8k", path=file(tmp_path, GSM8K, suffix=".json"))
    source = Source(format="answers", path=file(tmp_path, ANSWERS), references=place)
    with pytest.raises(ConfigError, match="which predictions do not have; give each row its"):
        list(gradable(source))


@pytest.mark.parametrize("format", [format for format in ROWS if format != "answers"])
def test_problem_texts(tmp_path: Path, format: Any) -> None:
    texts = list(problem_texts(Place(format=format, path=file(tmp_path, ROWS[format]))))
    assert set(texts) <= {"2 + 3?", GSM8K["question"]}
    assert texts


# References


def test_references_join_by_letters_and_digits(tmp_path: Path) -> None:
    known = file(tmp_path, GSM8K | {"question": "tom has 2 eggs, and 3 more"}, suffix=".json")
    place = Place(format="gsm8k", path=known)
    other = PROCESSBENCH | {"id": "b", "problem": "Another?"}
    path = file(tmp_path, PROCESSBENCH, other)
    found = list(solutions(Source(format="processbench", path=path, references=place)))
    assert [(item.answer, item.reference) for item in found] == [
        ("5", "2 + 3 = 5 eggs"),
        (None, None),
    ]
    path = file(tmp_path, STEPWISE | {"prompt": GSM8K["question"]})
    [joined] = labelled(Source(format="stepwise", path=path, references=place))
    assert joined.solution.reference == "2 + 3 = 5 eggs"
    assert joined.labels == (1.0, 0.7)


def test_references_never_replace_what_a_solution_has(tmp_path: Path) -> None:
    known = file(tmp_path, GSM8K | {"answer": "other\n#### 9"}, suffix=".json")
    source = Source(
        format="gsm8k_solutions",
        path=file(tmp_path, GSM8K_SOLUTIONS),
        references=Place(format="gsm8k", path=known),
    )
    assert {item.answer for item in solutions(source)} == {"5"}


def test_identity_changes_with_the_content_and_with_the_references(tmp_path: Path) -> None:
    path = file(tmp_path, PROCESSBENCH)
    known = file(tmp_path, GSM8K, suffix=".json")
    source = Source(format="processbench", path=path, references=Place(format="gsm8k", path=known))
    before = identify(source)
    assert identify(source) == before != identify(Source(format="processbench", path=path))
    Path(known).write_text("[]")
    assert identify(source) != before
    assert identify(Place(hub="a/b", split="train", revision="1")) == "a/b/None/train@1"


# The columns format


def test_columns(tmp_path: Path) -> None:
    row = {"q": "2 + 3?", "text": "It is 5.", "votes": [0.7], "key": "k", "gold": "5"}
    columns = {"problem": "q", "steps": "text", "labels": "votes", "id": "key", "answer": "gold"}
    source = Source(format="columns", path=file(tmp_path, row), columns=columns)
    [found] = labelled(source)
    assert found == LabelledSolution(
        solution=Solution(id="k", problem="2 + 3?", steps=("It is 5.",), answer="5"), labels=(0.7,)
    )
    source = Source(format="columns", path=source.path, columns={"problem": "q", "steps": "text"})
    assert [item.id for item in solutions(source)] == ["1"]
    source = Source(format="columns", path=source.path, columns={"problem": "q"})
    assert list(problems(source)) == [Problem(id="1", problem="2 + 3?")]


@pytest.mark.parametrize(
    ("columns", "row", "error", "message"),
    [
        ({}, {"q": 1}, ConfigError, "needs `columns"),
        ({"problme": "q"}, {"q": 1}, ConfigError, "'problme', which is no field; fields: answer"),
        ({"problem": "q"}, {"p": 1, "r": 2}, RecordError, "missing column 'q'; the row has p, r"),
        ({"problem": "q"}, {"q": 1}, RecordError, "string"),
        ({"problem": "q", "steps": "s"}, {"q": "p", "s": 5}, RecordError, "steps"),
        ({"problem": "q", "steps": "s"}, {"q": "p", "s": []}, RecordError, "at least one step"),
    ],
)
def test_refused_columns(
    tmp_path: Path, columns: dict[str, str], row: Any, error: type[PRMError], message: str
) -> None:
    source = Source(format="columns", path=file(tmp_path, row), columns=columns)
    with pytest.raises(error, match=message):
        list(solutions(source) if "steps" in columns else problems(source))


@pytest.mark.parametrize(("gold", "answer"), [(5, "5"), (2.5, "2.5"), (-1, "-1"), (None, None)])
def test_a_number_is_an_answer(tmp_path: Path, gold: Any, answer: str | None) -> None:
    path = file(tmp_path, {"q": "2 + 3?", "gold": gold})
    source = Place(format="columns", path=path, columns={"problem": "q", "answer": "gold"})
    assert [item.answer for item in problems(source)] == [answer]


@pytest.mark.parametrize("gold", ["true", "[5]", "NaN", "Infinity"])
def test_what_is_no_answer(tmp_path: Path, gold: str) -> None:
    path = file(tmp_path, f'{{"q": "2 + 3?", "gold": {gold}}}')
    source = Place(format="columns", path=path, columns={"problem": "q", "answer": "gold"})
    with pytest.raises(RecordError):
        list(problems(source))


def test_problem_texts_of_columns_need_only_the_problem(tmp_path: Path) -> None:
    path = file(tmp_path, {"q": "2 + 3?"}, {"q": "1 + 1?", "id": 7})
    place = Place(format="columns", path=path, columns={"problem": "q"})
    assert list(problem_texts(place)) == ["2 + 3?", "1 + 1?"]
    more = {"problem": "q", "steps": "no such", "labels": "column"}
    assert len(list(problem_texts(Place(format="columns", path=path, columns=more)))) == 2


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({}, ConfigError, "`columns` must map `problem`"),
        ({"steps": "q"}, ConfigError, "`columns` must map `problem`"),
        ({"problem": "p"}, RecordError, ":1: field 'problem': missing column 'p'; the row has q"),
        ({"problem": "n"}, RecordError, ":1: field 'problem': 5 is no problem's text"),
        ({"problem": "blank"}, RecordError, "' ' is no problem's text"),
    ],
)
def test_refused_problem_texts(
    tmp_path: Path, columns: dict[str, str], error: type[PRMError], message: str
) -> None:
    path = file(tmp_path, {"q": "2 + 3?", "n": 5, "blank": " "})
    with pytest.raises(error) as caught:
        list(problem_texts(Place(format="columns", path=path, columns=columns)))
    assert message in str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("format", ROWS)
def test_records_that_are_another_format(tmp_path: Path, format: str, suffix: str) -> None:
    source = Source(path=file(tmp_path, ROWS[format], suffix=suffix))
    with pytest.raises(RecordError, match=rf":1: .*looks like {format}: set `format: {format}`$"):
        list(solutions(source))


def test_records_that_are_no_known_format(tmp_path: Path) -> None:
    source = Source(path=file(tmp_path, {"prompt": "q", "reply": "x"}))
    with pytest.raises(RecordError, match=r"The row has prompt, reply: set `format`; `format: col"):
        list(solutions(source))
    with pytest.raises(RecordError, match=r"no problem in this record\. The row has prompt, reply"):
        list(problem_texts(source))
    ours = Source(path=file(tmp_path, {"id": "a", "problem": "p", "steps": [1]}))
    with pytest.raises(RecordError) as caught:
        list(solutions(ours))
    assert "format" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, suffix: str) -> None:
    path = Path(file(tmp_path, GSM8K, suffix=suffix))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(list(problems(Place(format="gsm8k", path=str(path))))) == 1


@pytest.mark.parametrize("labels", [None, "1", [None], ["1"], [-100], [1.5], [1, 0]])
@pytest.mark.parametrize("format", ["columns", "stepwise"])
def test_refused_labels(tmp_path: Path, format: Any, labels: Any) -> None:
    path = file(tmp_path, {"prompt": "p", "completions": ["s"], "labels": labels})
    columns = {"problem": "prompt", "steps": "completions", "labels": "labels"}
    source = Source(format=format, path=path, columns=columns if format == "columns" else {})
    with pytest.raises(RecordError, match="label") as caught:
        list(labelled(source))
    assert caught.value.line == 1


def test_nan_is_no_label(tmp_path: Path) -> None:
    path = file(tmp_path, '{"prompt": "p", "completions": ["s"], "labels": [NaN]}')
    with pytest.raises(RecordError, match="nan"):
        list(labelled(Source(format="stepwise", path=path)))


# Rows that are not what the format says


@pytest.mark.parametrize(
    ("format", "column"),
    [
        (format, column)
        for format, row in ROWS.items()
        for column in row
        if column not in ("original_question", "small", "large", "labeler")
    ],
)
def test_missing_column(tmp_path: Path, format: Any, column: str) -> None:
    row = {key: value for key, value in ROWS[format].items() if key != column}
    source = Source(format=format, path=file(tmp_path, ROWS[format], row))
    with pytest.raises(RecordError) as caught:
        read(source)
    assert f"missing column '{column}'; the row has {', '.join(row)}" in str(caught.value)
    assert "`format: columns` maps other names" in str(caught.value)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("format", "change", "message"),
    [
        ("gsm8k", {"answer": "no mark"}, "no '####' line"),
        ("gsm8k", {"answer": 5}, "column 'answer' is 5; it must be of type str"),
        ("gsm8k", {"question": None}, "column 'question' is None"),
        ("gsm8k", {"question": " "}, "problem is empty"),
        ("gsm8k_solutions", {"ground_truth": "5"}, "no 'A:' line"),
        ("gsm8k_solutions", {"small": None, "large": None}, "no column holds a model's object"),
        ("gsm8k_solutions", {"small": {"is_correct": True}}, "missing column 'solution'"),
        ("gsm8k_solutions", {"small": {"is_correct": 1, "solution": "x"}}, "'is_correct' is 1"),
        (
            "gsm8k_solutions",
            {"small": {"is_correct": True, "solution": " \n "}},
            "steps is empty: a solution needs at least one step",
        ),
        ("processbench", {"label": 2}, "label 2 is not -1 or the index of one of 2 steps"),
        ("processbench", {"label": -2}, "label -2"),
        ("processbench", {"label": None}, "column 'label' is None"),
        ("processbench", {"label": True}, "column 'label' is True"),
        ("processbench", {"steps": "a string"}, "column 'steps' must be a list of texts"),
        ("processbench", {"steps": ["a", 1]}, "column 'steps' must be a list of texts"),
        ("processbench", {"steps": [], "label": -1}, "steps is empty"),
        ("processbench", {"steps": ["a", ""]}, r"steps[1] is blank"),
        ("processbench", {"id": 5}, "column 'id' is 5"),
        ("processbench", {"final_answer_correct": "yes"}, "must be of type bool"),
        ("prmbench", {"modified_process": "not JSON"}, "Expecting value"),
        ("prmbench", {"modified_process": "5"}, "must be a list of texts"),
        ("prmbench", {"error_steps": "[2]"}, "column 'error_steps' is '[2]'"),
        ("prmbench", {"error_steps": ["2"]}, "must hold numbers of steps"),
        ("prmbench", {"error_steps": [True]}, "must hold numbers of steps"),
        ("stepwise", {"labels": [1]}, "1 labels for 2 steps"),
        ("stepwise", {"completions": ["a", "b", "c"]}, "2 labels for 3 steps"),
        ("stepwise", {"completions": "ab"}, "column 'completions' must be a list of texts"),
        ("stepwise", {"prompt": ["p"]}, "column 'prompt' is"),
        (
            "prm800k",
            {"question": "2 + 3?"},
            "column 'question' is '2 + 3?'; it must be of type dic",
        ),
        ("prm800k", {"question": {"ground_truth_answer": "5"}}, "missing column 'problem'"),
        ("prm800k", {"label": {"steps": [], "finish_reason": "done"}}, "finish_reason is 'done'"),
        ("prm800k", {"label": {"steps": [{}], "finish_reason": "solution"}}, "'completions'"),
        ("prm800k", prm800k_row(prm800k_step(rated("a", 2))), "rating is 2; it must be -1, 0, 1"),
        ("prm800k", prm800k_row(prm800k_step(rated("a", True))), "rating is True"),
        ("prm800k", prm800k_row(prm800k_step(rated("a", 1), chosen=1)), "is 1 of 1 completions"),
        ("prm800k", prm800k_row(prm800k_step(rated("a", 1), chosen=-1)), "is -1 of 1"),
        ("prm800k", prm800k_row(prm800k_step(chosen=0), reason="give_up"), "is 0 of 0 completions"),
        ("math_shepherd", {"input": 5}, "column 'input' is 5"),
        ("math_shepherd", {"label": MATH_SHEPHERD["label"][:-1] + "?"}, "before or at step tag 2"),
        ("math_shepherd", {"label": MATH_SHEPHERD["label"][:-1]}, "before or at step tag 2"),
        ("math_shepherd", {"label": MATH_SHEPHERD["label"] + " +"}, "after the last of 2 step tag"),
        (
            "math_shepherd",
            {"label": MATH_SHEPHERD["label"].replace("We", "He")},
            "differ before or at step tag 1",
        ),
        ("answers", {"idx": "a"}, "unknown field 'idx'; there are id, answer, prediction"),
        ("answers", {"id": ""}, "id is empty"),
        ("answers", {"id": None}, "column 'id' is None"),
        ("answers", {"prediction": None}, "column 'prediction' is None; it must be of type str"),
        ("answers", {"prediction": ["5"]}, "column 'prediction' is ['5']"),
        ("answers", {"answer": True}, "column 'answer' is True"),
        ("answers", {"answer": float("inf")}, "column 'answer' is inf"),
    ],
)
def test_refused_rows(tmp_path: Path, format: Any, change: dict[str, Any], message: str) -> None:
    path = file(tmp_path, ROWS[format] | change)
    with pytest.raises(RecordError) as caught:
        read(Source(format=format, path=path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["answer", "prediction", "id"])
def test_a_number_too_long_for_text_is_refused(tmp_path: Path, column: str) -> None:
    others = "".join(f'"{name}": "5", ' for name in ("answer", "prediction") if name != column)
    path = file(tmp_path, f'{{{others}"{column}": {"7" * 4400}}}')
    with pytest.raises(RecordError) as caught:
        list(gradable(Source(format="answers", path=path)))
    assert str(caught.value).startswith(f"{path}:1: ")


def test_an_id_that_occurs_twice(tmp_path: Path) -> None:
    path = file(tmp_path, PROCESSBENCH, PROCESSBENCH)
    with pytest.raises(RecordError, match=r":2: field 'id': 'gsm8k-0' occurs twice"):
        list(solutions(Source(format="processbench", path=path)))


@pytest.mark.parametrize("format", ["records", *ROWS])
def test_torn_lines(tmp_path: Path, format: Any) -> None:
    whole = json.dumps(ROWS.get(format, {"id": "a", "problem": "p", "steps": ["s"]}))
    path = file(tmp_path, whole, whole[:-5])
    with pytest.raises(RecordError, match=r"data\.jsonl:2: torn or invalid JSON"):
        read(Source(format=format, path=path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "must hold an array of objects"),
        ("[{}, 5]", ":2: the element is not an object"),
        ('[{"a": 1', "torn or invalid JSON"),
        ("[" * 100_000, "torn or invalid JSON"),
        ('["\\ud800"]', "torn or invalid JSON"),
        ("", "torn or invalid JSON"),
    ],
)
def test_json_that_is_no_array_of_objects(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(content)
    row = {"problem": "a", "steps": "a"}
    with pytest.raises(RecordError, match=message):
        list(sources._rows(Place(format="columns", path=str(path), columns=row)))


# Places


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        (Place(), ConfigError, "exactly one of `path` .* and `hub`"),
        (
            Place(path="a.jsonl", hub="a/b"),
            ConfigError,
            r"both `path` \(a\.jsonl\) and `hub` \(a/b\) are set; .* source\.path=null",
        ),
        (Place(path="."), RecordError, r"^\.: a folder where a file is needed"),
        (Place(path="none.jsonl"), RecordError, "none.jsonl: no such file"),
        (Place(path="none.json"), RecordError, "none.json: no such file"),
        (Place(path="none.parquet"), RecordError, "none.parquet: no such file"),
    ],
)
def test_places(place: Place, error: type[PRMError], message: str) -> None:
    for call in (lambda: list(problems(place)), lambda: identify(place)):
        with pytest.raises(error, match=message):
            call()


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    path = file(tmp_path, GSM8K, suffix=".csv")
    with pytest.raises(ConfigError, match=r"unknown kind of file; use \.jsonl, \.json or"):
        list(problems(Place(format="gsm8k", path=path)))


def test_a_format_that_holds_something_else(tmp_path: Path) -> None:
    path = file(tmp_path, GSM8K)
    with pytest.raises(ConfigError, match="'gsm8k' holds no Solution; formats that do: columns"):
        list(solutions(Source(format="gsm8k", path=path)))
    with pytest.raises(ConfigError, match="'processbench' holds no LabelledSolution"):
        list(labelled(Source(format="processbench", path=path)))


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # both have read it by now
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError) as caught:
        list(problems(Place(format="gsm8k", hub="nobody/nothing")))
    assert "hub:nobody/nothing: the Hub's data set cannot be loaded" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hub_rows_are_read_like_local_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(*arguments: Any, **named: Any) -> Any:
        asked.append((arguments, named))
        return datasets.Dataset.from_list([GSM8K, {"question": "q", "answer": "a\n#### 1"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    place = Place(format="gsm8k", hub="openai/gsm8k", subset="main", revision="abc", limit=1)
    assert [item.id for item in problems(place)] == ["gsm8k-0"]
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "revision": "abc"})]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("format", ["records", "processbench"])
def test_limit(tmp_path: Path, format: Any, suffix: str) -> None:
    rows = [
        {"id": str(index), "problem": "p", "steps": ["s"]}
        if format == "records"
        else PROCESSBENCH | {"id": str(index)}
        for index in range(3)
    ]
    path = file(tmp_path, *rows, suffix=suffix)
    for limit, count in ((1, 1), (3, 3), (9, 3), (None, 3)):
        assert len(list(solutions(Source(format=format, path=path, limit=limit)))) == count
    with pytest.raises(ValueError, match="limit is 0; it starts at 1"):
        Source(format=format, path=path, limit=0)


def test_a_column_maps_to_one_name() -> None:
    with pytest.raises(ValueError, match=r"columns\.steps must be the name of one column"):
        Place(format="columns", path="x.jsonl", columns={"steps": ["a", "b"]})  # type: ignore[dict-item]


# The published files


@pytest.mark.data
def test_gsm8k_as_published(data_dir: Path) -> None:
    found = list(problems(Place(format="gsm8k", path=str(data_dir / "gsm8k/test.jsonl"))))
    assert len(found) == 1319
    assert all(item.reference and item.answer for item in found)
    assert not any("<<" in (item.reference or "") for item in found)
    assert len(list(problems(Place(format="gsm8k", path=str(data_dir / "gsm8k/train.jsonl"))))) == (
        7473
    )


@pytest.mark.data
def test_gsm8k_solutions_as_published(data_dir: Path) -> None:
    path = data_dir / "gsm8k/example_model_solutions.jsonl"
    found = list(solutions(Source(format="gsm8k_solutions", path=str(path))))
    assert len(found) == 5276
    assert Counter(item.generator for item in found) == dict.fromkeys(
        ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"), 1319
    )


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("gsm8k", 400), ("math", 1000)])
def test_processbench_as_published(data_dir: Path, name: str, count: int) -> None:
    source = Source(format="processbench", path=str(data_dir / f"processbench/{name}.json"))
    found = list(solutions(source))
    assert len(found) == count
    assert all(-1 <= item.metadata["first_error"] < len(item.steps) for item in found)


@pytest.mark.data
def test_every_processbench_problem_finds_its_reference(data_dir: Path) -> None:
    source = Source(
        format="processbench",
        path=str(data_dir / "processbench/gsm8k.json"),
        references=Place(format="gsm8k", path=str(data_dir / "gsm8k/test.jsonl")),
    )
    found = list(solutions(source))
    assert len(found) == 400
    assert all(item.reference and item.answer for item in found)


@pytest.mark.data
def test_prmbench_as_published(data_dir: Path) -> None:
    source = Source(format="prmbench", path=str(data_dir / "prmbench/subset394.jsonl"))
    found = list(labelled(source))
    assert len(found) == 394
    assert all(set(item.labels) <= {0.0, 1.0} for item in found)
    absent = [item for item in found if "absent_error_steps" in item.solution.metadata]
    assert len(absent) == 11


def test_solutions_where_labels_are_needed(tmp_path):
    place = Source(path=file(tmp_path, {"id": "a", "problem": "p", "steps": ["s"]}))
    with pytest.raises(RecordError) as caught:
        list(labelled(place))
    assert "a solution without labels, which are needed here; give the" in str(caught.value)
    assert "Field required" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_utf_16_is_named(tmp_path, encoding, suffix):
    path = tmp_path / f"f.{suffix}"
    row = json.dumps({"id": "a", "problem": "p", "steps": ["s"]})
    path.write_bytes((f"[{row}]" if suffix == "json" else row + "\n").encode(encoding))
    with pytest.raises(RecordError, match="the file is UTF-16; save it as UTF-8"):
        list(solutions(Source(path=str(path))))

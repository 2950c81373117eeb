"""The formats of data sets: what one row of each means, as records.

A reader takes a row and its number from 1 and gives its records. A missing column is a
`KeyError`, a wrong value a `ValueError`, a row that its data set left without labels
`Unlabelled`; `prm.sources` adds file and line. Nothing is cast.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from prm import jsonl
from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution, Prediction, Problem, Solution

T = TypeVar("T", Problem, Solution, LabelledSolution, Prediction)
C = TypeVar("C")
Row = dict[str, Any]

COLUMNS = {
    "gsm8k": ("question", "answer"),
    "gsm8k_solutions": ("question", "ground_truth"),
    "processbench": ("problem", "steps", "label"),
    "prmbench": ("modified_question", "modified_process", "error_steps"),
    "stepwise": ("prompt", "completions", "labels"),
    "prm800k": ("labeler", "question", "label"),
    "math_shepherd": ("input", "label", "task"),
    "answers": ("answer", "prediction"),
}
"""Format → columns that give it away."""

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")
_STEP_TAG = "ки"
_FIRST_STEP = re.compile(r"step 1:", re.IGNORECASE)


class Unlabelled(ValueError):
    """A row as its data set publishes it, which gives no solution with a label for every step.

    Args:
        id: of the solution.
        reason: why, in words that other rows share, so that they can be counted by it.
    """

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(reason)
        self.id = id
        self.reason = reason


def mapped(row: Row, number: int, record: type[T], columns: Mapping[str, str], path: object) -> T:
    """The record of a row whose columns have names of their own (`format: columns`).

    Args:
        row, number: the row, and its number from 1, which is the id where none is mapped.
        record: what to make.
        columns: our field → the row's column. A text in `steps` is one step; a number in
            `answer` or `prediction` becomes text (`5`, `2.5`).
        path: where the row stands, for errors.

    Raises:
        ConfigError: `columns` is empty or maps what is no field.
        RecordError: a column is missing, or holds what its field cannot.
    """
    if not columns:
        raise ConfigError(f"{path}: `format: columns` needs `columns: {{our field: column}}`")
    known = {item.name for item in fields(record)}
    if record is LabelledSolution:
        known = {item.name for item in fields(Solution)} | {"labels"}
    unknown = sorted(set(columns) - known)
    if unknown:
        raise ConfigError(
            f"{path}: columns maps {unknown[0]!r}, which is no field; fields: "
            + ", ".join(sorted(known))
        )
    values: Row = {
        ours: mapped_value(row, number, ours, theirs, path) for ours, theirs in columns.items()
    }
    values.setdefault("id", str(number))
    if "steps" in values and isinstance(values["steps"], str):
        values["steps"] = [values["steps"]]
    for name in ("answer", "prediction"):
        if _is_number(values.get(name)):
            values[name] = str(values[name])
    if record is LabelledSolution:
        try:
            labels = _labels(values.pop("labels", None))
        except ValueError as error:
            raise RecordError(str(error), path=path, line=number, field="labels") from None
        values = {"solution": values, "labels": labels}
    return jsonl.convert(values, record, path=path, number=number)


def mapped_value(row: Row, number: int, ours: str, theirs: str, path: object) -> Any:
    """What stands in the column of one of our fields."""
    if theirs not in row:
        raise RecordError(
            f"missing column {theirs!r}; the row has {', '.join(row)}",
            path=path,
            line=number,
            field=ours,
        )
    return row[theirs]


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _column(row: Row, name: str, kind: type[C]) -> C:
    """A column's value, of exactly that type: nothing is cast."""
    value = row[name]
    if type(value) is not kind:
        raise ValueError(f"column {name!r} is {value!r:.40}; it must be of type {kind.__name__}")
    return value


def _texts(values: Any, name: str) -> tuple[str, ...]:
    """A column's list of texts. A string is refused: its letters are no steps."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"column {name!r} must be a list of texts")
    return tuple(values)


def _optional_text(row: Row, name: str) -> str | None:
    """A column that may be missing, null or blank."""
    return _column(row, name, str).strip() or None if row.get(name) is not None else None


def _labels(values: Any) -> list[float]:
    """Soft or hard labels as floats; anything else is refused, never cast."""
    if not isinstance(values, list):
        raise ValueError("labels must be a list with one number or boolean per step")
    for index, value in enumerate(values):
        if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
            raise ValueError(f"labels[{index}] is {value!r}; it must lie between 0 and 1")
    return [float(value) for value in values]


def _gsm8k_answer(worked: str) -> tuple[str, str]:
    """Final answer and worked text. Calculator marks are the calculator's, not the text's."""
    text, found, answer = worked.rpartition("####")
    if not found:
        raise ValueError("no '####' line in a GSM8K answer")
    return answer.strip(), _CALCULATOR_MARK.sub("", text).strip()


def gsm8k(row: Row, number: int) -> list[Problem]:
    answer, reference = _gsm8k_answer(_column(row, "answer", str))
    return [
        Problem(
            id=f"gsm8k-{number - 1}",
            problem=_column(row, "question", str),
            answer=answer,
            reference=reference,
            source="gsm8k",
        )
    ]


def gsm8k_solutions(row: Row, number: int) -> list[Solution]:
    # Here the last line of the worked solution is `A: 18` in place of `#### 18`.
    worked, _, answer = _column(row, "ground_truth", str).rpartition("\nA:")
    if not worked:
        raise ValueError("no 'A:' line in ground_truth")
    models = [key for key, value in row.items() if isinstance(value, dict)]
    if not models:
        raise ValueError("no column holds a model's object")
    return [
        Solution(
            id=f"gsm8k-{number - 1}/{model}",
            problem=_column(row, "question", str),
            steps=_lines(_CALCULATOR_MARK.sub("", _column(row[model], "solution", str))),
            answer=answer.strip(),
            reference=_CALCULATOR_MARK.sub("", worked).strip(),
            generator=model,
            source="gsm8k",
            final_answer_correct=_column(row[model], "is_correct", bool),
        )
        for model in models
    ]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line.strip())


def processbench(row: Row, number: int) -> list[Solution]:
    steps, label = _texts(row["steps"], "steps"), _column(row, "label", int)
    if not -1 <= label < len(steps):
        raise ValueError(f"label {label!r} is not -1 or the index of one of {len(steps)} steps")
    return [
        Solution(
            id=_column(row, "id", str),
            problem=_column(row, "problem", str),
            steps=steps,
            generator=_column(row, "generator", str),
            source="processbench",
            final_answer_correct=_column(row, "final_answer_correct", bool),
            metadata={"first_error": label},
        )
    ]


def prmbench(row: Row, number: int) -> list[LabelledSolution]:
    """The modified solution; a row that names only steps it does not have is no row of labels."""
    [item] = prmbench_modified(row, number)
    if 0.0 not in item.labels and "absent_error_steps" in item.solution.metadata:
        raise Unlabelled(item.id, "error_steps that name none of its steps")
    return [item]


def prmbench_modified(row: Row, number: int) -> list[LabelledSolution]:
    """The modified solution, every step right but those that the row calls wrong and it has."""
    steps = _step_list(row, "modified_process")
    errors = _column(row, "error_steps", list)
    if not all(type(index) is int for index in errors):
        raise ValueError("column 'error_steps' must hold numbers of steps, from 1")
    wrong = set(errors)
    metadata = {"classification": row["classification"]}
    # The published file names steps that its solutions do not have (11 solutions in the subset
    # of 394). The solution stays usable; what was said of no step is kept beside it.
    absent = sorted(wrong - set(range(1, len(steps) + 1)))
    if absent:
        metadata["absent_error_steps"] = absent
    solution = Solution(
        id=f"{row['classification']}/{row['idx']}",  # an idx occurs once in each class
        problem=_column(row, "modified_question", str),
        steps=steps,
        generator="prmbench",
        source="prmbench",
        metadata=metadata,
    )
    labels = tuple(float(index not in wrong) for index in range(1, len(steps) + 1))
    return [LabelledSolution(solution=solution, labels=labels)]


def prmbench_items(row: Row, number: int) -> list[LabelledSolution]:
    """What PRMBench's evaluation takes of a row: the modified solution and, of the class
    `redundency`, before it the original one as class `correct`; with the evaluation's ids."""
    [item] = prmbench_modified(row, number)
    name, idx = _column(row, "classification", str), _column(row, "idx", str)
    metadata = item.solution.metadata | {"idx": idx}
    solution = replace(item.solution, id=f"{name}_{idx}", metadata=metadata)
    items = [replace(item, solution=solution)]
    if name == "redundency":
        steps = _step_list(row, "original_process")
        original = Solution(
            id=f"correct_{idx}",
            problem=_column(row, "original_question", str),
            steps=steps,
            generator="prmbench",
            source="prmbench",
            metadata={"classification": "correct", "idx": idx},
        )
        items.insert(0, LabelledSolution(solution=original, labels=(1.0,) * len(steps)))
    return items


def _step_list(row: Row, name: str) -> tuple[str, ...]:
    """A column that holds a list of steps, or a text that spells one in JSON."""
    steps = row[name]
    return _texts(json.loads(steps) if isinstance(steps, str) else steps, name)


def stepwise(row: Row, number: int) -> list[LabelledSolution]:
    steps, labels = _texts(row["completions"], "completions"), _labels(row["labels"])
    solution = Solution(
        id=str(row.get("id", number)),
        problem=_column(row, "prompt", str),
        steps=steps,
        source="stepwise",
    )
    return [LabelledSolution(solution=solution, labels=tuple(labels))]


def prm800k_problems(row: Row, number: int) -> list[Problem]:
    question = _column(row, "question", dict)
    return [
        Problem(
            id=f"prm800k-{number - 1}",
            problem=_column(question, "problem", str),
            answer=_optional_text(question, "ground_truth_answer"),
            reference=_optional_text(question, "ground_truth_solution"),
            source="prm800k",
        )
    ]


def prm800k_solutions(row: Row, number: int) -> list[Solution]:
    """The path of the labeller: at each step the completion that was chosen, or a person's own.

    Where nothing was chosen at the last step, it is the solution's own one, if the row says which
    that is (`pre_generated_steps`: phase 2 ends so, at the first error), else the first that has
    a rating. What was rated beside the path is left out, and counted in `metadata`.
    """
    [problem] = prm800k_problems(row, number)
    label = _column(row, "label", dict)
    reason, steps = _column(label, "finish_reason", str), _column(label, "steps", list)
    if reason not in ("solution", "found_error", "give_up", "bad_problem"):
        raise ValueError(f"finish_reason is {reason!r}, which PRM800K does not know")
    if reason == "bad_problem":
        raise Unlabelled(problem.id, "a problem that its labeller called broken")
    path = [_prm800k_step(step) for step in steps]
    while path and path[-1] is None and not steps[-1]["completions"]:
        steps, path = steps[:-1], path[:-1]  # given up before anything was there
    if path and path[-1] is None:
        own = (row["question"].get("pre_generated_steps") or [])[len(path) - 1 : len(path)]
        rated = [_prm800k_rated(completion) for completion in steps[-1]["completions"]]
        rated.sort(key=lambda pair: ([pair[0]] != own, pair[1] is None))
        path[-1] = rated[0]
    found = [pair for pair in path if pair is not None]
    if not found or len(found) < len(path):
        raise Unlabelled(problem.id, "a step without a choice" if found else "no steps")
    if not all(text.strip() for text, _ in found):
        raise Unlabelled(problem.id, "a blank step")
    completions = [completion for step in steps for completion in step["completions"] or []]
    human = [
        index
        for index, step in enumerate(steps)
        if step["chosen_completion"] is None and step["human_completion"] is not None
    ]
    return [
        Solution(
            id=problem.id,
            problem=problem.problem,
            steps=tuple(text for text, _ in found),
            answer=problem.answer,
            reference=problem.reference,
            generator="prm800k",
            source="prm800k",
            final_answer_correct=True if reason == "solution" else None,
            metadata={
                "finish_reason": reason,
                "ratings": [rating for _, rating in found],
                "human_steps": human,
                "completions_beside": len(completions) + len(human) - len(found),
            },
        )
    ]


def _prm800k_step(step: Row) -> tuple[str, int | None] | None:
    """Text and rating of what was chosen; None where nothing was."""
    completions, human = step["completions"] or [], step["human_completion"]
    chosen = step["chosen_completion"]
    if chosen is not None:
        if type(chosen) is not int or not 0 <= chosen < len(completions):
            raise ValueError(f"chosen_completion is {chosen!r} of {len(completions)} completions")
        return _prm800k_rated(completions[chosen])
    if human is not None:
        # It stands where every completion was wrong, and was to be a right step (rating 1).
        return _column(human, "text", str), 1
    return None


def _prm800k_rated(completion: Row) -> tuple[str, int | None]:
    rating = completion["rating"]
    if rating is not None and (type(rating) is not int or rating not in (-1, 0, 1)):
        raise ValueError(f"rating is {rating!r}; it must be -1, 0, 1 or null")
    return _column(completion, "text", str), rating


def prm800k(row: Row, number: int) -> list[LabelledSolution]:
    """As `prm800k_solutions`, with labels: -1 is wrong; 1 is right, and so is 0, which is no error
    and no progress."""
    [solution] = prm800k_solutions(row, number)
    ratings = solution.metadata["ratings"]
    if None in ratings:
        raise Unlabelled(solution.id, "a step without a rating")
    labels = tuple(0.0 if rating == -1 else 1.0 for rating in ratings)
    return [LabelledSolution(solution=solution, labels=labels)]


def math_shepherd(row: Row, number: int) -> list[LabelledSolution]:
    """Question and steps in one text; `label` has + or - where `input` has the step tag."""
    text, label = _column(row, "input", str), _column(row, "label", str)
    id = f"math-shepherd-{number - 1}"
    *parts, tail = text.split(_STEP_TAG)
    labels, place = [], 0
    for index, part in enumerate(parts):
        mark = label[place + len(part) : place + len(part) + 1]
        if not label.startswith(part, place) or mark not in ("+", "-"):
            raise ValueError(f"`input` and `label` differ before or at step tag {index + 1}")
        labels.append(float(mark == "+"))
        place += len(part) + 1
    if label[place:].strip() != tail.strip():
        raise ValueError(f"`input` and `label` differ after the last of {len(parts)} step tags")
    if tail.strip():
        raise Unlabelled(id, "text after the last step tag" if parts else "no step tag")
    starts = list(_FIRST_STEP.finditer(parts[0])) if parts else []
    if len(starts) != 1:
        raise Unlabelled(id, "not one 'Step 1:' before the first step tag")
    start = starts[0].start()
    steps = [part.strip() for part in (parts[0][start:], *parts[1:])]
    problem = parts[0][:start].strip()
    if not all((problem, *steps)):
        raise Unlabelled(id, "a blank step" if problem else "a blank problem")
    solution = Solution(
        id=id,
        problem=problem,
        steps=tuple(steps),
        generator="math-shepherd",
        source="math-shepherd",
        metadata={"task": _column(row, "task", str)},
    )
    return [LabelledSolution(solution=solution, labels=tuple(labels))]


def answers(row: Row, number: int) -> list[Prediction]:
    # Strict, unlike the data sets above: a misspelt `id` must not become the line's number.
    unknown = sorted(set(row) - {"id", "answer", "prediction"})
    if unknown:
        raise ValueError(
            f"unknown field {unknown[0]!r}; there are id, answer, prediction. Remove it, or use "
            "`format: columns`, which passes over columns that it does not map"
        )
    # Answers are often numbers; null stands for an answer that is not known.
    texts = {key: str(value) if _is_number(value) else value for key, value in row.items()}
    known = texts["answer"] is not None
    return [
        Prediction(
            id=_column({"id": str(number), **texts}, "id", str),
            prediction=_column(texts, "prediction", str),
            answer=_column(texts, "answer", str) if known else None,
        )
    ]

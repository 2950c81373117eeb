"""The formats of data sets: what one row of each means, as records.

A reader takes a row and its number from 1 and gives its records. A missing column is a
`KeyError`, a wrong value a `ValueError`; `prm.sources` adds file and line. Nothing is cast.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from prm import jsonl
from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution, Problem, Solution

T = TypeVar("T", Problem, Solution, LabelledSolution)
C = TypeVar("C")
Row = dict[str, Any]

COLUMNS = {
    "gsm8k": ("question", "answer"),
    "gsm8k_solutions": ("question", "ground_truth"),
    "processbench": ("problem", "steps", "label"),
    "prmbench": ("modified_question", "modified_process", "error_steps"),
    "stepwise": ("prompt", "completions", "labels"),
}
"""Format → columns that give it away."""

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")


def mapped(row: Row, number: int, record: type[T], columns: Mapping[str, str], path: object) -> T:
    """The record of a row whose columns have names of their own (`format: columns`).

    Args:
        row, number: the row, and its number from 1, which is the id where none is mapped.
        record: what to make.
        columns: our field → the row's column. A text in `steps` is one step; a number in
            `answer` becomes text (`5`, `2.5`).
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
    answer = values.get("answer")
    if type(answer) is int or (type(answer) is float and math.isfinite(answer)):
        values["answer"] = str(answer)
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
    steps = row["modified_process"]
    if isinstance(steps, str):
        steps = json.loads(steps)
    steps = _texts(steps, "modified_process")
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


def stepwise(row: Row, number: int) -> list[LabelledSolution]:
    steps, labels = _texts(row["completions"], "completions"), _labels(row["labels"])
    solution = Solution(
        id=str(row.get("id", number)),
        problem=_column(row, "prompt", str),
        steps=steps,
        source="stepwise",
    )
    return [LabelledSolution(solution=solution, labels=tuple(labels))]

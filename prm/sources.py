"""Data sets as records: public formats, our own files, or any columns by a mapping.

A `Source` names a format and a place: a local file (`path`), or a data set of the Hub
(`hub`), which `datasets` loads; the format decides what a row means, wherever it came from.

| format          | columns of a row                                     | gives               |
|-----------------|------------------------------------------------------|---------------------|
| records         | those of our own JSON Lines                          | what the file holds |
| gsm8k           | question, answer                                     | problems            |
| gsm8k_solutions | question, ground_truth, an object for each model     | solutions           |
| processbench    | id, generator, problem, steps, final_answer_correct, | solutions           |
|                 | label                                                |                     |
| prmbench        | idx, classification, modified_question,              | labelled solutions  |
|                 | modified_process, error_steps                        |                     |
| stepwise        | prompt, completions, labels (TRL's)                  | labelled solutions  |
| columns         | whatever `columns` maps to our fields                | any of the three    |

The first wrong step of a ProcessBench solution stands in `metadata.first_error`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic_core import from_json

from prm import jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution, Problem, Solution, problem_key
from prm.run import fingerprint

T = TypeVar("T", Problem, Solution, LabelledSolution)
C = TypeVar("C")
Row = dict[str, Any]

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]*>>")


@dataclass
class Place:
    """Where rows come from and what they mean.

    Attributes:
        format: see the table above.
        path: a local `.jsonl`, `.json` (an array) or `.parquet` file.
        hub: a data set's name on the Hub, in place of `path`.
        subset, split, revision: which part of the Hub's data set, and which commit.
        columns: for `format: columns`, our field → the row's column.
        limit: read only so many rows.
    """

    format: Literal[
        "records", "gsm8k", "gsm8k_solutions", "processbench", "prmbench", "stepwise", "columns"
    ] = "records"
    path: str | None = field(default=None, metadata=MAY_CHANGE)  # its content is compared
    hub: str | None = None
    subset: str | None = None
    split: str = "test"
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None

    def __post_init__(self) -> None:
        wrong = [ours for ours, theirs in self.columns.items() if not isinstance(theirs, str)]
        if wrong:
            raise ValueError(f"columns.{wrong[0]} must be the name of one column")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; it starts at 1, null reads all")

    def __str__(self) -> str:
        return str(self.path) if self.path else f"hub:{self.hub}"


@dataclass
class Source(Place):
    """A place, joined with another that knows the problems' references.

    Attributes:
        references: problems whose `answer` and `reference` are added to the solutions of
            the same question, compared by `problem_key`. A solution without a match keeps
            what it has.
    """

    references: Place | None = None


def identify(place: Place) -> str:
    """What identifies the content: a file's hash, or a Hub data set's name and revision.

    References count as content: they are part of the records.
    """
    _require_place(place)
    if place.path is not None:
        identity = fingerprint(place.path)
    else:
        identity = f"{place.hub}/{place.subset}/{place.split}@{place.revision}"
    if isinstance(place, Source) and place.references is not None:
        identity += f" with {identify(place.references)}"
    return identity


def problems(place: Place) -> Iterator[Problem]:
    """Yield the problems of a source.

    Raises:
        ConfigError: the format holds no problems.
        RecordError: a row is not what the format says.
    """
    yield from _records(place, Problem, {"gsm8k": _gsm8k})


def solutions(source: Source) -> Iterator[Solution]:
    """Yield the solutions of a source, with references joined. Errors as `problems`."""
    found = _records(
        source,
        Solution,
        {
            "gsm8k_solutions": _gsm8k_solutions,
            "processbench": _processbench,
            "prmbench": lambda row, number: [item.solution for item in _prmbench(row, number)],
            "stepwise": lambda row, number: [item.solution for item in _stepwise(row, number)],
        },
    )
    yield from _join(found, source)


def labelled(source: Source) -> Iterator[LabelledSolution]:
    """Yield the labelled solutions of a source. Errors as `problems`."""
    found = _records(source, LabelledSolution, {"prmbench": _prmbench, "stepwise": _stepwise})
    if source.references is None:
        yield from found
        return
    known = _references(source.references)
    for item in found:
        yield replace(item, solution=_with_reference(item.solution, known))


def problem_texts(source: Place) -> Iterator[str]:
    """Yield every problem text of a source of any kind; what a leak check compares."""
    if source.format == "records":
        for number, row in _rows(source):
            inner = row.get("solution", row)
            if not isinstance(inner, dict) or not isinstance(inner.get("problem"), str):
                raise RecordError("no problem in this record", path=source, line=number)
            yield inner["problem"]
    elif source.format == "gsm8k":
        yield from (item.problem for item in problems(source))
    else:
        plain = Source(**{item.name: getattr(source, item.name) for item in fields(Place)})
        yield from (item.problem for item in solutions(plain))


def _records(
    place: Place, record: type[T], readers: dict[str, Callable[[Row, int], list[T]]]
) -> Iterator[T]:
    _require_place(place)
    if place.format == "records" and place.path is not None and place.path.endswith(".jsonl"):
        for index, item in enumerate(jsonl.read(place.path, record)):
            if place.limit is not None and index >= place.limit:
                return
            yield item
        return
    seen: set[str] = set()
    for number, row in _rows(place):
        for item in _read_row(place, row, number, record, readers):
            if item.id in seen:
                raise RecordError(f"{item.id!r} occurs twice", path=place, line=number, field="id")
            seen.add(item.id)
            yield item


def _read_row(
    place: Place,
    row: Row,
    number: int,
    record: type[T],
    readers: dict[str, Callable[[Row, int], list[T]]],
) -> list[T]:
    if place.format == "columns":
        try:
            return [_mapped(place, row, number, record)]
        except ValueError as error:
            raise RecordError(str(error), path=place, line=number, field="labels") from None
    if place.format == "records":
        return [jsonl.convert(row, record, path=place, number=number)]
    reader = readers.get(place.format)
    if reader is None:
        raise ConfigError(
            f"{place}: format {place.format!r} holds no {record.__name__}; formats that do: "
            + ", ".join(sorted([*readers, "records", "columns"]))
        )
    try:
        return reader(row, number)
    except KeyError as error:
        raise RecordError(
            f"missing column {error}; the row has {', '.join(row)}. Is the format "
            f"{place.format!r}? `format: columns` maps other names",
            path=place,
            line=number,
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(str(error), path=place, line=number) from None


def _require_place(place: Place) -> None:
    if (place.path is None) == (place.hub is None):
        raise ConfigError("a source needs exactly one of `path` (a local file) and `hub`")


def _rows(place: Place) -> Iterator[tuple[int, Row]]:
    _require_place(place)
    rows = _local_rows(place.path) if place.path is not None else _hub_rows(place)
    for index, pair in enumerate(rows):
        if place.limit is not None and index >= place.limit:
            return
        yield pair


def _local_rows(path: str) -> Iterable[tuple[int, Row]]:
    suffix = Path(path).suffix
    if suffix == ".jsonl":
        return jsonl.read_rows(path)
    if not Path(path).is_file():
        raise RecordError("no such file", path=path)
    if suffix == ".json":
        return _array_rows(path)
    if suffix == ".parquet":
        import datasets

        try:
            table = datasets.load_dataset("parquet", data_files=path, split="train")
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise RecordError(f"not a parquet file ({reason})", path=path) from None
        return enumerate(table, start=1)
    raise ConfigError(f"{path}: unknown kind of file; use .jsonl, .json or .parquet")


def _array_rows(path: str) -> Iterator[tuple[int, Row]]:
    try:
        array = from_json(Path(path).read_bytes())
    except OSError as error:
        raise RecordError(f"the file cannot be read ({error.strerror})", path=path) from None
    except ValueError as error:
        raise RecordError(f"torn or invalid JSON ({error})", path=path) from None
    if not isinstance(array, list):
        raise RecordError("a .json source must hold an array of objects", path=path)
    for number, row in enumerate(array, start=1):
        if not isinstance(row, dict):
            raise RecordError("the element is not an object", path=path, line=number)
        yield number, row


def _hub_rows(place: Place) -> Iterator[tuple[int, Row]]:
    import datasets

    try:
        table = datasets.load_dataset(
            place.hub, place.subset, split=place.split, revision=place.revision
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{place}: the Hub's data set cannot be loaded ({reason})") from None
    yield from enumerate(table, start=1)


def _mapped(place: Place, row: Row, number: int, record: type[T]) -> T:
    if not place.columns:
        raise ConfigError(f"{place}: `format: columns` needs `columns: {{our field: column}}`")
    known = {item.name for item in fields(record)}
    if record is LabelledSolution:
        known = {item.name for item in fields(Solution)} | {"labels"}
    unknown = sorted(set(place.columns) - known)
    if unknown:
        raise ConfigError(
            f"{place}: columns maps {unknown[0]!r}, which is no field; fields: "
            + ", ".join(sorted(known))
        )
    values: Row = {}
    for ours, theirs in place.columns.items():
        if theirs not in row:
            raise RecordError(
                f"missing column {theirs!r}; the row has {', '.join(row)}",
                path=place,
                line=number,
                field=ours,
            )
        values[ours] = row[theirs]
    values.setdefault("id", str(number))
    if "steps" in values and isinstance(values["steps"], str):
        values["steps"] = [values["steps"]]
    if record is LabelledSolution:
        labels = _labels(values.pop("labels", None))
        values = {"solution": values, "labels": labels}
    return jsonl.convert(values, record, path=place, number=number)


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


def _gsm8k(row: Row, number: int) -> list[Problem]:
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


def _gsm8k_solutions(row: Row, number: int) -> list[Solution]:
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


def _processbench(row: Row, number: int) -> list[Solution]:
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


def _prmbench(row: Row, number: int) -> list[LabelledSolution]:
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


def _stepwise(row: Row, number: int) -> list[LabelledSolution]:
    steps, labels = _texts(row["completions"], "completions"), _labels(row["labels"])
    solution = Solution(
        id=str(row.get("id", number)),
        problem=_column(row, "prompt", str),
        steps=steps,
        source="stepwise",
    )
    return [LabelledSolution(solution=solution, labels=tuple(labels))]


def _references(place: Place) -> dict[str, Problem]:
    return {problem_key(item.problem): item for item in problems(place)}


def _with_reference(solution: Solution, known: dict[str, Problem]) -> Solution:
    match = known.get(problem_key(solution.problem))
    if match is None:
        return solution
    return replace(
        solution,
        answer=match.answer if solution.answer is None else solution.answer,
        reference=match.reference if solution.reference is None else solution.reference,
    )


def _join(found: Iterator[Solution], source: Source) -> Iterator[Solution]:
    if source.references is None:
        yield from found
        return
    known = _references(source.references)
    for item in found:
        yield _with_reference(item, known)

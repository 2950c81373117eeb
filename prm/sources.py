"""Data sets as records: public formats, our own files, or any columns by a mapping.

A `Source` names a format and a place: a local file (`path`), or a data set of the Hub
(`hub`), which `datasets` loads; the format decides what a row means, wherever it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from pydantic_core import from_json

from prm import formats, jsonl
from prm.config import MAY_CHANGE
from prm.errors import ConfigError, RecordError
from prm.formats import Row, T
from prm.records import (
    Failure,
    LabelledSolution,
    Prediction,
    Problem,
    Solution,
    problem_key,
)
from prm.run import fingerprint


@dataclass
class Place:
    """Where rows come from and what they mean.

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
    | prm800k         | question, label (PRM800K's)                          | labelled solutions  |
    | math_shepherd   | input, label, task (Math-Shepherd's)                 | labelled solutions  |
    | answers         | answer, prediction, and an id or none                | predictions         |
    | columns         | whatever `columns` maps to our fields                | any of these        |

    The first wrong step of a ProcessBench solution stands in `metadata.first_error`. With
    `columns` and `answers`, a number in `answer` or `prediction` becomes text, and without an id
    a row's number is it. A row of PRM800K is the labeller's path through its completions; the
    rating -1 is the label 0, the ratings 0 and 1 are the label 1 and stand in `metadata.ratings`.

    Attributes:
        format: see the table above.
        path: a local `.jsonl`, `.json` (an array) or `.parquet` file.
        hub: a data set's name on the Hub, in place of `path`.
        subset, split, revision: which part of the Hub's data set, and which commit.
        columns: for `format: columns`, our field → the row's column.
        limit: read only so many rows.
    """

    format: Literal[
        "records",
        "gsm8k",
        "gsm8k_solutions",
        "processbench",
        "prmbench",
        "stepwise",
        "prm800k",
        "math_shepherd",
        "answers",
        "columns",
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
    readers = {"gsm8k": formats.gsm8k, "prm800k": formats.prm800k_problems}
    yield from _records(place, Problem, readers)


def solutions(source: Source) -> Iterator[Solution]:
    """Yield the solutions of a source, with references joined. Errors as `problems`.

    A file of labelled solutions gives its solutions.
    """
    found: Iterable[Solution]
    if source.format == "records" and _holds_labels(source):
        found = (item.solution for item in _records(source, LabelledSolution, {}))
    else:
        found = _records(
            source,
            Solution,
            {
                "gsm8k_solutions": formats.gsm8k_solutions,
                "processbench": formats.processbench,
                "prmbench": _without_labels(formats.prmbench_modified),
                "stepwise": _without_labels(formats.stepwise),
                "prm800k": formats.prm800k_solutions,
                "math_shepherd": _without_labels(formats.math_shepherd),
            },
        )
    yield from _join(found, source)


def gradable(source: Source) -> Iterator[Solution | Prediction]:
    """Yield what has a final answer to grade: solutions, or predictions where the source has them.

    Those are `format: answers`, and `format: columns` that maps `prediction`. Errors as
    `problems`.

    Raises:
        ConfigError: predictions are to be joined with references, by a question they lack.
    """
    if source.format != "answers" and "prediction" not in source.columns:
        yield from solutions(source)
        return
    if source.references is not None:
        raise ConfigError(
            f"{source}: `references` are joined by the question, which predictions do not have; "
            "give each row its `answer`"
        )
    yield from _records(source, Prediction, {"answers": formats.answers})


def _holds_labels(place: Place) -> bool:
    """Whether the first row is a labelled solution."""
    row = next((row for _, row in _rows(place)), {})
    return "solution" in row and "labels" in row


def _without_labels(
    reader: Callable[[Row, int], list[LabelledSolution]],
) -> Callable[[Row, int], list[Solution]]:
    return lambda row, number: [item.solution for item in reader(row, number)]


def labelled(source: Source, set_aside: list[Failure] | None = None) -> Iterator[LabelledSolution]:
    """Yield the labelled solutions of a source. Errors as `problems`.

    Args:
        source: where they are.
        set_aside: gets the rows that PRM800K and Math-Shepherd publish without a label for every
            step, and those of PRMBench that call only steps wrong which they do not have, each
            with its reason; without such a list they are errors.
    """
    readers = {
        "prmbench": formats.prmbench,
        "stepwise": formats.stepwise,
        "prm800k": formats.prm800k,
        "math_shepherd": formats.math_shepherd,
    }
    found = _records(source, LabelledSolution, readers, set_aside)
    if source.references is None:
        yield from found
        return
    known = _references(source.references)
    for item in found:
        yield replace(item, solution=_with_reference(item.solution, known))


def prmbench(source: Source) -> Iterator[LabelledSolution]:
    """Yield PRMBench's items as its evaluation takes them (`formats.prmbench_items`): what has an
    id that was there before is passed over. Errors as `problems`."""
    readers = {"prmbench": formats.prmbench_items}
    known = {} if source.references is None else _references(source.references)
    seen: set[str] = set()
    for number, row in _rows(source):
        for item in _read_row(source, row, number, LabelledSolution, readers, None):
            if item.id not in seen:
                seen.add(item.id)
                yield replace(item, solution=_with_reference(item.solution, known))


def problem_texts(source: Place) -> Iterator[str]:
    """Yield every problem text of a source of any kind; what a leak check compares."""
    if source.format == "records":
        for number, row in _rows(source):
            inner = row.get("solution", row)
            if not isinstance(inner, dict) or not isinstance(inner.get("problem"), str):
                error = RecordError("no problem in this record", path=source, line=number)
                raise _with_hint(error, row, Problem)
            yield inner["problem"]
    elif source.format == "columns":
        if "problem" not in source.columns:
            raise ConfigError(f"{source}: `columns` must map `problem` to a column")
        for number, row in _rows(source):
            text = formats.mapped_value(row, number, "problem", source.columns["problem"], source)
            if not isinstance(text, str) or not text.strip():
                message = f"{text!r:.40} is no problem's text"
                raise RecordError(message, path=source, line=number, field="problem")
            yield text
    elif source.format in ("gsm8k", "prm800k"):
        yield from (item.problem for item in problems(source))
    else:
        plain = Source(**{item.name: getattr(source, item.name) for item in fields(Place)})
        yield from (item.problem for item in solutions(plain))


def _records(
    place: Place,
    record: type[T],
    readers: Mapping[str, Callable[[Row, int], list[T]]],
    set_aside: list[Failure] | None = None,
) -> Iterator[T]:
    _require_place(place)
    if place.format == "records" and place.path is not None and place.path.endswith(".jsonl"):
        try:
            for index, item in enumerate(jsonl.read(place.path, record)):
                if place.limit is not None and index >= place.limit:
                    return
                yield item
        except RecordError as error:
            if error.field is None:
                raise
            rows = (row for number, row in jsonl.read_rows(place.path) if number == error.line)
            raise _with_hint(error, next(rows), record) from None
        return
    seen: set[str] = set()
    for number, row in _rows(place):
        for item in _read_row(place, row, number, record, readers, set_aside):
            if item.id in seen:
                raise RecordError(f"{item.id!r} occurs twice", path=place, line=number, field="id")
            seen.add(item.id)
            yield item


def _read_row(
    place: Place,
    row: Row,
    number: int,
    record: type[T],
    readers: Mapping[str, Callable[[Row, int], list[T]]],
    set_aside: list[Failure] | None,
) -> list[T]:
    if place.format == "columns":
        return [formats.mapped(row, number, record, place.columns, place)]
    if place.format == "records":
        try:
            return [jsonl.convert(row, record, path=place, number=number)]
        except RecordError as error:
            raise _with_hint(error, row, record) from None
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
    except formats.Unlabelled as error:
        if set_aside is None:
            raise RecordError(
                f"{error.reason}; remove the row, or train on the file, which sets such rows aside",
                path=place,
                line=number,
            ) from None
        set_aside.append(Failure(id=error.id, reason=error.reason))
        return []
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(str(error), path=place, line=number) from None


def _with_hint(error: RecordError, row: Row, record: type) -> RecordError:
    """The error of a row that is not the record that is needed, with what the row may be."""
    if record is LabelledSolution and {"id", "problem", "steps"} <= set(row):
        message = (
            "a solution without labels, which are needed here; give the `labelled.jsonl` of "
            "`prm verify`, or map its columns with `format: columns`"
        )
        return RecordError(message, path=error.path, line=error.line)
    likely = [name for name, columns in formats.COLUMNS.items() if set(columns) <= set(row)]
    if likely:
        hint = f". The row looks like {likely[0]}: set `format: {likely[0]}`"
    elif "id" not in row and "solution" not in row:
        hint = f". The row has {', '.join(row)}: set `format`; `format: columns` maps any names"
    else:
        return error
    return RecordError(error.message + hint, path=error.path, line=error.line, field=error.field)


def _require_place(place: Place) -> None:
    if place.path is not None and place.hub is not None:
        raise ConfigError(
            f"both `path` ({place.path}) and `hub` ({place.hub}) are set; unset one of them, "
            "as with source.path=null"
        )
    if place.path is None and place.hub is None:
        raise ConfigError("a source needs exactly one of `path` (a local file) and `hub`")
    if place.path is not None and Path(place.path).is_dir():
        raise RecordError("a folder where a file is needed", path=place.path)


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
        content = Path(path).read_bytes()
        jsonl.refuse_utf16(content, path)
        array = from_json(content.removeprefix(jsonl.BOM))
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

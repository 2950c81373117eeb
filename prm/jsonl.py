"""Records in JSON Lines files: strict typed reading, durable writing, finished ids.

Reading refuses what it does not understand and says where: an unknown field, a wrong type,
a torn line, an id that occurs twice. Writing is all or nothing: `Writer` appends to
`NAME.partial`, which becomes `NAME` only when the whole file is there, so a reader never
sees half a file and a killed writer goes on where it stopped.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from prm.errors import ConfigError, RecordError

T = TypeVar("T")

PARTIAL = ".partial"
"""Suffix of a file that is still being written."""

BOM = b"\xef\xbb\xbf"
"""The mark that some editors put at the start of a UTF-8 file; it is no part of the text."""


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(record: type) -> TypeAdapter[Any]:
    if record not in _adapters:
        _adapters[record] = TypeAdapter(record)
    return _adapters[record]


def encode(record: Any) -> str:
    """One record as one line of JSON, without the newline. Non-finite numbers are refused."""
    return _ENCODER.encode(_plain(record))


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ATOMS = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    # dataclasses.asdict deep-copies every string; this is many times faster.
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is tuple or kind is list:
        return value if _ATOMS.issuperset(map(type, value)) else [_plain(item) for item in value]
    if kind is dict:
        return {key: _plain(item) for key, item in value.items()}
    names = _names(kind)  # type: ignore[arg-type]  # classes are hashable
    return {name: _plain(getattr(value, name)) for name in names} if names else value


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    """The fields of a record's class; none for anything else."""
    return tuple(item.name for item in fields(kind)) if is_dataclass(kind) else ()


def decode(line: str | bytes, record: type[T], *, path: Any = None, number: int | None = None) -> T:
    """Decode one line of JSON into a record.

    Args:
        line: the JSON text.
        record: the dataclass to make.
        path, number: where the line stands, for the error.

    Raises:
        RecordError: on anything but exactly that record, naming the field.
    """
    try:
        return _adapter(record).validate_json(line)
    except ValidationError as error:
        raise _record_error(error, path, number) from None


def convert(
    value: dict[str, Any], record: type[T], *, path: Any = None, number: int | None = None
) -> T:
    """As `decode`, for a dict that is already parsed (a row of a data set)."""
    try:
        return _adapter(record).validate_json(json.dumps(value, allow_nan=False))
    except ValidationError as error:
        raise _record_error(error, path, number) from None
    except (TypeError, ValueError) as error:
        raise RecordError(f"not plain JSON: {error}", path=path, line=number) from None


def _record_error(error: ValidationError, path: Any, number: int | None) -> RecordError:
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "unexpected_keyword_argument":
        message = "unknown field; remove it, or map it with `columns`"
    elif first["type"] == "json_invalid":
        message = _torn(message.removeprefix("Invalid JSON: "))
    more = error.error_count() - 1
    return RecordError(
        message + (f" (and {more} more)" if more else ""), path=path, line=number, field=field
    )


def _torn(reason: str) -> str:
    # The parser sees one line and calls it line 1; the file's line stands before the message.
    return f"torn or invalid JSON ({re.sub(r'at line [0-9]+ column', 'at column', reason)})"


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number from 1, parsed object)` of a JSON Lines file, skipping blank lines.

    Raises:
        RecordError: where the file is missing, a line is torn or not an object.
    """
    for number, line in _lines(path):
        try:
            row = from_json(line)
        except ValueError as error:
            raise RecordError(_torn(str(error)), path=path, line=number) from None
        if not isinstance(row, dict):
            raise RecordError("the line is not a JSON object", path=path, line=number)
        yield number, row


def refuse_utf16(start: bytes, path: str | Path) -> None:
    """Refuse a file that starts as UTF-16 does: with its mark, or with a NUL beside the first
    character, which no JSON has.

    Raises:
        RecordError: it does.
    """
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or start[:2].count(0) == 1:
        raise RecordError("the file is UTF-16; save it as UTF-8", path=path)


def read(path: str | Path, record: type[T], *, unique: bool = True) -> Iterator[T]:
    """Yield the records of a JSON Lines file, strictly decoded.

    Args:
        path: the file.
        record: the dataclass that each line holds.
        unique: refuse an id that occurred before, naming both lines.

    Raises:
        RecordError: naming file, line and field.
    """
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        item = decode(line, record, path=path, number=number)
        if unique:
            identity = item.id  # type: ignore[attr-defined]
            if identity in seen:
                raise RecordError(
                    f"{identity!r} occurs twice, first on line {seen[identity]}",
                    path=path,
                    line=number,
                    field="id",
                )
            seen[identity] = number
        yield item


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(BOM)
                    refuse_utf16(line, path)
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise RecordError("no such file", path=path) from None
    except IsADirectoryError:
        raise RecordError("a folder where a file is needed", path=path) from None
    except OSError as error:
        raise RecordError(f"the file cannot be read ({error.strerror})", path=path) from None


class Writer:
    """Append records to a file that appears, whole, when all are written.

    Used as a context manager. Until `commit` the records stand in `PATH.partial`; leaving
    the block without `commit` keeps them there for the next attempt. A torn last line left
    by a kill is cut off on opening. A file that is there already goes on, too: whoever opens it
    again was killed between this commit and the end of the stage.

    Attributes:
        finished: ids already written by an earlier, interrupted attempt, in their order.

    Raises:
        ConfigError: the file cannot be written: a full disk, a read-only folder.
    """

    def __init__(self, path: str | Path, record: type) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(self.path.name + PARTIAL)
        with _writing(self.path):
            if self.path.exists() and not self._partial.exists():
                os.replace(self.path, self._partial)
            self.finished: list[str] = _repair(self._partial, record)
            # Unbuffered, so that closing after a failed write has nothing left to write.
            self._file = open(self._partial, "ab", buffering=0)  # noqa: SIM115

    def write(self, records: Iterable[Any]) -> None:
        """Append records and make them durable before returning."""
        rest = memoryview("".join(encode(record) + "\n" for record in records).encode())
        if not rest:
            return
        with _writing(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())

    def commit(self) -> None:
        """Give the finished file its name."""
        with _writing(self.path):
            os.fsync(self._file.fileno())
            os.replace(self._partial, self.path)
            sync_folder(self.path.parent)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _repair(partial: Path, record: type) -> list[str]:
    """Cut a torn tail off our own unfinished file; return the ids of the whole lines."""
    if not partial.exists():
        return []
    with open(partial, "r+b") as file:
        whole = _whole(file)
        if whole < file.seek(0, os.SEEK_END):
            file.truncate(whole)
    finished: Iterator[Any] = read(partial, record)
    return [item.id for item in finished]


def _whole(file: BinaryIO, block: int = 1 << 16) -> int:
    """How many bytes of an open file stand before the end of its last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - block)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def write(path: str | Path, records: Iterable[Any]) -> None:
    """Write a whole JSON Lines file; readers see the old file or the new one.

    The records are read as they are written. Errors as `write_text`.
    """
    _replace(Path(path), (encode(record) + "\n" for record in records))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically and durably (temporary file, fsync, rename).

    Raises:
        ConfigError: the file cannot be written: a full disk, a read-only folder.
    """
    _replace(Path(path), [text])


def _replace(path: Path, parts: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with _writing(path):
        try:
            with open(temporary, "wb") as file:
                for part in parts:
                    file.write(part.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        sync_folder(path.parent)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the system's refusal to write an error that a user can mend."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written ({error.strerror}); make room or set another `out`, "
            "then run the same command again"
        ) from None


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

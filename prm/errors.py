"""Every error a user can cause, in one tree.

    PRMError                what the command line prints in one line, then exits with 2
    ├── ConfigError         a configuration key, value or flag
    ├── RecordError         a record of a file: path, line, field
    ├── RunConflictError    a run folder that holds something else
    ├── EngineError         a generation engine that cannot start or died
    ├── CheckpointError     a model folder that is not what it should be
    ├── TrainingError       a training run whose numbers went wrong
    └── ClientError         a server of ours that refuses a request, or does not answer

Each message says what was wrong, where, and what to do. Anything else that is raised is a
bug and keeps its traceback. What a model writes is data, never an error: an unusable answer
is kept with its reason.
"""

from __future__ import annotations


class PRMError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(PRMError):
    """A configuration key, value or command-line argument is wrong."""


class RecordError(PRMError):
    """A record is wrong.

    Args:
        message: what is wrong and, where it helps, what to do.
        path: the file or data set that holds the record, if it came from one; printed with `str`.
        line: the line, counted from 1.
        field: the field inside the record, dotted (`steps.2`).
    """

    def __init__(
        self,
        message: str,
        *,
        path: object = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        self.message = message
        self.path = path
        self.line = line
        self.field = field
        where = ":".join(str(part) for part in (path, line) if part is not None)
        parts = [where, f"field {field!r}" if field else "", message]
        super().__init__(": ".join(part for part in parts if part))


class RunConflictError(PRMError):
    """A run folder belongs to another configuration, input or process."""


class EngineError(PRMError):
    """A generation engine cannot start, or died."""


class CheckpointError(PRMError):
    """A model folder is missing something or does not fit its declaration."""


class TrainingError(PRMError):
    """A training run cannot go on: its loss or its scores are no numbers."""


class ClientError(PRMError):
    """A server refuses a request, or does not answer.

    Args:
        message: what it said.
        status: of HTTP; None where no answer came.
        where: the place in the request that the server names.
    """

    def __init__(self, message: str, status: int | None = None, where: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.where = where

"""The server's log: one JSON object a line, and no text of a request in any.

A request's line has its id, route, status, milliseconds, and how many items, steps and tokens it
had. An exception's message may quote the request, so only its type and place are told.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import Any


class JSONFormatter(logging.Formatter):
    """A record as one JSON object; what the record's `fields` hold comes with it."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None and "error" not in line:
            line |= told(record.exc_info[1])  # of a library that logs for itself
        return json.dumps(line)


def configure(*names: str) -> None:
    """Send these loggers' records to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "prm.serve" else logging.WARNING)


def log_failure(
    log: logging.Logger, what: str, error: BaseException, request_id: str | None = None
) -> None:
    """Log an exception by its type and place."""
    fields = told(error)
    if request_id is not None:
        fields["id"] = request_id
    log.error("%s: %s", what, fields["error"], extra={"fields": fields})


def told(error: BaseException) -> dict[str, Any]:
    """What may be told of an exception."""
    frames = [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return {"error": type(error).__name__, "frames": frames}

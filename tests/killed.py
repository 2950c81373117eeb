"""Kills the `prm` command at each of its durable writes and lets the same command resume.

    python killed.py FOLDER POINT[,POINT…] STAGE [CONFIG] [key=value …]

Before and after every `fsync` and every rename is a point; `all` means each in turn. For each
point k a child runs the command with `out=FOLDER/k` and dies there by SIGKILL; another child
then runs the same command to its end. `FOLDER/whole` holds an uninterrupted run. The last line
printed is the number of points tried. LLMs are replaced by `reply` below, which depends on the
request alone.

A process of its own, because it forks: nothing here may have started a thread.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import annotate.sample
import annotate.stage
import universalbench.stage  # noqa: F401 - so that no child has to
import verify.stage  # noqa: F401
from prm import jsonl, records
from prm.cli import main
from prm.engines import EngineConfig, Request
from prm.engines.fake import ScriptedEngine
from universalbench import results

RECORDS = (
    annotate.stage._Votes,
    records.Annotation,
    records.Failure,
    records.LabelledSolution,
    records.Problem,
    records.Rejection,
    records.Solution,
    results.Cost,
    results.ItemScores,
    results.PredictorRecord,
    results.Results,
)


def reply(request: Request) -> str:
    """A reply that depends on the request alone; some are blank, some are no verdicts."""
    number = hashlib.sha256(repr(request).encode()).digest()[0]
    if request.regex is not None:
        steps = int((re.findall(r"\{(\d+)\}", request.regex) or ["0"])[-1]) + 1
        return "[" + ",".join(str(number >> index % 8 & 1) for index in range(steps)) + "]"
    return "" if number % 5 == 0 else f"The answer is {number}."


def engine(config: EngineConfig) -> ScriptedEngine:
    """In place of `prm.engines.load`."""
    return ScriptedEngine(reply, name=config.name, constrains=False)


def _dying(call: Callable[..., Any], events: itertools.count[int], point: int) -> Any:
    def patched(*arguments: Any) -> Any:
        for action in (lambda: None, lambda: call(*arguments)):
            action()
            if next(events) == point:
                os.kill(os.getpid(), signal.SIGKILL)

    return patched


def child(arguments: list[str], point: int | None) -> int:
    """Run the command in a child, which dies at `point`; returns its wait status."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        if point is not None:
            events = itertools.count()
            os.fsync = _dying(os.fsync, events, point)
            os.replace = _dying(os.replace, events, point)
        code = 1
        try:
            code = main(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)
    return os.waitpid(process, 0)[1]


def run(folder: str, points: str, arguments: list[str]) -> int:
    """See above; returns the number of points."""
    annotate.stage.load = annotate.sample.load = engine
    # Built once here rather than in every child.
    for record in RECORDS:
        jsonl._adapter(record)
    assert child([*arguments, f"out={folder}/whole"], None) == 0
    tried = 0
    for point in itertools.count() if points == "all" else map(int, points.split(",")):
        command = [*arguments, f"out={folder}/{point}"]
        status = child(command, point)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"point {point}: status {status}"
            assert points == "all", f"point {point} was never reached"
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert child(command, None) == 0, f"point {point}: the resumed run failed"
        tried += 1
    return tried


if __name__ == "__main__":
    print(run(sys.argv[1], sys.argv[2], sys.argv[3:]))

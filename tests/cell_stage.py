"""A stage for tests of `prm.reproduce.cells`: does at once, or badly, what it is told."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from prm.errors import ConfigError
from prm.run import Counts, Run


@dataclass
class Config:
    """`does`: `write`, `refuse` (an error of the user's), `break` (a bug), `die` (once), `meet`
    (waits for the file of `other`, which waits for this one's), `sleep`."""

    out: str
    does: str = "write"
    reads: list[str] = field(default_factory=list)
    other: str = ""


def run(config: Config) -> Counts:
    """Leaves `out.txt`: what it read, and its own name."""
    with Run(config.out, "cell", config) as folder:
        if folder.counts is None:
            print(f"doing {config.does}", flush=True)
            _do(config, folder)
            texts = [Path(path).read_text() for path in config.reads]
            folder.path("out.txt").write_text("".join([*texts, folder.folder.name]))
            folder.finish(Counts(read=1, written=1), ["out.txt"])
        assert folder.counts is not None
        return folder.counts


def _do(config: Config, folder: Run) -> None:
    if config.does == "refuse":
        raise ConfigError("it will not; set does")
    if config.does == "break":
        raise ZeroDivisionError("by zero")
    if config.does == "die" and not folder.path("died").exists():
        folder.path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if config.does == "sleep":
        folder.path("asleep").write_text(str(os.getpid()))
        time.sleep(600)
    if config.does == "meet":
        folder.path("here").touch()
        for _ in range(600):
            if Path(config.other, "here").exists():
                return
            time.sleep(0.05)
        raise ConfigError("the other did not come")

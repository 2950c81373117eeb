"""An engine for tests of replicas: its answers tell where they were written, and requests can
make it fail or end its process. It is imported inside Ray's actors."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from prm.engines import Completion, EngineConfig, Message, Request
from prm.errors import CheckpointError, EngineError


def ask(content: str, group: str = "") -> Request:
    """A request; `Echo` knows a few commands."""
    return Request(messages=(Message(role="user", content=content),), max_tokens=1, group=group)


class Echo:
    """Answers with its node, its process and the question.

    A question may be a command: `die`, `die once MARK` (a file that remembers the death), `fail`,
    `bug`, `linger NODE MARK` (on that node, makes the file and waits to be killed).
    """

    def __init__(self, config: EngineConfig) -> None:
        self.name = config.name
        if "broken" in config.options:
            raise CheckpointError("no weights in it; name another folder")
        if "fragile" in config.options:  # a file that remembers the death, or nothing
            mark = config.options["fragile"]
            if not mark or not Path(mark).exists():
                Path(mark or os.devnull).touch()
                os._exit(1)
        if "log" in config.options:
            with open(config.options["log"], "a") as log:
                log.write(f"{os.getpid()}\n")

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        return [[self._answer(request.messages[0].content)] for request in requests]

    def close(self) -> None:
        pass

    def _answer(self, content: str) -> Completion:
        node = ray.get_runtime_context().get_node_id()
        match content.split():
            case ["die"]:
                os._exit(1)
            case ["die", "once", mark] if not Path(mark).exists():
                Path(mark).touch()
                os._exit(1)
            case ["fail"]:
                raise EngineError("the engine died; run the same command again to resume")
            case ["bug"]:
                raise ZeroDivisionError("a bug")
            case ["linger", where, mark] if where == node:
                Path(mark).touch()
                time.sleep(60)
        return Completion(
            text=f"{node} {os.getpid()} {content}",
            finish_reason="stop",
            prompt_tokens=1,
            completion_tokens=1,
        )

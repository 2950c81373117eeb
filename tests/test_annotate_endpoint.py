"""`prm annotate` with a judge behind HTTP: faults and kills change nothing that is written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import endpoint
import pytest
from endpoint import Fault, Server, serving

from prm import jsonl
from prm.records import Annotation, Solution

ROOT = Path(__file__).parents[1]
SOLUTIONS = [
    Solution(
        id=f"s{index}",
        problem=f"What is {index} + 1?",
        steps=(*["Let us see."] * (index % 4), f"{index} + 1 = {index + 1}"),
        answer=str(index + 1),
    )
    for index in range(60)
]
CHUNK = 4
REQUESTS = 3
"""For each solution: p0's reasoning and its list, p1's list."""


class Faulty:
    """A plan that spoils one answer in twenty, and counts them."""

    def __init__(self) -> None:
        self.count = 0
        self._plan = endpoint.faults(seed=5, rate=0.05)

    def __call__(self, number: int, body: dict[str, Any]) -> Fault | None:
        fault = self._plan(number, body)
        self.count += fault is not None
        return fault


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def command(folder: Path, server: Server, out: str) -> list[str]:
    judge = (
        f"{{engine: {{model: judge, kind: openai, endpoint: {{urls: ['{server.url}']}}}}, "
        "strategies: [p0, p1]}"
    )
    values = (f"source.path={folder / 'solutions.jsonl'}", f"judges=[{judge}]", f"chunk={CHUNK}")
    return [sys.executable, "-m", "prm", "annotate", *values, f"out={folder / out}"]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Run in a process group of its own."""
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(arguments: list[str]) -> None:
    process = start(arguments)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said


def kill_after(requests: int, seconds: float, server: Server, arguments: list[str]) -> None:
    """Start the command; SIGKILL it so long after the server got so many requests of it."""
    reached = server.after(requests)
    process = start(arguments)
    try:
        while not reached.wait(0.01):
            assert process.poll() is None, "it ended before its time"
        time.sleep(seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_killed_at_twenty_moments_under_faults(tmp_path: Path, server: Server) -> None:
    jsonl.write(tmp_path / "solutions.jsonl", SOLUTIONS)
    finish(command(tmp_path, server, "whole"))
    assert len(server.requests) == REQUESTS * len(SOLUTIONS)
    whole = (tmp_path / "whole" / "annotations.jsonl").read_bytes()
    found = list(jsonl.read(tmp_path / "whole" / "annotations.jsonl", Annotation))
    assert [item.solution for item in found] == SOLUTIONS
    assert not [vote.error for item in found for vote in item.judgments if vote.error]

    chance = random.Random(11)
    server.plan = faulty = Faulty()
    # Four runs, each killed five times: so a kill also meets what earlier ones left.
    for out in "abcd":
        asked, spoilt = len(server.requests), faulty.count
        arguments = command(tmp_path, server, out)
        for _ in range(5):
            kill_after(chance.randint(1, 34), chance.uniform(0, 0.05), server, arguments)
            assert not (tmp_path / out / "annotations.jsonl").exists()
        finish(arguments)
        assert (tmp_path / out / "annotations.jsonl").read_bytes() == whole
        # A kill costs the chunk that was under way, and no more.
        asked, spoilt = len(server.requests) - asked, faulty.count - spoilt
        assert spoilt > 0
        assert asked - spoilt <= REQUESTS * (len(SOLUTIONS) + 5 * CHUNK)

"""Killable processes that compare answers by computer algebra.

SymPy can hang in C code or take all memory on a short string; only the death of its process
ends that. Workers are plain subprocesses (not `multiprocessing`): no guard is needed in the
user's main script, and nothing of the parent (torch, threads, open files) is copied.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

START_LIMIT_S = 120.0
"""How long a worker may take to import its libraries, on a slow or busy machine."""


@dataclass(frozen=True)
class Comparison:
    """What is known of two answers.

    Attributes:
        verdict: `unknown` whenever neither of the others is shown.
        rule: what decided.
        reason: why, in words.
    """

    verdict: Literal["equal", "different", "unknown"]
    rule: str
    reason: str


class _Worker:
    """One process and at most one request at a time; start, ask, kill.

    The process is a group of two: one that keeps the libraries loaded, and its child, which
    answers (see `worker`). A late or dead child is replaced by a fork, in milliseconds.
    """

    def __init__(self, memory_bytes: int) -> None:
        script = str(Path(__file__).with_name("worker.py"))
        # `-P` keeps this folder's modules from shadowing others on the worker's path. A group of
        # their own, so that one signal ends both processes.
        self.process = subprocess.Popen(
            [sys.executable, "-P", script, str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._requests = 0
        hello = self._read(START_LIMIT_S, self.process.kill)
        if not hello or not hello.get("ready"):
            self.kill()
            reason = hello.get("reason") if hello else "it ended or took too long"
            raise RuntimeError(f"the answer checker's worker did not start: {reason}")

    def _read(self, limit_s: float, expire: Callable[[], object]) -> dict[str, Any] | None:
        """The next message, None where the process ended; `expire` is called when time is up."""
        assert self.process.stdout is not None
        timer = threading.Timer(max(limit_s, 0.0), expire)
        timer.daemon = True
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
            timer.join()
        return json.loads(line) if line.endswith("\n") else None

    def ask(self, a: str, b: str, deadline_s: float) -> Comparison:
        assert self.process.stdin is not None
        self._requests += 1
        number = self._requests
        try:
            request = {"id": number, "a": a, "b": b, "cpu_s": deadline_s + 2}
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            self.kill()
            return Comparison("unknown", "crash", "the checking process had died")
        late = threading.Event()

        def expire() -> None:
            late.set()
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGUSR1)
            else:
                self.kill_group()

        message = self._read(START_LIMIT_S, self.kill_group)
        if message is not None and message.get("taken") != number:
            # The child was killed by someone else, perhaps with the request in its hands.
            message = None
        if message is not None:
            message = self._read(deadline_s, expire)
        if message is None:
            self.kill()
            return Comparison("unknown", "crash", "the checking process died")
        in_time = message.pop("id", None) == number
        if late.is_set() and in_time:
            # The verdict came as the signal left: wait for the next child, or the signal might
            # meet the next request.
            self._read(START_LIMIT_S, self.kill_group)
        if in_time:
            return Comparison(**message)
        if late.is_set():
            return Comparison("unknown", "timeout", f"no verdict within {deadline_s:g} s")
        return Comparison("unknown", "crash", "the checking process died")

    def kill_group(self) -> None:
        """End both processes; whoever reads from them sees their end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self) -> None:
        self.kill_group()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                # Unsent bytes for a dead process are of no use to anyone.
                with contextlib.suppress(OSError):
                    stream.close()


class CheckerPool:
    """A few workers shared by threads; each starts when first needed.

    Args:
        size: the number of processes.
        memory_bytes: address space that each may take.

    Raises:
        RuntimeError: a worker cannot start (its libraries are missing), or the pool is closed.
    """

    def __init__(self, size: int = 2, memory_bytes: int = 2 << 30) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; a pool needs at least one worker")
        self.size = size
        self._memory_bytes = memory_bytes
        # Last in, first out: a worker that has started is used before an empty place.
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._places.put(None)
        self._lock = threading.Lock()
        self._running: set[_Worker] = set()
        self._closed = False

    def check(self, a: str, b: str, deadline_s: float = 2.0) -> Comparison:
        """Compare two formulas in a worker, for at most that long once it has one to itself."""
        with self._worker() as worker:
            return worker.ask(a, b, deadline_s)

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        worker = self._places.get()
        try:
            if worker is None or worker.process.poll() is not None:
                self._drop(worker)
                worker = None
                worker = self._start()
            yield worker
        finally:
            if worker is not None and (self._closed or worker.process.poll() is not None):
                self._drop(worker)
                worker = None
            self._places.put(worker)

    def _start(self) -> _Worker:
        if self._closed:
            raise RuntimeError("the checker pool is closed")
        worker = _Worker(self._memory_bytes)
        with self._lock:
            self._running.add(worker)
        return worker

    def _drop(self, worker: _Worker | None) -> None:
        if worker is not None:
            worker.kill()
            with self._lock:
                self._running.discard(worker)

    def close(self) -> None:
        """Kill all workers; comparisons under way come out unknown."""
        self._closed = True
        with self._lock:
            running = list(self._running)
        # Those at work are only killed: the thread that reads from one cleans up after it.
        for worker in running:
            worker.kill_group()
            worker.process.wait()
        idle: list[_Worker | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._places.get_nowait())
        for place in idle:
            self._drop(place)
            self._places.put(None)

    def __enter__(self) -> CheckerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

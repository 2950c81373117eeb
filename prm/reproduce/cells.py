"""Pieces of work that figures share, run side by side, each once.

A cell is a stage with a run folder of its own. Where a value of its configuration begins with `@`,
the rest is a path under `out`, which another cell writes: so what must come first is known. A cell
that is finished is skipped, one that was cut off resumes, as every stage does.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prm import config as configuration
from prm.errors import EngineError, PRMError
from prm.progress import bar


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A piece of work.

    Attributes:
        name: its folder under `out`.
        stage: a stage of `prm`, or a module that is one (`Config` and `run`).
        config: of the stage, without `out`.
    """

    name: str
    stage: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> set[str]:
        """The paths under `out` that others write."""
        return {value[1:] for value in _values(self.config) if value.startswith("@")}

    def resolved(self, out: Path) -> dict[str, Any]:
        """The configuration of the stage, with real paths."""

        def real(value: Any) -> Any:
            if isinstance(value, str) and value.startswith("@"):
                return str(out / value[1:])
            if isinstance(value, Mapping):
                return {key: real(item) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [real(item) for item in value]
            return value

        return {"out": str(out / self.name), **real(self.config)}


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _values(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _values(item)


def before(cell: Cell, cells: Mapping[str, Cell]) -> set[str]:
    """The names of the cells that write what a cell needs."""
    found = set()
    for path in cell.needs:
        maker = next((str(part) for part in Path(path).parents if str(part) in cells), None)
        if maker is None:
            raise AssertionError(f"{cell.name} needs {path}, which no cell writes")
        found.add(maker)
    return found


def run_cells(
    cells: Sequence[Cell], out: Path, modules: Mapping[str, str], jobs: int
) -> dict[str, float]:
    """Run all cells, as many at a time as `jobs`, each after those that it needs.

    Args:
        cells: names differ; of those that can begin, the first ones do.
        out: the folder of all; what each prints stands in `logs` there.
        modules: stage → the module that is it.
        jobs: processes; each computes with its share of the processor's cores.

    Returns:
        seconds that each took now.

    Raises:
        PRMError: the first cell that failed, with its name and log; those under way are ended.
    """
    known = {cell.name: cell for cell in cells}
    waiting = {cell.name: before(cell, known) for cell in cells}
    took: dict[str, float] = {}
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads,))
    under_way: dict[Future[tuple[float, str]], str] = {}
    try:
        with bar("reproduce", len(cells), unit="cell") as shown:
            while waiting or under_way:
                ready = [name for name in known if not waiting.get(name, {name})]
                for name in ready[: jobs - len(under_way)]:
                    del waiting[name]
                    cell = known[name]
                    stage = modules.get(cell.stage, cell.stage)
                    log = out / "logs" / f"{name.replace('/', '-')}.log"
                    task = pool.submit(_run, stage, cell.resolved(out), name, str(log))
                    under_way[task] = name
                assert under_way, f"{', '.join(waiting)} wait for each other"
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for task in done:
                    seconds, problem = _result(task, under_way.values())
                    if problem:
                        raise PRMError(problem)
                    name = under_way.pop(task)
                    took[name] = seconds
                    for needs in waiting.values():
                        needs.discard(name)
                    shown.set_postfix_str(name, refresh=False)
                    shown.update()
    except BaseException:
        _end(pool)
        raise
    pool.shutdown()
    return took


def _result(task: Future[tuple[float, str]], under_way: Iterable[str]) -> tuple[float, str]:
    try:
        return task.result()
    except BrokenProcessPool:
        # Which of them it was, the pool does not tell.
        raise EngineError(
            f"a process died (killed, or out of memory) while these cells were under way: "
            f"{', '.join(sorted(under_way))}; the same command resumes"
        ) from None


def _end(pool: ProcessPoolExecutor) -> None:
    """End what is under way: stages are made to be killed at any place."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


# In a process of the pool


def _begin(threads: int) -> None:
    threading.Thread(target=_follow, daemon=True).start()
    # Before any library reads it.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # A world's stages lie in the working folder, not in an installed package.
    sys.path.append(os.getcwd())


def _follow() -> None:
    """End with the command, also where it was killed: what lived on would hold its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(module: str, config: dict[str, Any], name: str, log: str) -> tuple[float, str]:
    """Seconds, and what went wrong; errors do not travel between processes as they are."""
    began = time.monotonic()
    problem = ""
    with _logged(log):
        try:
            stage = importlib.import_module(module)
            stage.run(configuration.from_dict(stage.Config, config, f"cell {name}"))
        except PRMError as error:
            problem = f"cell {name}: {error} (log: {log})"
        except BaseException as error:
            import traceback

            traceback.print_exc()
            problem = f"cell {name}: {type(error).__name__}: {error}; see {log}"
            if not isinstance(error, Exception):
                raise
    return time.monotonic() - began, problem


@contextlib.contextmanager
def _logged(path: str) -> Iterator[None]:
    """All that is printed, by libraries in other languages too, goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)

"""Cells of `prm reproduce`: their order, what is done again, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm.errors import EngineError, PRMError
from prm.reproduce.cells import Cell, before, run_cells

TESTS = Path(__file__).parent


def cell(name: str, does: str = "write", *needs: str, **more: str) -> Cell:
    reads = [f"@{need}/out.txt" for need in needs]
    return Cell(name=name, stage="toy", config={"does": does, "reads": reads, **more})


def run(out: Path, *cells: Cell, jobs: int = 1) -> dict[str, float]:
    return run_cells(cells, out, {"toy": "cell_stage"}, jobs)


def said(out: Path, name: str) -> str:
    return (out / name / "out.txt").read_text()


# ── without a process ────────────────────────────────────────────────────────────────────────


@given(
    st.recursive(
        st.sampled_from(["@1/a/out.txt", "@1/b", "plain", "a@b"]) | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("xyz"), inner),
    )
)
def test_places_are_found_and_resolved_at_any_depth(value: object) -> None:
    own = Cell(name="1/c", stage="toy", config={"key": value})
    text = repr(value)
    assert own.needs == {place for place in ("1/a/out.txt", "1/b") if f"'@{place}'" in text}
    resolved = own.resolved(Path("/out"))
    assert resolved["out"] == "/out/1/c"
    assert repr(resolved["key"]) == text.replace("'@1", "'/out/1")


def test_what_a_cell_needs_is_written_by_the_cell_of_that_folder() -> None:
    cells = {name: cell(name) for name in ("1/a", "1/ab", "2/a")}
    assert before(cell("1/c", "write", "1/a", "2/a"), cells) == {"1/a", "2/a"}
    assert before(cell("1/c"), cells) == set()


def test_a_place_that_no_cell_writes_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"1/b needs 1/typo/out\.txt, which no cell writes"):
        run(tmp_path, cell("1/a"), cell("1/b", "write", "1/typo"))


def test_cells_that_wait_for_each_other_are_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a, b wait for each other"):
        run(tmp_path, cell("a", "write", "b"), cell("b", "write", "a"))


# ── in processes ─────────────────────────────────────────────────────────────────────────────


def test_each_runs_once_and_after_what_it_needs(tmp_path: Path) -> None:
    cells = [cell("1/c", "write", "1/a", "1/b"), cell("1/b", "write", "1/a"), cell("1/a")]
    assert run(tmp_path, *cells, jobs=2).keys() == {"1/a", "1/b", "1/c"}
    assert said(tmp_path, "1/c") == "aabc"
    assert (tmp_path / "logs/1-a.log").read_text() == "doing write\n"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    times = {path: path.stat().st_mtime_ns for path in files}
    more = cell("1/d", "write", "1/c")
    run(tmp_path, *cells, more)
    assert {path: path.stat().st_mtime_ns for path in files} == times
    assert said(tmp_path, "1/d") == "aabcd"


def test_two_jobs_run_side_by_side(tmp_path: Path) -> None:
    pair = [
        cell("a", "meet", other=str(tmp_path / "b")),
        cell("b", "meet", other=str(tmp_path / "a")),
    ]
    run(tmp_path, *pair, jobs=2)
    assert said(tmp_path, "a") == "a"


@pytest.mark.parametrize(
    ("does", "message", "logged"),
    [
        ("refuse", r"^cell 1/bad: it will not; set does \(log: .*/logs/1-bad\.log\)$", "refuse"),
        (
            "break",
            r"^cell 1/bad: ZeroDivisionError: by zero; see .*/logs/1-bad\.log$",
            "ZeroDivisionError: by zero",
        ),
    ],
)
def test_a_cell_that_fails_ends_the_run(
    tmp_path: Path, does: str, message: str, logged: str
) -> None:
    with pytest.raises(PRMError, match=message):
        run(tmp_path, cell("1/a"), cell("1/bad", does, "1/a"), cell("1/z", "write", "1/bad"))
    assert logged in (tmp_path / "logs/1-bad.log").read_text()
    assert not (tmp_path / "1/z").exists()
    assert said(tmp_path, "1/a") == "a"


def test_a_process_that_is_killed_is_told_and_the_rerun_resumes(tmp_path: Path) -> None:
    cells = [cell("1/a"), cell("1/b", "die", "1/a"), cell("1/c", "write", "1/b")]
    with pytest.raises(EngineError) as caught:
        run(tmp_path, *cells)
    told = str(caught.value)
    assert "\n" not in told
    assert "while these cells were under way: 1/b; the same command resumes" in told
    stamp = (tmp_path / "1/a/run.json").stat().st_mtime_ns
    assert run(tmp_path, *cells).keys() == {"1/a", "1/b", "1/c"}
    assert said(tmp_path, "1/c") == "abc"
    assert (tmp_path / "1/a/run.json").stat().st_mtime_ns == stamp


# ── the command ──────────────────────────────────────────────────────────────────────────────

WORLD = """
problems: cell_world
labels: cell_world
policies: [{name: p, engine: {model: none}}]
chooser: p
judge: {model: none}
prompts: none
base: none
"""

MODULE = """
from dataclasses import dataclass
import cell_stage

@dataclass
class Config(cell_stage.Config):
    seed: int = 0
    train: int = 0
    test: int = 0
    choices: int = 0

def run(config):
    config.does = "sleep"
    return cell_stage.run(config)
"""


@pytest.fixture
def command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`prm reproduce`, two of its cells asleep, in a session of its own."""
    (tmp_path / "world.yaml").write_text(WORLD)
    (tmp_path / "cell_world.py").write_text(MODULE)
    # The world's module is found from the working folder; what that imports, from the tests.
    words = ["out=out", "world=world.yaml", "seeds=[1,2]", "figures=[loss]", "jobs=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "prm", "reproduce", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    asleep = [tmp_path / f"out/{seed}/problems/asleep" for seed in (1, 2)]
    try:
        wait_until(lambda: all(map(Path.exists, asleep)) or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        yield process
    finally:
        for member in session(process.pid):
            os.kill(member, signal.SIGKILL)
        process.communicate()


def wait_until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def session(leader: int) -> list[int]:
    """The processes of a session that still run."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members.append(int(path.parent.name))
    return members


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["terminal", "kill"])
def test_interrupted_it_leaves_no_process(command: subprocess.Popen[str], to_all: bool) -> None:
    """As Ctrl-C in a terminal, which reaches every process, or `kill -INT`, which reaches one."""
    (os.killpg if to_all else os.kill)(command.pid, signal.SIGINT)
    _, error = command.communicate(timeout=60)
    assert command.returncode == 130
    assert error.splitlines()[-1] == "prm reproduce: interrupted; the same command resumes"
    assert "Traceback" not in error
    wait_until(lambda: not session(command.pid), 20)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_it_leaves_no_process(command: subprocess.Popen[str], how: signal.Signals) -> None:
    assert len(session(command.pid)) >= 3
    os.kill(command.pid, how)
    command.wait(timeout=60)
    wait_until(lambda: not session(command.pid), 20)

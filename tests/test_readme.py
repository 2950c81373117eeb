"""Every command of the README runs, as it stands there, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"^make (\w+)", blocks("sh")[0], re.MULTILINE)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert commands == ["demo", "test"]
    assert set(commands) <= set(targets)


def test_every_path_named_exists() -> None:
    named = set(re.findall(r"(?:configs|examples|docs)/[\w./-]+\.(?:yaml|md|py)", README))
    assert named, "the README names no files?"
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_table_of_results_is_what_was_recorded() -> None:
    from prm.reproduce.brief import brief
    from prm.reproduce.figure import read

    shown = README.split("<!-- prm reproduce -->\n")[1].split("\n<!-- end -->")[0]
    assert shown == brief(read(ROOT / "configs/reproduce/recorded/micro.json"))


@pytest.mark.slow
def test_the_tour_runs_as_written(tmp_path: Path) -> None:
    for folder in ("configs", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    activate = ". .venv/bin/activate"
    tour = blocks("sh")[1:]
    assert tour[0].startswith(activate)
    assert len(tour) == 10, "a block was added or lost: does this test still run all of them?"
    # Where a command fails, the server must not live on: it holds the output that is waited for.
    head = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    script = head + "\n".join(tour).replace(activate, "true")
    python = "\n".join(blocks("python"))
    script += f"\n{sys.executable} - <<'END'\n{python}\nEND\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert '"status":"ok"' in result.stdout
    assert re.search(r"\[(-?\d+\.\d+(e-?\d+)?), (-?\d+\.\d+(e-?\d+)?)\]$", result.stdout, re.M)
    assert (tmp_path / "runs/tour/bench/report.html").is_file()
    assert (tmp_path / "runs/tour/search/rankings.jsonl").is_file()

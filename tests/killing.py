"""Runs `killed.py`, which kills the command at its durable writes and lets it resume."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def killed(folder: Path, points: str, *command: str) -> int:
    """Kill and resume a command in `folder`; returns how many kill points were tried."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "killed.py"), str(folder), points, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])

"""A real `prm serve` process on a free port, for tests of its clients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def serve(model: Path, *overrides: str, key: str | None = None) -> Iterator[str]:
    """Serve a checkpoint; yields the server's url and ends the process afterwards."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "prm", "serve", f"scorer.model={model}", "port=0", *overrides]
    if key is not None:
        environment["TEST_KEY"] = key
        command.append("api_key_env=TEST_KEY")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()  # its first says where it listens
        assert " at http://" in line, line
        yield line.split(" at ")[1].split()[0]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()

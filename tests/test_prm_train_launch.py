"""The files of `configs/launch` start what they say; FSDP trains the model that a process does."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import sums
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from safetensors.torch import load_file

from prm import config as configuration
from prm.train import stage

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs" / "launch").glob("*.yaml"))
EXPECTED = {
    "zero2": "ZeRO-2",
    "zero3": "ZeRO-3",
    "zero3-offload": "ZeRO-3 + offload",
    "fsdp": "FSDP",
    "multi-node": "ZeRO-3",
    "ulysses": "ZeRO-3, rows over 2",
}


@pytest.fixture
def data(tmp_path):
    return sums.write(tmp_path / "labelled.jsonl", sums.labelled(40))


def test_every_file_is_tested():
    assert {path.stem for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_holds_what_accelerate_knows(path):
    """Accelerate itself refuses unknown keys, but not those one level down."""
    loaded = load_config_from_file(str(path))
    assert loaded.mixed_precision == "bf16"
    known = {action.dest for action in launch_command_parser()._actions}
    parts = (loaded.deepspeed_config, loaded.fsdp_config, loaded.parallelism_config)
    assert {key for part in parts for key in part} <= known
    # A whole model must be left at the end.
    if loaded.deepspeed_config.get("zero_stage") == 3:
        assert loaded.deepspeed_config["zero3_save_16bit_model"] is True
    if loaded.fsdp_config:
        assert loaded.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"


def command(path: Path, options: Sequence[str], config: stage.Config, *program: str) -> list[str]:
    file = Path(config.out).with_suffix(".yaml")
    file.write_text(json.dumps(configuration.to_dict(config)))  # JSON is YAML
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    return [*launch, *options, *(program or ("-m", "prm")), "train", str(file)]


def start(words: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], seconds: float = 240) -> str:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_starts_what_it_says(tmp_path, data, causal_lm, path):
    """Two processes, `multi-node` one on each of two machines; the first tells of both."""
    config = sums.config(tmp_path / "run", data, model=str(causal_lm))
    machines = load_config_from_file(str(path)).num_machines
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = ["--num_processes", "2", "--main_process_ip", "127.0.0.1"]
    options += ["--main_process_port", port]
    if path.stem == "ulysses":  # written for more GPUs than two
        options += ["--parallelism_config_sp_size", "2"]
    started = [
        start([*command(path, [*options, "--machine_rank", str(rank)], config), "--dry-run"])
        for rank in range(machines)
    ]
    text, *others = [finish(process) for process in started]
    first = next(line for line in text.splitlines() if "weights" not in line and ".0  " in line)
    assert first.split("  ")[0] == EXPECTED[path.stem]
    assert text.count("on 2 GPUs, the launch at hand first; half precision") == 1
    assert all("GiB" not in other for other in others)


FSDP_ON_CPU = """
import sys
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from prm import cli
from prm.train import stage

# Accelerate shards on accelerators alone, and else trains without a word as if it had not been
# asked to. So two processes on the CPU pass for two GPUs; all that follows is real.
start = PartialState.__init__

def pretend(self, *arguments, **keys):
    start(self, *arguments, **keys)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU

PartialState.__init__ = pretend
save = stage.save

def tell(trainer, *rest, **keys):
    assert isinstance(trainer.model, FSDPModule)
    whole = list(trainer.model.parameters())
    # The head stays whole after a forward pass; all the rest is a part.
    here = sum(getattr(part, "_local_tensor", part).numel() for part in whole)
    sys.stdout.write(f"holds {here};\\n")
    sys.stdout.flush()
    save(trainer, *rest, **keys)

stage.save = tell
sys.exit(cli.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_fsdp_equals_one_process(tmp_path, data, causal_lm, lora):
    trainer = {"max_steps": 4, "per_device_train_batch_size": 8, "use_cpu": True}
    keys = {"model": str(causal_lm), "trainer": trainer}
    if lora:
        low_rank = {"lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"]}
        keys["peft"] = {"use_peft": True} | low_rank
    stage.run(sums.config(tmp_path / "one", data, **keys))

    program = tmp_path / "fsdp_on_cpu.py"
    program.write_text(FSDP_ON_CPU)
    trainer |= {"per_device_train_batch_size": 4, "ddp_backend": "gloo"}
    config = sums.config(tmp_path / "two", data, **keys)
    options = ["--num_processes", "2", "--mixed_precision", "no"]
    path = ROOT / "configs" / "launch" / "fsdp.yaml"
    said = finish(start(command(path, options, config, str(program))))

    held = [int(number) for number in re.findall(r"holds (\d+);", said)]
    weights = [load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two")]
    whole = sum(tensor.numel() for tensor in weights[0].values())
    assert len(held) == 2
    assert whole <= sum(held) < (1.1 if lora else 1.01) * whole  # adapters are merged later
    assert max(held) < 0.6 * whole
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).abs().max() < 5e-5
    names = {path.name for path in (tmp_path / "two" / "model").iterdir()}
    assert names == {path.name for path in (tmp_path / "one" / "model").iterdir()}

"""Training over two processes equals training in one; no process waits for ever for another."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sums
from safetensors.torch import load_file

from prm import config as configuration
from prm.train import stage

pytestmark = pytest.mark.slow

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed"
)


@pytest.fixture
def data(tmp_path):
    return sums.write(tmp_path / "labelled.jsonl", sums.labelled(40))


def launch(
    config: stage.Config,
    *,
    program: tuple[str, ...] = ("-m", "prm"),
    processes: int = 2,
    seconds: float = 240,
) -> subprocess.CompletedProcess[str]:
    """`torchrun` processes on the CPU; a hang is an error."""
    path = Path(config.out).with_suffix(".yaml")
    path.write_text(json.dumps(configuration.to_dict(config)))  # JSON is YAML
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes), *program, "train", str(path)]
    environment = os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def two(out: Path, data: Path, **keys) -> stage.Config:
    """Two processes with half the batch each."""
    trainer = {"max_steps": 4, "per_device_train_batch_size": 4, "use_cpu": True}
    trainer |= {"ddp_backend": "gloo"} | keys.pop("trainer", {})
    return sums.config(out, data, trainer=trainer, **keys)


def one(out: Path, data: Path, **keys) -> stage.Config:
    """A single process with the whole batch."""
    trainer = {"max_steps": 4, "per_device_train_batch_size": 8, "use_cpu": True}
    return sums.config(out, data, trainer=trainer, **keys)


def distance(left: Path, right: Path) -> float:
    weights = [load_file(run / "model" / "model.safetensors") for run in (left, right)]
    assert weights[0].keys() == weights[1].keys()
    return max(float((weights[0][key] - weights[1][key]).abs().max()) for key in weights[0])


def test_two_processes_equal_one(tmp_path, data):
    stage.run(one(tmp_path / "one", data))
    first = launch(two(tmp_path / "two", data))
    assert first.returncode == 0, first.stderr[-3000:]
    assert first.stdout.count("train: in 40, out 40") == 1  # the main process alone reports
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-5
    names = {path.name for path in (tmp_path / "two" / "model").iterdir()}
    assert names == {path.name for path in (tmp_path / "one" / "model").iterdir()}
    declared = [
        json.loads((tmp_path / run / "model" / "prm.json").read_text())["threshold"]["value"]
        for run in ("one", "two")
    ]
    assert declared[1] == pytest.approx(declared[0], abs=1e-5)

    # Finished: neither process goes on alone.
    path = tmp_path / "two" / "model" / "model.safetensors"
    before = path.stat().st_mtime_ns
    again = launch(two(tmp_path / "two", data), seconds=90)
    assert again.returncode == 0, again.stderr[-3000:]
    assert path.stat().st_mtime_ns == before

    # Refused by the main process: the other learns of it and ends too.
    other = launch(two(tmp_path / "two", data, seed=1), seconds=90)
    assert other.returncode != 0
    assert "holds another run: seed was 0 and is now 1" in other.stderr
    assert "prm/train/stage.py" not in other.stderr  # one line, no traceback of ours


def test_an_error_in_one_process_ends_both(tmp_path, data):
    program = tmp_path / "failing.py"
    program.write_text(
        "import os, sys\n"
        "from prm import cli\n"
        "from prm.train import stage\n"
        "def fail(*_):\n"
        "    raise MemoryError('no memory here')\n"
        "if os.environ['RANK'] == '1':\n"
        "    stage.load_base = fail\n"
        "sys.exit(cli.main())\n"
    )
    ended = launch(two(tmp_path / "two", data), program=(str(program),), seconds=90)
    assert ended.returncode != 0
    assert "no memory here" in ended.stderr
    assert not (tmp_path / "two" / "model").exists()
    # Nothing is held: the same command, mended, runs.
    mended = launch(two(tmp_path / "two", data))
    assert mended.returncode == 0, mended.stderr[-3000:]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_process_leaves_its_group_before_it_ends(tmp_path, data, seed):
    program = tmp_path / "leaving.py"
    program.write_text(
        "import atexit, os, sys\n"
        "from torch import distributed\n"
        "from prm import cli\n"
        "def tell():\n"  # registered first, so it is called last
        "    print(f'in a group: {distributed.is_initialized()}', flush=True)\n"
        "atexit.register(tell)\n"
        "code = cli.main()\n"
        "print(f'at its end: {distributed.is_initialized()}', flush=True)\n"
        "sys.exit(code)\n"
    )
    launched = (str(program),)
    first = launch(two(tmp_path / "two", data, trainer={"max_steps": 1}), program=launched)
    if seed:  # refused
        first = launch(two(tmp_path / "two", data, seed=seed), program=launched)
    assert (first.returncode != 0) == bool(seed), first.stderr[-3000:]
    for told in ("at its end: True", "in a group: False"):
        # Of a refused launch, the first process to end may have the other one ended.
        assert first.stdout.count(told) in ((1, 2) if seed else (2,)), first.stdout


def zero(folder: Path, level: int, **keys) -> str:
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    settings = dict.fromkeys((*auto, "gradient_clipping"), "auto")
    path = folder / f"zero{level}.json"
    path.write_text(json.dumps(settings | {"zero_optimization": {"stage": level, **keys}}))
    return str(path)


@needs_deepspeed
@pytest.mark.parametrize(("level", "lora"), [(2, False), (3, False), (3, True)])
def test_deepspeed_equals_one_process(tmp_path, data, causal_lm, level, lora):
    """The first run on a machine compiles an optimizer for a minute."""
    low_rank = {"lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"]}
    keys = {"model": str(causal_lm), "peft": low_rank if lora else {}}
    stage.run(one(tmp_path / "one", data, **keys))
    gather = {"stage3_gather_16bit_weights_on_model_save": True} if level == 3 else {}
    trainer = {"deepspeed": zero(tmp_path, level, **gather)}
    ended = launch(two(tmp_path / "two", data, **keys, trainer=trainer))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert distance(tmp_path / "one", tmp_path / "two") < 5e-5


@needs_deepspeed
def test_zero3_without_weights_at_the_end_is_refused_at_the_start(tmp_path, data, causal_lm):
    trainer = {"deepspeed": zero(tmp_path, 3)}
    ended = launch(two(tmp_path / "two", data, model=str(causal_lm), trainer=trainer))
    assert ended.returncode != 0
    assert "stage3_gather_16bit_weights_on_model_save" in ended.stderr
    assert not (tmp_path / "two" / "model").exists()

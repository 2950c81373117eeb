"""What `prm train --dry-run` computes, against what torch and DeepSpeed really hold."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sums
import torch
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoModelForTokenClassification, AutoTokenizer, Qwen2Config
from transformers import Qwen2ForTokenClassification as Qwen2

from prm.cli import main
from prm.errors import CheckpointError, ConfigError
from prm.render import Renderer
from prm.train import memory, volume
from prm.train.batches import BatchConfig, TokenBatches
from prm.train.data import StepDataset, split
from prm.train.forecast import forecast
from prm.train.launch import launched
from prm.train.memory import GIB, Layout, Memory

LORA = {"lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"]}
ROOT = Path(__file__).parents[1]

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed"
)


@pytest.fixture
def data(tmp_path):
    return sums.write(tmp_path / "labelled.jsonl", sums.labelled(60))


def qwen(layers: int = 2, **keys) -> Qwen2:
    sizes = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
    settings = Qwen2Config(**(sizes | keys), num_labels=1, tie_word_embeddings=False)
    settings.use_cache = False
    settings._attn_implementation = "sdpa"
    return Qwen2(settings).train()


def adapted(model):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="TOKEN_CLS"))


def one(*, half: bool = False, devices: int = 1, **keys) -> Layout:
    return Layout(sharding="none", devices=devices, half=half, **keys)


# ── parameters ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("peft", [{}, LORA])
def test_parameters_are_those_of_the_model_that_is_trained(tmp_path, data, causal_lm, peft):
    config = sums.config(tmp_path / "run", data, model=str(causal_lm), peft=peft)
    from prm.train.base import load_base

    model, _ = load_base(config, [])
    size = forecast(config).size
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (size.trainable < size.parameters) == bool(peft)


def test_a_model_from_nothing_is_counted_with_the_vocabulary_that_the_data_give(tmp_path, data):
    config = sums.config(tmp_path / "run", data)
    from prm.train.base import load_base

    training, _ = split(sums.labelled(60), config.held_out, config.seed)
    model, _ = load_base(config, training)
    assert forecast(config).size.parameters == sum(p.numel() for p in model.parameters())


def test_a_published_model_is_counted_to_the_last_parameter(tmp_path, data):
    """7,615,616,512 are those of Qwen2.5-7B; our head stands in for the one over its vocabulary."""
    settings = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    settings.save_pretrained(tmp_path / "7b")
    found = forecast(sums.config(tmp_path / "run", data, model=str(tmp_path / "7b")))
    assert found.size.parameters == 7_615_616_512 - 152064 * 3584 + 3584 + 1
    assert found.size.largest == 152064 * 3584
    assert "characters a token" in str(found)  # the folder has no tokenizer


# ── weights, gradients, optimizer ────────────────────────────────────────────────────────────


def held(tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("lora", [False, True])
def test_adamw_in_float32_holds_what_is_computed_to_the_byte(lora):
    model = adapted(qwen()) if lora else qwen()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    model(input_ids=torch.arange(8)[None]).logits.sum().backward()
    optimizer.step()
    size = memory.measure(model)
    computed = memory.states(size, one())
    moments = (
        value for state in optimizer.state.values() for value in state.values() if value.dim()
    )
    assert computed.weights == held(model.parameters())
    assert computed.gradients == held(parameter.grad for parameter in trained)
    assert computed.optimizer == held(moments)
    if not lora:
        assert computed.total == 16 * size.parameters


@needs_deepspeed
@pytest.mark.parametrize("devices", [1, 8])
def test_zero_2_is_computed_as_deepspeed_estimates_it(devices):
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    size = memory.measure(qwen())
    computed = memory.states(size, Layout(sharding="zero2", devices=devices))
    _, theirs = estimate_zero2_model_states_mem_needs(
        size.parameters, num_gpus_per_node=devices, cpu_offload=False
    )
    assert static(computed) + computed.step == pytest.approx(theirs, abs=18)


def static(found: Memory) -> int:
    return found.weights + found.gradients + found.optimizer


COUNT = """
import sys
import deepspeed, torch
from transformers import AutoConfig, AutoModelForTokenClassification
from prm.train import memory
sys.path.insert(0, "tests")
from test_prm_train_forecast import adapted, held

stage, half = int(sys.argv[2]), sys.argv[3] == "half"
deepspeed.init_distributed("gloo")
settings = AutoConfig.from_pretrained(sys.argv[1], num_labels=1, dtype="float32")
model = AutoModelForTokenClassification.from_config(settings)
if sys.argv[4] == "lora":
    model = adapted(model)
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
size = memory.measure(model)
settings = {
    "train_micro_batch_size_per_gpu": 1,
    "bf16": {"enabled": half},
    "zero_allow_untested_optimizer": True,
    "zero_optimization": {"stage": stage, "reduce_bucket_size": 1000},
}
engine, optimizer, *_ = deepspeed.initialize(
    model=model, model_parameters=trained, optimizer=torch.optim.AdamW(trained), config=settings
)
for step in range(2):  # the second leaves its gradients
    engine.backward(engine(input_ids=torch.arange(8)[None]).logits.float().sum())
    if step == 0:
        engine.step()
if stage == 3:
    weights = held(parameter.ds_tensor for parameter in engine.module.parameters())
    gradients = held([optimizer.grad_partitions_flat_buffer])
    copies = optimizer.fp32_partitioned_groups_flat
else:
    weights = held(engine.module.parameters())
    gradients = held(part for group in optimizer.averaged_gradients.values() for part in group)
    copies = optimizer.single_partition_of_fp32_groups
states = optimizer.optimizer.state.values()
moments = held(value for state in states for value in state.values() if value.dim())
computed = memory.states(size, memory.Layout(sharding=f"zero{stage}", devices=2, half=half))
pairs = [
    (weights, computed.weights),
    (gradients, computed.gradients),
    (held(copies) + moments, computed.optimizer),
]
print("there, computed:", *pairs, flush=True)
"""


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    ("stage", "precision", "kind"),
    [("2", "half", "full"), ("2", "single", "full"), ("3", "half", "full"), ("3", "half", "lora")],
)
def test_two_processes_under_zero_hold_what_is_computed(
    tmp_path, causal_lm, stage, precision, kind
):
    """To a few bytes: DeepSpeed pads each group of tensors to the number of processes."""
    program = tmp_path / "count.py"
    program.write_text(COUNT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command += ["2", str(program), str(causal_lm), stage, precision, kind]
    ended = subprocess.run(
        command,
        env=os.environ | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    # The two processes' lines may mix.
    found = re.findall(r"\((\d+), (\d+)\)", ended.stdout)
    assert len(found) == 6, ended.stdout[-2000:]
    for there, computed in found:
        assert 0 <= int(there) - int(computed) <= 64


# ── activations ──────────────────────────────────────────────────────────────────────────────


def saved(model, tokens: int, *, autocast: bool, mask: bool = False) -> int:
    """Bytes that a forward pass saves for the backward pass, weights and their casts left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {tuple(parameter.shape) for parameter in model.parameters()}
    shapes |= {shape[::-1] for shape in shapes}
    found: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights and not (autocast and tuple(tensor.shape) in shapes):
            found.setdefault(storage, tensor)
        return tensor

    inputs = {"input_ids": torch.arange(tokens)[None] % 300}
    if mask:
        inputs["attention_mask"] = torch.ones(1, tokens, dtype=torch.long)
        inputs["attention_mask"][0, -1] = 0  # a mask of ones is dropped
    context = torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), context:
        model(**inputs)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("keys", [{}, {"num_key_value_heads": 4}, {"head_dim": 32}])
@pytest.mark.parametrize("precision", ["single", "half", "autocast"])
def test_a_layer_saves_what_is_computed_to_the_byte(precision, keys):
    tokens = 160
    half = precision != "single"
    sharding = "zero2" if precision == "half" else "none"
    layout = Layout(sharding=sharding, devices=1, half=half)
    there, computed = [], []
    for layers in (2, 3):
        model = qwen(layers, **keys)
        model = model.bfloat16() if precision == "half" else model
        there.append(saved(model, tokens, autocast=precision == "autocast"))
        size = memory.measure(model)
        computed.append(
            memory.activations(size, layout, tokens, checkpointing=False, width=None)[0]
        )
    assert there[1] - there[0] == computed[1] - computed[0]


@pytest.mark.parametrize("half", [False, True])
def test_a_padded_batch_saves_a_mask_and_keys_for_every_query_head(half):
    tokens, size = 160, memory.measure(qwen())
    there = [saved(qwen(layers), tokens, autocast=half, mask=True) for layers in (2, 3)]
    layout = one(half=half)
    computed, _ = memory.activations(size, layout, tokens, checkpointing=False, width=tokens)
    assert there[1] - there[0] == computed // 2


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_the_peak_of_a_pass_is_about_what_is_computed(checkpointing, half):
    """Torch's own tracker counts every tensor that is alive."""
    tokens, model = 1024, qwen(8)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    tracker = MemTracker()
    tracker.track_external(model)
    context = torch.autocast("cpu", dtype=torch.bfloat16) if half else contextlib.nullcontext()
    with tracker:
        with context:
            logits = model(input_ids=torch.arange(tokens)[None] % 300).logits
        logits.float().sum().backward()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    computed = memory.forecast(
        memory.measure(model), one(half=half), tokens, checkpointing=checkpointing, width=None
    )
    there = peak["Total"] - held(model.parameters())
    assert computed.activations + computed.buffers == pytest.approx(there, rel=0.1)


# ── data ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("packing", [True, False])
def test_solutions_tokens_and_steps_are_those_that_training_sees(
    tmp_path, data, causal_lm, packing
):
    config = sums.config(
        tmp_path / "run",
        data,
        model=str(causal_lm),
        batches=BatchConfig(packing=packing, tokens=600),
        trainer={"num_train_epochs": 2, "max_steps": -1, "gradient_accumulation_steps": 2},
    )
    found = forecast(config)
    training, held_out = split(sums.labelled(60), config.held_out, config.seed)
    dataset = StepDataset(
        training,
        Renderer(AutoTokenizer.from_pretrained(causal_lm), config.render),
        loss=config.loss,
        reference=config.reference,
        reference_drop=config.reference_drop,
        seed=config.seed,
    )
    lengths = [len(dataset[index]["input_ids"]) for index in range(len(dataset))]
    assert found.data is not None
    assert (found.data.solutions, found.data.held_out) == (len(training), len(held_out))
    assert found.data.tokens == sum(lengths)
    batches = TokenBatches(dataset, tokens=600, packing=packing, processes=1, seed=config.seed)
    assert found.steps == math.ceil(len(batches) / 2)
    assert found.epochs == 2
    # 6 operations a token and trained weight, but for the embeddings; 4 · 3 a pair and channel.
    model = AutoModelForTokenClassification.from_pretrained(causal_lm, num_labels=1)
    tables = model.get_input_embeddings().weight.numel()
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    weights = sum(p.numel() for p in model.parameters()) - tables
    assert found.operations == pytest.approx(6 * weights * sum(lengths) + 12 * 2 * 64 * pairs)
    text = str(found)
    assert f"{len(training)} solutions to train on, {len(held_out)} held out" in text
    assert f"{found.steps} optimizer steps on 1 GPU" in text


def test_more_solutions_than_are_looked_at_stand_for_all(tmp_path, monkeypatch, data):
    whole = forecast(sums.config(tmp_path / "run", data)).data
    monkeypatch.setattr(volume, "LOOKED_AT", 10)
    config = sums.config(tmp_path / "run", data)
    found = forecast(config)
    assert whole is not None
    assert found.data is not None
    assert len(found.data.lengths) <= 10
    assert found.data.solutions == whole.solutions
    assert found.data.tokens == pytest.approx(whole.tokens, rel=0.1)
    assert f"of {whole.solutions} solutions looked at" in str(found)


def test_sources_that_are_not_there_yet_leave_what_is_known(tmp_path, causal_lm):
    config = sums.config(tmp_path / "run", tmp_path / "none.jsonl", model=str(causal_lm))
    text = str(forecast(config))
    assert "none.jsonl: not there yet, so steps, tokens and hours are unknown" in text
    assert "99,265 parameters, all trained" in text
    assert "ZeRO-3 + offload" in text
    assert "optimizer steps" not in text


def test_mistakes_are_refused(tmp_path, data, causal_lm):
    with pytest.raises(CheckpointError, match="no-such-model"):
        forecast(sums.config(tmp_path / "run", data, model=str(tmp_path / "no-such-model")))
    with pytest.raises(ConfigError, match="keys are those of trl"):
        forecast(sums.config(tmp_path / "run", data, model=str(causal_lm), peft={"lora_rank": 4}))
    with pytest.raises(ConfigError, match="held_out is 2"):
        forecast(sums.config(tmp_path / "run", data, held_out=2))
    long = sums.config(tmp_path / "run", data, model=str(causal_lm))
    long.render = replace(long.render, max_length=5000)
    with pytest.raises(ConfigError, match="exceeds the model's context of 1024"):
        forecast(long)


# ── table ────────────────────────────────────────────────────────────────────────────────────


def test_the_table_shows_the_layouts_and_what_holds_them(tmp_path, data, causal_lm):
    config = sums.config(tmp_path / "run", data, model=str(causal_lm))
    config.trainer |= {"bf16": True, "per_device_train_batch_size": 4096}
    found = forecast(config)
    assert found.tokens == 4096 * 256
    assert found.here == one(half=True)
    text = str(found)
    eight = found.memory(Layout(sharding="zero3", devices=8)).total
    smallest = next(card for card in (24, 40, 80, 141) if eight + 2 * GIB <= card * GIB)
    (row,) = (line for line in text.splitlines() if line.startswith("ZeRO-3  ") and "(" in line)
    assert row.split()[3:5] == [f"{eight / GIB:,.1f}", f"({smallest})"]


def test_more_devices_hold_less_each_and_offloading_moves_it_to_the_host():
    size = memory.measure(qwen())
    for sharding in ("zero2", "zero3", "fsdp"):
        totals = [
            static(memory.states(size, Layout(sharding=sharding, devices=devices)))
            for devices in (1, 8, 64)
        ]
        assert totals == sorted(totals, reverse=True)
        assert totals[-1] < totals[0]
    kept = memory.states(size, Layout(sharding="zero3", devices=4))
    moved = memory.states(size, Layout(sharding="zero3", devices=4, offload="all"))
    assert static(moved) == 0
    assert moved.host == static(kept) + kept.step


def test_a_shared_row_is_a_part_for_each_device_and_a_batch_for_a_group(
    tmp_path, data, causal_lm, monkeypatch
):
    config = sums.config(tmp_path / "run", data, model=str(causal_lm))
    config.trainer |= {"deepspeed": {"zero_optimization": {"stage": 3}}}
    monkeypatch.setenv("WORLD_SIZE", "4")
    alone = forecast(config)
    config.trainer |= {"parallelism_config": {"sp_size": 2}}
    found = forecast(config)
    assert found.steps == -(-51 // (4 * 2))
    assert alone.steps == -(-51 // (4 * 4))
    assert 2 * found.memory(found.here).activations == alone.memory(alone.here).activations
    assert found.memory(found.here).weights == alone.memory(alone.here).weights
    assert "at most 1,024 tokens a row over 2 devices, packed" in str(found)
    config.batches.packing = False
    with pytest.raises(ConfigError, match="a padded batch has several"):
        forecast(config)


@pytest.mark.parametrize(
    ("environment", "trainer", "expected"),
    [
        ({}, {}, one()),
        ({}, {"bf16": True}, one(half=True)),
        ({"WORLD_SIZE": "4"}, {}, one(devices=4)),
        (
            {"WORLD_SIZE": "2"},
            {"deepspeed": {"zero_optimization": {"stage": 2}}},
            Layout(sharding="zero2", devices=2, half=False),
        ),
        (
            {},
            {
                "deepspeed": {
                    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}
                }
            },
            Layout(sharding="zero2", devices=1, half=False, offload="optimizer"),
        ),
        (
            {"WORLD_SIZE": "4"},
            {
                "deepspeed": {"zero_optimization": {"stage": 3}},
                "parallelism_config": {"sp_size": 2},
            },
            Layout(sharding="zero3", devices=4, half=False, shared=2),
        ),
    ],
)
def test_the_launch_at_hand(tmp_path, data, monkeypatch, environment, trainer, expected):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched(sums.config(tmp_path / "run", data, trainer=trainer)) == expected


def test_deepspeed_settings_that_cannot_be_read_are_refused(tmp_path, data):
    config = sums.config(tmp_path / "run", data, trainer={"deepspeed": str(tmp_path / "none.json")})
    with pytest.raises(ConfigError, match=r"none\.json: no DeepSpeed settings"):
        launched(config)


def test_on_the_command_line(tmp_path, data, causal_lm, capsys):
    out = tmp_path / "run"
    sources = f"sources=[{{path: {data}}}]"
    assert (
        main(
            [
                "train",
                f"out={out}",
                sources,
                f"model={causal_lm}",
                "render.max_length=512",
                "--dry-run",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "99,265 parameters" in said
    assert "optimizer steps" in said
    assert not out.exists()

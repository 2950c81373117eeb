"""Rows shared by two processes train as in one; what would not be exact is refused beforehand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import sums
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_prm_train_distributed import distance, launch, needs_deepspeed, zero
from transformers import MistralConfig, Qwen2Config, Qwen3NextConfig

from prm.errors import ConfigError
from prm.train import stage
from prm.train.batches import BatchConfig
from prm.train.launch import launched
from prm.train.losses import LossConfig
from prm.train.sequence import cut, require_sequence_parallel, shared

# ── how a row is cut ─────────────────────────────────────────────────────────────────────────


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5), st.booleans())
def test_slices_make_up_the_row_and_what_fills_it_up_begins_no_solution(lengths, ranks, packed):
    tokens = sum(lengths)
    ids = torch.arange(1, tokens + 1)[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    inputs = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
    inputs |= {"position_ids": positions} if packed else {}
    parts = [cut(inputs, rank, ranks) for rank in range(ranks)]
    width = -(-tokens // ranks)
    assert all(part.keys() == {"input_ids", "position_ids"} for part in parts)
    assert all(value.shape == (1, width) for part in parts for value in part.values())
    whole = {key: torch.cat([part[key] for part in parts], 1) for key in parts[0]}
    assert torch.equal(whole["input_ids"][:, :tokens], ids)
    assert not whole["input_ids"][:, tokens:].any()
    expected = positions if packed else torch.arange(tokens)[None]
    assert torch.equal(whole["position_ids"][:, :tokens], expected)
    # From the last token on the positions count up, one by one.
    assert (whole["position_ids"][0, tokens - 1 :].diff() == 1).all()


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


def losses(run: Path) -> list[float]:
    states = run.glob("trainer/checkpoint-*/trainer_state.json")
    last = max(states, key=lambda path: int(path.parent.name.rpartition("-")[2]))
    history = json.loads(last.read_text())["log_history"]
    return [row["loss"] for row in history if "loss" in row]


KEYS = {"logging_steps": 1, "logging_strategy": "steps", "save_strategy": "steps", "use_cpu": True}
SHARED = {"ddp_backend": "gloo", "parallelism_config": {"sp_size": 2}}


@pytest.fixture
def data(tmp_path):
    return sums.write(tmp_path / "labelled.jsonl", sums.labelled(40))


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "packing", "level"),
    [
        ("squared_error", False, 2),
        ("squared_error", True, 2),
        ("squared_error", True, 3),
        ("ranking", True, 2),
        ("two_class", False, 3),
    ],
)
def test_a_row_shared_by_two_processes_trains_as_in_one(
    tmp_path, data, causal_lm, kind, packing, level
):
    """Losses to 1e-5, weights to 5e-5, after five steps of Adam in float32."""
    keys = {"model": str(causal_lm), "loss": LossConfig(kind=kind)}
    keys["batches"] = BatchConfig(packing=packing)
    trainer = KEYS | {"max_steps": 5, "save_steps": 5, "max_grad_norm": 0.1}
    trainer |= {"per_device_train_batch_size": 3 if packing else 1}
    trainer |= {"gradient_accumulation_steps": 2}
    stage.run(sums.config(tmp_path / "one", data, trainer=trainer, **keys))
    gather = {"stage3_gather_16bit_weights_on_model_save": True} if level == 3 else {}
    trainer |= {"deepspeed": zero(tmp_path, level, **gather)} | SHARED
    ended = launch(sums.config(tmp_path / "two", data, trainer=trainer, **keys))
    assert ended.returncode == 0, ended.stderr[-3000:]
    known = losses(tmp_path / "one")
    assert len(set(known)) == 5
    assert losses(tmp_path / "two") == pytest.approx(known, abs=1e-5)
    assert distance(tmp_path / "one", tmp_path / "two") < 5e-5
    tables = [(tmp_path / run / "model" / "prm.json").read_text() for run in ("one", "two")]
    cuts = [json.loads(table)["threshold"]["value"] for table in tables]
    assert cuts[1] == pytest.approx(cuts[0], abs=1e-4)


@needs_deepspeed
@pytest.mark.slow
def test_two_groups_of_two_train_as_one_process_and_low_rank_adapters_do(tmp_path, data, causal_lm):
    low_rank = {"lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": ["q_proj", "v_proj"]}
    keys = {"model": str(causal_lm), "peft": low_rank}
    trainer = KEYS | {"max_steps": 4, "save_steps": 4, "gradient_checkpointing": True}
    alone = trainer | {"per_device_train_batch_size": 4}
    stage.run(sums.config(tmp_path / "one", data, trainer=alone, **keys))
    trainer |= {"per_device_train_batch_size": 2, "deepspeed": zero(tmp_path, 2)} | SHARED
    ended = launch(sums.config(tmp_path / "four", data, trainer=trainer, **keys), processes=4)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert distance(tmp_path / "one", tmp_path / "four") < 5e-5


@needs_deepspeed
@pytest.mark.slow
def test_an_epoch_is_one_epoch_and_goes_on_where_it_stopped(tmp_path, data, causal_lm):
    """Batches by tokens; the run is taken up from its fourth step."""
    keys = {"model": str(causal_lm), "batches": BatchConfig(tokens=700)}
    trainer = KEYS | {"max_steps": -1, "num_train_epochs": 2, "save_steps": 4}
    stage.run(sums.config(tmp_path / "one", data, trainer=trainer, **keys))
    trainer |= {"deepspeed": zero(tmp_path, 2)} | SHARED
    config = sums.config(tmp_path / "two", data, trainer=trainer, **keys)
    for resumed in (False, True):
        if resumed:
            for path in (tmp_path / "two" / "trainer").glob("checkpoint-*"):
                if path.name != "checkpoint-4":
                    shutil.rmtree(path)
            shutil.rmtree(tmp_path / "two" / "model")
            record = json.loads((tmp_path / "two" / "run.json").read_text())
            kept = {key: record[key] for key in record if key not in ("outputs", "counts")}
            (tmp_path / "two" / "run.json").write_text(json.dumps(kept))
        ended = launch(config)
        assert ended.returncode == 0, ended.stderr[-3000:]
        steps = [len(losses(tmp_path / run)) for run in ("one", "two")]
        assert steps[0] == steps[1] > 10
        assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
        assert distance(tmp_path / "one", tmp_path / "two") < 5e-5


# ── what is refused ──────────────────────────────────────────────────────────────────────────


def test_how_many_share_a_row(monkeypatch):
    assert shared({}, 4) == shared({"parallelism_config": {"sp_size": 1}}, 3) == 1
    assert shared({"parallelism_config": {"sp_size": 2, "sp_backend": "deepspeed"}}, 4) == 2
    assert shared({"parallelism_config": {"sp_size": 2, "dp_shard_size": 2}}, 4) == 2
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "4")
    assert shared({}, 8) == 1  # accelerate reads it where the next variable is set alone
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    assert shared({}, 8) == 4
    assert shared({"parallelism_config": {"sp_size": 2}}, 8) == 2
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    with pytest.raises(ConfigError, match="context parallelism are not wired"):
        shared({}, 8)


@pytest.mark.parametrize(
    ("given", "processes", "message"),
    [
        ({"sp_size": 2}, 3, "over 2 devices does not divide 3 processes"),
        ({"sp_size": 2}, 1, "over 2 devices does not divide 1 process; start"),
        ({"sp_size": 0}, 2, r"sp_size is 0; it must be a number from 1 on"),
        ({"sp_size": "2"}, 2, r"sp_size is '2'; it must be"),
        ({"sp_size": 2, "tp_size": 2}, 4, "tensor and context parallelism are not wired"),
        ({"cp_size": 2}, 2, "tensor and context parallelism are not wired"),
        ({"sp_sise": 2}, 2, "sp_sise is not known here"),
        ({"sp_size": 2, "sp_backend": "ring"}, 2, "sp_backend is 'ring'"),
        ({"sp_size": 2, "dp_shard_size": 3}, 4, "make 2 groups of 2, not 3"),
        (2, 2, r"parallelism_config is 2; it must be like \{sp_size: 2\}"),
    ],
)
def test_groups_that_do_not_come_out_are_refused(given, processes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        shared({"parallelism_config": given}, processes)
    assert "\n" not in str(caught.value)


def seven_billion(**keys) -> Qwen2Config:
    """The heads of Qwen2.5-Math-7B."""
    return Qwen2Config(num_attention_heads=28, num_key_value_heads=4, **keys)


PADDED = BatchConfig(packing=False)


@needs_deepspeed
@pytest.mark.parametrize(
    ("config", "ranks", "keys", "message"),
    [
        (seven_billion(), 8, {}, r"28 query and 4 key heads; sizes that do: 2, 4, 28"),
        (seven_billion(), 7, {}, "over 7 devices"),
        (seven_billion(), 2, {"batches": PADDED}, "a padded batch has several"),
        (
            seven_billion(),
            2,
            {"batches": BatchConfig(packing=False, tokens=9), "rows": 1},
            "tokens",
        ),
        (Qwen3NextConfig(num_hidden_layers=4), 2, {}, "'linear_attention' would start anew"),
        (MistralConfig(sliding_window=29), 2, {}, "30 tokens exceeds .* sliding window of 29"),
    ],
)
def test_what_would_not_be_right_is_refused(config, ranks, keys, message):
    chosen = {"longest": 30, "batches": BatchConfig(), "rows": 4} | keys
    with pytest.raises(ConfigError, match=message):
        require_sequence_parallel(config, ranks, **chosen)
    require_sequence_parallel(config, 1, **chosen)


@needs_deepspeed
def test_what_is_right_is_not_refused():
    for ranks in (2, 4):
        require_sequence_parallel(seven_billion(), ranks, longest=30, batches=BatchConfig(), rows=8)
        require_sequence_parallel(seven_billion(), ranks, longest=30, batches=PADDED, rows=1)
    few = Qwen2Config(num_attention_heads=32, num_key_value_heads=4)  # each key head twice
    require_sequence_parallel(few, 8, longest=30, batches=BatchConfig(), rows=8)
    window = MistralConfig(sliding_window=30)
    require_sequence_parallel(window, 2, longest=30, batches=BatchConfig(), rows=8)


def test_without_deepspeed_rows_are_not_shared(tmp_path, data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    trainer = {"parallelism_config": {"sp_size": 2}}
    config = sums.config(tmp_path / "run", data, trainer=trainer)
    with pytest.raises(ConfigError, match="under DeepSpeed alone: launch with"):
        launched(config)


@needs_deepspeed
@pytest.mark.slow
def test_heads_that_do_not_divide_end_both_processes_in_one_line(tmp_path, data):
    size = replace(sums.SMALL, heads=3, hidden_size=48)
    trainer = {"deepspeed": zero(tmp_path, 2)} | SHARED
    ended = launch(sums.config(tmp_path / "run", data, trainer=trainer, scratch=size), seconds=90)
    assert ended.returncode != 0
    assert "over 2 devices does not fit 3 query and 3 key heads; sizes that do: 3" in ended.stderr
    assert "prm/train/stage.py" not in ended.stderr  # no traceback of ours

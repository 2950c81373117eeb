"""Batches hold every solution once, keep to their budget, and change no loss."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, Qwen2Config

from prm.attention import use_packed_attention
from prm.errors import ConfigError
from prm.train.batches import BatchConfig, TokenBatches, collate_packed, collate_padded
from prm.train.data import Example
from prm.train.losses import IGNORE, LossConfig, StepLoss

torch.set_num_threads(1)  # on matrices this small, threads cost more than they save


class Lengths:
    """A data set of which only the lengths matter; `_recording` below trains on it, too."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Example:
        length = self.lengths[index]
        return {
            "input_ids": [index] * length,
            "step_ends": [length - 1],
            "labels": [1.0],
            "weights": [1.0],
        }


def examples(count: int, *, seed: int = 0, longest: int = 40) -> list[Example]:
    """Solutions of random tokens, steps, soft labels and weights; some steps are left out."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        length = rng.randint(2, longest)
        ends = sorted(rng.sample(range(length), rng.randint(1, min(4, length))))
        labels = [rng.choice([0.0, 0.25, 0.7, 1.0, IGNORE]) for _ in ends]
        made.append(
            Example(
                input_ids=[rng.randrange(64) for _ in range(length)],
                step_ends=ends,
                labels=[*labels[:-1], rng.random()],
                weights=[rng.choice([0.5, 1.0]) for _ in ends],
            )
        )
    return made


# ── collators ────────────────────────────────────────────────────────────────────────────────

TWO: list[Example] = [
    {"input_ids": [5, 6, 7], "step_ends": [0, 2], "labels": [0.25, IGNORE], "weights": [0.5, 1.0]},
    {"input_ids": [8, 9], "step_ends": [1], "labels": [1.0], "weights": [2.0]},
]


def test_a_padded_batch_is_this():
    batch = collate_padded(TWO, pad_id=3)
    assert {key: value.tolist() for key, value in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 9, 3]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[0.25, IGNORE, IGNORE], [IGNORE, 1.0, IGNORE]],
        "weights": [[0.5, 0.0, 1.0], [0.0, 2.0, 0.0]],
        "groups": [[0, -1, 0], [-1, 1, -1]],
    }


def test_a_packed_batch_is_this():
    batch = collate_packed(TWO)
    assert {key: value.tolist() for key, value in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9]],
        "position_ids": [[0, 1, 2, 0, 1]],
        "labels": [[0.25, IGNORE, IGNORE, IGNORE, 1.0]],
        "weights": [[0.5, 0.0, 1.0, 0.0, 2.0]],
        "groups": [[0, -1, 0, -1, 1]],
    }


@pytest.mark.parametrize("collate", [collate_packed, partial(collate_padded, pad_id=0)])
def test_types_of_a_batch(collate):
    types = {key: value.dtype for key, value in collate(TWO).items()}
    floats = {"labels": torch.float32, "weights": torch.float32}
    for key in types.keys() - floats.keys():
        floats[key] = torch.int64
    assert types == floats


def test_a_token_budget_starts_at_one():
    with pytest.raises(ValueError, match="tokens is 0; it must be at least 1"):
        BatchConfig(tokens=0)


# ── token budget ─────────────────────────────────────────────────────────────────────────────


def batches(lengths: list[int], *, epoch: int = 0, seed: int = 0, **keys: Any) -> list[list[int]]:
    data = Lengths(lengths)
    chosen = {"tokens": 100, "packing": True, "processes": 1} | keys
    made = TokenBatches(data, seed=seed, **chosen)
    data.epoch = epoch
    found = list(made)
    assert len(found) == len(made)
    return found


def cost(lengths: list[int], batch: list[int], *, packing: bool) -> int:
    own = [lengths[item] for item in batch]
    return sum(own) if packing else max(own) * len(own)


@settings(max_examples=300)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    tokens=st.integers(1, 400),
    packing=st.booleans(),
    processes=st.integers(1, 5),
    seed=st.integers(0, 3),
)
def test_every_solution_once_within_the_budget_as_many_for_each_process(
    lengths, tokens, packing, processes, seed
):
    keys = {"tokens": tokens, "packing": packing, "processes": processes, "seed": seed}
    try:
        epochs = [batches(lengths, epoch=epoch, **keys) for epoch in range(3)]
    except ConfigError:
        # Refused only where no cut into single solutions, or near it, would do.
        assert processes > 1
        fewest = len(batches(lengths, **(keys | {"processes": 1})))
        assert -(-fewest // processes) * processes > len(lengths)
        return
    for found in epochs:
        assert sorted(item for batch in found for item in batch) == list(range(len(lengths)))
        assert all(
            len(batch) == 1 or cost(lengths, batch, packing=packing) <= tokens for batch in found
        )
        assert len(found) % processes == 0
        assert len(found) == len(epochs[0])


def many(count: int = 2000) -> list[int]:
    """Lengths like those of solutions: mostly a few hundred tokens, some long."""
    rng = random.Random(1)
    return [min(4000, int(rng.lognormvariate(5.8, 0.6))) for _ in range(count)]


@pytest.mark.parametrize("packing", [True, False])
def test_batches_depend_on_seed_and_epoch_alone_and_differ_by_both(packing):
    keys = {"tokens": 4096, "packing": packing}
    first = batches(many(), **keys)
    assert batches(many(), **keys) == first
    together = {frozenset(batch) for batch in first}
    for other in (batches(many(), **keys, epoch=1), batches(many(), **keys, seed=1)):
        assert other != first
        # Not the same batches in another order: their solutions come together anew.
        assert sum(frozenset(batch) in together for batch in other) < 0.1 * len(first)


def test_packed_batches_are_full_and_about_equal():
    lengths = many()
    found = batches(lengths, tokens=8192)
    loads = [sum(lengths[item] for item in batch) for batch in found]
    assert sum(loads) / len(loads) > 0.9 * 8192
    assert min(loads) > 0.95 * max(loads)


def test_padded_batches_hold_solutions_of_like_length():
    lengths = many()
    found = batches(lengths, tokens=8192, packing=False)
    spent = sum(cost(lengths, batch, packing=False) for batch in found)
    assert sum(lengths) > 0.95 * spent
    # At random, as the Trainer draws them, about half would be padding.
    shuffled = random.Random(0).sample(range(len(lengths)), len(lengths))
    drawn = [shuffled[start : start + 16] for start in range(0, len(lengths), 16)]
    assert sum(lengths) < 0.6 * sum(cost(lengths, batch, packing=False) for batch in drawn)


def test_batches_of_long_and_short_solutions_are_mixed_over_the_epoch():
    lengths = many()
    found = batches(lengths, tokens=8192, packing=False)
    longest = [max(lengths[item] for item in batch) for batch in found]
    third = len(longest) // 3
    halves = [sum(longest[:third]) / third, sum(longest[-third:]) / third]
    assert min(halves) > 0.6 * max(halves)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_accelerate_deals_every_solution_to_one_process_once(packing, processes):
    lengths = many(500)
    data = Lengths(lengths)
    made = TokenBatches(data, tokens=4096, packing=packing, processes=processes, seed=0)
    # Accelerate's default would repeat batches where they run out.
    shares = [
        list(BatchSamplerShard(made, processes, rank, even_batches=True))
        for rank in range(processes)
    ]
    assert len({len(share) for share in shares}) == 1
    dealt = Counter(item for share in shares for batch in share for item in batch)
    assert dealt == Counter(range(500))


def test_too_few_solutions_for_the_processes_are_refused():
    with pytest.raises(ConfigError, match=r"batches\.tokens 100: 3 solutions .* 4 processes"):
        batches([10, 10, 10], processes=4)
    with pytest.raises(ConfigError, match="raise it"):  # three alone, and two processes
        batches([200, 200, 200], processes=2)
    assert len(batches([200, 200, 200], processes=2, tokens=400)) == 2


# ── the same losses, packed or padded, cut up or whole ───────────────────────────────────────


def model(packing: bool) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: Any = AutoModelForTokenClassification.from_config(
            Qwen2Config(
                vocab_size=64,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                num_labels=1,
                classifier_dropout=0.0,
                initializer_range=0.1,
            )
        )
    made.config.use_cache = False
    if packing:
        use_packed_attention(made, 40, half=False)
    return made.train()


def lossy(model: Any, batch: dict[str, torch.Tensor], loss: StepLoss, count: Any = None) -> Any:
    targets = ("labels", "weights", "groups")
    logits = model(**{key: value for key, value in batch.items() if key not in targets}).logits
    return loss(logits, *(batch[key] for key in targets), count)


def curve(kind: Any, packing: bool, steps: int = 50) -> list[float]:
    """Losses of optimizer steps over the same eight solutions each, however they lie."""
    learner, loss = model(packing), StepLoss(LossConfig(kind=kind))
    optimizer = torch.optim.AdamW(learner.parameters(), lr=3e-4)
    data, found = examples(64), []
    rng = random.Random(0)
    for _ in range(steps):
        drawn = rng.sample(data, 8)
        batch = collate_packed(drawn) if packing else collate_padded(drawn, 0)
        value = lossy(learner, batch, loss)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(value.item())
    return found


@pytest.mark.parametrize("kind", ["squared_error", "binary_cross_entropy", "ranking"])
def test_the_loss_curve_is_the_same_packed_and_padded(kind):
    packed, padded = curve(kind, True), curve(kind, False)
    assert max(abs(one - other) for one, other in zip(packed, padded, strict=True)) <= 1e-5
    assert sum(packed[-10:]) < 0.95 * sum(packed[:10])  # it learned: the steps were real


@pytest.mark.parametrize("packing", [True, False])
def test_gradients_do_not_depend_on_how_a_batch_is_cut_up(packing):
    data, loss = examples(8), StepLoss(LossConfig())
    collate = collate_packed if packing else partial(collate_padded, pad_id=0)
    count = sum(label != IGNORE for example in data for label in example["labels"])

    def gradients(cuts: list[list[Example]]) -> list[torch.Tensor]:
        learner = model(packing)
        for part in cuts:
            lossy(learner, collate(part), loss, count).backward()
        return [parameter.grad for parameter in learner.parameters()]

    whole = gradients([data])
    for cuts in ([data[:4], data[4:]], [data[:1], data[1:3], data[3:]], [[one] for one in data]):
        for left, right in zip(whole, gradients(cuts), strict=True):
            assert torch.allclose(left, right, atol=1e-6)


# ── through the Trainer ──────────────────────────────────────────────────────────────────────

PROGRAM = """
import json, os, sys
sys.path.insert(0, os.environ["TESTS"])
import torch
from test_prm_train_batches import Lengths, model
from transformers import Trainer, TrainerCallback, TrainingArguments
from prm.train.batches import BatchConfig, collate_packed, train_loader
from prm.train.trainer import EpochCallback

out, stop, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
seen = []

class Recording(Trainer):
    def get_train_dataloader(self):
        config = BatchConfig(tokens=80)
        return train_loader(
            self.train_dataset,
            config,
            self.args,
            self.data_collator,
            self.accelerator,
            self.accelerator.num_processes,
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        seen.append([self.state.global_step, sorted(set(inputs["input_ids"][0].tolist()))])
        return model(inputs["input_ids"], position_ids=inputs["position_ids"]).logits.mean()

class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        control.should_save = control.should_training_stop = state.global_step == stop

data = Lengths([5 + 7 * index % 40 for index in range(60)])
trainer = Recording(
    model=model(packing=True),
    args=TrainingArguments(
        output_dir=out, num_train_epochs=3, gradient_accumulation_steps=2, save_strategy="no",
        report_to=[], disable_tqdm=True, use_cpu=True, remove_unused_columns=False, seed=7,
        **({"ddp_backend": "gloo"} if "RANK" in os.environ else {}),
    ),
    train_dataset=data,
    data_collator=collate_packed,
    callbacks=[EpochCallback(data), Stop()],
)
trainer.train(resume_from_checkpoint=resume[0] if resume else None)
with open(os.path.join(out, f"seen-{os.environ.get('RANK', 0)}.json"), "w") as file:
    json.dump([len(trainer.get_train_dataloader()), trainer.state.global_step, seen], file)
trainer.accelerator.end_training()  # leaves the group, whose threads may abort a process that ends
"""


def trained(out: Path, processes: int, stop: int = -1, resume: Path | None = None) -> list[Any]:
    """Train on 60 solutions for three epochs; what each process saw, batch by batch."""
    program = out.parent / "program.py"
    program.write_text(PROGRAM)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(program), str(out)]
    command += [str(stop), *([str(resume)] if resume else [])]
    root = Path(__file__).parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TESTS": str(root / "tests")}
    environment["PYTHONPATH"] = str(root)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [json.loads((out / f"seen-{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_sees_what_an_uninterrupted_one_does(tmp_path, processes):
    whole = trained(tmp_path / "whole", processes)
    length, steps, seen = whole[0]
    per_epoch = -(-length // 2)
    assert steps == 3 * per_epoch
    for epoch in range(3):  # every solution once an epoch, over all processes
        own = slice(epoch * length, (epoch + 1) * length)
        dealt = Counter(item for _, _, seen in whole for _, batch in seen[own] for item in batch)
        assert dealt == Counter(range(60))
    assert seen[:length] != [[step - per_epoch, items] for step, items in seen[length : 2 * length]]
    # Stopped within the second epoch: later ones depend on an epoch that was told right.
    stop = per_epoch + 3
    trained(tmp_path / "first", processes, stop=stop)
    checkpoint = tmp_path / "first" / f"checkpoint-{stop}"
    rest = trained(tmp_path / "second", processes, resume=checkpoint)
    for (_, _, all_seen), (_, _, later) in zip(whole, rest, strict=True):
        assert later == [entry for entry in all_seen if entry[0] >= stop]
        assert len(later) > length

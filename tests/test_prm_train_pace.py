"""Counting tokens and operations by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForTokenClassification

from prm.train.pace import Pace, costs, peak


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def model():
    size = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_labels": 1}
    return Qwen2ForTokenClassification(Qwen2Config(**size, **heads))


def weights(model) -> int:
    """Weights of the model above by hand, without the table of 50 × 16 embeddings."""
    attention = (16 * 16 + 16) + 2 * (16 * 8 + 8) + 16 * 16
    feed_forward = 3 * 16 * 8
    return 3 * (attention + feed_forward + 2 * 16) + 16 + (16 + 1)


PADDED = {"attention_mask": torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])}
PACKED = {"position_ids": torch.tensor([[0, 1, 2, 0]])}


def test_a_weight_costs_six_operations_and_a_pair_of_tokens_twelve_a_channel(model):
    # Three layers of four heads of four channels.
    assert costs(model) == (6.0 * weights(model), 12.0 * 3 * 16)


def test_a_frozen_weight_costs_four(model):
    frozen = model.model.layers[0].self_attn.q_proj.weight
    frozen.requires_grad_(False)
    assert costs(model)[0] == 6 * weights(model) - 2 * 16 * 16
    frozen.requires_grad_(True)


@pytest.mark.parametrize("batch", [PADDED, PACKED])
def test_padded_and_packed_batches_count_alike(model, batch):
    clock = Clock()
    pace = Pace(model, groups=2, ranks=1, peak=1e6, clock=clock)
    pace.count(batch)
    pace.count(batch)
    clock.now += 4
    figures = pace.read(tokens_before=100)
    # Sequences of three tokens and of one, twice: eight tokens, 2 · (6 + 1) pairs.
    assert figures["tokens_per_second"] == 8 * 2 / 4
    assert figures["tokens"] == 100 + 16
    operations = 8 * 6 * weights(model) + 14 * 12 * 3 * 16
    assert figures["mfu"] == pytest.approx(operations / 4 / 1e6)


def test_devices_that_share_a_batch_count_it_once_and_work_for_their_part(model):
    clock = Clock()
    figures = []
    for ranks in (1, 4):
        pace = Pace(model, groups=2, ranks=ranks, peak=1e6, clock=clock)
        pace.count(PACKED)
        clock.now += 4
        figures.append(pace.read(tokens_before=100))
    assert figures[0]["mfu"] == pytest.approx(4 * figures[1]["mfu"])
    assert figures[0]["tokens"] == figures[1]["tokens"] == 100 + 8


def test_a_reading_starts_anew_and_leaves_out_what_was_no_training(model):
    clock = Clock()
    pace = Pace(model, groups=1, ranks=1, peak=None, clock=clock)
    pace.count(PACKED)
    clock.now += 1
    pace.read(0)
    pace.count(PACKED)
    clock.now += 10
    pace.leave_out(8)
    assert pace.read(4) == {"tokens_per_second": 2.0, "tokens": 8}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 3060", None),
    ],
)
def test_peaks_by_the_name_of_the_device(name, value):
    assert peak(name) == value

"""One pass over a trunk and its branches against the literal loop over prefixes."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    FalconH1Config,
    FalconH1Model,
    LlamaConfig,
    LlamaModel,
    MambaConfig,
    MambaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from prm.errors import CheckpointError
from prm.render import Branch, Branched
from prm.scorers import tree

VOCABULARY = 97
KINDS = {
    "qwen2": (Qwen2Config, Qwen2Model),
    "qwen3": (Qwen3Config, Qwen3Model),
    "llama": (LlamaConfig, LlamaModel),
    "mistral": (MistralConfig, MistralModel),
}


def settings_of(**keys):
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "sliding_window": None,
    } | keys


@cache
def model(kind: str, attention: str = "sdpa"):
    make_config, make_model = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return make_model(make_config(**settings_of(attn_implementation=attention))).eval()


def by_prefix(backbone, group) -> torch.Tensor:
    """One forward a prefix, no padding, no cache, no mask: the hidden state at its end."""
    states = []
    with torch.no_grad():
        for item in group:
            for branch in item.branches:
                ids = torch.tensor([item.trunk[: branch.start] + branch.ids])
                states.append(backbone(ids, use_cache=False).last_hidden_state[0, -1])
    return torch.stack(states)


def one_pass(backbone, group) -> torch.Tensor:
    tree.require_exact(backbone)
    with torch.inference_mode():
        return tree.last_states(backbone, group, 0)


def solution(rng: random.Random, trunk: int, branches: int, longest: int = 3) -> Branched:
    """Random tokens; branches start anywhere and in no order."""

    def tokens(count: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(count)]

    return Branched(
        tokens(trunk),
        [Branch(rng.randint(1, trunk), tokens(rng.randint(1, longest))) for _ in range(branches)],
    )


GROUPS = {
    "one step": [(30, 1)],
    "60 steps": [(240, 60)],
    "several lengths": [(50, 5), (7, 1), (90, 12), (33, 2)],
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", GROUPS)
def test_states_are_those_of_the_prefixes(kind, attention, group):
    rng = random.Random(group)
    items = [solution(rng, *sizes) for sizes in GROUPS[group]]
    backbone = model(kind, attention)
    expected = by_prefix(backbone, items)
    assert (one_pass(backbone, items) - expected).abs().max() <= 1e-5
    assert len(expected) == 1 or expected.std(dim=0).max() > 0.1  # prefixes differ


@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(1, 6)), min_size=1, max_size=4
    ),
    budget=st.sampled_from([1, 300, 3000, tree.MASK]),
    seed=st.integers(0, 9),
)
def test_any_trunks_and_branches_under_any_budget(kind, sizes, budget, seed):
    rng = random.Random(seed)
    items = [solution(rng, *size) for size in sizes]
    backbone = model(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "MASK", budget)
        found = one_pass(backbone, items)
    assert (found - by_prefix(backbone, items)).abs().max() <= 1e-5


@given(
    lengths=st.lists(st.lists(st.integers(1, 5), max_size=20), min_size=1, max_size=4),
    width=st.integers(1, 400),
    budget=st.integers(1, 40000),
)
def test_chunks_hold_every_branch_once_and_keep_to_the_budget(lengths, width, budget):
    rows = [[Branch(1, [0] * length) for length in row] for row in lengths]
    if not any(rows):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "MASK", budget)
        chunks = list(tree._chunks(rows, width))
    for row, branches in enumerate(rows):
        assert [branch for parts in chunks for branch in parts[row]] == branches
    for parts in chunks:
        longest = max(sum(len(branch.ids) for branch in part) for part in parts)
        assert longest > 0
        alone = max(len(branch.ids) for part in parts for branch in part)
        assert longest <= alone or len(rows) * longest * (width + longest) <= budget


def test_the_mask_is_written_out():
    [part] = [[Branch(2, [5, 6]), Branch(1, [7])]]
    ids, places, mask = tree._probe([part, []], 3, 9, "cpu", torch.float32)
    assert ids.tolist() == [[5, 6, 7], [9, 9, 9]]
    assert places.tolist() == [[2, 3, 1], [0, 0, 0]]
    assert mask.dtype == torch.float32
    seen = [
        [[1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 1]],
        [[0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]],
    ]
    assert (mask[:, 0] == 0).int().tolist() == seen
    assert torch.isneginf(mask[mask != 0]).all()


@pytest.mark.parametrize(
    ("make", "config", "reason"),
    [
        (
            MistralModel,
            MistralConfig(**settings_of(sliding_window=8)),
            "attention within a sliding window of 8",
        ),
        (
            Qwen2Model,
            Qwen2Config(
                **settings_of(use_sliding_window=True, sliding_window=8, max_window_layers=1)
            ),
            "layers of sliding_attention",
        ),
        (
            LlamaModel,
            LlamaConfig(
                **settings_of(
                    rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
                )
            ),
            "dynamic rotary embeddings, which change with the length",
        ),
        (LlamaModel, LlamaConfig(**settings_of(attn_implementation="flex_attention")), "no mask"),
    ],
)
def test_what_is_not_exact_is_refused(make, config, reason):
    backbone = make(config)
    with pytest.raises(CheckpointError, match=reason) as caught:
        tree.require_exact(backbone)
    assert str(caught.value).startswith(f"{config.model_type}: prefixes cannot be scored exactly")


def test_models_without_a_cache_of_keys_and_values_are_refused():
    small = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1}
    state_space = MambaModel(MambaConfig(**small, state_size=4))
    mixed = FalconH1Model(
        FalconH1Config(
            **small,
            intermediate_size=32,
            num_attention_heads=2,
            num_key_value_heads=1,
            mamba_d_ssm=32,
            mamba_n_heads=4,
            mamba_d_head=8,
            mamba_d_state=8,
        )
    )
    item = Branched([1, 2, 3], [Branch(2, [4])])
    for backbone in (state_space, mixed):
        with pytest.raises(CheckpointError, match="prefixes cannot be scored exactly"):
            one_pass(backbone.eval(), [item])

"""Solutions in a packed row never see each other; what could not be exact is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForTokenClassification,
    BloomConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3NextConfig,
)

from prm.attention import (
    PACKED,
    flash_arguments,
    require_packing,
    solution_lengths,
    use_packed_attention,
)
from prm.errors import ConfigError

torch.set_num_threads(1)  # on matrices this small, threads cost more than they save

FAMILIES = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig}
FAMILIES["mistral"] = MistralConfig
LENGTHS = [7, 1, 12, 30]
"""A solution of a single token, and lengths that no kernel rounds to."""


def tiny(family: str, **keys: Any) -> Any:
    """A random model with grouped heads and weights large enough that a leak shows."""
    size: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "num_labels": 1,
        "classifier_dropout": 0.0,
    }
    size |= {"head_dim": 8} if family == "qwen3" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForTokenClassification.from_config(FAMILIES[family](**(size | keys)))
    model.config.use_cache = False
    return model


def row(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.randint(64, (1, sum(lengths)), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "position_ids": positions(lengths)}


def positions(lengths: list[int]) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])[None]


def apart(model: Any, ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Scores of each solution on its own, by transformers' plain attention, end to end."""
    model.set_attn_implementation("eager")
    return torch.cat([model(input_ids=part).logits for part in ids.split(lengths, dim=1)], dim=1)


def gradients(model: Any, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    # Every position weighs differently, so that errors do not cancel out.
    (scores[..., 0].square() * torch.linspace(0.1, 2.0, scores.shape[1])).sum().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_scores_in_a_packed_row_equal_scores_alone(family, cache):
    model, batch = tiny(family).eval(), row(LENGTHS)
    expected = apart(model, batch["input_ids"], LENGTHS)
    use_packed_attention(model, max(LENGTHS), half=False)
    scores = model(**batch, use_cache=cache).logits
    assert (scores - expected).abs().max() <= 1e-5
    # A test that cannot see a leak would prove nothing: without the restarts there is one.
    joined = model(input_ids=batch["input_ids"]).logits
    assert (joined - expected).abs().max() > 0.1


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_gradients_of_a_packed_row_equal_those_of_solutions_alone(family, checkpointing):
    model, batch = tiny(family).train(), row(LENGTHS)
    expected = gradients(model, apart(model, batch["input_ids"], LENGTHS))
    use_packed_attention(model, max(LENGTHS), half=False)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients(model, model(**batch, **flash_arguments(batch["position_ids"])).logits)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert (found[name] - gradient).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_follows_in_the_row_changes_nothing_and_what_precedes_neither(family):
    model, batch = tiny(family).eval(), row(LENGTHS)
    use_packed_attention(model, max(LENGTHS), half=False)
    before = model(**batch).logits
    start = sum(LENGTHS[:2])
    ids = batch["input_ids"].clone()
    ids[:, :start] = (ids[:, :start] + 1) % 64
    ids[:, start + LENGTHS[2] :] = (ids[:, start + LENGTHS[2] :] + 1) % 64
    after = model(**(batch | {"input_ids": ids})).logits
    inner = slice(start, start + LENGTHS[2])
    assert torch.equal(before[:, inner], after[:, inner])
    assert (before[:, :start] - after[:, :start]).abs().max() > 0.1


def test_transformers_own_attention_leaks_once_a_cache_is_in_use():
    """Why `packed_attention` exists; should this fail, transformers has mended it."""
    model, batch = tiny("qwen2").eval(), row(LENGTHS)
    expected = apart(model, batch["input_ids"], LENGTHS)
    model.set_attn_implementation("sdpa")
    assert (model(**batch, use_cache=False).logits - expected).abs().max() <= 1e-5
    assert (model(**batch, use_cache=True).logits - expected).abs().max() > 0.1


def test_a_padded_batch_scores_as_before():
    model = tiny("mistral", sliding_window=8).eval()
    ids = row([40])["input_ids"].view(2, 20)
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, 13:] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    model.set_attn_implementation(PACKED)  # not `use_…`: packed, such rows would be refused
    after = model(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(before[0], after[0], atol=1e-6)
    assert torch.allclose(before[1, :13], after[1, :13], atol=1e-6)


def test_a_checkpoint_knows_nothing_of_packing(tmp_path):
    model = tiny("llama")
    use_packed_attention(model, 20, half=False)
    model.save_pretrained(tmp_path)
    assert PACKED not in (tmp_path / "config.json").read_text()
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation == "sdpa"


def test_solution_lengths_and_flash_arguments():
    assert solution_lengths(positions([3])) == [3]
    assert solution_lengths(positions([1, 1, 4, 2])) == [1, 1, 4, 2]
    found = flash_arguments(positions([1, 1, 4, 2]))
    assert found["cu_seq_lens_q"].tolist() == [0, 1, 2, 6, 8]
    assert found["cu_seq_lens_q"].dtype == torch.int32  # what the kernels take
    assert found["cu_seq_lens_k"] is found["cu_seq_lens_q"]
    assert (found["max_length_q"], found["max_length_k"]) == (4, 4)
    with pytest.raises(ConfigError, match="one row"):
        solution_lengths(torch.cat([positions([3, 1]), positions([2, 2])]))


# ── what is refused ──────────────────────────────────────────────────────────────────────────


def test_a_sliding_window_shorter_than_a_solution_is_refused():
    with pytest.raises(ConfigError, match=r"30 tokens exceeds .* sliding window of 29"):
        use_packed_attention(tiny("mistral", sliding_window=29), 30, half=False)
    model, batch = tiny("mistral", sliding_window=30).eval(), row(LENGTHS)
    expected = apart(model, batch["input_ids"], LENGTHS)
    use_packed_attention(model, 30, half=False)
    assert (model(**batch).logits - expected).abs().max() <= 1e-5
    with pytest.raises(ConfigError, match="31 tokens exceeds"):  # the longest was said to be 30
        model(**row([31]))


def test_a_sliding_window_of_which_no_layer_makes_use_is_no_reason():
    require_packing(Qwen2Config(use_sliding_window=False, sliding_window=4), 30)
    some = {"use_sliding_window": True, "sliding_window": 4, "num_hidden_layers": 4}
    with pytest.raises(ConfigError, match="sliding window of 4"):
        require_packing(Qwen2Config(**some, max_window_layers=3), 30)
    require_packing(Qwen2Config(**some, max_window_layers=4), 30)


def test_a_hybrid_model_is_refused_with_the_reason():
    config = Qwen3NextConfig(num_hidden_layers=4)
    with pytest.raises(ConfigError, match="'linear_attention' of qwen3_next carry a state"):
        require_packing(config, 8)
    named = SimpleNamespace(layers_block_type=["attention", "mamba"], model_type="jamba")
    named.get_text_config = lambda: named
    with pytest.raises(ConfigError, match="'mamba' of jamba"):
        require_packing(named, 8)


def test_a_model_that_mixes_positions_outside_attention_is_refused():
    """No declaration shows this one; the proof on two short sequences does."""
    model = tiny("llama")
    model.model.layers[1].mlp.register_forward_hook(
        lambda module, inputs, output: output + output.roll(1, dims=1)
    )
    with pytest.raises(ConfigError, match="unlike the same solution alone"):
        use_packed_attention(model, 8, half=False)


def test_a_model_whose_layers_keep_positions_to_themselves_is_refused():
    model = tiny("llama")
    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, inputs, keys: (inputs, keys | {"position_ids": None}), with_kwargs=True
        )
    with pytest.raises(ConfigError, match="do not pass position_ids on"):
        use_packed_attention(model, 8, half=False)


def test_a_model_that_takes_no_attention_function_is_refused():
    bloom = BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)
    with pytest.raises(ConfigError, match="BloomForTokenClassification does not take"):
        use_packed_attention(AutoModelForTokenClassification.from_config(bloom), 8, half=False)


def test_the_proof_leaves_the_model_as_it_was():
    model = tiny("qwen2").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert use_packed_attention(model, 8, half=False) == PACKED
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# ── long rows ─────────────────────────────────────────────────────────────────────────────────

LONG = """
import re, sys
import torch
from transformers import AutoModelForTokenClassification, Qwen2Config
from prm.attention import use_packed_attention

torch.set_num_threads(1)
lengths = [int(length) for length in sys.argv[1].split(",")]
model = AutoModelForTokenClassification.from_config(
    Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2**15, num_labels=1,
    )
)
model.config.use_cache = False
model.gradient_checkpointing_enable({"use_reentrant": False})
use_packed_attention(model, max(lengths), half=False)
ids = torch.randint(64, (1, sum(lengths)))
positions = torch.cat([torch.arange(length) for length in lengths])[None]

def peak():  # not getrusage: its peak begins at that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

before = peak()
model(input_ids=ids, position_ids=positions).logits.square().mean().backward()
assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
print(peak() - before)
"""


def peak(lengths: str) -> float:
    """MB that one training step adds to a fresh process."""
    found = subprocess.run(
        [sys.executable, "-c", LONG, lengths],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return int(found.stdout.split()[-1]) / 1024


@pytest.mark.slow
def test_memory_of_a_32k_row_grows_with_its_length_not_with_its_square():
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    half, whole, split = peak("16384"), peak("32768"), peak("16384,16384")
    assert whole < 2.4 * half
    assert split < 2.4 * half
    # A mask of 32k × 32k alone would be 1,024 MB, one head's attention weights 4,096 MB.
    assert whole < 512

"""What the golden tests of the zoo share: tiny random checkpoints, and awkward solutions.

Each test of a family holds three things against one another: ids and positions written down, our
scores, and the published recipe, which the test follows literally and slowly: one sequence at a
time, the whole model, float32, no code of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.normalizers import Prepend, Replace
from tokenizers.normalizers import Sequence as Normalizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from prm.records import Solution
from prm.scorers import ScorerConfig, load, score, score_all

PROBLEM = "Ann has 3 boxes of 12 pens. She gives 5 away. How many are left?"
STEPS = (
    "Ann has 3 * 12 = 36 pens.",
    "She gives 5 away: 36 - 5 = 31.",
    "The answer is 31.",
)

AWKWARD = (
    ("<extra_0>", "a <|im_end|> b", "ки", "The answer is 1. ки\n"),
    ("", "x = 1", ""),
    ("\n\nstarts with lines", "ends with lines\n\n", "  spaces  "),
    ("<|im_start|>assistant\n", "<|endoftext|>", "+", "-"),
    ("üñí “quotes” 数学 ∑", "\t", "Step 2: x"),
)
"""Solutions whose steps hold special tokens' names, step tags, newlines, or nothing."""


def write_checkpoint(
    folder: Path,
    backbone: Any,
    tokenizer: Any,
    tensors: Mapping[str, torch.Tensor],
    *,
    architecture: str | None = None,
    prefix: str = "model.",
) -> Path:
    """A folder as published ones are laid out: backbone under `prefix`, head tensors beside it.

    Args:
        folder: made if absent.
        backbone: a decoder without a head, such as `Qwen2Model`.
        tokenizer: saved beside it.
        tensors: the head's, by their names in the weights.
        architecture: what `config.json` says; None leaves it out.
        prefix: of the backbone's tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"{prefix}{name}": value for name, value in backbone.state_dict().items()}
    every = {**weights, **tensors}
    save_file(
        {name: value.detach().clone().contiguous() for name, value in every.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = backbone.config.to_dict()
    config.pop("architectures", None)
    if architecture is not None:
        config["architectures"] = [architecture]
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    return folder


# ── tokenizers of the published kinds ────────────────────────────────────────────────────────

_CORPUS = (
    PROBLEM,
    *STEPS,
    "Step 1: Step 2: Step 3: system user assistant correct incorrect + - = Cutting Knowledge Date",
    "a ки\nb ки\n",
    "a. \n\n\n\nb, \n\n\n\nc \n\nd\n\ne\n",
    "x \n\n\n\n\ny   \n\n\n\n",  # the tag grown together with white space
)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
LLAMA3_CHAT = (
    "{{- bos_token }}{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{{- 'Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>' }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""As Llama 3.1's template is without tools: a system block with dates, contents trimmed."""


def llama3_tokenizer(
    corpus: Sequence[str] = _CORPUS, vocab_size: int = 600
) -> PreTrainedTokenizerFast:
    """Byte-level BPE as Llama 3 has it; like there, `+` is 10 and `-` is 12.

    Args:
        corpus: what it learns from.
        vocab_size: how much.
    """
    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    backend.train_from_iterator(corpus, trainer)
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in LLAMA3_SPECIAL])
    bos = backend.token_to_id("<|begin_of_text|>")
    backend.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
            ),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )
    tokenizer.chat_template = LLAMA3_CHAT
    return tokenizer


def mistral_tokenizer(
    corpus: Sequence[str] = _CORPUS, vocab_size: int = 700
) -> PreTrainedTokenizerFast:
    """BPE over whole texts with a mark for spaces and single bytes for what it does not know.

    Args:
        corpus: what it learns from.
        vocab_size: how much.
    """
    special = ["<unk>", "<s>", "</s>"]
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
        min_frequency=1,
    )
    # No line breaks, which are bytes there.
    backend.train_from_iterator([line for text in corpus for line in text.split("\n")], trainer)
    learned = json.loads(backend.to_str())["model"]
    backend = Tokenizer(
        models.BPE(
            vocab=learned["vocab"],
            merges=[tuple(merge) for merge in learned["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.normalizer = Normalizers([Prepend("▁"), Replace(" ", "▁")])
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


# ── checkpoints of stock classes ─────────────────────────────────────────────────────────────

_STOCK = {
    "mistral": (MistralConfig, MistralForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama-labels": (LlamaConfig, LlamaForTokenClassification),
    "qwen2-labels": (Qwen2Config, Qwen2ForTokenClassification),
}


def write_stock(folder: Path, kind: str, tokenizer: Any, **config: Any) -> Path:
    """A tiny random model of a class of transformers, with a tokenizer beside it.

    Args:
        folder: made if absent.
        kind: see `_STOCK`.
        tokenizer: saved beside it.
        config: further keys of the model's configuration.
    """
    make_config, make_model = _STOCK[kind]
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = make_model(make_config(**(settings | config))).float()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_qwen2(
    folder: Path,
    tokenizer: Any,
    *,
    layers: int,
    outputs: int,
    head: Mapping[str, torch.Tensor] | None = None,
    positions: int = 1024,
    architecture: str | None = None,
) -> Path:
    """A tiny random Qwen2 with a head `score` of one layer or of two.

    Args:
        folder: made if absent.
        tokenizer: saved beside it.
        layers: of the head.
        outputs: of the head.
        head: its tensors, in the place of random ones.
        positions: the longest context.
        architecture: what `config.json` says; None leaves it out.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone = Qwen2Model(config)
        first, second = torch.nn.Linear(64, 64), torch.nn.Linear(64, outputs)
    if head is None and layers == 1:
        head = {"score.weight": second.weight * 8}
    elif head is None:
        head = {
            "score.0.weight": first.weight,
            "score.0.bias": first.bias,
            "score.2.weight": second.weight * 8,
            "score.2.bias": second.bias,
        }
    return write_checkpoint(folder, backbone, tokenizer, head, architecture=architecture)


# ── what holds for every family ──────────────────────────────────────────────────────────────


def check_awkward(scorer: Any) -> None:
    """As many places as steps, in order, and a score at each, whatever the steps hold."""
    for steps in AWKWARD:
        rendered = scorer.format.render(PROBLEM, steps)
        ends = rendered.step_ends
        assert len(ends) == len(steps)
        assert ends == sorted(set(ends))
        assert 0 < ends[0] < ends[-1] < len(rendered.input_ids)
        # A place for each step by the same rule: what is read there does not hang on the text.
        plain = scorer.format.render(PROBLEM, ["x"] * len(steps))
        read = plain.input_ids[plain.step_ends[0]]
        assert [rendered.input_ids[end] for end in ends] == [read] * len(steps)
        assert len(score(scorer, PROBLEM, steps)) == len(steps)


def check_company(scorer: Any) -> None:
    """Solutions of several lengths in one batch score as each alone."""
    batch = [
        Solution(id=str(count), problem=PROBLEM, steps=(STEPS * 3)[:count], answer=None)
        for count in (1, 5, 2, 9)
    ]
    together = [item.scores for item in score_all(scorer, batch)]
    alone = [score(scorer, item.problem, item.steps) for item in batch]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert len({round(value, 4) for scores in alone for value in scores}) >= 6  # no constant


def refusal(folder: Path, **config: Any) -> str:
    """The one line with which loading a folder is refused."""
    from prm.errors import CheckpointError

    with pytest.raises(CheckpointError) as caught:
        load(ScorerConfig(str(folder), **config))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_pickles_are_refused(folder: Path, copy: Path, family: str) -> None:
    """Weights that are no safetensors are never opened.

    Args:
        folder: a checkpoint.
        copy: where one without its weights is made.
        family: see `ScorerConfig`.
    """
    copy.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "pytorch_model.bin").write_bytes(b"never opened")
    assert "the weights are pickles" in refusal(copy, family=family)

"""Tiny models made on the spot, so that tests need neither a network nor a GPU.

`make_causal_lm` writes a folder that transformers and vLLM load like any published
checkpoint: a random Qwen2 with a byte-level BPE tokenizer and a ChatML chat template. What
it writes is noise, which suits tests: a good answer can only come from the code around it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

_CORPUS = (
    "The question asks for the sum of the first numbers. Each step of the solution follows.",
    "judge_result=[1,0,1] the student solves x + 1 = 2 and finds x = 1, the answer is 42.",
    "system user assistant reference problem step answer reasoning wrong right because",
)


def make_tokenizer(*extra: str) -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer with Qwen's special tokens and the ChatML template.

    Args:
        extra: further special tokens.
    """
    backend = Tokenizer(models.BPE())
    # Good enough to learn merges from; Qwen2Tokenizer brings its own pattern.
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    learned = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=[*SPECIAL, *extra],
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def make_causal_lm(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny random Qwen2 causal LM with its tokenizer; returns the folder.

    Args:
        folder: made if absent.
        seed: of the weights.
    """
    tokenizer = make_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # a head of 32, the smallest that vLLM's CPU attention takes
        num_key_value_heads=1,
        max_position_embeddings=1024,
        # Larger than usual, so that the best token leads by more than float error.
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config).float()
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

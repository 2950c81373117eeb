"""A tokenizer as Qwen2.5's, with tokens for ends of lines: texts grow together where they join."""

from __future__ import annotations

import json

import tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

_CORPUS = (
    "Step 1: Ann has 3 * 12 = 36 pens.\n\nStep 2: She gives 5 away.\n\nThe answer is 31.",
    "system user assistant\nThe reference answer is: There is no reference answer\n\n###\n\n",
    "a\n\n\nb\n\n\nx.\n\ny.\n\n\nz.\n\n\n\n  a\n \n\n b\n\n  \n\nYou are a helpful assistant.",
    "'re 's 'll I'm it's we're",
) * 2


def make_tokenizer(**keys: str) -> Qwen2Tokenizer:
    """The tokenizer; `keys` are further ones of `Qwen2Tokenizer`."""
    backend = Tokenizer(models.BPE())
    # The pattern of Qwen2Tokenizer, so that merges run over its words.
    backend.pre_tokenizer = tiny.make_tokenizer().backend_tokenizer.pre_tokenizer
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
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
        extra_special_tokens=list(tiny.SPECIAL),
        **keys,
    )
    tokenizer.chat_template = tiny.CHATML
    return tokenizer

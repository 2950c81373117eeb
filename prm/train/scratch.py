"""A small model and tokenizer from nothing, for tests, demos and machines without a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class ScratchConfig:
    """The size of a Qwen2 model and of its byte-level BPE vocabulary."""

    vocab_size: int = 2048
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 384


def make_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer of Qwen2's kind with a ChatML template.

    Every digit is its own token: numbers can be compared position by position, which a small
    model needs in order to check arithmetic at all.

    `AutoTokenizer` cuts texts for any Qwen2 model as Qwen2 does, whatever the tokenizer's file
    says. So nothing else will do: another would come back from disk as a different one.
    """
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    blank = Qwen2Tokenizer(eos_token="<|im_end|>", extra_special_tokens=["<|im_start|>"])
    tokenizer = blank.train_new_from_iterator(
        texts,
        vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def make_model(
    config: ScratchConfig, tokenizer: Any, *, context: int, seed: int, labels: int = 1
) -> Any:
    """A `Qwen2ForTokenClassification` with so many outputs and random weights from `seed`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForTokenClassification

    # The caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: dict[str, Any] = {"num_labels": labels, "classifier_dropout": 0.0}
        return Qwen2ForTokenClassification(
            Qwen2Config(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=context,
                tie_word_embeddings=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                **head,
            )
        )

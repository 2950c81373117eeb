"""The model and tokenizer that training starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import trl
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    set_seed,
)

from prm.errors import CheckpointError, ConfigError
from prm.records import LabelledSolution
from prm.train.config import Config
from prm.train.data import fit_tokenizer
from prm.train.scratch import make_model, make_tokenizer


def load_base(config: Config, training: Iterable[LabelledSolution]) -> tuple[Any, Any]:
    """The model and tokenizer to start from."""
    set_seed(config.seed)  # a base model's new head and LoRA's matrices are drawn at random
    if config.model is None:
        tokenizer = make_tokenizer(vocabulary_texts(training), config.scratch.vocab_size)
        model = make_model(
            config.scratch,
            tokenizer,
            context=config.render.max_length,
            labels=config.loss.labels,
            seed=config.seed,
        )
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
            settings = AutoConfig.from_pretrained(
                config.model, revision=config.revision, num_labels=config.loss.labels
            )
            settings.classifier_dropout = 0.0
            # Full precision, whatever the file holds: in bfloat16 small updates round to nothing.
            model = AutoModelForTokenClassification.from_pretrained(
                config.model, revision=config.revision, config=settings, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{config.model}: {str(error).splitlines()[0]}") from None
        fit_tokenizer(tokenizer, model.config.vocab_size)
        model.config.pad_token_id = tokenizer.pad_token_id
    require_context(model, config.render.max_length)
    return add_adapter(model, config.peft), tokenizer


def vocabulary_texts(training: Iterable[LabelledSolution]) -> Iterator[str]:
    """What a tokenizer from nothing learns from."""
    for item in training:
        solution = item.solution
        yield "\n".join([solution.problem, *solution.steps, solution.reference or ""])


def require_context(model: Any, max_length: int) -> None:
    """Refuse inputs longer than the model has positions.

    Raises:
        ConfigError: with both numbers.
    """
    context = model.config.max_position_embeddings
    if max_length > context:
        raise ConfigError(
            f"render.max_length {max_length} exceeds the model's context of {context}"
        )


def add_adapter(model: Any, peft: dict[str, Any]) -> Any:
    """The model with LoRA and the like.

    Args:
        model: the base model.
        peft: keys of `trl.ModelConfig`; empty adds nothing.

    Raises:
        ConfigError: a key or value that TRL or PEFT does not take.
    """
    if not peft:
        return model
    from peft import get_peft_model

    keys: dict[str, Any] = {"use_peft": True, "lora_task_type": "TOKEN_CLS"} | peft
    try:
        adapter = trl.get_peft_config(trl.ModelConfig(**keys))
        assert adapter is not None  # use_peft is set
        return get_peft_model(model, adapter)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"peft: {error}; keys are those of trl.ModelConfig") from None

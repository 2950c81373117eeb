"""A row shared by several devices: DeepSpeed's Ulysses (arXiv 2309.14509) inside `prm train`.

The devices of a group read the same batch, and each runs its slice of the row. They meet in
attention alone, where each sees the whole row for some of the heads. The model's outputs, one or
two numbers a token, are then brought together (`gather`), and every device of a group computes the
loss of the whole row. So the steps of one solution may lie on several devices under any loss, and
labels, weights and groups need no cutting.

Attention within a device's heads is `prm.attention`'s, for packed and padded rows alike.
Ulysses drops masks: transformers' `sdpa` would let packed solutions see each other, and tokens see
beyond a sliding window, and say nothing.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from accelerate import Accelerator, ParallelismConfig
from accelerate.data_loader import BatchSamplerShard
from accelerate.utils import DeepSpeedSequenceParallelConfig
from torch import distributed
from torch.nn.functional import pad
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from prm.errors import ConfigError
from prm.train.batches import BatchConfig

_SIZES = ("sp_size", "tp_size", "cp_size", "dp_replicate_size", "dp_shard_size")
_KEY = "trainer.parallelism_config"

NO_DEEPSPEED = (
    "sequence parallelism runs under DeepSpeed alone: launch with configs/launch/ulysses.yaml, or "
    "set trainer.deepspeed"
)


def shared(trainer: dict[str, Any], processes: int) -> int:
    """How many devices share a row, by `parallelism_config` or accelerate's launcher.

    Args:
        trainer: the configuration's keys for the Trainer.
        processes: all that were started.

    Raises:
        ConfigError: another kind of parallelism, an unknown key, or groups that do not come out.
    """
    given: Any = trainer.get("parallelism_config")
    if given is None and os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG") == "true":
        given = {
            name: int(os.environ.get(f"PARALLELISM_CONFIG_{name.upper()}", 1)) for name in _SIZES
        }
    if given is None:
        return 1
    if not isinstance(given, dict):
        raise ConfigError(f"{_KEY} is {given!r}; it must be like {{sp_size: 2}}")
    unknown = sorted(set(given) - {*_SIZES, "sp_backend"})
    if unknown:
        raise ConfigError(f"{_KEY}.{unknown[0]} is not known here; sp_size alone is needed")
    sizes = {name: given.get(name, 1) for name in _SIZES}
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(f"{_KEY}.{name} is {size!r}; it must be a number from 1 on")
    if given.get("sp_backend", "deepspeed") != "deepspeed":
        raise ConfigError(f"{_KEY}.sp_backend is {given['sp_backend']!r}; deepspeed alone is known")
    ranks = sizes["sp_size"]
    if sizes["tp_size"] > 1 or sizes["cp_size"] > 1:
        raise ConfigError(
            f"{_KEY}: tensor and context parallelism are not wired into the trainer; use sp_size"
        )
    if ranks > 1 and processes % ranks:
        raise ConfigError(
            f"sequence parallelism over {ranks} devices does not divide {processes} "
            f"process{'es' if processes > 1 else ''}; start a multiple of {ranks} under DeepSpeed "
            "(configs/launch/ulysses.yaml), or change sp_size"
        )
    groups = sizes["dp_replicate_size"] * sizes["dp_shard_size"]
    if ranks > 1 and groups not in (1, processes // ranks):
        raise ConfigError(
            f"{_KEY}: {processes} processes make {processes // ranks} groups of {ranks}, not "
            f"{groups}; leave dp_replicate_size and dp_shard_size out"
        )
    return ranks


def parallelism(ranks: int, processes: int) -> ParallelismConfig | None:
    """What accelerate is to know of shared rows; None where there are none."""
    if ranks == 1:
        return None
    return ParallelismConfig(
        sp_backend="deepspeed",
        sp_size=ranks,
        dp_shard_size=processes // ranks,  # DeepSpeed spreads weights over all processes anyway
        sp_handler=DeepSpeedSequenceParallelConfig(
            sp_seq_length_is_variable=True, sp_attn_implementation="sdpa"
        ),
    )


def prepare(arguments: TrainingArguments) -> None:
    """Start DeepSpeed's exchange, which Ulysses takes for granted."""
    if arguments.parallelism_config is not None:
        import deepspeed

        deepspeed.init_distributed(arguments.ddp_backend)


def attend_by(parallelism: ParallelismConfig, attention: str) -> None:
    """Name the attention that Ulysses wraps; accelerate's own check knows none but its own."""
    handler: Any = parallelism.sp_handler
    handler.sp_attn_implementation = attention


def require_sequence_parallel(
    model: Any, ranks: int, *, longest: int, batches: BatchConfig, rows: int
) -> None:
    """Refuse what Ulysses would not run, or run wrongly.

    Args:
        model: the model's configuration.
        ranks: devices that share one row.
        longest: tokens of the longest solution.
        batches: how solutions come together.
        rows: `per_device_train_batch_size`.

    Raises:
        ConfigError: with the reason.
    """
    if ranks == 1:
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError("sequence parallelism needs DeepSpeed: pip install deepspeed")
    model = model.get_text_config()
    kinds = getattr(model, "layer_types", None) or getattr(model, "layers_block_type", None)
    other = sorted(set(kinds or ()) - {"full_attention", "sliding_attention", "attention"})
    if other:
        raise ConfigError(
            f"sequence parallelism: layers of kind {other[0]!r} would start anew on each device"
        )
    window = getattr(model, "sliding_window", None)
    slides = kinds is None or "sliding_attention" in kinds
    if slides and window is not None and longest > window:
        raise ConfigError(
            f"sequence parallelism: a solution of {longest} tokens exceeds the model's sliding "
            f"window of {window}, and without a mask would be seen whole; leave longer ones out"
        )
    heads = model.num_attention_heads
    keys = getattr(model, "num_key_value_heads", None) or heads
    if not _fits(heads, keys, ranks):
        raise ConfigError(
            f"sequence parallelism over {ranks} devices does not fit {heads} query and {keys} key "
            f"heads; sizes that do: {_sizes(heads, keys) or 'none'}"
        )
    if not batches.packing and (batches.tokens is not None or rows != 1):
        raise ConfigError(
            "sequence parallelism shares one row among the devices, and a padded batch has "
            "several; set batches.packing: true, or trainer.per_device_train_batch_size: 1 "
            "without batches.tokens"
        )


def _sizes(heads: int, keys: int) -> str:
    return ", ".join(str(size) for size in range(2, heads + 1) if _fits(heads, keys, size))


def _fits(heads: int, keys: int, ranks: int) -> bool:
    # Where there are fewer key heads than devices, each is copied to several.
    return heads % ranks == 0 and (keys % ranks == 0 or ranks % keys == 0)


def ranks_of(accelerator: Accelerator) -> int:
    """How many devices share a row in a Trainer's run."""
    known = accelerator.parallelism_config
    return known.sp_size if known is not None else 1


def take_over(accelerator: Accelerator) -> None:
    """Tell accelerate that batches of one row come already dealt out by `deal`.

    Its own adapter deals every process a batch of its own, which the group then shares in turn:
    that needs batches of one length, and cannot go on in the middle of an epoch.
    """
    accelerator.deepspeed_ulysses_dl_adapter = lambda loader, model: loader
    plugin: Any = accelerator.state.deepspeed_plugin
    # Ulysses compares it with the rows that it sees; otherwise DeepSpeed only reports it.
    plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1


def deal(loader: DataLoader[Any], ranks: int) -> DataLoader[Any]:
    """Let all processes of a group have the same batches of a loader that accelerate prepared.

    Raises:
        ConfigError: accelerate was told to deal batches out in another way.
    """
    batches = loader.batch_sampler
    if not isinstance(batches, BatchSamplerShard) or batches.split_batches:
        raise ConfigError(
            "sequence parallelism does not run with dispatch_batches or split_batches; leave them "
            "out of trainer.accelerator_config"
        )
    batches.num_processes //= ranks
    batches.process_index //= ranks
    return loader


def cut(inputs: dict[str, Any], rank: int, ranks: int) -> dict[str, Any]:
    """This device's slice of a row.

    The row is first filled up at its end to a multiple of the devices. Attention is causal, so
    nothing sees what is filled in.

    Args:
        inputs: `input_ids`, and `position_ids` where the row is packed, `[1, tokens]` each.
        rank: this device's place in its group.
        ranks: the group's devices.

    Returns:
        both, `[1, tokens / devices, rounded up]`.
    """
    ids = inputs["input_ids"]
    tokens = ids.shape[1]
    places = torch.arange(tokens + -tokens % ranks, device=ids.device)[None]
    if "position_ids" in inputs:
        # What is filled in counts on, as if it belonged to the last solution.
        known = inputs["position_ids"]
        places = torch.cat([known, places[:, tokens:] - (tokens - 1) + known[:, -1:]], dim=1)
    ids = pad(ids, (0, places.shape[1] - tokens))
    return {
        "input_ids": ids.chunk(ranks, dim=1)[rank].contiguous(),
        "position_ids": places.chunk(ranks, dim=1)[rank].contiguous(),
    }


def gather(outputs: torch.Tensor, tokens: int) -> torch.Tensor:
    """The outputs of the whole row on every device of a group.

    A device's gradients are those of its slice: each computes the same loss, so the sum over the
    group, which DeepSpeed makes, has every slice's once.

    Args:
        outputs: of this device's slice, `[1, tokens / devices, labels]`.
        tokens: of the row before it was filled up.

    Returns:
        `[1, tokens, labels]`.
    """
    whole: torch.Tensor = _Gather.apply(outputs)
    return whole[:, :tokens]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, part: torch.Tensor) -> torch.Tensor:
        import deepspeed.runtime.sequence_parallel.parallel_state_sp as groups

        group = groups.get_sequence_parallel_group()
        context.rank, context.ranks = distributed.get_rank(group), distributed.get_world_size(group)
        parts = [torch.empty_like(part) for _ in range(context.ranks)]
        distributed.all_gather(parts, part.contiguous(), group=group)
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.chunk(context.ranks, dim=1)[context.rank].contiguous()

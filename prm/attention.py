"""Attention within each solution of a packed row: exact on any device, without a mask.

A packed row holds several solutions one after another; `position_ids` restart at 0 at each and
there is no attention mask. Two ways to keep the solutions apart are used:

- on a GPU in half precision, FlashAttention's variable-length kernels, where `flash-attn` is
  installed: transformers reads the boundaries from `position_ids`;
- everywhere else `packed_attention` below, which runs torch's own attention solution by solution.
  Its memory grows with the row's length, not with its square.

Transformers' `sdpa` also finds the boundaries, but only by building a mask of length × length,
and not at all once a key-value cache is in use: then every solution sees those before it, and
nothing says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import is_flash_attn_2_available

from prm.errors import ConfigError

PACKED = "prm_packed"
"""Our attention's name among transformers' attention implementations."""

_FLASH = "flash_attention_2"

_EXACT_LAYERS = {"full_attention", "sliding_attention"}

_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some families add to attention's arithmetic and torch's function does not offer."""

_MEND = "set batches.packing: false"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_ids: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each solution of a row; transformers calls it in every layer.

    A padded batch, known by its mask, goes to transformers' `sdpa`.

    Args:
        query: `[rows, query heads, tokens, head]`.
        key: `[rows, key heads, tokens, head]`; the key heads divide the query heads.
        value: like `key`.
        attention_mask: what `_mask` made.
        position_ids: `[rows or 1, tokens]`; a position that does not follow its left neighbour's
            starts a solution.
        sliding_window: how far back a layer sees; None sees everything.

    Returns:
        `[rows, tokens, query heads, head]`, and no weights.

    Raises:
        ConfigError: the model asks for something that would not be exact.
    """
    if attention_mask is not None:
        padded: tuple[torch.Tensor, None] = AttentionInterface()["sdpa"](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
        return padded
    unknown = [name for name in _UNKNOWN if rest.get(name) is not None]
    if unknown:
        raise ConfigError(f"packing: the model's attention uses {unknown[0]}; {_MEND}")
    if position_ids is None:
        raise ConfigError(f"packing: the model's layers do not pass position_ids on; {_MEND}")
    lengths = solution_lengths(position_ids)
    if sliding_window is not None and max(lengths) > sliding_window:
        raise ConfigError(_too_long(max(lengths), sliding_window))
    # `split` rather than slices: its backward joins the parts once, where each slice's would fill
    # a gradient of the whole row.
    queries, keys, values = (whole.split(lengths, dim=2) for whole in (query, key, value))
    parts = [
        scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        ).transpose(1, 2)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(parts, dim=1), None


def _mask(attention_mask: torch.Tensor | None = None, **arguments: Any) -> torch.Tensor | None:
    """No mask for a packed row, that of `sdpa` for a padded batch."""
    if attention_mask is None:
        return None
    mask: torch.Tensor | None = AttentionMaskInterface()["sdpa"](
        attention_mask=attention_mask, **arguments
    )
    return mask


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, _mask)


def solution_lengths(position_ids: torch.Tensor) -> list[int]:
    """Tokens of each solution of a packed row, from left to right.

    Args:
        position_ids: `[rows, tokens]`; several rows must be cut alike.

    Raises:
        ConfigError: rows that are cut differently.
    """
    first = position_ids[0]
    if position_ids.shape[0] > 1 and not (position_ids == first).all():
        raise ConfigError("packing: a packed batch is one row, and this one has several")
    starts = (first.diff() != 1).nonzero().flatten() + 1
    bounds = [0, *starts.tolist(), first.numel()]
    return [end - start for start, end in pairwise(bounds)]


def flash_arguments(position_ids: torch.Tensor) -> dict[str, Any]:
    """What FlashAttention needs to know of a packed row, as keyword arguments of a model.

    Transformers would find the same in every layer, and each time wait for the GPU.
    `packed_attention` ignores them. Not for a row that is shared: a device holds part of it.

    Args:
        position_ids: `[1, tokens]`.
    """
    lengths = solution_lengths(position_ids)
    ends = torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32)
    bounds = pad(ends, (1, 0)).to(position_ids.device)
    return {
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def use_packed_attention(model: Any, longest: int, *, half: bool) -> str:
    """Let a model read packed rows, and prove that it keeps their solutions apart.

    Args:
        model: a model of transformers, on any device.
        longest: tokens of the longest solution.
        half: whether it will compute in bfloat16 or float16.

    Returns:
        the attention implementation in use.

    Raises:
        ConfigError: it cannot be exact for this model, with the reason.
    """
    require_packing(model.config, longest)
    model.set_attn_implementation(PACKED)
    if model.config._attn_implementation != PACKED:  # a warning is all that transformers gives
        raise ConfigError(
            f"packing: {type(model).__name__} does not take an attention function; {_MEND}"
        )
    # ZeRO-3 has cut up the weights by now, and putting them together may not fit on a device.
    if not is_deepspeed_zero3_enabled():
        _require_equal_scores(model)
    if half and is_flash_attn_2_available():
        model.set_attn_implementation(_FLASH)
        return _FLASH
    return PACKED


def packs(model: Any, longest: int) -> bool:
    """Whether `packed` is exact for a model; its attention stays as it is.

    Args:
        model: a model of transformers, on any device.
        longest: tokens of the longest solution that it will be given.
    """
    before = model.config._attn_implementation
    if model.config.get_text_config() is not model.config or not _takes_attention(model):
        return False
    try:
        use_packed_attention(model, longest, half=False)
    except (ConfigError, TypeError, ValueError):  # it takes no `position_ids`, or no attention
        return False
    finally:
        model.set_attn_implementation(before)
    return True


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Let a model that `packs` read packed rows, until the block ends.

    Layers look their attention up in each forward; outside of the block the model takes masks and
    caches as ever.
    """
    before = model.config._attn_implementation
    model.config._attn_implementation = PACKED
    try:
        yield
    finally:
        model.config._attn_implementation = before


def _takes_attention(model: Any) -> bool:
    """Whether a model asks transformers for its attention; others warn where one is set."""
    return bool(getattr(type(model), "_can_set_attn_implementation", lambda: True)())


def require_packing(config: Any, longest: int) -> None:
    """Refuse a model whose layers carry more than attention over a whole solution.

    Args:
        config: the model's configuration.
        longest: tokens of the longest solution.

    Raises:
        ConfigError: with the reason.
    """
    config = config.get_text_config()
    # Older families name what their layers are in their own ways.
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    other = sorted(set(kinds or ()) - _EXACT_LAYERS - {"attention"})
    if other:
        raise ConfigError(
            f"packing: layers of kind {other[0]!r} of {config.model_type} carry a state from one "
            f"solution to the next; {_MEND}"
        )
    slides = kinds is None or "sliding_attention" in kinds
    window = getattr(config, "sliding_window", None)
    if slides and window is not None and longest > window:
        raise ConfigError(_too_long(longest, window))


def moving_rotary(config: Any) -> str | None:
    """The kind of a model's rotary embeddings, where all of a batch's change with its longest."""
    parameters = getattr(config, "rope_parameters", None) or {}
    ropes = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return min({"dynamic", "longrope"} & {rope.get("rope_type") for rope in ropes}, default=None)


def keeps_plain_cache(model: Any) -> bool:
    """Whether a model keeps the keys and values of all that it read, and nothing else."""
    from transformers.cache_utils import DynamicLayer

    with torch.inference_mode():
        ids = torch.zeros((1, 1), dtype=torch.long, device=model.device)
        cache = getattr(model(input_ids=ids, use_cache=True), "past_key_values", None)
    layers = getattr(cache, "layers", None) or [None]
    return all(type(layer) is DynamicLayer for layer in layers)


def _too_long(longest: int, window: int) -> str:
    return (
        f"packing: a solution of {longest} tokens exceeds the model's sliding window of {window}; "
        f"{_MEND}, or leave longer solutions out"
    )


@torch.no_grad()
def _require_equal_scores(model: Any) -> None:
    """Score two short sequences packed, alone, and as one; the first two must agree."""
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.arange(7, 19, device=model.device)[None] * 31 % vocabulary
    cut = 5
    place = torch.arange(ids.shape[1], device=model.device)[None]
    restarted = torch.where(place < cut, place, place - cut)
    training = model.training
    model.eval()
    try:
        packed, joined = (
            _outputs(model(input_ids=ids, position_ids=positions, use_cache=False))[:, cut:]
            for positions in (restarted, place)
        )
        alone = _outputs(model(input_ids=ids[:, cut:], use_cache=False))
    finally:
        model.train(training)
    # What one solution would leak into the next is the yardstick: scores of a fresh head are
    # small, so no fixed bound fits all.
    if (packed - alone).abs().max() > 0.01 * (joined - alone).abs().max():
        raise ConfigError(
            f"packing: {type(model).__name__} scores a solution in a packed row unlike the same "
            f"solution alone; {_MEND}"
        )


def _outputs(found: Any) -> torch.Tensor:
    """What a model gives for each token; a model without a head gives hidden states."""
    outputs: torch.Tensor = found.logits if "logits" in found else found.last_hidden_state
    return outputs

"""One exact pass over all prefixes of a solution: what they share is computed once.

The trunk of several solutions runs causally, as one batch padded on the right, into a key-value
cache; it takes no mask, so that any fast kernel serves. Then the tokens of all branches run
together against that cache. A token of a branch sees the part of the trunk that its prefix holds
and its own branch up to itself, at the places that these tokens have in the prefix:

              trunk 0 … start-1   start …   branch b up to i   other branches
    b's i-th        sees             –            sees               –

So each hidden state is that of the prefix run alone, beyond rounding. The mask is written out in
floats, with -inf where nothing is seen: a mask of booleans is taken for a float one by some
attention, without an error and with other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from prm.attention import moving_rotary
from prm.errors import CheckpointError
from prm.render import Branch, Branched

MASK = 1 << 22
"""The most numbers of one mask (16 MB in float32); attention that writes its weights out holds as
many for each head. A single branch may need more."""


def require_exact(backbone: Any) -> None:
    """Refuse a model whose prefixes cannot be read off one trunk.

    Raises:
        CheckpointError: says why.
    """
    config = backbone.config
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    moving = moving_rotary(config)
    reason = None
    if kinds:
        reason = f"layers of {', '.join(sorted(kinds))}"
    elif getattr(config, "sliding_window", None) is not None:
        reason = f"attention within a sliding window of {config.sliding_window}"
    elif moving is not None:
        reason = f"{moving} rotary embeddings, which change with the length"
    elif getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
        reason = f"attention {config._attn_implementation!r}, which takes no mask of its own"
    elif not getattr(config, "is_causal", True) or getattr(config, "is_encoder_decoder", False):
        reason = "attention that is not causal"
    if reason is not None:
        raise CheckpointError(
            f"{config.model_type}: prefixes cannot be scored exactly in one pass: {reason}"
        )


def last_states(backbone: Any, group: Sequence[Branched], pad_id: int) -> torch.Tensor:
    """The hidden state at the end of every prefix of several solutions.

    Args:
        backbone: a decoder of transformers that `require_exact` lets pass.
        group: the solutions; their trunks are padded to the longest.
        pad_id: any token's id.

    Returns:
        `[branches of all, hidden]`, solution by solution.

    Raises:
        CheckpointError: the model keeps no plain cache of keys and values.
    """
    device = backbone.device
    trunks = [item.trunk for item in group]
    width = max(map(len, trunks))
    ids = torch.tensor([[*trunk, *[pad_id] * (width - len(trunk))] for trunk in trunks])
    # What follows a token changes nothing about it, so padding on the right needs no mask.
    cache = backbone(input_ids=ids.to(device), use_cache=True).past_key_values
    kept = _keys_and_values(cache, backbone.config.model_type)
    found: list[list[torch.Tensor]] = [[] for _ in group]
    for parts in _chunks([item.branches for item in group], width):
        for layer, (keys, values) in zip(cache.layers, kept, strict=True):
            layer.keys, layer.values = keys, values
        ids, places, mask = _probe(parts, width, pad_id, device, backbone.dtype)
        hidden = backbone(
            input_ids=ids,
            position_ids=places,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        for row, part in enumerate(parts):
            end = -1
            for branch in part:
                end += len(branch.ids)
                found[row].append(hidden[row, end])
    return torch.stack([state for states in found for state in states])


def _keys_and_values(cache: Any, model: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    from transformers.cache_utils import DynamicLayer

    layers = getattr(cache, "layers", None)
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        raise CheckpointError(
            f"{model}: prefixes cannot be scored exactly in one pass: the model keeps no plain "
            "cache of keys and values"
        )
    return [(layer.keys, layer.values) for layer in layers]


def _chunks(rows: Sequence[Sequence[Branch]], width: int) -> Iterator[list[list[Branch]]]:
    """Cut every row's branches so that the mask of what runs together stays within `MASK`.

    A row that is through earlier than others has empty parts.
    """
    most = 1
    while len(rows) * 2 * most * (width + 2 * most) <= MASK:
        most *= 2
    cut: list[list[list[Branch]]] = []
    for branches in rows:
        parts: list[list[Branch]] = []
        room = 0
        for branch in branches:
            if len(branch.ids) > room:
                parts.append([])
                room = most
            parts[-1].append(branch)
            room -= len(branch.ids)
        cut.append(parts)
    for index in range(max(map(len, cut))):
        yield [parts[index] if index < len(parts) else [] for parts in cut]


def _probe(
    parts: Sequence[Sequence[Branch]], width: int, pad_id: int, device: Any, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens of branches, a row a solution, padded on the right.

    Returns:
        ids and positions, `[rows, longest]`, and the mask, `[rows, 1, longest, width + longest]`.
    """
    longest = max(sum(len(branch.ids) for branch in part) for part in parts)
    # Columns: id, position, how much of the trunk is seen, which branch. Padding sees itself.
    table = torch.tensor([[[pad_id, 0, 0, -1]] * longest] * len(parts))
    for row, part in enumerate(parts):
        tokens = [
            [id, branch.start + place, branch.start, number]
            for number, branch in enumerate(part)
            for place, id in enumerate(branch.ids)
        ]
        if tokens:
            table[row, : len(tokens)] = torch.tensor(tokens)
    ids, places, starts, owners = table.to(device).unbind(-1)
    trunk = torch.arange(width, device=device) < starts[..., None]
    own = (owners[:, :, None] == owners[:, None, :]).tril()
    seen = torch.cat([trunk, own], dim=-1)[:, None]
    mask = torch.full(seen.shape, float("-inf"), dtype=dtype, device=device)
    return ids, places, mask.masked_fill_(seen, 0.0)

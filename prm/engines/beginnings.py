"""What a model of transformers has read, so that nobody has it read the same again.

Keys and values depend on a token and on what precedes it alone. Those of the prompts in hand are
computed once, whatever the number of answers that each is to get; those of answers from which a
later request may go on are kept, and found again by their tokens, by requests of the same group: so
what a search costs does not depend on which one ran before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import DynamicCache

from prm.attention import keeps_plain_cache, moving_rotary

T = TypeVar("T")
Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one sequence, `[heads, tokens, size]`, of each of the model's layers."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """A sequence that has been read.

    Attributes:
        ids: its tokens, `[tokens]`.
        layers: of all of them.
        group: see `Request.group`.
        found: how many of them had been read before they were asked for.
    """

    ids: torch.Tensor
    layers: Layers
    group: str
    found: int = 0


class Beginnings:
    """Reads sequences with a model, as little as need be.

    Args:
        model: one that is `usable`.
        pad: any token's id.
        most: tokens of what is kept, and of what is read at a time; what was of no use for longest
            is forgotten first.
    """

    def __init__(self, model: Any, pad: int, most: int) -> None:
        self._model = model
        self._pad = pad
        self._most = most
        self._kept: list[Beginning] = []  # the one that was of use last at the end

    def read(self, sequences: Sequence[tuple[str, Sequence[int]]]) -> list[Beginning]:
        """The keys and values of sequences.

        Args:
            sequences: each with its group, and of at least one token; equal ones are read once.
        """
        asked = [(group, tuple(ids)) for group, ids in sequences]
        read: dict[tuple[str, tuple[int, ...]], Beginning] = {}
        todo: list[Beginning] = []
        for group, ids in dict.fromkeys(asked):
            known = self._find(group, torch.tensor(ids))
            if known.found == len(ids):
                read[group, ids] = known
            else:
                todo.append(known)
        # Those with as much to read together.
        todo.sort(key=lambda one: (one.found - len(one.ids), -len(one.ids)))
        for batch in batches(todo, lambda one: len(one.ids), self._most):
            read |= {(one.group, tuple(one.ids.tolist())): one for one in self._run(batch)}
        return [read[one] for one in asked]

    def keep(self, group: str, ids: Sequence[int], layers: Layers) -> None:
        """Remember a sequence in place of those that it begins with."""
        tokens = torch.tensor(ids)
        self._kept = [
            one for one in self._kept if one.group != group or _same(one.ids, tokens) < len(one.ids)
        ]
        own = [(keys.clone(), values.clone()) for keys, values in layers]  # not the whole batch
        self._kept.append(Beginning(tokens, own, group))
        while sum(len(one.ids) for one in self._kept) > self._most:
            del self._kept[0]

    def _find(self, group: str, ids: torch.Tensor) -> Beginning:
        """What is known of a sequence: `found` tokens, which `layers` hold."""
        best, found = None, 0
        for one in self._kept:
            same = _same(one.ids, ids) if one.group == group else 0
            if same > found:
                best, found = one, same
        if best is None:
            return Beginning(ids, [], group)
        self._kept.remove(best)
        self._kept.append(best)
        layers = [(keys[:, :found], values[:, :found]) for keys, values in best.layers]
        return Beginning(ids, layers, group, found)

    def _run(self, batch: Sequence[Beginning]) -> Iterator[Beginning]:
        width = max(len(one.ids) for one in batch)
        gaps = [width - len(one.ids) for one in batch]
        # Every row begins at the same column: where the one with most to read does.
        start = min(gap + one.found for gap, one in zip(gaps, batch, strict=True))
        device = self._model.device
        ids = torch.full((len(batch), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, (gap, one) in enumerate(zip(gaps, batch, strict=True)):
            ids[row, gap:] = one.ids
            mask[row, gap:] = 1
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            output = self._model(
                input_ids=ids[:, start:].to(device),
                attention_mask=mask.to(device),
                position_ids=places[:, start:].to(device),
                past_key_values=filled(DynamicCache(), [one.layers for one in batch], gaps, start),
                use_cache=True,
                logits_to_keep=1,
            )
        for row, (gap, one) in enumerate(zip(gaps, batch, strict=True)):
            layers = rows_of(output.past_key_values, row, gap, width)
            yield Beginning(one.ids, layers, one.group, max(0, start - gap))


def usable(model: Any) -> bool:
    """Whether what a model read can be gone on from: a plain cache, and places that stay."""
    config = model.config.get_text_config()
    if moving_rotary(config) is not None or config.is_encoder_decoder:
        return False
    return keeps_plain_cache(model)


def filled(cache: Any, rows: Sequence[Layers], gaps: Sequence[int], width: int) -> Any:
    """Fill the first columns of an empty cache.

    Args:
        cache: of transformers.
        rows: what each holds; what goes beyond the columns is left out.
        gaps: columns before each that hold padding; they are zero.
        width: columns; 0 leaves the cache empty.

    Returns:
        the cache.
    """
    if width == 0:
        return cache
    like = next(row for row in rows if row)
    for layer, (keys, values) in enumerate(like):
        padded = []
        for side, tensor in enumerate((keys, values)):
            heads, _, size = tensor.shape
            whole = tensor.new_zeros((len(rows), heads, width, size))
            for place, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
                if row and gap < width:
                    whole[place, :, gap:] = row[layer][side][:, : width - gap]
            padded.append(whole)
        cache.update(padded[0], padded[1], layer)
    return cache


def rows_of(cache: Any, row: int, start: int, end: int) -> Layers:
    """Columns of one row of a cache."""
    return [
        (layer.keys[row, :, start:end], layer.values[row, :, start:end]) for layer in cache.layers
    ]


def _same(one: torch.Tensor, other: torch.Tensor) -> int:
    """With how many equal tokens two sequences begin."""
    length = min(len(one), len(other))
    differ = (one[:length] != other[:length]).nonzero()
    return int(differ[0]) if len(differ) else length


def batches(items: Iterable[T], width: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Cut items into batches of up to `most` tokens, each padded to its widest item."""
    batch: list[T] = []
    widest = 0
    for item in items:
        widest = max(widest, width(item))
        if batch and (len(batch) + 1) * widest > most:
            yield batch
            batch, widest = [], width(item)
        batch.append(item)
    if batch:
        yield batch

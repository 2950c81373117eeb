"""What a model of transformers has read, so that nobody has it read the same again.

Keys and values depend on a token and on what precedes it alone. Those of the prompts in hand are
computed once, whatever the number of answers that each is to get; those of answers from which a
later request may go on are kept, and found again by their tokens, by requests of the same group: so
what a search costs does not depend on which one ran before it.

On a CPU, prompts that are new are read as packed rows, where the model can be shown to keep them
apart: without padding, without a mask, and few enough at a time for the processor's caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from prm.attention import keeps_plain_cache, moving_rotary, packed, packs
from prm.engines.base import CPU_TOKENS
from prm.engines.room import Layers, filled, roomy, rows_of

T = TypeVar("T")


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

    Attributes:
        packs: whether new sequences are read as packed rows.
    """

    def __init__(self, model: Any, pad: int, most: int) -> None:
        self.packs: bool = model.device.type == "cpu" and packs(model, 1)
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
        fresh = [one for one in todo if self.packs and not one.found]
        for row in batches(fresh, lambda one: len(one.ids), CPU_TOKENS):
            read |= {_key(one): one for one in self._run_packed(row)}
        rest = [one for one in todo if one.found or not self.packs]
        for batch in batches(rest, lambda one: len(one.ids), self._most):
            read |= {_key(one): one for one in self._run(batch)}
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

    def _run_packed(self, row: Sequence[Beginning]) -> Iterator[Beginning]:
        lengths = [len(one.ids) for one in row]
        with torch.inference_mode(), packed(self._model):
            output = self._model(
                input_ids=torch.cat([one.ids for one in row])[None],
                position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
                past_key_values=roomy(sum(lengths)),
                use_cache=True,
                logits_to_keep=1,
            )
        end = 0
        for one, length in zip(row, lengths, strict=True):
            start, end = end, end + length
            layers = rows_of(output.past_key_values, 0, start, end)
            yield Beginning(one.ids, layers, one.group)

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
                past_key_values=filled(roomy(width), [one.layers for one in batch], gaps, start),
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


def _key(one: Beginning) -> tuple[str, tuple[int, ...]]:
    return one.group, tuple(one.ids.tolist())


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

"""A cache of keys and values with room for all that a batch will read and write.

Transformers' growing cache is copied at every token, and attention goes over all columns of its
fixed one, empty ones too. Here what grows lies in place, and attention gets the columns in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of one sequence, `[heads, tokens, size]`, of each of the model's layers."""


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, `[rows, heads, columns in use, size]`.

    Args:
        columns: room at first; what does not fit moves to a quarter more.
    """

    def __init__(self, columns: int) -> None:
        super().__init__()
        self._room = columns

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for rows like these."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._whole = tuple(
            states.new_empty((*states.shape[:2], self._room, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.keys, self.values = (whole[:, :, :0] for whole in self._whole)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add columns; returns all that are in use."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        end = held + key_states.shape[2]
        if end > self._room:
            self._room = max(end, self._room * 5 // 4)
            before = self._whole
            self.lazy_initialization(key_states, value_states)
            for whole, old in zip(self._whole, before, strict=True):
                whole[:, :, :held] = old[:, :, :held]
        for whole, states in zip(self._whole, (key_states, value_states), strict=True):
            whole[:, :, held:end] = states
        self.keys, self.values = (whole[:, :, :end] for whole in self._whole)
        return self.keys, self.values


def roomy(columns: int) -> Any:
    """An empty cache for a model all of whose layers keep plain keys and values.

    Args:
        columns: tokens of the longest row, padding included, read and written.
    """
    # Called once for each of the model's layers, whatever it is.
    make: Any = partial(RoomyLayer, columns)
    return Cache(layer_class_to_replicate=make)


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

"""A cache with room holds what a growing one holds, and lets no empty column be attended to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from prm.engines.room import filled, roomy, rows_of


def states(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn((rows, 2, columns, 4), generator=torch.Generator().manual_seed(seed))


@given(
    rows=st.integers(1, 3),
    room=st.integers(1, 12),
    grown=st.lists(st.integers(1, 6), min_size=1, max_size=6),
)
def test_it_holds_what_a_growing_one_holds(rows: int, room: int, grown: list[int]) -> None:
    cache, growing = roomy(room), DynamicCache()
    for number, columns in enumerate(grown):
        for layer in range(2):
            keys, values = states(rows, columns, number), states(rows, columns, 99 + number)
            found = cache.update(keys, values, layer)
            expected = growing.update(keys, values, layer)
            assert all(map(torch.equal, found, expected))
        assert cache.get_seq_length() == growing.get_seq_length() == sum(grown[: number + 1])
        assert cache.get_mask_sizes(3, 0) == growing.get_mask_sizes(3, 0)


def test_nothing_is_copied_while_there_is_room() -> None:
    cache = roomy(9)
    cache.update(states(2, 4, 0), states(2, 4, 1), 0)
    place = cache.layers[0].keys.data_ptr()
    cache.update(states(2, 5, 2), states(2, 5, 3), 0)
    assert cache.layers[0].keys.data_ptr() == place
    cache.update(states(2, 1, 4), states(2, 1, 5), 0)  # no longer
    assert cache.layers[0].keys.data_ptr() != place


@pytest.mark.parametrize("width", [0, 2, 5])
def test_rows_are_put_to_the_right_of_their_padding(width: int) -> None:
    rows: list[Any] = [
        [(states(1, length, length)[0], states(1, length, 9 + length)[0])] for length in (5, 3)
    ]
    cache = filled(roomy(8), [*rows, []], [0, 2, 5], width)
    assert cache.get_seq_length() == width
    if width == 5:
        for place, gap in ((0, 0), (1, 2)):
            for found, own in zip(rows_of(cache, place, gap, 5)[0], rows[place][0], strict=True):
                assert torch.equal(found, own)
        assert not cache.layers[0].keys[1, :, :2].any()
        assert not cache.layers[0].keys[2].any()

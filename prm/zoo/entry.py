"""What an entry of the zoo declares: everything that a checkpoint's weights cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Backend = Literal["transformers", "vllm"]
"""What can run a family in this process."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A cut on the score below which a step counts as wrong, and where it was chosen."""

    value: float
    split: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published checkpoint of a family.

    Attributes:
        id: on the Hub.
        licence: as its card says; `unknown` where that was not at hand.
        context: the most tokens it was made for.
        dtype: of its weights.
        revision: the commit that the entry was checked with; None where it was written from the
            card and the evaluation code alone, and checked with random weights.
    """

    id: str
    licence: str
    context: int
    dtype: str = "bfloat16"
    revision: str | None = None

    def is_named(self, name: str) -> bool:
        """Whether a Hub id or a folder has this checkpoint's name, whoever's copy it is."""
        one, other = (text.rstrip("/").rpartition("/")[2].lower() for text in (self.id, name))
        return one == other


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A family of checkpoints that are used in one and the same way.

    Attributes:
        family: its name here.
        checkpoints: the published ones; further ones of the kind are named by `family`.
        architecture: what is loaded.
        template: the input, in words.
        positions: where scores are read.
        readout: how a score comes from what is read there.
        passes: what a solution costs.
        meaning: what a score is.
        bounds: between which numbers scores lie; None where they may be any.
        threshold: the cut that its authors use, with the split it was chosen on; None where they
            publish none.
        takes_reference: whether a reference answer can be an input.
        backends: what runs it.
        source: the paper and the code that say so.
    """

    family: str
    checkpoints: tuple[Checkpoint, ...]
    architecture: str
    template: str
    positions: str
    readout: str
    passes: str
    meaning: str
    source: str
    bounds: tuple[float, float] | None = (0.0, 1.0)
    threshold: Threshold | None = None
    takes_reference: bool = False
    backends: tuple[Backend, ...] = ("transformers",)

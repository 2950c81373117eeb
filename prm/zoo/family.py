"""What a family's file offers: an entry, and a format bound to one checkpoint's tokenizer.

A format says how a solution is rendered and how a score is read; what runs the model stands in
`prm.scorers` and is the same for all families. Rendering keeps to two rules everywhere: text of a
problem, a step or a reference is tokenised as plain text, so that it may spell a special token;
and the places where scores are read are known by construction, never searched for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prm.render import Branched, Rendered
from prm.zoo.critique import Asking, Course, Scores
from prm.zoo.entry import Entry, Threshold

if TYPE_CHECKING:
    import torch

ReferenceKind = Literal["worked", "answer", "none"]
"""What the model is told: the worked solution where there is one (else the final answer), the
final answer alone, or nothing."""

Head = Literal["score", "value", "tokens"]
"""What turns a hidden state into outputs: the tensors `score.*` of the weights, the tensors
`v_head.*` (kept in float32), or two rows of the vocabulary's output embedding."""

How = Literal["raw", "difference", "probability", "margin", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Readout:
    """From a hidden state to a score.

    | how           | outputs      | score                                    |
    |---------------|--------------|------------------------------------------|
    | `raw`         | one          | the output                               |
    | `sigmoid`     | one          | σ(output)                                |
    | `difference`  | wrong, right | right − wrong                            |
    | `probability` | wrong, right | softmax at right, σ(right − wrong)       |
    | `margin`      | wrong, right | softmax at right less softmax at wrong   |

    Attributes:
        head: see `Head`.
        how: see the table.
        tokens: ids of the tokens for wrong and for right, where `head` is `tokens`.
    """

    head: Head
    how: How
    tokens: tuple[int, int] | None = None

    @property
    def outputs(self) -> int:
        """How many outputs the head has."""
        return 1 if self.how in ("raw", "sigmoid") else 2

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Scores in float32, `[...]`, of a head's outputs, `[..., outputs]`.

        In float32 because a softmax in a half type underflows, which some published code takes
        for a step that is not there.
        """
        values = outputs.float()
        if values.shape[-1] != self.outputs:
            raise ValueError(f"{values.shape[-1]} outputs; {self.how} takes {self.outputs}")
        if self.how == "raw":
            return values[..., 0]
        if self.how == "sigmoid":
            return values[..., 0].sigmoid()
        difference = values[..., 1] - values[..., 0]
        if self.how == "difference":
            return difference
        return difference.sigmoid() if self.how == "probability" else (difference / 2).tanh()


class Format(ABC):
    """A family's input and output for one checkpoint; what is the same for most stands here.

    Attributes:
        readout: how a score is read.
        context: the most tokens that the checkpoint was made for; None: as the model's own.
        branched: whether renderings are `Branched`.
        reference: what the model is told of the reference unless asked otherwise.
        threshold: the checkpoint's cut, if it has one.
        threshold_without_reference: the same where a reference is withheld.
    """

    readout: Readout
    context: int | None = None
    branched: bool = False
    reference: ReferenceKind = "none"
    threshold: Threshold | None = None
    threshold_without_reference: Threshold | None = None

    @abstractmethod
    def render(
        self, problem: str, steps: Sequence[str], reference: str | None = None
    ) -> Rendered | Branched:
        """Token ids, and one place to read for each step.

        Raises:
            RecordError: the steps cannot be rendered, says why.
        """


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of checkpoints.

    Attributes:
        entry: what it declares.
        bind: from a checkpoint's tokenizer, folder and name to its format.
        architectures: of `config.json`, those that only this family has.
        marker: a file that only this family's folders hold.
        takes_base: whether a score compares the model with the one that it was trained from.

    `bind` raises `CheckpointError` where the tokenizer lacks a token that the format needs.
    """

    entry: Entry
    bind: Callable[[Any, Path, str], Format]
    architectures: tuple[str, ...] = ()
    marker: str | None = None
    takes_base: bool = False

    def checkpoint_context(self, name: str) -> int | None:
        """The context that the entry declares for a checkpoint of this name, if it knows it."""
        known = (item.context for item in self.entry.checkpoints if item.is_named(name))
        return next(known, None)


@dataclass(frozen=True, kw_only=True)
class GenerativeFamily:
    """A family of checkpoints that write a critique and are read by what they wrote.

    Attributes:
        entry: what it declares.
        critique: from a problem, its steps and how to ask to the course of a critique, which
            returns a score for each step, or why there are none.
    """

    entry: Entry
    critique: Callable[[str, Sequence[str], Asking], Course[Scores | str]]


AnyFamily = Family | GenerativeFamily

"""What a search costs: tokens read and written, and the arithmetic behind them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from prm.records import STRICT


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Tokens of one search of one problem.

    Attributes:
        prompt: of what the policy read, prefills included; once a request, whatever its number of
            samples. Of a model without a plain cache (sliding windows, layers with a state) the
            transformers engine reads it anew for each, and spends more.
        cached: those of `prompt` that the engine told it had in its cache; vLLM and servers be it
            from an earlier search of the same problem.
        written: by the policy, those that ended a text included.
        read: computed by the reward model; what vLLM had in its cache is left out, likewise.
        whole: what the reward model would have computed, had it read every prefix from its start.
        requests: that the policy was asked.
    """

    __pydantic_config__ = STRICT

    prompt: int = 0
    cached: int = 0
    written: int = 0
    read: int = 0
    whole: int = 0
    requests: int = 0

    def __add__(self, other: Budget) -> Budget:
        return Budget(
            **{
                item.name: getattr(self, item.name) + getattr(other, item.name)
                for item in fields(self)
            }
        )

    @property
    def policy(self) -> int:
        """Tokens that the policy computed."""
        return self.prompt - self.cached + self.written

    @property
    def computed(self) -> int:
        """Tokens that both models computed."""
        return self.policy + self.read

    def flops(self, policy: int, reward: int) -> float:
        """About how many floating point operations: two a parameter and token.

        Attention over long contexts comes on top. Source: Kaplan et al., arXiv 2001.08361,
        section 2.1.

        Args:
            policy: parameters of the policy.
            reward: parameters of the reward model.
        """
        return 2.0 * (policy * self.policy + reward * self.read)


def shared_out(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to weights above 0, with the sum `total`."""
    shares, reached, given = [], 0, 0
    for weight in weights:
        reached += weight
        share = total * reached // sum(weights) - given
        shares.append(share)
        given += share
    return shares


def parameters(model: str) -> int | None:
    """How many numbers the safetensors of a model folder hold; None where there is no such folder.

    Embeddings are among them, so of small models it says too much.
    """
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    return sum(map(_numbers, files)) or None


def _numbers(path: Path) -> int:
    """How many numbers a file holds, by its header: its length in 8 bytes, then JSON."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return sum(
        math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"
    )

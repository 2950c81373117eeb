"""A reward function for TRL's GRPO: the reward of a completion is the aggregation of its steps'.

    from prm.adapters.trl import StepReward
    from prm.client import Client

    trainer = GRPOTrainer(
        model=…, reward_funcs=StepReward(Client("http://127.0.0.1:8000"), aggregation="min"), …
    )

TRL calls a reward function with all completions of a batch, as texts or as conversations, and with
the data set's further columns by name; it takes one number each, or None for "no reward from this
one", which is what a completion that cannot be scored gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from annotate.pieces import split_steps
from prm.client import Client, Item
from prm.errors import ConfigError


class StepReward:
    """A reward function over a server's step scores.

    Args:
        client: of the server.
        aggregation: how step scores become a reward.
        reference: the column that holds reference answers; None sends none.

    Attributes:
        __name__: what TRL's logs call it.
    """

    def __init__(
        self, client: Client, *, aggregation: str = "min", reference: str | None = None
    ) -> None:
        self._client = client
        self._aggregation = aggregation
        self._reference = reference
        self.__name__ = f"prm_{aggregation}"

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One reward per completion, None where it cannot be scored.

        Args:
            prompts: texts or conversations, one per completion.
            completions: likewise.
            columns: the batch's further columns, and what TRL adds.

        Raises:
            ConfigError: the reference column is not among them.
            ClientError: the server refuses the request, or does not answer.
        """
        references: Sequence[str | None] = [None] * len(completions)
        if self._reference is not None:
            if self._reference not in columns:
                known = ", ".join(sorted(columns)) or "none"
                raise ConfigError(f"the data set has no column {self._reference!r}; it has {known}")
            references = columns[self._reference]
        texts = [text_of(item) for item in completions]
        written = [index for index, text in enumerate(texts) if text.strip()]
        items = [
            Item(
                question=text_of(prompts[index], role="user"),
                steps=split_steps(texts[index]),
                reference=references[index],
            )
            for index in written
        ]
        rewards: list[float | None] = [None] * len(texts)
        if items:
            found = self._client.score_each(items, aggregation=self._aggregation)
            for index, result in zip(written, found, strict=True):
                rewards[index] = result.reward
        return rewards


def text_of(item: Any, role: str | None = None) -> str:
    """The text of a prompt or completion; of a conversation its last turn (of that role)."""
    if isinstance(item, str):
        return item
    turns = [turn for turn in item if role is None or turn["role"] == role]
    return str(turns[-1]["content"]) if turns else ""

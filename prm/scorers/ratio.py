"""Scores of two language models: how much likelier one finds a solution than the other.

Each model reads a solution once. Log-probabilities are taken a few tokens at a time, so that no
table of tokens by vocabulary is ever held for a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from prm.errors import CheckpointError, ConfigError
from prm.records import Failure, Solution, StepScores
from prm.scorers.base import (
    Batching,
    ScorerConfig,
    forward_tokens,
    model_name,
    reference_kind,
)
from prm.scorers.transformers import (
    check_dtype,
    choose_context,
    choose_device,
    pad_batch,
    score_rendered,
)
from prm.zoo import weights
from prm.zoo.entry import Threshold
from prm.zoo.family import Family, ReferenceKind
from prm.zoo.implicit import SCALE, Answered, ImplicitFormat

LOGITS = 1 << 25
"""The most logits that are held at once (128 MB in float32)."""


class RatioScorer:
    """Scores with a policy and the base that it is held against.

    Args:
        config: see `ScorerConfig`; `base` is needed.
        folder: where the policy's files lie.
        family: what the policy is.

    Attributes:
        policy: from token ids to hidden states, and from these to logits.
        base: the same of the other model.
        format: the family's, bound to the policy.
        context: the most tokens of a solution.
        tokens: how many tokens the two have read, those of both counted.

    Raises:
        CheckpointError: a folder is no such model, or the two have not the same vocabulary.
        ConfigError: no base, device or dtype, or a `max_length` that a model does not have.
    """

    def __init__(self, config: ScorerConfig, folder: Path, family: Family) -> None:
        if config.base is None:
            raise ConfigError(
                f"{config.model}: family {family.entry.family} is held against another model; set "
                "base to the one that training started from"
            )
        device = choose_device(config.device)
        check_dtype(config.dtype)
        self.name = model_name(config)
        self.family = family.entry.family
        tokenizer = weights.load_tokenizer(folder)
        bound = family.bind(tokenizer, folder, config.model)
        assert isinstance(bound, ImplicitFormat)
        self.format = bound
        other = weights.locate(config.base, None)
        _require_one_vocabulary(
            config, tokenizer.get_vocab(), weights.load_tokenizer(other).get_vocab()
        )
        self.policy = _load(folder, config.dtype, device)
        self.base = _load(other, config.dtype, device)
        self.context = min(
            choose_context(config, self.format.context, backbone.config)
            for backbone, _ in (self.policy, self.base)
        )
        self.reference: ReferenceKind = reference_kind(
            config, self.format.reference, family=self.family, takes_reference=False
        )
        self.threshold: Threshold | None = self.format.threshold
        self.tokens = 0
        self.batching = Batching(forward_tokens(config, device), pads=True)
        pad = self.policy[0].config.pad_token_id
        self._pad_id = 0 if pad is None else int(pad)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """See `StepScorer.score_each`; the batches formed inside change rounding alone."""
        return score_rendered(
            batch,
            lambda solution: self.format.render(solution.problem, solution.steps),
            self._forward,
            name=self.name,
            context=self.context,
            batching=self.batching,
        )

    def close(self) -> None:
        """See `ModelScorer.close`."""
        del self.policy, self.base

    def _forward(self, group: Sequence[Answered]) -> list[list[float]]:
        self.tokens += 2 * sum(len(item.input_ids) for item in group)
        with torch.inference_mode():
            policy, base = (
                log_probabilities(backbone, head, group, self._pad_id)
                for backbone, head in (self.policy, self.base)
            )
        scores = []
        for item, ours, theirs in zip(group, policy, base, strict=True):
            sums = SCALE * (ours.double() - theirs.double()).cumsum(0)
            scores.append(sums[[end - item.start for end in item.step_ends]].tolist())
        return scores


def log_probabilities(
    backbone: Any, head: torch.nn.Module, group: Sequence[Answered], pad_id: int
) -> list[torch.Tensor]:
    """What a model says to the tokens of each answer, each given all before it.

    Args:
        backbone: from token ids to hidden states.
        head: from hidden states to logits.
        group: conversations.
        pad_id: any token's id.

    Returns:
        for each its tokens' log-probabilities from `start` to the last step's end, float32.
    """
    ids, mask = pad_batch([item.input_ids for item in group], pad_id)
    device = backbone.device
    hidden = backbone(
        input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
    ).last_hidden_state
    spans = [(row, item.start, max(item.step_ends) + 1) for row, item in enumerate(group)]
    states = torch.cat([hidden[row, start - 1 : stop - 1] for row, start, stop in spans])
    said = torch.cat([ids[row, start:stop] for row, start, stop in spans]).to(device)
    del hidden
    most = max(1, LOGITS // next(head.parameters()).shape[0])
    found = []
    for part, tokens in zip(states.split(most), said.split(most), strict=True):
        logits = head(part).float()
        chosen = logits.gather(-1, tokens[:, None])[:, 0]
        found.append((chosen - logits.logsumexp(-1)).cpu())
    return list(torch.cat(found).split([stop - start for _, start, stop in spans]))


def _load(folder: Path, dtype: str, device: str) -> tuple[Any, torch.nn.Module]:
    backbone = weights.load_backbone(folder, dtype=dtype, device=device)
    outputs = backbone.config.vocab_size
    return backbone, weights.load_head(folder, "tokens", outputs=outputs, like=backbone)


def _require_one_vocabulary(
    config: ScorerConfig, policy: dict[str, int], base: dict[str, int]
) -> None:
    differing = [
        token for token in policy.keys() | base.keys() if policy.get(token) != base.get(token)
    ]
    if differing:
        raise CheckpointError(
            f"{config.model}: its vocabulary is not that of base {config.base} "
            f"({len(differing)} tokens differ, {min(differing)!r} among them); set base to the "
            "model that training started from"
        )

"""How the base for reward models learns: to notice what a solver did not expect.

A solver that reads somebody's solution expects each next number, but when the number comes it
has no layer left to be surprised in. So new layers are put on top of it, and learn two things
from texts that carry no labels:

- the first two, how likely the solver held each number before it came;
- the last one, how likely the least likely number so far was. A step that rests on a wrong
  number is as expected, once that number stands there, and wrong all the same.

The solver below stays as it is: it is what sets the targets. What policies get wrong, and what
judges say of it, is left for a reward model to learn.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM

from examples.micro.learner import Course, make_optimizers, padded
from examples.micro.lessons import Lesson

NEW = 3
"""Layers on top of the solver; the first `NEW - 1` notice, the last one remembers."""
RARE = 10.0
"""Weight of a number that the solver held unlikely: one in thirty or so."""
UNLIKELY = 0.5
_NUMBER = re.compile(r"Ġ?[0-9]|Ġ?[-+*/]")


def deepen(solver: Any, seed: int) -> Any:
    """A solver with `NEW` more layers on top; its own weights stand below them unchanged.

    What the new layers read is scaled as the solver's language model head reads it. Half of the
    first new layer's heads start out looking at the token before, where the expectation stands:
    left to find that by chance, they took about twice as long.

    Args:
        solver: a `Qwen2ForCausalLM`.
        seed: of the new weights.
    """
    settings = solver.config.to_dict() | {
        "num_hidden_layers": solver.config.num_hidden_layers + NEW,
        "layer_types": None,
    }
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(**settings))
    model.load_state_dict(solver.state_dict(), strict=False)
    with torch.no_grad():
        for layer in model.model.layers[-NEW:]:
            layer.input_layernorm.weight.copy_(solver.model.norm.weight)
            layer.post_attention_layernorm.weight.copy_(solver.model.norm.weight)
        _look_back(model.model.layers[-NEW].self_attn, model.model.rotary_emb.inv_freq)
    return model


def _look_back(attention: Any, turns: torch.Tensor, strength: float = 3.0) -> None:
    """Make the first half of the heads attend to the token before, by their biases.

    A key that is the same everywhere and a query that is that key turned back by one position
    agree most at a distance of one.

    Args:
        attention: of one layer.
        turns: by how much each pair of dimensions is turned from token to token, `[width / 2]`.
    """
    width = 2 * len(turns)
    fast = torch.where(turns > 0.02, strength, 0.0)  # slower ones cannot tell neighbours apart
    key = torch.cat([fast, torch.zeros_like(fast)])
    query = torch.cat([fast * torch.cos(turns), -fast * torch.sin(turns)])
    for head in range(attention.config.num_attention_heads // 2):
        rows = slice(head * width, (head + 1) * width)
        for projection, bias in ((attention.q_proj, query), (attention.k_proj, key)):
            projection.weight[rows] *= 0.3
            projection.bias[rows] = bias


class Noticer:
    """A deepened solver that learns to notice; see the module.

    Args:
        model: what `deepen` made.
        tokenizer: tells which tokens are digits or operators.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        size = model.config.hidden_size
        self._norm = copy.deepcopy(model.model.norm).requires_grad_(False)
        self._numbers = torch.zeros(model.config.vocab_size, dtype=torch.bool, device=model.device)
        for token, index in tokenizer.get_vocab().items():
            self._numbers[index] = bool(_NUMBER.fullmatch(token))
        # Linear, thrown away with this object.
        self._noticed = torch.nn.Sequential(torch.nn.RMSNorm(size), torch.nn.Linear(size, 1))
        self._remembered = torch.nn.Linear(size, 1)
        probes = [*self._noticed.to(model.device).parameters()]
        probes += self._remembered.to(model.device).parameters()
        model.requires_grad_(False)
        layers = model.model.layers[-NEW:].requires_grad_(True)
        model.model.norm.requires_grad_(True)
        matrices = [p for p in layers.parameters() if p.ndim == 2]
        others = [p for p in layers.parameters() if p.ndim != 2] + [model.model.norm.weight]
        self.optimizers = make_optimizers(matrices, [*others, *probes])

    def step(self, course: Course, batch: Sequence[Lesson]) -> dict[str, float]:
        """See `learner.Pupil`; measures both losses and how well rare numbers are told apart."""
        self.model.train()
        ids, weights = padded(batch, self.model)
        read = weights[:, 1:] > 0
        with torch.autocast(self.model.device.type, torch.bfloat16):
            hidden = self.model.model(ids, output_hidden_states=True).hidden_states
            with torch.no_grad():
                expecting = self._norm(hidden[-NEW - 1])[:, :-1][read]
                logits = self.model.lm_head(expecting).float()
        held = (-functional.cross_entropy(logits, ids[:, 1:][read], reduction="none")).exp()
        number = self._numbers[ids[:, 1:][read]]
        likely = torch.ones_like(weights[:, 1:])
        likely[read] = torch.where(number, held, 1.0)
        least = likely.cummin(dim=1).values[read]
        noticed = self._noticed(hidden[-2][:, 1:][read][number].float())[:, 0]
        remembered = self._remembered(hidden[-1][:, 1:][read].float())[:, 0]
        first = _loss(noticed, held[number], RARE)
        second = _loss(remembered, least, 1.0)
        (first + second).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {
            "loss": (first + second).item(),
            "noticed": _told_apart(noticed, held[number]),
            "remembered": _told_apart(remembered, least),
        }


def _loss(scores: torch.Tensor, likely: torch.Tensor, rare: float) -> torch.Tensor:
    """Cross entropy with these probabilities, those below `UNLIKELY` weighing `rare`."""
    weights = torch.where(likely < UNLIKELY, rare, 1.0)
    losses = functional.binary_cross_entropy_with_logits(scores, likely, reduction="none")
    return (losses * weights).sum() / weights.sum()


def _told_apart(scores: torch.Tensor, likely: torch.Tensor) -> float:
    """Share of right verdicts at a cut of one half, mean of the likely and the unlikely ones."""
    unlikely = likely < UNLIKELY
    if not unlikely.any() or unlikely.all():
        return 0.5
    caught = (scores[unlikely] < 0).float().mean()
    passed = (scores[~unlikely] >= 0).float().mean()
    return ((caught + passed) / 2).item()

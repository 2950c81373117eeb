"""The training loop of the micro models, and how they learn the next token, on a CPU in minutes.

Lessons of like length share a batch, and a batch has a budget of tokens, not of lessons. They
are padded on the right, where a causal model sees no padding, so no attention mask is needed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from examples.micro.lessons import Lesson

POOL = 24
"""Batches drawn at once, sorted by length among themselves, then shuffled."""
SHORT = 200
"""Tokens of a row up to which plain attention is faster than the fused one."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How long and how fast to learn.

    Attributes:
        steps: optimizer steps.
        tokens: of a batch, padding included.
        rate: the highest learning rate; it rises over `warmup` steps, stays, and falls to 0
            over the last `decay` share of the steps.
        probe: weight of the probes' loss beside the next-token loss.
    """

    steps: int
    tokens: int
    rate: float
    warmup: int = 50
    decay: float = 0.3
    probe: float = 0.5

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / (self.decay * self.steps)
        return self.rate * min(1.0, rising, falling)


class Pupil(Protocol):
    """Whoever takes a course: `step` learns from one batch and says what it measured."""

    optimizers: list[torch.optim.Optimizer]

    def step(self, course: Course, batch: Sequence[Lesson]) -> dict[str, float]: ...


def learn(
    pupil: Pupil,
    course: Course,
    draw: Callable[[random.Random], Lesson],
    rng: random.Random,
    after: Callable[[int, dict[str, float]], None],
) -> None:
    """Take a course.

    Args:
        pupil: who learns.
        course: how long and how fast.
        draw: makes a lesson.
        rng: the only source of chance.
        after: called after each step with its number from 1 and what was measured.
    """
    source = batches(course, draw, rng)
    began = time.monotonic()
    for step in range(course.steps):
        for optimizer in pupil.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = course.rate_at(step)
        measured = pupil.step(course, next(source))
        after(step + 1, measured | {"seconds": time.monotonic() - began})


def make_optimizers(
    matrices: Iterable[torch.nn.Parameter], others: Iterable[torch.nn.Parameter]
) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, which it is made for, and AdamW for all else.

    Muon learns small models of this kind in about half of AdamW's steps.
    """
    return [
        torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def padded(batch: Sequence[Lesson], model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and weights of a batch, `[lessons, tokens]` each, on the model's device.

    Sets the attention that is the faster one for this width on a CPU.
    """
    width = max(len(lesson.ids) for lesson in batch)
    model.set_attn_implementation("eager" if width < SHORT else "sdpa")
    ids = _padded([lesson.ids for lesson in batch], width, 0, torch.long)
    weights = _padded([lesson.weights for lesson in batch], width, 0.0, torch.float)
    return ids.to(model.device), weights.to(model.device)


class Learner:
    """A model that learns the next token of lessons, and probes at the ends of judged steps.

    Args:
        model: a causal language model with tied embeddings.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        # Linear, read at a judged step's last token; thrown away with this object.
        self.probe = torch.nn.Linear(model.config.hidden_size, 1, device=model.device)
        torch.nn.init.zeros_(self.probe.weight)
        matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
        known = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in known]
        self.optimizers = make_optimizers(matrices, [*others, *self.probe.parameters()])

    def step(self, course: Course, batch: Sequence[Lesson]) -> dict[str, float]:
        """See `Pupil`."""
        self.model.train()
        ids, weights = padded(batch, self.model)
        rows = [row for row, lesson in enumerate(batch) for _ in lesson.probes]
        places = [place for lesson in batch for place, _ in lesson.probes]
        right = torch.tensor(
            [value for lesson in batch for _, value in lesson.probes], device=self.model.device
        )
        with torch.autocast(self.model.device.type, torch.bfloat16):
            hidden = self.model.model(ids).last_hidden_state
            learnt = weights[:, 1:] > 0
            logits = self.model.lm_head(hidden[:, :-1][learnt])
        weight = weights[:, 1:][learnt]
        losses = functional.cross_entropy(logits.float(), ids[:, 1:][learnt], reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        measured = {"loss": loss.item(), "tokens": float(ids.numel())}
        if rows:
            scores = self.probe(hidden[rows, places].float())[:, 0]
            probe = functional.binary_cross_entropy_with_logits(scores, right)
            loss = loss + course.probe * probe
            measured["probe"] = probe.item()
            measured["probe_hit"] = ((scores > 0) == (right > 0.5)).float().mean().item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return measured


def batches(
    course: Course, draw: Callable[[random.Random], Lesson], rng: random.Random
) -> Iterator[list[Lesson]]:
    """Batches of lessons of like length, without end."""
    while True:
        drawn: list[Lesson] = []
        size = 0
        while size < POOL * course.tokens:
            drawn.append(draw(rng))
            size += len(drawn[-1].ids)
        drawn.sort(key=lambda lesson: len(lesson.ids))
        pool: list[list[Lesson]] = [[]]
        for lesson in drawn:
            if (len(pool[-1]) + 1) * len(lesson.ids) > course.tokens:
                pool.append([])
            pool[-1].append(lesson)
        rng.shuffle(pool)
        yield from pool


def _padded(rows: Sequence[Sequence[float]], width: int, fill: float, dtype: Any) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype)

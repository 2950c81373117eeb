"""Scores of growing solutions: what was read of one before is not read again.

A search scores a solution after each of its steps. The keys and values of what is read are kept in
a tree of segments, one a solution, each with only its own tokens; solutions that grew out of one
share what they have in common and copy nothing:

    prompt ─┬─ step 1 ─┬─ step 2      a segment continues its parent after `start` of the tokens
            │          └─ step 2'     that lead to it, which may be fewer than all: a tokenizer
            └─ step 1'                may read a text's end otherwise once more follows.

How far two renderings agree is compared token by token and never assumed, so any causal model of
hidden states can be scored in this way, with the numbers of a whole pass beyond rounding. Segments
of unlike lengths run as one batch: what is kept is padded between itself and the new tokens, and
the padding is masked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeGuard

import torch

from prm.attention import keeps_plain_cache
from prm.errors import CheckpointError, RecordError
from prm.records import Failure, Solution, StepScores
from prm.render import Branched, Rendered
from prm.scorers.base import ModelScorer, reference_text, result, token_batches
from prm.scorers.transformers import TransformersScorer, pad_batch
from prm.scorers.tree import require_exact

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, `[heads, tokens, width]`."""
Key = tuple[str, tuple[str, ...]]
"""A beginning: the problem's text and the steps so far."""


class Scored(NamedTuple):
    """What came of a solution.

    Attributes:
        result: its scores, or why there are none.
        computed: tokens that the model read for it.
        whole: tokens that a pass over all of it would have read.
    """

    result: StepScores | Failure
    computed: int = 0
    whole: int = 0


@dataclass
class _Segment:
    """What a solution adds to the one that it grew out of.

    Attributes:
        ids: all tokens from the start on.
        ends: where each step is read; empty for a prompt alone.
        scores: of these steps.
        parent: what it continues.
        start: how many of the parent's tokens come before its own.
        layers: of its own tokens.
    """

    ids: list[int]
    ends: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    parent: _Segment | None = None
    start: int = 0
    layers: Layers = field(default_factory=list)

    def before(self, count: int) -> Layers:
        """Keys and values of the first `count` tokens."""
        parts: list[Layers] = []
        segment: _Segment | None = self
        while segment is not None and count > 0:
            if count > segment.start:
                own = count - segment.start
                parts.append([(keys[:, :own], values[:, :own]) for keys, values in segment.layers])
                count = segment.start
            segment = segment.parent
        parts.reverse()
        return [
            (
                torch.cat([part[layer][0] for part in parts], dim=1),
                torch.cat([part[layer][1] for part in parts], dim=1),
            )
            for layer in range(len(self.layers))
        ]

    @property
    def own(self) -> list[int]:
        """Its own tokens."""
        return self.ids[self.start :]


def tokens_read(item: Rendered | Branched) -> int:
    """How many tokens a model reads for a whole rendering."""
    if isinstance(item, Branched):
        return len(item.trunk) + sum(len(branch.ids) for branch in item.branches)
    return len(item.input_ids)


def can_reuse(scorer: ModelScorer) -> TypeGuard[TransformersScorer]:
    """Whether what a scorer's model read can be kept and continued."""
    if not isinstance(scorer, TransformersScorer):
        return False
    try:
        require_exact(scorer.backbone)
    except CheckpointError:
        return False
    return keeps_plain_cache(scorer.backbone)


class PrefixScorer:
    """Scores solutions that grow by a step at a time.

    Args:
        scorer: one that `can_reuse` lets pass.
    """

    def __init__(self, scorer: TransformersScorer) -> None:
        self._scorer = scorer
        # What was read before lies beside, and that is padded.
        self._batching = replace(scorer.batching, pads=True)
        self._known: dict[Key, _Segment] = {}

    def score(self, batch: Sequence[Solution], grows: Sequence[bool]) -> list[Scored]:
        """Score solutions; of each, only what no known beginning of it holds is read.

        Args:
            batch: the solutions; all of a problem with the same reference, in every call.
            grows: whether further steps may follow a solution, for which it is then remembered.
        """
        found: list[Scored | None] = [None] * len(batch)
        fresh: dict[int, _Segment] = {}
        wholes: dict[int, int] = {}
        for index, solution in enumerate(batch):
            try:
                segment, wholes[index] = self._render(solution)
            except RecordError as error:
                found[index] = Scored(Failure(id=solution.id, reason=str(error)))
                continue
            if segment is not None:
                fresh[index] = segment
        # A family of prefixes whose earlier steps nobody scored before.
        rest = [index for index in wholes if index not in fresh]
        for index, item in zip(
            rest, self._scorer.score_each([batch[index] for index in rest]), strict=True
        ):
            read = 0 if isinstance(item, Failure) else wholes[index]
            found[index] = Scored(item, read, wholes[index])
        prompts = self._prompts({index: batch[index] for index in fresh}, fresh)
        for index, segment in fresh.items():
            self._continue(batch[index], segment)
        self._read(list(fresh.values()))
        for index, segment in fresh.items():
            solution = batch[index]
            if grows[index]:
                self._known[solution.problem, solution.steps] = segment
            found[index] = Scored(
                result(solution, self._scorer.name, segment.scores),
                len(segment.own) + prompts.get(index, 0),
                wholes[index],
            )
        return [item for item in found if item is not None]

    def keep(self, live: Collection[Key]) -> None:
        """Forget all solutions but these; what they grew out of stays with them."""
        self._known = {key: self._known[key] for key in live if key in self._known}

    def _render(self, solution: Solution) -> tuple[_Segment | None, int]:
        """A segment with all ids and nothing read; None where the whole must be scored."""
        scorer = self._scorer
        text = reference_text(solution, scorer.reference)
        item = scorer.format.render(solution.problem, solution.steps, text)
        if isinstance(item, Branched):
            last = item.branches[-1]
            ids = [*item.trunk[: last.start], *last.ids]
            parent = self._known.get((solution.problem, solution.steps[:-1]))
            known = [] if parent is None else parent.scores
            if len(known) != len(solution.steps) - 1:
                return None, tokens_read(item)
            # Earlier steps are read in sequences of their own, which no later step changes.
            segment = _Segment(ids, [-1] * len(known) + [len(ids) - 1], list(known))
        else:
            segment = _Segment(item.input_ids, item.step_ends)
        if len(segment.ids) > scorer.context:
            raise RecordError(
                f"{len(segment.ids)} tokens, more than max_length {scorer.context}; nothing is cut",
                field="steps",
            )
        return segment, tokens_read(item)

    def _prompts(self, batch: dict[int, Solution], fresh: dict[int, _Segment]) -> dict[int, int]:
        """Read once what several first solutions of a problem begin with.

        Returns:
            The tokens read, at the first solution of each such problem.
        """
        groups: dict[str, list[int]] = {}
        for index, solution in batch.items():
            beginnings = ((solution.problem, solution.steps[:-1]), (solution.problem, ()))
            if not any(key in self._known for key in beginnings):
                groups.setdefault(solution.problem, []).append(index)
        made = {}
        for problem, members in groups.items():
            first = fresh[members[0]].ids
            shared = min(_agreement(first, fresh[index].ids) for index in members)
            if len(members) > 1 and shared:
                made[members[0]] = self._known[problem, ()] = _Segment(first[:shared])
        self._read(list(made.values()))
        return {index: len(segment.ids) for index, segment in made.items()}

    def _continue(self, solution: Solution, segment: _Segment) -> None:
        """Find what a segment continues, and how far the two agree."""
        for steps in (solution.steps[:-1], ()):
            parent = self._known.get((solution.problem, steps))
            if parent is None:
                continue
            same = _agreement(segment.ids, parent.ids)
            known = len(segment.scores)
            if not known:  # as many steps as were read at the same places
                for end, other in zip(segment.ends, parent.ends, strict=False):
                    if end != other or end >= same:
                        break
                    known += 1
                segment.scores = parent.scores[:known]
            # The state at the first place that is still to be read must be computed.
            segment.start = min(same, segment.ends[known])
            segment.parent = parent if segment.start else None
            return

    def _read(self, segments: Sequence[_Segment]) -> None:
        """Run the model over the segments' own tokens and read the scores that they lack."""
        lengths = [len(segment.ids) for segment in segments]
        for group in token_batches(lengths, self._batching):
            with torch.inference_mode():
                self._forward([segments[index] for index in group])

    def _forward(self, group: Sequence[_Segment]) -> None:
        scorer = self._scorer
        scorer.tokens += sum(len(segment.own) for segment in group)
        width = max(segment.start for segment in group)
        ids, own = pad_batch([segment.own for segment in group], 0)
        starts = torch.tensor([[segment.start] for segment in group])
        past = (torch.arange(width)[None] < starts).long()
        device = scorer.backbone.device
        output = scorer.backbone(
            input_ids=ids.to(device),
            attention_mask=torch.cat([past, own], dim=1).to(device),
            position_ids=(starts + torch.arange(ids.shape[1])).to(device),
            past_key_values=_cache(group, width),
            use_cache=True,
        )
        for row, segment in enumerate(group):
            span = slice(width, width + len(segment.own))
            # A copy: a part of the batch's tensor would keep all of it.
            segment.layers = [
                (layer.keys[row, :, span].clone(), layer.values[row, :, span].clone())
                for layer in output.past_key_values.layers
            ]
        places = [
            (row, end - segment.start)
            for row, segment in enumerate(group)
            for end in segment.ends[len(segment.scores) :]
        ]
        if not places:
            return
        rows, columns = zip(*places, strict=True)
        states = output.last_hidden_state[list(rows), list(columns)]
        outputs = scorer.head(states.to(next(scorer.head.parameters()).dtype))
        scores = scorer.format.readout.scores(outputs).tolist()
        for (row, _), score in zip(places, scores, strict=True):
            group[row].scores.append(score)


def _agreement(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many of the same tokens two sequences begin."""
    pairs = zip(one, other, strict=False)
    shorter = min(len(one), len(other))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), shorter)


def _cache(group: Sequence[_Segment], width: int) -> Any:
    """What comes before each segment, padded on the right to `width`; None where nothing does."""
    from transformers import DynamicCache

    if width == 0:
        return None
    rows = [
        segment.parent.before(segment.start) if segment.parent is not None else []
        for segment in group
    ]
    like = next(row for row in rows if row)
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(like):
        padded = []
        for side, tensor in enumerate((keys, values)):
            heads, _, size = tensor.shape
            whole = tensor.new_zeros((len(group), heads, width, size))
            for place, row in enumerate(rows):
                if row:
                    whole[place, :, : row[layer][side].shape[1]] = row[layer][side]
            padded.append(whole)
        cache.update(padded[0], padded[1], layer)
    return cache

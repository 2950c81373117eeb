"""Scores on transformers: one forward a batch, heads at the places that are read and nowhere else.

The vocabulary's output embedding is the dearest layer of a language model; of a family that reads
two of its rows, only these two are computed, and only there. Of a family that reads prefixes, each
a sequence of its own, what they share is computed once (`prm.scorers.tree`).

On a CPU the solutions of a batch stand one after another in one row, where the model can be shown
to keep them apart (`prm.attention`), so that nothing is padded. Elsewhere they are padded to the
longest: on a GPU attention solution by solution would be many small kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from prm.attention import moving_rotary, packed, packs
from prm.errors import CheckpointError, ConfigError, RecordError
from prm.records import Failure, Solution, StepScores
from prm.render import Branched, Rendered
from prm.scorers.base import (
    Batching,
    ScorerConfig,
    declared_threshold,
    forward_tokens,
    model_name,
    reference_kind,
    reference_text,
    result,
    token_batches,
)
from prm.scorers.tree import last_states, require_exact
from prm.zoo import weights
from prm.zoo.entry import Threshold
from prm.zoo.family import Family

if TYPE_CHECKING:
    from prm.zoo.family import ReferenceKind

Item = TypeVar("Item", bound=Rendered | Branched)


class TransformersScorer:
    """Scores with a checkpoint of any family that reads hidden states.

    Args:
        config: see `ScorerConfig`.
        folder: where the checkpoint's files lie.
        family: what the checkpoint is.

    Attributes:
        backbone: from token ids to hidden states.
        head: from hidden states to outputs.
        format: the family's, bound to this checkpoint.
        context: the most tokens of a solution.
        batching: see `ModelScorer`; where nothing is padded, a batch is one packed row.

    Raises:
        CheckpointError: the folder is not such a checkpoint.
        ConfigError: no such device or dtype, or a `max_length` that the checkpoint does not have.
    """

    def __init__(self, config: ScorerConfig, folder: Path, family: Family) -> None:
        device = choose_device(config.device)
        check_dtype(config.dtype)
        self.name = model_name(config)
        self.family = family.entry.family
        tokenizer = weights.load_tokenizer(folder)
        self.format = family.bind(tokenizer, folder, config.model)
        self.backbone = weights.load_backbone(folder, dtype=config.dtype, device=device)
        if self.format.branched:
            require_exact(self.backbone)
        readout = self.format.readout
        self.head = weights.load_head(
            folder, readout.head, outputs=readout.outputs, like=self.backbone, tokens=readout.tokens
        )
        self.context = choose_context(config, self.format.context, self.backbone.config)
        self.reference: ReferenceKind = reference_kind(
            config,
            self.format.reference,
            family=self.family,
            takes_reference=family.entry.takes_reference,
        )
        self.batching = self._batching(config)
        self.tokens = 0
        # A thread that leaves `packed` would take it from others amid their layers.
        self._one_at_a_time = threading.Lock()
        pad = self.backbone.config.pad_token_id
        self._pad_id = 0 if pad is None else int(pad)

    @property
    def threshold(self) -> Threshold | None:
        """See `ModelScorer`."""
        return declared_threshold(self.format, self.reference)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """Score solutions; the batches formed inside do not change a score beyond rounding.

        Returns:
            One `StepScores`, or `Failure` where a solution does not fit the model, per
            solution and in the order given.
        """
        return score_rendered(
            batch,
            self._render,
            self._forward,
            name=self.name,
            context=self.context,
            batching=self.batching,
        )

    def close(self) -> None:
        """See `ModelScorer.close`."""
        del self.backbone, self.head

    def _batching(self, config: ScorerConfig) -> Batching:
        device = self.backbone.device.type
        if moving_rotary(self.backbone.config) is not None:
            return Batching(1, pads=True)  # each alone
        pads = self.format.branched or device != "cpu" or not packs(self.backbone, self.context)
        return Batching(forward_tokens(config, device), pads)

    def _render(self, solution: Solution) -> Rendered | Branched:
        reference = reference_text(solution, self.reference)
        return self.format.render(solution.problem, solution.steps, reference)

    def _forward(self, group: Sequence[Rendered | Branched]) -> list[list[float]]:
        self.tokens += sum(map(_read, group))
        with torch.inference_mode():
            outputs = self.head(self._states(group).to(next(self.head.parameters()).dtype))
            scores = iter(self.format.readout.scores(outputs).tolist())
        counts = [
            len(item.branches) if isinstance(item, Branched) else len(item.step_ends)
            for item in group
        ]
        return [[next(scores) for _ in range(count)] for count in counts]

    def _states(self, group: Sequence[Rendered | Branched]) -> torch.Tensor:
        """The hidden states that are read, `[steps of all, hidden]`."""
        branched = [item for item in group if isinstance(item, Branched)]
        if branched:
            return last_states(self.backbone, branched, self._pad_id)
        rendered = [item for item in group if isinstance(item, Rendered)]
        if not self.batching.pads:
            return self._packed_states(rendered)
        ids, _ = pad_batch([item.input_ids for item in rendered], self._pad_id)
        # A causal model sees nothing of what follows a token, so padding on the right needs no
        # mask, and attention without one is faster.
        hidden: torch.Tensor = self.backbone(
            input_ids=ids.to(self.backbone.device), use_cache=False
        ).last_hidden_state
        rows = [row for row, item in enumerate(rendered) for _ in item.step_ends]
        return hidden[rows, [end for item in rendered for end in item.step_ends]]

    def _packed_states(self, group: Sequence[Rendered]) -> torch.Tensor:
        ids = torch.tensor([[token for item in group for token in item.input_ids]])
        places = torch.cat([torch.arange(len(item.input_ids)) for item in group])[None]
        with self._one_at_a_time, packed(self.backbone):
            hidden: torch.Tensor = self.backbone(
                input_ids=ids, position_ids=places, use_cache=False
            ).last_hidden_state
        ends, start = [], 0
        for item in group:
            ends += [start + end for end in item.step_ends]
            start += len(item.input_ids)
        return hidden[0, ends]


def score_rendered(
    batch: Sequence[Solution],
    render: Callable[[Solution], Item],
    forward: Callable[[Sequence[Item]], Sequence[list[float] | str]],
    *,
    name: str,
    context: int,
    batching: Batching,
) -> list[StepScores | Failure]:
    """Render solutions, form batches of about one length, and put the scores in order again.

    Args:
        batch: the solutions.
        render: raises `RecordError` where a solution cannot be rendered.
        forward: from renderings to a list of scores each, or why there are none.
        name: see `StepScorer`.
        context: the most tokens that one sequence of a solution may have.
        batching: what one call of `forward` may be given.
    """
    results: list[StepScores | Failure | None] = [None] * len(batch)
    rendered: list[tuple[int, Item]] = []
    for index, solution in enumerate(batch):
        try:
            item = render(solution)
            check_length(item, context)
            rendered.append((index, item))
        except RecordError as error:
            results[index] = Failure(id=solution.id, reason=str(error))
    lengths = [_read(item) for _, item in rendered]
    for group in token_batches(lengths, batching):
        scores = forward([rendered[index][1] for index in group])
        for index, values in zip(group, scores, strict=True):
            place = rendered[index][0]
            results[place] = (
                Failure(id=batch[place].id, reason=values)
                if isinstance(values, str)
                else result(batch[place], name, values)
            )
    return [item for item in results if item is not None]


def _read(item: Rendered | Branched) -> int:
    """How many tokens a model reads for a rendering."""
    if isinstance(item, Branched):
        return len(item.trunk) + sum(len(branch.ids) for branch in item.branches)
    return len(item.input_ids)


def check_length(item: Rendered | Branched, context: int) -> None:
    """Refuse a rendering that a model has no room for.

    Raises:
        RecordError: it is too long.
    """
    length = item.longest if isinstance(item, Branched) else len(item.input_ids)
    if length > context:
        raise RecordError(
            f"{length} tokens, more than max_length {context}; nothing is cut", field="steps"
        )


def pad_batch(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids on the right.

    Returns:
        ids and attention mask, both `[batch, longest]`, int64.
    """
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = 1
    return ids, mask


def choose_device(device: str) -> str:
    """The torch device of this name.

    Raises:
        ConfigError: there is none here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this torch has no CUDA device; use auto or cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # the latter from a torch built without a backend
        raise ConfigError(
            f"device {device!r} is no torch device here; use auto, cpu or cuda"
        ) from None
    return device


def check_dtype(dtype: str) -> None:
    """Refuse a name that is no torch dtype's.

    Raises:
        ConfigError: says what to use.
    """
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ConfigError(f"dtype {dtype!r} is no torch dtype; use auto, float32 or bfloat16")


def choose_context(config: ScorerConfig, declared: int | None, model: Any) -> int:
    """The most tokens of a solution: what is asked for, else the checkpoint's own.

    Args:
        config: its `max_length` is what is asked for.
        declared: what the checkpoint was made for.
        model: the model's configuration.

    Raises:
        ConfigError: more is asked for than the checkpoint was made for.
        CheckpointError: nothing says how long a solution may be.
    """
    known = [
        number
        for number in (declared, getattr(model, "max_position_embeddings", None))
        if number is not None
    ]
    if not known:
        if config.max_length is None:
            raise CheckpointError(
                f"{config.model}: nothing says how many tokens it takes; set max_length"
            )
        return config.max_length
    most = min(known)
    if config.max_length is not None and config.max_length > most:
        raise ConfigError(
            f"{config.model}: max_length is {config.max_length}, but the checkpoint takes {most} "
            "tokens; leave it out or lower it"
        )
    return config.max_length or most

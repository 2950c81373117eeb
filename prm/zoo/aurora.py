"""Our own checkpoint family: a stock token-classification model with a declaration beside it.

The folder loads with `AutoModelForTokenClassification` and no remote code. `prm.json` declares
what the weights cannot say: how to render, what a score means, which threshold was chosen on
which split. The score of a step is read at its step-end token and is a probability that the step
is right. Squared error trains the output itself to be one, so it is read raw and may leave [0, 1];
a loss of `LOGITS` trains a logit, and the score is its sigmoid. A head of two outputs has the logit
right − wrong.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prm import jsonl
from prm.errors import CheckpointError, RecordError
from prm.records import SCHEMA_VERSION, STRICT
from prm.render import Rendered, Renderer, RenderSettings
from prm.zoo.catalog import read_config
from prm.zoo.entry import Entry, Threshold
from prm.zoo.family import Family, Format, Readout, ReferenceKind

DECLARATION = "prm.json"

LOGITS = ("binary_cross_entropy", "two_class", "ranking")
"""Losses that train a logit. That of `ranking` is PQM's Q-value, the logit of the probability that
the right answer is still reached (arXiv 2410.11287, section 3.1)."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What `prm.json` holds.

    Attributes:
        render: how solutions become token ids.
        reference: what training put in the reference's place.
        reference_drop: how often training left it out.
        loss: the loss that made the weights; it decides how a score is read, see `LOGITS`.
        meaning: what a score is.
        threshold: see `Threshold`; None where none was chosen.
        threshold_without_reference: the same for scores of a model that takes references and
            is given none: they are less sure, so another cut is right.
        base: the model that training started from.
    """

    __pydantic_config__ = STRICT

    render: RenderSettings
    reference: ReferenceKind
    reference_drop: float
    loss: str
    base: str
    threshold: Threshold | None = None
    threshold_without_reference: Threshold | None = None
    meaning: str = "raw score; about the probability that the step is right"
    schema_version: int = SCHEMA_VERSION


def raw_scores(logits: Any) -> Any:
    """Raw scores of a head's outputs, as losses take them, in float32.

    Args:
        logits: a tensor, `[..., 1]`, or `[..., 2]` with the outputs for wrong and for right.

    Returns:
        the one output, or the second less the first, `[...]`.
    """
    if logits.shape[-1] == 1:
        return logits[..., 0].float()
    return logits[..., 1].float() - logits[..., 0].float()


def write_declaration(folder: str | Path, declaration: Declaration) -> None:
    """Write `prm.json` into a checkpoint folder."""
    line = jsonl.encode(declaration)
    text = json.dumps(json.loads(line), indent=1, ensure_ascii=False)
    jsonl.write_text(Path(folder) / DECLARATION, text + "\n")


def read_declaration(folder: str | Path) -> Declaration:
    """Read `prm.json`.

    Raises:
        CheckpointError: the folder or the file is missing or not understood.
    """
    path = Path(folder) / DECLARATION
    if not path.is_file():
        missing = DECLARATION if Path(folder).is_dir() else "such model folder"
        raise CheckpointError(
            f"{folder}: no {missing}; give the `model` folder that `prm train` left"
        )
    try:
        declaration = jsonl.decode(path.read_bytes(), Declaration, path=path)
    except RecordError as error:
        raise CheckpointError(f"{error}; was it made by another version?") from None
    if declaration.schema_version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: schema version {declaration.schema_version}, this is {SCHEMA_VERSION}"
        )
    return declaration


def _readout(loss: str, outputs: int) -> Readout:
    if loss in LOGITS:
        return Readout(head="score", how="sigmoid" if outputs == 1 else "probability")
    return Readout(head="score", how="raw" if outputs == 1 else "difference")


class AuroraFormat(Format):
    """The declared rendering of one of our checkpoints.

    Args:
        tokenizer: the checkpoint's.
        folder: where `prm.json` and `config.json` lie.

    Raises:
        CheckpointError: the declaration is missing, not understood, or allows more tokens than the
            model has positions; or the head has neither one nor two outputs.
    """

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        self.declaration = read_declaration(folder)
        config = read_config(folder)
        labels = len(config.get("id2label") or ()) or 2
        if labels not in (1, 2):
            raise CheckpointError(f"{folder}: {labels} labels; this family has one or two")
        positions = config.get("max_position_embeddings")
        self.context = most = self.declaration.render.max_length
        if positions is not None and most > positions:
            raise CheckpointError(
                f"{folder / DECLARATION}: max_length {most} is more than the model's "
                f"{positions} positions (max_position_embeddings); lower it"
            )
        self.renderer = Renderer(tokenizer, self.declaration.render)
        self.readout = _readout(self.declaration.loss, labels)
        self.reference = self.declaration.reference
        self.threshold = self.declaration.threshold
        self.threshold_without_reference = self.declaration.threshold_without_reference

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """See `Format.render`."""
        return self.renderer.render(problem, steps, reference)


FAMILY = Family(
    entry=Entry(
        family="aurora",
        checkpoints=(),
        architecture="any decoder of transformers, stock token classification of one or two labels",
        template="as `prm.json` declares: a user turn with the reference or that there is none, "
        "then steps, each with its end",
        positions="the last token of each step's end",
        readout="the output, or σ of it after a loss over logits; of two outputs, right less wrong",
        passes="one forward a solution",
        meaning="as `prm.json` declares",
        bounds=None,
        takes_reference=True,
        backends=("transformers", "vllm"),
        source="arXiv 2502.11520; docs/training.md",
    ),
    bind=lambda tokenizer, folder, name: AuroraFormat(tokenizer, folder),
    marker=DECLARATION,
)

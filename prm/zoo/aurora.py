"""Our own checkpoint family: a stock token-classification model with a declaration beside it.

The folder loads with `AutoModelForTokenClassification` and no remote code. `prm.json` declares
what the weights cannot say: how to render, what a score means, which threshold was chosen on
which split. The score of a step is read at its step-end token: the raw output of a head of one,
the difference right − wrong of a head of two. Trained by squared error it estimates the
probability that the step is right and may leave [0, 1]; `meaning` says what it is otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prm import jsonl
from prm.errors import CheckpointError, RecordError
from prm.records import SCHEMA_VERSION, STRICT, Solution
from prm.render import Renderer, RenderSettings
from prm.run import fingerprint

DECLARATION = "prm.json"

ReferenceKind = Literal["worked", "answer", "none"]
"""What the model is told: the worked solution where there is one (else the final answer), the
final answer alone, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A cut on the raw score below which a step counts as wrong, and where it was chosen."""

    value: float
    split: str
    metric: str


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What `prm.json` holds.

    Attributes:
        render: how solutions become token ids.
        reference: what training put in the reference's place.
        reference_drop: how often training left it out.
        loss: the loss that made the weights.
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
    """Scores of a head's outputs, in float32.

    Args:
        logits: a tensor, `[..., 1]`, or `[..., 2]` with the outputs for wrong and for right.

    Returns:
        the one output, or the second less the first, `[...]`.
    """
    if logits.shape[-1] == 1:
        return logits[..., 0].float()
    return logits[..., 1].float() - logits[..., 0].float()


def reference_text(solution: Solution, kind: ReferenceKind) -> str | None:
    """The text that stands for the reference of a solution, or None."""
    if kind == "none":
        return None
    if kind == "worked" and solution.reference is not None:
        return solution.reference
    return solution.answer


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


def identify(folder: str | Path) -> str:
    """What identifies a checkpoint's content: a hash of its files.

    Raises:
        CheckpointError: as `read_declaration`.
    """
    read_declaration(folder)
    return fingerprint(folder)


def load(folder: str | Path, *, device: str, dtype: str) -> tuple[Any, Renderer, Declaration]:
    """Load model, renderer and declaration of a checkpoint.

    Args:
        folder: what `prm train` left in `model`.
        device: a torch device.
        dtype: a torch dtype's name, or `auto` for that of the weights.

    Raises:
        CheckpointError: the folder does not hold such a checkpoint, or the declaration allows
            more tokens than the model has positions.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    declaration = read_declaration(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        _require_files(Path(folder), tokenizer)
        model, loading = AutoModelForTokenClassification.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0]}") from None
    if loading["missing_keys"]:  # transformers would draw them at random
        raise CheckpointError(f"{folder}: no weights for {min(loading['missing_keys'])}")
    if model.config.num_labels not in (1, 2):
        raise CheckpointError(
            f"{folder}: {model.config.num_labels} labels; this family has one or two"
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and declaration.render.max_length > positions:
        raise CheckpointError(
            f"{Path(folder) / DECLARATION}: max_length {declaration.render.max_length} is more "
            f"than the model's {positions} positions (max_position_embeddings); lower it"
        )
    return model.to(device).eval(), Renderer(tokenizer, declaration.render), declaration


def _require_files(folder: Path, tokenizer: Any) -> None:
    # Where its files are missing, transformers makes a tokenizer without a vocabulary.
    vocabulary = sorted(set(tokenizer.vocab_files_names.values()))
    for names in (["tokenizer_config.json"], vocabulary):
        if names and not any((folder / name).is_file() for name in names):
            raise CheckpointError(
                f"{folder}: tokenizer files are missing (no {' or '.join(names)}); give the whole "
                "`model` folder that `prm train` left"
            )

"""A hash of what a checkpoint is shown: equal hashes, equal input for the same solution."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from prm.errors import RecordError
from prm.render import Rendered
from prm.scorers import ModelScorer, ScorerConfig
from prm.zoo import catalog
from prm.zoo.critique import Asking
from prm.zoo.family import Format, GenerativeFamily

PROBLEM = "What is 2 + 3?"
STEPS = ("2 + 3 = 5.", "So the answer is 5.")
REFERENCE = "2 + 3 = 5"


def digest(scorer: ModelScorer, config: ScorerConfig) -> str | None:
    """16 hexadecimal digits of how a checkpoint is used.

    Of a family that renders: of its name, its context, and the token ids and places of a fixed
    solution with and without a reference. Of one that writes critiques: of its name and the first
    requests about that solution, sampling settings among them. None of anything else.

    Args:
        scorer: the loaded checkpoint.
        config: how it was loaded.
    """
    family = catalog.family(scorer.family)
    form = getattr(scorer, "format", None)
    parts: list[Any] = [scorer.family]
    if isinstance(family, GenerativeFamily):
        settings = config.critique
        asking = Asking(
            key="",
            samples=settings.samples,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
        )
        parts.append(repr(next(family.critique(PROBLEM, STEPS, asking))))
    elif isinstance(form, Format):
        parts.append(form.context)
        parts += [_rendered(form, reference) for reference in (None, REFERENCE)]
    else:
        return None
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _rendered(form: Format, reference: str | None) -> Any:
    try:
        item = form.render(PROBLEM, STEPS, reference)
    except RecordError as error:  # a context that does not hold even this
        return str(error)
    if isinstance(item, Rendered):
        return [item.input_ids, item.step_ends]
    return [item.trunk, [[branch.start, branch.ids] for branch in item.branches]]

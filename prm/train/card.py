"""The model card that goes into every checkpoint."""

from __future__ import annotations

from pathlib import Path

from prm import jsonl
from prm.zoo.aurora import Declaration
from prm.zoo.entry import Threshold

_CARD = """---
library_name: transformers
pipeline_tag: token-classification
tags: [process-reward-model]
---

# A process reward model

One score per step of a solution: {meaning}. {threshold}

| | |
|---|---|
| started from | {base} |
| loss | {loss} |
| reference in the prompt | {reference}, left out with probability {drop} |
| longest input | {max_length} tokens |
| on held-out problems | {measured} |
{without}
The label of a step is what its annotators voted, verified against the reference answer; it is
not a proof. How a solution becomes token ids is declared in `prm.json`.

```python
from prm.scorers import ScorerConfig, load, score

scorer = load(ScorerConfig(model="path/to/this/folder"))
print(score(scorer, "What is 2 + 3?", ["2 + 3 = 5", "The answer is 5."]))
```
"""


def write_card(
    folder: str | Path,
    declaration: Declaration,
    measured: dict[str, float],
    without: dict[str, float] | None,
) -> None:
    """Write `README.md` into a checkpoint folder.

    Args:
        folder: the checkpoint.
        declaration: what it declares.
        measured: the trainer's last evaluation (`eval_loss`, `eval_best_f1`, `eval_auroc`).
        without: the same with references withheld, where the model may do without.
    """
    threshold = _cut(declaration.threshold)
    if declaration.threshold_without_reference is not None:
        threshold += f" Without a reference: {_cut(declaration.threshold_without_reference)}"
    text = _CARD.format(
        meaning=declaration.meaning,
        threshold=threshold,
        base=declaration.base,
        loss=declaration.loss,
        reference=declaration.reference,
        drop=declaration.reference_drop,
        max_length=declaration.render.max_length,
        measured=_figures(measured),
        without=f"| the same, references withheld | {_figures(without)} |\n" if without else "",
    )
    jsonl.write_text(Path(folder) / "README.md", text)


def _cut(threshold: Threshold | None) -> str:
    if threshold is None:
        return "It declares no threshold."
    return (
        f"A step below {threshold.value:.4f} counts as wrong; that cut maximises "
        f"{threshold.metric} on {threshold.split}."
    )


def _figures(measured: dict[str, float]) -> str:
    return (
        f"F1 of wrong steps {measured['eval_best_f1']:.3f}, AUROC {measured['eval_auroc']:.3f}, "
        f"loss {measured['eval_loss']:.4f}"
    )

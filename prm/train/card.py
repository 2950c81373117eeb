"""The model card that goes into every checkpoint."""

from __future__ import annotations

from pathlib import Path

from prm import jsonl
from prm.zoo.aurora import Declaration

_CARD = """---
library_name: transformers
pipeline_tag: token-classification
tags: [process-reward-model]
---

# A process reward model

One raw score per step of a solution: {meaning}. {threshold}

| | |
|---|---|
| started from | {base} |
| loss | {loss} |
| reference in the prompt | {reference}, left out with probability {drop} |
| longest input | {max_length} tokens |
| on held-out problems | F1 of wrong steps {f1:.3f}, AUROC {auroc:.3f}, loss {eval_loss:.4f} |

The label of a step is what its annotators voted, verified against the reference answer; it is
not a proof. How a solution becomes token ids is declared in `prm.json`.

```python
from prm.score import ScorerConfig, TransformersScorer, score
from prm.records import Solution

scorer = TransformersScorer(ScorerConfig(model="path/to/this/folder"))
solution = Solution(id="1", problem="What is 2 + 3?", steps=("2 + 3 = 5", "The answer is 5."))
print(score(scorer, [solution])[0].scores)
```
"""


def write_card(folder: str | Path, declaration: Declaration, measured: dict[str, float]) -> None:
    """Write `README.md` into a checkpoint folder.

    Args:
        folder: the checkpoint.
        declaration: what it declares.
        measured: the trainer's last evaluation (`eval_loss`, `eval_best_f1`, `eval_auroc`).
    """
    cut = declaration.threshold
    threshold = (
        "It declares no threshold."
        if cut is None
        else f"A step below {cut.value:.4f} counts as wrong; that cut maximises {cut.metric} on "
        f"{cut.split}."
    )
    text = _CARD.format(
        meaning=declaration.meaning,
        threshold=threshold,
        base=declaration.base,
        loss=declaration.loss,
        reference=declaration.reference,
        drop=declaration.reference_drop,
        max_length=declaration.render.max_length,
        f1=measured["eval_best_f1"],
        auroc=measured["eval_auroc"],
        eval_loss=measured["eval_loss"],
    )
    jsonl.write_text(Path(folder) / "README.md", text)

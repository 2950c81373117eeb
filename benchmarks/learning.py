"""What a reward model learns in the micro world: from true labels, and from noisy votes.

    python benchmarks/learning.py truth [--seeds 1]
    python benchmarks/learning.py votes [--seeds 5]

`truth`: a model from the micro base learns from true labels, with the reference as its input (left
out half of the time), and is measured on UniversalBench-micro, whose problems it has not seen: F1
of right and of wrong steps, their mean (macro), with the reference given and withheld. The cut is
the checkpoint's own, chosen on its held-out training problems.

`votes`: the labels are those of four voters of whom each flips a true label with probability 0.15,
each by itself, or half of the time all alike. The same model learns from their average (soft) and
from their majority (hard, a tie counts as right); the difference of the two is paired by seed,
which draws the problems, the votes and the order. 95 % intervals over seeds by Student's t.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.micro.problems import micro_problems  # noqa: E402 - needs the path above
from examples.micro.world import POLICIES, solutions  # noqa: E402
from prm import jsonl, metrics  # noqa: E402
from prm.records import LabelledSolution  # noqa: E402
from prm.render import RenderSettings  # noqa: E402
from prm.scorers import ScorerConfig, load, score_all  # noqa: E402
from prm.sources import Source  # noqa: E402
from prm.train import stage  # noqa: E402

VOTERS, FLIPS = 4, 0.15
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, for 1 to 9 degrees of freedom."""
BENCHMARK = ROOT / "universalbench/data/micro.jsonl"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Learning in the micro world.")
    parser.add_argument("part", choices=("truth", "votes"))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--problems", type=int)
    options = parser.parse_args()
    if options.part == "truth":
        truth(options.seeds or 1, options.problems or 3000)
    else:
        votes(options.seeds or 5, options.problems or 600)


def truth(seeds: int, problems: int) -> None:
    """Learn from true labels."""
    rows = []
    for seed in range(seeds):
        began = time.monotonic()
        with trained(world(problems, seed), seed, epochs=3) as model:
            minutes = (time.monotonic() - began) / 60
            row = {"seed": seed, "minutes": round(minutes, 1)}
            row |= {f"{name}_with": value for name, value in measured(model, "worked").items()}
            row |= {f"{name}_without": value for name, value in measured(model, "none").items()}
        print(row, flush=True)
        rows.append(row)
    print(json.dumps({"problems": problems, "rows": rows}))


def votes(seeds: int, problems: int) -> None:
    """Learn from votes, soft and hard."""
    result: dict[str, object] = {"problems": problems, "seeds": seeds}
    for name, together in (("independent", 0.0), ("correlated", 0.5)):
        differences: dict[str, list[float]] = {"macro_f1": [], "auroc": []}
        for seed in range(seeds):
            found = {}
            for labels in ("soft", "hard"):
                items = voted(world(problems, seed), seed, together, labels)
                with trained(items, seed, epochs=3) as model:
                    found[labels] = measured(model, "worked")
                print(name, seed, labels, found[labels], flush=True)
            for key, values in differences.items():
                values.append(found["soft"][key] - found["hard"][key])
        result[name] = {key: interval(values) for key, values in differences.items()}
        print(name, result[name], flush=True)
    print(json.dumps(result))


def world(problems: int, seed: int) -> list[LabelledSolution]:
    """Solutions with true labels: one by each policy of each problem."""
    return solutions(micro_problems(1000 + seed, problems), POLICIES, samples=1, seed=seed)


def voted(
    items: Sequence[LabelledSolution], seed: int, together: float, labels: str
) -> list[LabelledSolution]:
    """The same with the labels that noisy voters come to; `together` is how often all err alike."""
    rng = random.Random(f"votes {seed}")
    found = []
    for item in items:
        new = []
        for label in item.labels:
            alike, common = rng.random() < together, rng.random() < FLIPS
            flips = [rng.random() < FLIPS for _ in range(VOTERS)]
            mean = sum(abs(label - (common if alike else flip)) for flip in flips) / VOTERS
            new.append(mean if labels == "soft" else float(mean >= 0.5))
        found.append(replace(item, labels=tuple(new)))
    return found


@contextlib.contextmanager
def trained(items: Sequence[LabelledSolution], seed: int, epochs: int) -> Iterator[Path]:
    """The folder of a model that learnt from these."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "labelled.jsonl"
        jsonl.write(data, items)
        config = stage.Config(
            out=f"{folder}/run",
            sources=[Source(path=str(data))],
            model=str(ROOT / "examples/micro/models/base"),
            render=RenderSettings(system="", max_length=1024),
            held_out=0.1,
            seed=seed,
            trainer={
                "num_train_epochs": epochs,
                "per_device_train_batch_size": 32,
                "learning_rate": 3.0e-4,
                "warmup_steps": 20,
                "train_sampling_strategy": "group_by_length",
                "logging_steps": 50,
                "save_strategy": "no",
            },
        )
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            stage.run(config)
        yield Path(folder) / "run/model"


def measured(model: Path, reference: str) -> dict[str, float]:
    """F1 of both classes, their mean, and AUROC on the benchmark."""
    items = list(jsonl.read(BENCHMARK, LabelledSolution))
    scorer = load(
        ScorerConfig(model=str(model), batch_tokens=8192, reference=reference)  # type: ignore[arg-type]
    )
    cut = scorer.threshold
    assert cut is not None
    rows = [row.scores for row in score_all(scorer, [item.solution for item in items])]
    wrong = np.array([label < 0.5 for item in items for label in item.labels])
    scores = np.array(list(chain(*rows)))
    f1_wrong = metrics.step_f1(wrong, scores < cut.value).f1
    f1_right = metrics.step_f1(~wrong, scores >= cut.value).f1
    return {
        "macro_f1": round((f1_wrong + f1_right) / 2, 4),
        "f1_wrong": round(f1_wrong, 4),
        "f1_right": round(f1_right, 4),
        "auroc": round(metrics.auroc(wrong, scores), 4),
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval of the mean."""
    mean = statistics.fmean(values)
    half = 0.0
    if len(values) > 1:
        spread = statistics.stdev(values) / len(values) ** 0.5
        half = T975[len(values) - 2] * spread
    low, high = mean - half, mean + half
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


if __name__ == "__main__":
    main()

"""What the micro models can do on held-out problems, and the benchmark made from them.

    python examples/micro/measure.py --models examples/micro/models

Every policy solves held-out problems once, every fourth in held-out wordings; every label is
exact (`truth`). The judge then judges these solutions under each strategy. `measured.json` beside
the models holds the figures; the solutions of the first problems become UniversalBench-micro.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tqdm import tqdm  # noqa: E402 - needs the path above

from annotate.boundary import split_texts  # noqa: E402
from annotate.judge import JudgeSettings, judge  # noqa: E402
from examples.micro import truth  # noqa: E402
from examples.micro.lessons import PROMPTS, STRATEGIES  # noqa: E402
from examples.micro.policies import POLICIES, write_solutions  # noqa: E402
from examples.micro.problems import micro_problems  # noqa: E402
from prm import jsonl, metrics  # noqa: E402
from prm.engines import EngineConfig, load  # noqa: E402
from prm.records import Evidence, Judgment, LabelledSolution, Solution  # noqa: E402
from verify import votes  # noqa: E402

SOLVED, JUDGED, BENCHMARK = 1000, 150, 100
"""Problems: for the policies' accuracy, for the judge, in the benchmark."""
REASONING_TOKENS = 160
"""Of the judge: about 15 a step."""
SEED = 20
"""Of the held-out problems and of the sampling; the demo draws others."""


def solve(models: Path) -> list[LabelledSolution]:
    """What the policies write about held-out problems, with exact labels."""
    problems = micro_problems(SEED, SOLVED, held_out=True)
    wordings = {problem.record.id: problem.wording for problem in problems}
    found = []
    for policy in POLICIES:
        for item in write_solutions(policy, models / policy.name, problems, SEED):
            labels = truth.label(item)
            item.metadata["wording"] = wordings[item.id.split("/")[0]]
            found.append(labelled(item, labels))
    return found


def labelled(item: Solution, labels: Sequence[float]) -> LabelledSolution:
    """A solution with its exact labels."""
    evidence = Evidence(check="micro_world", verdict="pass", reason="checked against the problem")
    return LabelledSolution(solution=item, labels=tuple(labels), evidence=(evidence,))


def accuracies(items: Sequence[LabelledSolution]) -> dict[str, dict[str, float]]:
    """Share of solutions with the right answer, for each policy, by wording."""
    table = {}
    for policy in POLICIES:
        own = [item for item in items if item.solution.generator == policy.name]
        row = {}
        for wording in ("train", "held_out"):
            hits = [
                truth.answered(i.solution) for i in own if i.solution.metadata["wording"] == wording
            ]
            row[wording] = sum(hits) / len(hits)
        hits = [truth.answered(item.solution) for item in own]
        low, high = metrics.mean_interval(hits)
        wrong = [label == 0.0 for item in own for label in item.labels]
        table[policy.name] = row | {
            "pass_at_1": sum(hits) / len(hits),
            "low": low,
            "high": high,
            "wrong_steps": sum(wrong) / len(wrong),
        }
    return table


def judgments(
    models: Path, items: Sequence[LabelledSolution]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """F1 of wrong steps of each strategy and of their majority; and of the step separation."""
    engine = load(EngineConfig(model=str(models / "judge"), kind="transformers", dtype="float32"))
    settings = JudgeSettings(prompts=str(PROMPTS), max_tokens=REASONING_TOKENS)
    cast = judge([item.solution for item in items], engine, STRATEGIES, settings=settings)
    rows = list(tqdm(cast, desc="judge", total=len(items)))
    texts = [" ".join(item.solution.steps) for item in items]
    cut = split_texts(texts, engine, prompts=str(PROMPTS))
    engine.close()
    wrong = [[label == 0.0 for label in item.labels] for item in items]
    table = {}
    for name in STRATEGIES:
        table[name] = _strategy(wrong, [[j for j in row if j.strategy == name] for row in rows])
    table["ensemble"] = _strategy(wrong, rows)
    exact = [a == b.solution.steps for a, b in zip(cut, items, strict=True)]
    return table, {"exact": sum(exact) / len(exact)}


def _strategy(
    wrong: Sequence[Sequence[bool]], rows: Sequence[Sequence[Judgment]]
) -> dict[str, float]:
    """How well the mean of these judgments, cut at 0.5, finds the wrong steps."""
    means = [votes.count(row, len(truth)).labels for row, truth in zip(rows, wrong, strict=True)]
    said = [[label is not None and label < 0.5 for label in row] for row in means]
    counts = metrics.step_f1(list(chain(*wrong)), list(chain(*said)))
    low, high = metrics.step_f1_interval(wrong, said)
    return {
        "f1": counts.f1,
        "low": low,
        "high": high,
        "precision": counts.precision,
        "recall": counts.recall,
        "unusable": sum(judgment.error is not None for row in rows for judgment in row),
    }


def write_benchmark(items: Sequence[LabelledSolution], path: Path) -> None:
    """The solutions of the first problems, whatever they are like."""
    names = {problem.record.id for problem in micro_problems(SEED, BENCHMARK, held_out=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    jsonl.write(path, [item for item in items if item.solution.id.split("/")[0] in names])


def measure(models: Path, benchmark: Path | None) -> dict[str, Any]:
    """All figures; see the module."""
    items = solve(models)
    names = {problem.record.id for problem in micro_problems(SEED, JUDGED, held_out=True)}
    judged = [item for item in items if item.solution.id.split("/")[0] in names]
    strategies, splitting = judgments(models, judged)
    figures = {"policies": accuracies(items), "judge": strategies, "split": splitting}
    rounded = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 4))
    jsonl.write_text(models / "measured.json", json.dumps(rounded, indent=1) + "\n")
    if benchmark is not None:
        write_benchmark(items, benchmark)
    return rounded


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the micro models.")
    parser.add_argument("--models", required=True, type=Path)
    parser.add_argument("--benchmark", type=Path, help="file to write UniversalBench-micro to")
    options = parser.parse_args()
    print(json.dumps(measure(options.models, options.benchmark), indent=1))


if __name__ == "__main__":
    main()

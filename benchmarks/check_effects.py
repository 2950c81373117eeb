"""What each check of `verify` does to the quality of labels, one check at a time.

    python benchmarks/check_effects.py [--data FOLDER] [--micro 0]

Labels by voters without a model, on ProcessBench (human labels): GSM8K's problems have a worked
reference, MATH's only the data set's word on the final answer. With `--micro N` also labels by the
micro judge on the first N solutions by policies of UniversalBench-micro, whose truth is exact.

For each check alone: how many solutions it fails; `doubted`, the share of these whose labels miss
the first error, beside that of all solutions; and with the check correcting or rejecting,
precision and recall of wrong steps and the F1 of the first error, with a 95 % bootstrap interval
over solutions. A rejection is measured on what is kept. Where nobody votes on a step it counts as
right, and steps after a human's first error are left out: ProcessBench does not label them.

FOLDER holds `processbench/` and `gsm8k/` (the environment variable PRM_DATA; else `../shared/data`
beside the repository). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from annotate.judge import JudgeSettings, judge  # noqa: E402 - needs the path above
from annotate.rules import vote  # noqa: E402
from prm import jsonl, metrics  # noqa: E402
from prm.engines import EngineConfig, load  # noqa: E402
from prm.records import (  # noqa: E402
    Annotation,
    Judgment,
    LabelledSolution,
    Rejection,
    Solution,
    first_error,
)
from prm.sources import Source, solutions  # noqa: E402
from verify.checker_pool import Comparison  # noqa: E402
from verify.decision import CHECKS, WITHOUT_BETTER, Rules, decide  # noqa: E402
from verify.outcomes import outcomes  # noqa: E402

STRATEGIES = ("p0", "p1", "p2", "p3")
OFF = Rules(**dict.fromkeys(CHECKS, "skip"))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Item:
    """A solution and its truth.

    Attributes:
        solution: the solution.
        compared: its final answer against the reference answer.
        truth: for each step whether it is wrong, as far as that is known.
        first: the first wrong step, -1 where there is none.
    """

    solution: Solution
    compared: Comparison | None
    truth: tuple[bool, ...]
    first: int


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The effect of each check on labels.")
    beside = ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PRM_DATA", beside)))
    parser.add_argument("--micro", type=int, default=0, metavar="N")
    options = parser.parse_args()
    result: dict[str, dict[str, object]] = {}
    for name in ("gsm8k", "math"):
        items = processbench(options.data, name)
        cast = vote([item.solution for item in items], ("arithmetic", "reference"))
        voters = {"arithmetic": [[row[0]] for row in cast]}
        if name == "gsm8k":
            voters |= {"reference": [[row[1]] for row in cast], "both": [list(row) for row in cast]}
        for voter, judgments in voters.items():
            result[f"{name}, {voter}"] = effects(f"{name}, {voter}", items, judgments)
    if options.micro:
        items = micro(options.micro)
        cast = list(judged([item.solution for item in items]))
        for index, strategy in enumerate(STRATEGIES):
            rows = [[row[index]] for row in cast]
            result[f"micro, {strategy}"] = effects(f"micro, {strategy}", items, rows)
        result["micro, all"] = effects("micro, all", items, cast)
    print(json.dumps(result))


def processbench(data: Path, name: str) -> list[Item]:
    """The solutions of one subset, with references where they are known."""
    references = Source(format="gsm8k", path=str(data / "gsm8k/test.jsonl"))
    source = Source(format="processbench", path=str(data / f"processbench/{name}.json"))
    if name == "gsm8k":
        source = replace(source, references=references)
    found = list(solutions(source))
    firsts = [solution.metadata["first_error"] for solution in found]
    return [
        Item(
            solution,
            compared,
            tuple(index == first for index in range(len(solution.steps)))[: first + 1 or None],
            first,
        )
        for solution, compared, first in zip(found, outcomes(found), firsts, strict=True)
    ]


def micro(limit: int) -> list[Item]:
    """Solutions with exact labels."""
    path = ROOT / "universalbench/data/micro.jsonl"
    items = list(jsonl.read(path, LabelledSolution))[:limit]
    compared = outcomes([item.solution for item in items])
    return [
        Item(
            item.solution,
            how,
            tuple(label < 0.5 for label in item.labels),
            first_error(item.labels),
        )
        for item, how in zip(items, compared, strict=True)
    ]


def judged(texts: Sequence[Solution]) -> list[list[Judgment]]:
    """The micro judge under four strategies."""
    model = str(ROOT / "examples/micro/models/judge")
    engine = load(EngineConfig(model=model, kind="transformers", dtype="float32"))
    settings = JudgeSettings(prompts=str(ROOT / "examples/micro/prompts"), max_tokens=160)
    return [list(row) for row in judge(texts, engine, STRATEGIES, settings=settings)]


def effects(
    title: str, items: Sequence[Item], cast: Sequence[Sequence[Judgment]]
) -> dict[str, object]:
    """Every check alone, and the default rules."""
    annotations = [
        Annotation(solution=item.solution, judgments=tuple(map(sure, row)))
        for item, row in zip(items, cast, strict=True)
    ]
    print(f"\n{title}: {len(items)} solutions")
    head = f"{'check':<30} {'action':<8} {'fails':>6} {'doubted':>8} {'kept':>6}"
    print(f"{head} {'P':>6} {'R':>6} {'first-error F1':>22}")
    missed = [
        first_error(record.labels) != item.first
        for item, record in zip(items, decided(items, annotations, OFF), strict=True)
        if isinstance(record, LabelledSolution)
    ]

    def run(rules: Rules, check: str, action: str) -> dict[str, float]:
        records = decided(items, annotations, rules)
        return measured(items, records, missed, check, action)

    before = run(OFF, "", "")
    rows: dict[str, object] = {"before": before}
    for check in CHECKS:
        actions = ("reject",) if check in WITHOUT_BETTER else ("correct", "reject")
        for action in actions:
            rules = replace(OFF, **{check: action})
            rows[f"{check}: {action}"] = run(rules, check, action)
    rows["default rules"] = run(Rules(), "default rules", "")
    return rows


def sure(judgment: Judgment) -> Judgment:
    """Where it abstains, the step counts as right."""
    verdicts = tuple(1.0 if verdict is None else verdict for verdict in judgment.verdicts)
    return replace(judgment, verdicts=verdicts, error=None)


def decided(
    items: Sequence[Item], annotations: Sequence[Annotation], rules: Rules
) -> list[LabelledSolution | Rejection]:
    """What the rules make of the votes."""
    return list(decide(annotations, [item.compared for item in items], rules))


def measured(
    items: Sequence[Item],
    records: Sequence[LabelledSolution | Rejection],
    missed: Sequence[bool],
    check: str,
    action: str,
) -> dict[str, float]:
    """Labels against the truth; `missed` tells where those without any check miss it."""
    failed = [
        any(found.check == check and found.verdict == "fail" for found in record.evidence)
        for record in records
    ]
    kept = [
        (item, record)
        for item, record in zip(items, records, strict=True)
        if isinstance(record, LabelledSolution)
    ]
    truth = [item.truth for item, _ in kept]
    said = [[label < 0.5 for label in record.labels][: len(item.truth)] for item, record in kept]
    firsts = [item.first for item, _ in kept]
    named = [first_error(record.labels) for _, record in kept]
    steps = metrics.step_f1(list(chain(*truth)), list(chain(*said)))
    score = metrics.first_error_f1(firsts, named)
    low, high = metrics.first_error_interval(firsts, named)
    doubted = [wrong for wrong, fails in zip(missed, failed, strict=True) if fails or not check]
    row = {
        "fails": sum(failed),
        "doubted": round(100 * sum(doubted) / max(len(doubted), 1), 1),
        "kept": round(100 * len(kept) / len(items), 1),
        "precision": round(100 * steps.precision, 1),
        "recall": round(100 * steps.recall, 1),
        "first_error_f1": round(100 * score.f1, 1),
        "low": round(100 * low, 1),
        "high": round(100 * high, 1),
    }
    interval = f"{row['first_error_f1']} [{row['low']}, {row['high']}]"
    print(
        f"{check or 'before':<30} {action:<8} {row['fails']:>6} {row['doubted']:>8} "
        f"{row['kept']:>6} {row['precision']:>6} {row['recall']:>6} {interval:>22}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()

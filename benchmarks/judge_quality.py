"""How well the micro judge finds wrong steps: each strategy, ensembles, soft verdicts, in sequence.

    python benchmarks/judge_quality.py [--limit 400]

The policies' own solutions in UniversalBench-micro, whose labels are exact, are judged by the
micro judge under the four strategies, with verdicts as it wrote them and with soft ones, and by
sequential voting. F1 is of wrong steps, with a 95 % bootstrap interval over solutions. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from annotate.judge import JudgeSettings, Sequential, judge  # noqa: E402 - needs the path above
from annotate.sequential import NOT_ASKED, SequentialConfig  # noqa: E402
from prm import jsonl, metrics  # noqa: E402
from prm.engines import EngineConfig, load  # noqa: E402
from prm.engines.meter import Meter  # noqa: E402
from prm.records import Judgment, LabelledSolution  # noqa: E402
from verify import votes  # noqa: E402

STRATEGIES = ("p1", "p3", "p0", "p2")
"""The cheap ones first, so that sequential voting spares the others."""
CUTS = (0.25, 0.5, 0.75, 1.0)


def f1(
    wrong: Sequence[Sequence[bool]], cast: Sequence[Sequence[Judgment]], cut: float
) -> dict[str, float]:
    """Of the mean verdict, wrong below `cut`."""
    means = [votes.count(row, len(own)).labels for row, own in zip(cast, wrong, strict=True)]
    said = [[label is not None and label < cut for label in row] for row in means]
    low, high = metrics.step_f1_interval(wrong, said)
    counts = metrics.step_f1(list(chain(*wrong)), list(chain(*said)))
    return {"f1": round(counts.f1, 4), "low": round(low, 4), "high": round(high, 4)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The micro judge against exact labels.")
    parser.add_argument("--limit", type=int, default=400)
    limit = parser.parse_args().limit
    items = list(jsonl.read(ROOT / "universalbench/data/micro.jsonl", LabelledSolution))[:limit]
    wrong = [[label < 0.5 for label in item.labels] for item in items]
    texts = [item.solution for item in items]
    model = str(ROOT / "examples/micro/models/judge")
    meter = Meter(load(EngineConfig(model=model, kind="transformers", dtype="float32")))
    prompts = str(ROOT / "examples/micro/prompts")
    found: dict[str, dict[str, float]] = {}
    tokens: dict[str, int] = {}
    for verdicts in ("chosen", "soft"):
        settings = JudgeSettings(prompts=prompts, max_tokens=160, verdicts=verdicts)
        before = meter.prompt_tokens + meter.completion_tokens
        cast = list(judge(texts, meter, STRATEGIES, settings=settings))
        tokens[verdicts] = meter.prompt_tokens + meter.completion_tokens - before
        for name in sorted(STRATEGIES):
            own = [[judgment for judgment in row if judgment.strategy == name] for row in cast]
            found[f"{verdicts} {name}"] = f1(wrong, own, 0.5)
        for cut in CUTS:
            found[f"{verdicts} ensemble, right from {cut}"] = f1(wrong, cast, cut)
    settings = JudgeSettings(prompts=prompts, max_tokens=160)
    before = meter.prompt_tokens + meter.completion_tokens
    turn = Sequential(config=SequentialConfig(), earlier=repeat(()))
    cast = list(judge(texts, meter, STRATEGIES, settings=settings, sequential=turn))
    tokens["sequential"] = meter.prompt_tokens + meter.completion_tokens - before
    meter.close()
    found["sequential, right from 0.5"] = f1(wrong, cast, 0.5)
    spared = sum(judgment.finish_reason == NOT_ASKED for row in cast for judgment in row)
    for name, row in found.items():
        print(f"{name:32}  {row['f1']:.3f}  [{row['low']:.3f}, {row['high']:.3f}]")
    share = spared / (len(texts) * len(STRATEGIES))
    saved = 1 - tokens["sequential"] / tokens["chosen"]
    print(f"sequential voting: {share:.1%} of calls spared, {saved:.1%} of tokens")
    print(json.dumps({"f1": found, "calls_spared": round(share, 4), "tokens": tokens}))


if __name__ == "__main__":
    main()

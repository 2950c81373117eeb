"""How fast, and in how little memory, annotations pass through the stage, the judge left out.

    python benchmarks/annotation_store.py [--solutions 100000]

Synthetic solutions of 5 to 12 steps are judged under the four strategies by an engine that answers
at once, through the real stage: prompts, parsing, durable writes, merging, counting; then they are
verified. Prints what it measured, last as one line of JSON: judgments a second of the annotation
stage, and the highest resident memory of the process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import annotate.stage  # noqa: E402 - needs the path above
import verify.stage  # noqa: E402
from annotate.stage import Config, JudgeConfig  # noqa: E402
from prm import jsonl  # noqa: E402
from prm.engines import Completion, EngineConfig, Request  # noqa: E402
from prm.engines.fake import ScriptedEngine  # noqa: E402
from prm.records import Solution  # noqa: E402
from prm.sources import Source  # noqa: E402

STRATEGIES = 4


def synthetic(count: int) -> Iterator[Solution]:
    """Solutions of 5 to 12 steps of about 100 characters."""
    rng = random.Random(0)
    for number in range(count):
        steps = tuple(
            f"Step {index}: we take {rng.randint(2, 99)} and {rng.randint(2, 99)}, which are the "
            f"numbers that the question gives, and find {rng.randint(2, 999)}."
            for index in range(rng.randint(5, 12))
        )
        yield Solution(
            id=f"s{number}", problem=f"Question {number}: what comes out?", steps=steps, answer="7"
        )


def answer(request: Request) -> str:
    """Verdicts that depend on the request alone."""
    if request.regex is None:
        return "Every step was looked at and most of them hold."
    steps = request.max_tokens // 2 - 2
    return "[" + ",".join(str(hash((request.seed, i)) & 1) for i in range(steps)) + "]"


class Instant(ScriptedEngine):
    """Forgets the requests that the test double would keep."""

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        answers = super().generate(requests)
        self.requests.clear()
        return answers


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Throughput and memory of the annotation stage.")
    parser.add_argument("--solutions", type=int, default=100_000)
    count = parser.parse_args().solutions
    annotate.stage.load = lambda config: Instant(answer, name=config.name)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "solutions.jsonl"
        jsonl.write(source, synthetic(count))
        judge = JudgeConfig(engine=EngineConfig(model="instant"))
        config = Config(
            out=f"{folder}/annotate", source=Source(path=str(source)), rules=[], judges=[judge]
        )
        began = time.monotonic()
        counts = annotate.stage.run(config)
        annotated = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"annotate: {counts}, {annotated:.1f} s, peak {peak:.0f} MB")
        began = time.monotonic()
        verdict = verify.stage.run(
            verify.stage.Config(
                out=f"{folder}/verify", annotations=f"{folder}/annotate/annotations.jsonl"
            )
        )
        print(f"verify: {verdict}, {time.monotonic() - began:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {
        "judgments": STRATEGIES * count,
        "judgments_per_second": round(STRATEGIES * count / annotated),
        "peak_mb": round(peak),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""How fast, and in how little memory, training data becomes examples.

    python benchmarks/training_data.py [--solutions 100000] [--in-memory]

Synthetic labelled solutions of 5 to 12 steps are written to a file, checked against the problems
of one in fifty, split, rendered once (as before a run's first step) and counted; then examples are
read as an epoch reads them, in one process. `--in-memory` holds the solutions in a list, for
comparison. Prints what it measured, last as one line of JSON: processor seconds of each part, and
the resident memory of the process after its imports and at its highest.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from prm import jsonl  # noqa: E402 - needs the path above
from prm.records import LabelledSolution, Solution  # noqa: E402
from prm.render import Renderer, RenderSettings  # noqa: E402
from prm.train.data import SolutionFile, StepDataset, separate_leaks, split  # noqa: E402
from prm.train.losses import LossConfig  # noqa: E402
from prm.train.scratch import make_tokenizer  # noqa: E402
from prm.train.statistics import summary, text  # noqa: E402

READ = 10_000


def problem(number: int) -> str:
    """A problem's text."""
    return f"Question {number}: how many are there in all, if each of them has {number % 97}?"


def synthetic(count: int) -> Iterator[LabelledSolution]:
    """Solutions of 5 to 12 steps of about 100 characters, two of each problem."""
    rng = random.Random(0)
    for number in range(count):
        steps = tuple(
            f"Step {index}: we take {rng.randint(2, 99)} and {rng.randint(2, 99)}, which are the "
            f"numbers that the question gives, and find {rng.randint(2, 999)}."
            for index in range(rng.randint(5, 12))
        )
        solution = Solution(
            id=f"s{number}",
            problem=problem(number // 2),
            steps=steps,
            answer="7",
            reference=" ".join(f"First {rng.randint(2, 99)}, then more." for _ in range(12)),
            generator=f"policy {number % 5}",
        )
        labels = tuple(rng.choice((0.0, 0.25, 0.75, 1.0)) for _ in steps)
        yield LabelledSolution(solution=solution, labels=labels)


def resident() -> int:
    """The most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """The command line."""
    # Threads would only blur the processor seconds of one process.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parser = argparse.ArgumentParser(description="Time and memory of training data.")
    parser.add_argument("--solutions", type=int, default=100_000)
    parser.add_argument("--in-memory", action="store_true")
    chosen = parser.parse_args()
    tokenizer = make_tokenizer(
        (step for item in synthetic(200) for step in item.solution.steps), 2048
    )
    renderer = Renderer(tokenizer, RenderSettings())
    found: dict[str, float] = {"solutions": chosen.solutions, "mb_after_imports": resident()}
    began = time.process_time()

    def lap(name: str) -> None:
        nonlocal began
        now = time.process_time()
        found[name] = round(now - began, 1)
        print(f"{name}: {found[name]} s, at most {resident()} MB so far")
        began = now

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labelled.jsonl"
        jsonl.write(path, synthetic(chosen.solutions))
        found["file_mb"] = round(path.stat().st_size / 2**20)
        lap("write_s")
        file = SolutionFile(path)
        items: Any = list(file) if chosen.in_memory else file
        lap("open_s")
        clean, leaked = separate_leaks(
            items, (problem(number) for number in range(chosen.solutions // 100))
        )
        lap("leaks_s")
        training, held_out = split(clean, 0.05, seed=0)
        lap("split_s")
        data = StepDataset(
            training,
            renderer,
            loss=LossConfig(),
            reference="worked",
            reference_drop=0.5,
            seed=0,
            too_long="drop",
        )
        lap("render_s")
        print(text(summary(data.solutions(), data.lengths, LossConfig())))
        lap("statistics_s")
        order = list(range(len(data)))
        random.Random(0).shuffle(order)
        tokens = sum(len(data[index]["input_ids"]) for index in order[:READ])
        lap("read_s")
    print(f"{len(training)} to train on, {len(held_out)} held out, {len(leaked)} leaked")
    read = min(READ, len(order))
    found |= {
        "examples_per_second": round(read / found["read_s"]),
        "tokens_per_example": round(tokens / read),
        "mb_peak": resident(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

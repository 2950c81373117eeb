"""The whole pipeline on real language models, from problems to a page to look at.

Writes the world's problems, runs `configs/recipes/demo.yaml` through the `prm` command, and
closes with the numbers that matter. Run the same command again and finished stages are skipped.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from examples.micro.problems import micro_problems  # noqa: E402 - needs the path above
from examples.micro.summary import Summary, summarize, write_page  # noqa: E402
from prm import jsonl  # noqa: E402
from prm.cli import main as prm  # noqa: E402

TRAIN, TEST = 150, 120
"""Problems to annotate and train on, and held-out ones to choose answers for."""

PLAN = """Demo: from problems to a process reward model, offline, on models of 1 to 1.6M parameters.

   1. sample     four policies solve {train} word problems, with errors of their own
   2. split      the judge says where steps begin, in whatever style
   3. annotate   it judges every step under four prompt strategies, with the reference at hand
   4. verify     votes become soft labels; contradictions with the answer are set aside
   5. train      a token-classification PRM learns the soft labels, the reference as its input
   6. annotate, bench   judge and PRM on UniversalBench-micro, where every label is exact
   7. sample, split, score, search   best of 8 by the PRM for the weakest policy
"""

SWITCH = """With real models the same recipe needs other names in configs/recipes/demo.yaml:

   vars:
     weak: {model: Qwen/Qwen2.5-1.5B-Instruct}      # kind is vllm unless said otherwise
     middle: {model: Qwen/Qwen2.5-Math-7B-Instruct}
     strong: {model: Qwen/Qwen2.5-72B-Instruct, options: {tensor_parallel_size: 4}}
     long: {model: Qwen/QwQ-32B, options: {tensor_parallel_size: 2}}
     judge: {model: Qwen/Qwen2.5-72B-Instruct, options: {tensor_parallel_size: 4}}
     base: Qwen/Qwen2.5-Math-7B-Instruct
     prompts: default
     solution_tokens: 8192
     reasoning_tokens: 4096
   and the problems' file, and the trainer's settings of configs/train/qwen2.5-math-7b.yaml."""


def main() -> int:
    """Run the demo; returns the exit code."""
    os.chdir(ROOT)  # the recipe names the shipped models from here
    out = Path("runs/demo")
    print(PLAN.format(train=TRAIN), flush=True)
    began = time.monotonic()
    for name, count, held_out in (("train", TRAIN, False), ("test", TEST, True)):
        problems = [item.record for item in micro_problems(0, count, held_out=held_out)]
        (out / "world").mkdir(parents=True, exist_ok=True)
        jsonl.write(out / "world" / f"{name}_problems.jsonl", problems)
    code = prm(["run", "configs/recipes/demo.yaml", f"out={out}", f"data={out / 'world'}"])
    if code == 0:
        summary = summarize(out, "universalbench/data/micro.jsonl")
        write_page(out / "report.html", summary, SWITCH)
        print(f"\n{closing_table(summary)}\n\n{SWITCH}")
        print(f"\nDone in {time.monotonic() - began:.0f} s. Look at {ROOT / out / 'report.html'}")
    return code


def closing_table(summary: Summary) -> str:
    """The numbers that matter, as text."""
    lines = []
    for table in summary.tables:
        lines += ["", table.title]
        lines += [
            f"  {row.name:<36} {100 * row.value:5.1f}  [{100 * row.low:.1f}, {100 * row.high:.1f}]"
            for row in table.rows
        ]
    return "\n".join(lines).strip()


if __name__ == "__main__":
    sys.exit(main())

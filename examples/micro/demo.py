"""The whole pipeline on the micro world, from nothing to a page to look at.

Generates the world, runs `configs/recipes/demo.yaml` through the `prm` command, and closes with
the numbers that matter. Run the same command again and finished stages are skipped.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from examples.micro import world  # noqa: E402 - needs the path above
from prm.cli import main as prm  # noqa: E402

PLAN = """Demo: a process reward model from nothing, offline.

  1. word problems and solutions that err in known ways (exact step labels are kept apart)
  2. annotate   rules vote on every step of every solution
  3. verify     votes become soft labels; contradictions with the answer are set aside
  4. train      a 1M-parameter token-classification PRM on the soft labels
  5. bench      annotator and PRM against the exact labels, beside trivial baselines
  6. search     best of N by the PRM, against majority and pass@1
"""


def main() -> int:
    """Run the demo; returns the exit code."""
    out = ROOT / "runs" / "demo"
    print(PLAN, flush=True)
    began = time.monotonic()
    world.write(out / "world", problems=500, test_problems=100, samples=4)
    recipe = ROOT / "configs" / "recipes" / "demo.yaml"
    code = prm(["run", str(recipe), f"out={out}", f"data={out / 'world'}"])
    if code == 0:
        print(f"\n{closing_table(out)}")
        print(
            f"\nDone in {time.monotonic() - began:.0f} s. Look at {out / 'bench' / 'report.html'}"
        )
    return code


def closing_table(out: Path) -> str:
    """The numbers that matter, read from what the stages left."""
    bench = json.loads((out / "bench" / "results.json").read_text())["rows"]
    search = json.loads((out / "search" / "results.json").read_text())["rows"]
    lines = ["F1 of wrong steps against the exact labels, unseen problems, % [95 % interval]"]
    lines += [
        _line(row["predictor"], row["steps"]["f1"], row["steps"]["interval"]) for row in bench
    ]
    lines += ["", "Final answers right when choosing among 8 candidates, % [95 % interval]"]
    lines += [
        _line(row["method"], row["accuracy"], row["interval"]) for row in search if row["n"] == 8
    ]
    return "\n".join(lines)


def _line(name: str, value: float, interval: list[float]) -> str:
    low, high = interval
    return f"  {name:<32} {100 * value:5.1f}  [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())

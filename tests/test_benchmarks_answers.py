from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_benchmark_of_answers_runs_on_a_small_folder(tmp_path: Path) -> None:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    solutions = [
        ("So 2 + 2 = 4.\nA: 4", True),
        ("So 5.\nThe answer is 5.", False),
        (r"It is \boxed{\frac{8}{2}}.", True),
        ("I do not know.", False),
    ]
    row = {"question": "2 + 2?", "ground_truth": "2 + 2 = <<2+2=4>>4\nA: 4"} | {
        f"model {number}": {"solution": text, "is_correct": right}
        for number, (text, right) in enumerate(solutions)
    }
    (folder / "example_model_solutions.jsonl").write_text(json.dumps(row) + "\n")
    done = subprocess.run(
        [sys.executable, "benchmarks/answers.py", "--data", str(tmp_path), "--workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["plain_pairs"], last["mixed_pairs"]) == (4, 4)
    # The blank answer is unknown to us, which agrees with "not right".
    assert (last["plain_agree"], last["plain_unknown"]) == (4, 1)
    # The third answer of the mixture is a tower, whose truth nobody counts.
    assert (last["mixed_agree"], last["mixed_wrong_different"]) == (3, 0)
    assert last["plain_throughput_ratio"] > 0
    assert last["mixed_throughput_ratio"] > 0


def test_the_benchmark_of_answers_asks_for_its_data() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/answers.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--data" in done.stderr

"""Answers compared by `verify` and by math-verify alone: how many are right, and how fast.

    python benchmarks/answers.py --data FOLDER [--workers 2] [--mixed 1000]

(a) The final answer of each of GSM8K's example model solutions against the true one
    (`FOLDER/gsm8k/example_model_solutions.jsonl`; both extracted once, by `verify`), judged by
    the data's own `is_correct`.
(b) The first `--mixed` of these pairs, one in a hundred of which has its answer replaced by one
    that hangs or exhausts computer algebra.

math-verify is called as its documentation says, `verify(parse(gold), parse(answer))` with its own
time limits, in a pool of as many processes as `verify` has. Both start cold; the time in which the
processes start and load their libraries is measured apart: only the ratios named `with_start`
hold it. A pair on which math-verify raises or runs out of time counts as its False. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from verify.answers import extract_answer  # noqa: E402 - needs the path above
from verify.equivalence import CheckerPool, equivalent_many  # noqa: E402

Pair = tuple[str, str]
PATHOLOGICAL = (
    "9^{9^{9^9}}",
    "10^{10^8}",
    "(x+1)^{100000}",
    r"\left(9^{9999}\right)^{9999}",
    "(x+y+z+w)^{900}",
    "1" + "+1" * 900,
    "100000!",
    r"\int_0^1 \frac{\sin(x^7+x)\cos(x^5)}{\ln(x+2)+x^{11}} dx",
    r"\sin^{200}(x)+\cos^{200}(x)",
    "{" * 500 + "5" + "}" * 500,
)


def read_pairs(data: Path) -> tuple[list[Pair], list[bool]]:
    """Each example solution's answer (empty where it has none) with the true one; who is right."""
    pairs, right = [], []
    file = data / "gsm8k" / "example_model_solutions.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        gold = extract_answer(row["ground_truth"].split("\n")).text or ""
        for solution in (value for value in row.values() if isinstance(value, dict)):
            answer = extract_answer(solution["solution"].split("\n")).text or ""
            pairs.append((gold, answer))
            right.append(bool(solution["is_correct"]))
    return pairs, right


def ours(pairs: list[Pair], workers: int) -> tuple[list[str], float, float]:
    """Verdicts, seconds, and the seconds that all workers took to start before."""
    with CheckerPool(size=workers) as pool:
        began = time.monotonic()
        with ThreadPoolExecutor(workers) as threads:
            list(threads.map(lambda _: pool.check("1", "1", 60), range(workers)))
        started = time.monotonic()
        found = equivalent_many(pairs, pool=pool)
        seconds = time.monotonic() - started
    return [item.verdict for item in found], seconds, started - began


def math_verify_alone(pair: Pair) -> bool:
    """One pair as the documentation of math-verify compares it."""
    from math_verify import parse, verify

    gold, answer = (parse(f"${text}$") for text in pair)
    try:
        return bool(verify(gold, answer))
    # What its time limits and the algebra raise is the peer's answer "not verified".
    except Exception:  # noqa: BLE001
        return False


def _load() -> None:
    import math_verify  # noqa: F401

    logging.disable(logging.CRITICAL)


def peer(pairs: list[Pair], workers: int) -> tuple[list[str], float, float]:
    """As `ours`, by math-verify in a pool of processes."""
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_load) as pool:
        pool.map(abs, range(workers))
        started = time.monotonic()
        found = pool.map(math_verify_alone, pairs, chunksize=4)
        seconds = time.monotonic() - started
    return ["equal" if same else "different" for same in found], seconds, started - began


def mixed(pairs: list[Pair], right: list[bool], count: int) -> tuple[list[Pair], list[bool | None]]:
    """The first pairs with every hundredth answer a pathological one, whose truth is None."""
    some: list[Pair] = pairs[:count]
    truth: list[bool | None] = [*right[:count]]
    for number, place in enumerate(range(min(50, len(some) // 2), len(some), 100)):
        some[place] = (some[place][0], PATHOLOGICAL[number % len(PATHOLOGICAL)])
        truth[place] = None
    return some, truth


def measure(
    method: Callable[[list[Pair], int], tuple[list[str], float, float]],
    pairs: list[Pair],
    truth: list[Any],
    workers: int,
) -> dict[str, float]:
    """What one side does on some pairs, judged where the truth is known."""
    verdicts, seconds, start = method(pairs, workers)
    known = [
        (said, is_right)
        for said, is_right in zip(verdicts, truth, strict=True)
        if is_right is not None
    ]
    return {
        "pairs": len(pairs),
        "seconds": round(seconds, 3),
        "start_seconds": round(start, 3),
        "pairs_per_second": round(len(pairs) / seconds, 1),
        "agree": sum((said == "equal") == is_right for said, is_right in known),
        "wrong_different": sum(said == "different" and is_right for said, is_right in known),
        "wrong_equal": sum(said == "equal" and not is_right for said, is_right in known),
        "unknown": verdicts.count("unknown"),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Answers compared by us and by math-verify alone.")
    parser.add_argument("--data", type=Path, required=True, help="holds gsm8k/")
    parser.add_argument("--workers", type=int, default=2, help="processes of each side")
    parser.add_argument("--mixed", type=int, default=1_000, help="pairs of (b)")
    chosen = parser.parse_args()
    pairs, right = read_pairs(chosen.data)
    sets: dict[str, tuple[list[Pair], list[Any]]] = {
        "plain": (pairs, right),
        "mixed": mixed(pairs, right, chosen.mixed),
    }
    ratios: dict[str, float] = {}
    for name, (some, truth) in sets.items():
        mine = measure(ours, some, truth, chosen.workers)
        other = measure(peer, some, truth, chosen.workers)
        print(name, "verify     ", mine)
        print(name, "math-verify", other)
        ratios[f"{name}_throughput_ratio"] = round(other["seconds"] / mine["seconds"], 2)
        total = (other["seconds"] + other["start_seconds"], mine["seconds"] + mine["start_seconds"])
        ratios[f"{name}_throughput_ratio_with_start"] = round(total[0] / total[1], 2)
        ratios[f"{name}_pairs"] = len(some)
        for key in ("agree", "wrong_different", "wrong_equal", "unknown"):
            ratios[f"{name}_{key}"] = mine[key]
            ratios[f"{name}_{key}_math_verify"] = other[key]
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

"""What a beam search spends on its reward model: with keys and values kept, and without.

    python benchmarks/search.py [--beams 4] [--expansions 4] [--steps 10] [--problems 2]
                                [--backend transformers|vllm]

The searches are those of `prm solve`, of several problems side by side. The policy is a function
that writes steps of random digits, since only what the reward model reads is measured; the model is
a random Qwen2 (26 million weights, float32) with our own rendering. Once every new prefix is scored
whole, once only its new step (`prm.scorers.prefix`; on vLLM the prefix cache). Both must keep the
same beams in every round and find the same solutions, with scores no further than 1e-5 apart.

Reported are the tokens that the model computed and the seconds that scoring took, each as a ratio,
kept divided by whole. What is to be reached: 0.35 of the tokens at 4 beams and 10 steps. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path as Folder
from typing import Any

ROOT = Folder(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from prm.records import Problem  # noqa: E402 - needs the path above
from prm.scorers import ScorerConfig, load  # noqa: E402
from prm.search.beam import beam  # noqa: E402
from prm.search.budget import Budget  # noqa: E402
from prm.search.scoring import PathScorer, Rescoring, path_scorer  # noqa: E402
from prm.search.solve import solve  # noqa: E402
from prm.search.tree import TURN, Growth, Path, Scores  # noqa: E402

QUESTION, STEP = 100, 40
"""Digits, each a token, of a question and of a step."""
TOLERANCE = 1e-5


def make_model(folder: Folder) -> str:
    """A random reward model as `prm train` leaves one; every digit is a token."""
    import torch
    from transformers import Qwen2Config, Qwen2ForTokenClassification

    from prm.render import RenderSettings
    from prm.train.scratch import make_tokenizer
    from prm.zoo.aurora import Declaration, write_declaration

    tokenizer = make_tokenizer(["system user assistant 1.\n\n2.\n\n3.\n\n"] * 9, 300)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        num_labels=1,
        # Wider than usual, so that what a step says moves its score.
        initializer_range=0.04,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForTokenClassification(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    declaration = Declaration(
        render=RenderSettings(max_length=4096),
        reference="none",
        reference_drop=0.0,
        loss="binary_cross_entropy",
        base="scratch",
    )
    write_declaration(folder, declaration)
    return str(folder)


class Policy:
    """Writes digits that depend on what is written so far, and ends at the last step."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def grow(self, growths: Sequence[Growth]) -> list[tuple[list[Path], Budget]]:
        """See `Stepper.grow`."""
        return [
            (list(map(self._child, [one] * one.count, range(one.count))), Budget())
            for one in growths
        ]

    def _child(self, growth: Growth, index: int) -> Path:
        path = growth.path
        last = len(path.texts) + 1 == self._steps
        text = digits(f"{path.problem.id} {path.text} {index}", STEP)
        return replace(path, texts=(*path.texts, f"{text}\n\n"), end=TURN if last else "")


class Watched:
    """A path scorer with a clock, and a record of what it was asked."""

    def __init__(self, scorer: PathScorer) -> None:
        self.seconds = 0.0
        self.asked: list[list[tuple[str, ...]]] = []
        self._scorer = scorer

    def score(self, paths: Sequence[Path]) -> list[tuple[Scores, Budget]]:
        """See `PathScorer.score`."""
        self.asked.append([path.texts for path in paths])
        began = time.perf_counter()
        found = self._scorer.score(paths)
        self.seconds += time.perf_counter() - began
        return found

    def keep(self, prefixes: Iterable[tuple[Problem, tuple[str, ...]]]) -> None:
        """See `PathScorer.keep`."""
        began = time.perf_counter()
        self._scorer.keep(prefixes)
        self.seconds += time.perf_counter() - began


def digits(seed: str, count: int) -> str:
    """Random digits."""
    drawing = random.Random(seed)
    return "".join(drawing.choice("0123456789") for _ in range(count))


def run(scorer: PathScorer, chosen: Any) -> tuple[list[list[Path]], int, Watched]:
    """Search all problems: what was found, the tokens that the reward model read, and the watch."""
    problems = [
        Problem(id=str(index), problem=digits(f"question {index}", QUESTION))
        for index in range(chosen.problems)
    ]
    searches = [
        beam(
            problem,
            width=chosen.beams,
            expansions=chosen.expansions,
            steps=chosen.steps,
            aggregation="last",
        )
        for problem in problems
    ]
    watched = Watched(scorer)
    found, spent = solve(searches, Policy(chosen.steps), watched)  # type: ignore[arg-type]
    return found, sum(budget.read for budget in spent.values()), watched


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Tokens of a beam search's reward model.")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--expansions", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--backend", choices=["transformers", "vllm"], default="transformers")
    chosen = parser.parse_args()
    # On a CPU, blocks of 32 tokens are the smallest that vLLM caches.
    options = {"block_size": 32, "enable_prefix_caching": True}
    with tempfile.TemporaryDirectory() as folder:
        scorer = load(
            ScorerConfig(
                make_model(Folder(folder)),
                backend=chosen.backend,
                dtype="float32",
                options=options if chosen.backend == "vllm" else {},
            )
        )
        try:
            # First, so that it finds nothing in vLLM's cache but what it left there itself.
            kept, read_kept, fast = run(path_scorer(scorer), chosen)
            whole, read_whole, slow = run(Rescoring(scorer), chosen)
        finally:
            scorer.close()
    delta = max(
        abs(a - b)
        for own, others in zip(whole, kept, strict=True)
        for one, other in zip(own, others, strict=True)
        for a, b in zip(one.scores, other.scores, strict=True)
    )
    scores = [score for own in whole for path in own for score in path.scores]
    same = slow.asked == fast.asked and [[path.texts for path in own] for own in whole] == [
        [path.texts for path in own] for own in kept
    ]
    print(f"tokens: whole {read_whole:,}, kept {read_kept:,}")
    print(f"seconds of scoring: whole {slow.seconds:.1f}, kept {fast.seconds:.1f}")
    results = {
        "token_ratio": round(read_kept / read_whole, 4),
        "time_ratio": round(fast.seconds / slow.seconds, 4),
        "same_results": same,
        "max_delta": delta,
        "spread": [round(min(scores), 4), round(max(scores), 4)],
        "backend": chosen.backend,
        "beams": chosen.beams,
        "expansions": chosen.expansions,
        "steps": chosen.steps,
        "problems": chosen.problems,
    }
    print(json.dumps(results))
    if not same or delta > TOLERANCE:
        sys.exit("the two searches differ")


if __name__ == "__main__":
    main()

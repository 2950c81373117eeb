"""Prefixes scored in one pass beside the published loop: how fast, and how far apart.

    python benchmarks/scoring.py [--rounds 1] [--threads 2]

Universal-PRM as its card uses it, with random weights: the card's loop renders, tokenises and runs
each prefix of a solution alone, one forward a step; ours renders all prefixes as one trunk with
branches and runs it once (`prm.scorers.tree`). Both have the same Qwen2 of 26 million weights (made
here, float32), the same head and the same tokenizer, and both are timed from text to scores, in
turns, the best of each side's rounds; before, each runs once on a short solution. The solutions are
digits, of exactly as many tokens as said, after a question of 300 tokens with its template.

    python benchmarks/scoring.py --shape 7b --dtype bfloat16 --device cuda

does the same on a shape of published models. For each case: `ratio` of the seconds, the loop's
divided by ours; `max_delta`, the largest difference of two scores; and `spread`, between which the
loop's scores lie, for comparison. What is to be reached in float32 on a CPU: 8 at 20 steps of 75
tokens, 25 at 100 steps of 100, and no difference above 1e-5. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

QUESTION = 300
CASES = ((20, 75), (100, 100))
SHAPES: dict[str, dict[str, int]] = {
    "small": {
        "vocab_size": 4096,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "7b": {  # Qwen2.5-7B
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}

Scores = Callable[[str, list[str]], list[float]]


def make_model(shape: str, dtype: Any, device: str) -> tuple[Any, Any]:
    """A random Qwen2 without a head, and a head of one output."""
    import torch
    from transformers import AutoModel, Qwen2Config

    torch.manual_seed(0)
    # Wider than usual, so that what a prefix says moves its score.
    config = Qwen2Config(**SHAPES[shape], max_position_embeddings=32768, initializer_range=0.04)
    with torch.device(device):
        backbone = AutoModel.from_config(config, dtype=dtype).eval()
        head = torch.nn.Linear(config.hidden_size, 1, dtype=dtype)
    return backbone, head


def make_tokenizer() -> Any:
    """Every digit is a token, and so is a full stop with the line ends after it."""
    from prm.train.scratch import make_tokenizer

    return make_tokenizer(["system user assistant 1.\n\n2.\n\n3.\n\n"] * 9, 300)


def published(backbone: Any, head: Any, tokenizer: Any) -> Scores:
    """The card's loop."""
    import torch

    def scores(problem: str, steps: list[str]) -> list[float]:
        question = (
            problem
            + "\n\n###\n\nThe reference answer is: There is no reference answer for this question."
        )
        found = []
        with torch.no_grad():
            for count in range(1, len(steps) + 1):
                turns = [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": question},
                ]
                ids = tokenizer.apply_chat_template(
                    turns, tokenize=True, add_generation_prompt=True, return_dict=False
                )
                answer = "\n\n".join(steps[:count]) + "\n\n"
                ids = ids + tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id]
                tokens = torch.tensor([ids], device=backbone.device)
                state = backbone(tokens, use_cache=False).last_hidden_state[:, -1]
                found.append(torch.sigmoid(head(state).float()).cpu().item())
        return found

    return scores


def one_pass(backbone: Any, head: Any, tokenizer: Any) -> Scores:
    """Ours, in the order in which the scorer goes about it."""
    import torch

    from prm.scorers.tree import last_states, require_exact
    from prm.zoo.universal import UniversalFormat

    form = UniversalFormat(tokenizer, None)
    require_exact(backbone)

    def scores(problem: str, steps: list[str]) -> list[float]:
        item = form.render(problem, steps)
        with torch.inference_mode():
            states = last_states(backbone, [item], 0)
            found: list[float] = form.readout.scores(head(states)).tolist()
        return found

    return scores


def solution(tokenizer: Any, steps: int, tokens: int) -> tuple[str, list[str]]:
    """A question and steps of digits, of exactly so many tokens.

    Args:
        tokenizer: see `make_tokenizer`.
        steps: how many.
        tokens: of each, with the line ends after it.
    """
    from prm.zoo.universal import UniversalFormat

    rng = random.Random(0)

    def digits(count: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(count))

    form = UniversalFormat(tokenizer, None)
    template = form.render("", ["."]).branches[0].start - 1
    problem = digits(QUESTION - template)
    made = [digits(tokens - 1) + "." for _ in range(steps)]
    starts = [branch.start for branch in form.render(problem, made).branches]
    assert starts == [QUESTION + tokens * count for count in range(1, steps + 1)]
    return problem, made


def timed(scores: Scores, problem: str, steps: list[str], device: str) -> tuple[float, list[float]]:
    """Seconds, and the scores."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = scores(problem, steps)  # reads the scores out, and so waits for the device
    return time.perf_counter() - start, found


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run all cases; returns what the last line holds."""
    import torch

    torch.set_num_threads(chosen.threads)
    tokenizer = make_tokenizer()
    backbone, head = make_model(chosen.shape, getattr(torch, chosen.dtype), chosen.device)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    print(f"{count / 1e6:.0f} million weights, {chosen.dtype}, {chosen.device}", flush=True)
    sides = {
        "loop": published(backbone, head, tokenizer),
        "ours": one_pass(backbone, head, tokenizer),
    }
    found: dict[str, Any] = {"shape": chosen.shape, "dtype": chosen.dtype, "device": chosen.device}
    if chosen.device.startswith("cuda"):
        found["device"] = torch.cuda.get_device_name()
    for scores in sides.values():
        scores(*solution(tokenizer, 2, 30))
    for steps, tokens in CASES:
        problem, made = solution(tokenizer, steps, tokens)
        best: dict[str, float] = {}
        last: dict[str, list[float]] = {}
        for _ in range(chosen.rounds):
            for side, scores in sides.items():
                seconds, last[side] = timed(scores, problem, made, chosen.device)
                best[side] = min(seconds, best.get(side, seconds))
                print(f"{steps} × {tokens}  {side}  {seconds:.3f} s", flush=True)
        pairs = zip(last["loop"], last["ours"], strict=True)
        found[f"{steps}x{tokens}"] = {
            "ratio": round(best["loop"] / best["ours"], 2),
            "loop_seconds": round(best["loop"], 3),
            "ours_seconds": round(best["ours"], 3),
            "max_delta": max(abs(one - other) for one, other in pairs),
            "spread": round(max(last["loop"]) - min(last["loop"]), 4),
        }
    if chosen.device.startswith("cuda"):
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prefixes in one pass beside the published loop.")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="small")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    print(json.dumps(compare(parser.parse_args())))


if __name__ == "__main__":
    main()

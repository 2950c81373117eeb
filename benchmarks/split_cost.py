"""What step separation by a model costs: tokens written as piece numbers and as the text again.

    python benchmarks/split_cost.py [--data FOLDER] [--tokenizer NAME]

For each ProcessBench solution (gsm8k and math, steps joined by blank lines), counts the tokens of
the answer that gives exactly the human steps: as a list of the pieces that begin one
(`how: boundary`) and as JSON with the text of each (`how: rewrite`). Both count what a
model writes after the prefill, and one token for its end. Answers that are asked for again, and
the prompts, are not counted: a boundary prompt shows the text with a marker before each piece.

FOLDER as in `benchmarks/split_quality.py`. `--tokenizer` names a model folder or id; without it a
byte-level BPE vocabulary of 8,192 is trained on the same texts, so that nothing is downloaded. The
last line is one JSON object; its `ratio` is that of all tokens, boundary to rewrite.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from annotate.boundary import join, parse_starts  # noqa: E402 - needs the path above
from annotate.pieces import candidates  # noqa: E402
from annotate.rewrite import START, parse_steps  # noqa: E402
from benchmarks.split_quality import boundaries, data_folder, texts_of  # noqa: E402

VOCABULARY = 8192


def boundary_answer(steps: Sequence[str]) -> tuple[str, int]:
    """The list of the pieces that begin a step, and how many steps begin at no piece."""
    text = "\n\n".join(steps)
    spans = candidates(text)
    places = [0, *sorted(boundaries([text[begin:end] for begin, end in spans]))]
    wanted = boundaries(steps)
    starts = [number for number, place in enumerate(places, 1) if place in wanted or number == 1]
    answer = f"[{','.join(map(str, starts))}]"
    assert parse_starts(answer, len(spans)) == starts
    assert boundaries(join(text, spans, starts)) <= wanted
    return answer, len(wanted) - len(starts) + 1


def rewrite_answer(steps: Sequence[str]) -> str:
    """The steps as JSON, without its beginning."""
    numbered = {f"Step {number}": step for number, step in enumerate(steps, start=1)}
    answer = json.dumps(numbered, ensure_ascii=False)
    assert not isinstance(parse_steps(answer, "\n\n".join(steps)), str)
    return answer.removeprefix(START)


def counter(tokenizer: str | None, texts: Sequence[str]) -> Callable[[str], int]:
    """What counts the tokens of a text."""
    if tokenizer is None:
        from prm.train.scratch import make_tokenizer

        loaded = make_tokenizer(texts, VOCABULARY)
    else:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(tokenizer)
    return lambda text: len(loaded(text, add_special_tokens=False)["input_ids"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--tokenizer", default=None)
    arguments = parser.parse_args()
    found = texts_of(arguments.data)
    solutions = [*found["processbench gsm8k"], *found["processbench math"]]
    count = counter(arguments.tokenizer, ["\n\n".join(steps) for steps in solutions])
    lists = [boundary_answer(steps) for steps in solutions]
    written = {
        "boundary": [count(answer) + 1 for answer, _ in lists],
        "rewrite": [count(rewrite_answer(steps)) + 1 for steps in solutions],
    }
    print(f"{'':10}{'mean':>9}{'median':>9}{'most':>9}   tokens written for a solution")
    for name, tokens in written.items():
        print(f"{name:10}{statistics.mean(tokens):9.1f}{statistics.median(tokens):9.1f}", end="")
        print(f"{max(tokens):9}")
    result = {
        "solutions": len(solutions),
        "tokenizer": arguments.tokenizer or f"byte-level BPE, {VOCABULARY}",
        "out_of_reach": sum(missed for _, missed in lists),
        **{f"{name}_mean": statistics.mean(tokens) for name, tokens in written.items()},
        **{f"{name}_median": statistics.median(tokens) for name, tokens in written.items()},
        "ratio": sum(written["boundary"]) / sum(written["rewrite"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

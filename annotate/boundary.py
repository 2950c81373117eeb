"""Step separation by a language model that says where steps begin and writes nothing else.

The smallest pieces of a text (sentences, lines) are numbered and the model answers with the
numbers of those that begin a step. The text itself is never rewritten, so the steps stay word
for word what the policy wrote.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence

from annotate.judge import RETRY_TEMPERATURE
from annotate.pieces import candidates
from annotate.strategy import Splitting, load_splitting, render_pieces
from prm.engines import Completion, Engine, Request

STARTS = "step_starts="
"""What stands before the list of numbers."""


def starts_regex(pieces: int) -> str:
    """What a list of up to `pieces` piece numbers looks like; it starts at 1."""
    return rf"\[1(,[1-9][0-9]{{0,{len(str(pieces)) - 1}}}){{0,{pieces - 1}}}\]"


def parse_starts(text: str, pieces: int) -> list[int] | str:
    """The numbers in a model's list, or the reason why it is none."""
    inside = re.fullmatch(r"\s*\[\s*(\d{1,9}(?:\s*,\s*\d{1,9})*)\s*\]\s*", text)
    if inside is None:
        return "the answer is not one list of numbers"
    numbers = [int(number) for number in inside[1].split(",")]
    if numbers[0] != 1:
        return "the first step does not begin at piece 1"
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        return "the numbers do not rise"
    if numbers[-1] > pieces:
        return "a piece that is not there"
    return numbers


def join(text: str, spans: Sequence[tuple[int, int]], starts: Sequence[int]) -> tuple[str, ...]:
    """The steps that begin at these pieces, cut out of the text as it is."""
    ends = [*(number - 1 for number in starts[1:]), len(spans)]
    return tuple(
        text[spans[begin - 1][0] : spans[end - 1][1]]
        for begin, end in zip(starts, ends, strict=True)
    )


def split_texts(
    texts: Sequence[str], engine: Engine, *, prompts: str, seed: int = 0, retries: int = 1
) -> list[tuple[str, ...] | str]:
    """Steps of each text, or the reason why the model's answers gave none.

    Args:
        texts: solutions, none of them blank.
        engine: who separates.
        prompts: the prompt set; see `annotate.strategy`.
        seed: of the retries, which sample.
        retries: how often to ask again after an unusable answer.

    Raises:
        ConfigError: the prompt set has no `split.toml`, or one that is not as it should be.
        EngineError: the engine died.
    """
    asking = load_splitting(prompts)
    spans = [candidates(text) for text in texts]
    results: list[tuple[str, ...] | str] = [
        (text.strip(),) if len(found) == 1 else "" for text, found in zip(texts, spans, strict=True)
    ]
    for attempt in range(retries + 1):
        todo = [index for index, result in enumerate(results) if isinstance(result, str)]
        requests = [_request(asking, texts[i], spans[i], seed, attempt) for i in todo]
        for index, (answer,) in zip(todo, engine.generate(requests) if todo else (), strict=True):
            results[index] = _steps(texts[index], spans[index], answer)
    return results


def _request(
    asking: Splitting, text: str, spans: Sequence[tuple[int, int]], seed: int, attempt: int
) -> Request:
    digest = hashlib.sha256(f"{seed} {attempt} {text}".encode()).digest()
    return Request(
        messages=render_pieces(asking, [text[begin:end] for begin, end in spans]),
        # A digit a token at the most, and a comma; two more open and end the list.
        max_tokens=(len(str(len(spans))) + 1) * len(spans) + 2,
        temperature=RETRY_TEMPERATURE if attempt else 0.0,
        seed=int.from_bytes(digest[:4]) >> 1,
        prefill=STARTS,
        regex=starts_regex(len(spans)),
    )


def _steps(
    text: str, spans: Sequence[tuple[int, int]], answer: Completion
) -> tuple[str, ...] | str:
    if answer.finish_reason != "stop":
        return f"ended by {answer.finish_reason!r}"
    starts = parse_starts(answer.text, len(spans))
    return starts if isinstance(starts, str) else join(text, spans, starts)

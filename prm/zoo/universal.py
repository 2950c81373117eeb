"""Universal-PRM: a reference as input, and one scalar for every prefix of a solution (family 3).

    <|im_start|>system … <|im_end|> <|im_start|>user QUESTION AND REFERENCE <|im_end|>
    <|im_start|>assistant STEP 1 \\n\\n STEP 2 \\n\\n … STEP k \\n\\n <eos>

The published code runs one forward for each prefix and reads it at its eos. Here the prefixes are
branches of one trunk, so that what they share is computed once (`prm.scorers.tree`) and the numbers
stay the same. The conversation and the answer are tokenised apart, as the card does; an answer's
ids need not begin with those of its prefix, and where they do not, the branch holds the prefix's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from prm.errors import CheckpointError, RecordError
from prm.render import NO_REFERENCE, REFERENCE_INTRO, Branch, Branched, token_ids
from prm.zoo.entry import Checkpoint, Entry
from prm.zoo.family import Family, Format, Readout
from prm.zoo.text import Special, encode, one_id

SYSTEM = "You are a helpful assistant."
STEP_END = "\n\n"
START, END = Special("<|im_start|>"), Special("<|im_end|>")


class UniversalFormat(Format):
    """Renders as the model card does.

    Args:
        tokenizer: the checkpoint's.
        context: see `Format`.

    Raises:
        CheckpointError: the tokenizer has no ChatML or no eos token, or does not say which
            characters its tokens are.
    """

    readout = Readout(head="score", how="sigmoid")
    branched = True
    reference = "worked"

    def __init__(self, tokenizer: Any, context: int | None) -> None:
        self._tokenizer = tokenizer
        self.context = context
        if not tokenizer.is_fast:
            raise CheckpointError("the tokenizer gives no offsets; save it with a tokenizer.json")
        for name in (START, END):
            one_id(tokenizer, name)
        if tokenizer.eos_token_id is None:
            raise CheckpointError("the tokenizer has no eos token, where this family is read")
        self._eos = int(tokenizer.eos_token_id)

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Branched:
        """See `Format.render`."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        question = problem + REFERENCE_INTRO + (reference or NO_REFERENCE)
        turns = [START, f"system\n{SYSTEM}", END, "\n", START, f"user\n{question}", END, "\n"]
        trunk = encode(self._tokenizer, *turns, START, "assistant\n")
        cuts = list(accumulate(len(step) + len(STEP_END) for step in steps))
        whole, prefixes = _prefix_ids(self._tokenizer, STEP_END.join(steps) + STEP_END, cuts)
        branches = [Branch(len(trunk) + shared, [*ids, self._eos]) for shared, ids in prefixes]
        return Branched(trunk + whole, branches)


def _prefix_ids(
    tokenizer: Any, text: str, cuts: Sequence[int]
) -> tuple[list[int], list[tuple[int, list[int]]]]:
    """Ids of a text and of its prefixes, each text read as plain and on its own.

    A byte-level tokenizer first cuts a text into words by a pattern that looks one character past
    a word at most, then reads word by word. So all words before that of the prefix's last
    character that is no white space are the same in prefix and whole, and only what follows is
    tokenised again. With any other tokenizer all of the prefix is.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        text: any.
        cuts: lengths of the prefixes in characters. A prefix ends in a newline or is followed by
            one, unless it is the whole: no word goes on over its end but one of white space.

    Returns:
        the whole's ids; and for each prefix how many of them it begins with, as many as can be,
        and its further ids.
    """
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    whole: list[int] = encoded["input_ids"]
    places, characters = [0], [0]  # where words start, in tokens and in characters
    if "ByteLevel" in repr(tokenizer.backend_tokenizer.pre_tokenizer):
        words, offsets = encoded.word_ids(), encoded["offset_mapping"]
        for place in range(1, len(whole)):
            start = offsets[place][0]
            # Offsets that leave out white space around a token tell no start where they do.
            if words[place] != words[place - 1] and start == offsets[place - 1][1]:
                places.append(place)
                characters.append(start)
    found = []
    for cut in cuts:
        last = len(text[:cut].rstrip()) - 1
        word = max(0, bisect_right(characters, last) - 1)
        ids = token_ids(tokenizer, text[characters[word] : cut], special=False)
        place = places[word]
        same = 0
        while same < len(ids) and place + same < len(whole) and ids[same] == whole[place + same]:
            same += 1
        found.append((place + same, ids[same:]))
    return whole, found


def _bind(tokenizer: Any, folder: Path, name: str) -> UniversalFormat:
    return UniversalFormat(tokenizer, FAMILY.checkpoint_context(name) or 32768)


FAMILY = Family(
    entry=Entry(
        family="universal-prm",
        checkpoints=(
            Checkpoint(id="infly/Universal-PRM-7B", licence="unknown", context=32768),
            Checkpoint(id="universalprm/Universal-PRM", licence="unknown", context=32768),
        ),
        architecture="Qwen2 with a head of one output, of one or two layers as its tensors say",
        template="ChatML: system, question with the reference or that there is none, then all "
        "steps so far, each followed by an empty line, and eos",
        positions="the eos after each prefix",
        readout="sigmoid of the one output",
        passes="one forward a solution and a small one over the prefixes' ends; published: one "
        "forward a step",
        meaning="about the probability that the step is right; trained by squared error, so that "
        "scores of right steps lie near sigmoid(1) = 0.73",
        takes_reference=True,
        backends=("transformers", "vllm"),
        source="the model card's code; arXiv 2502.11520",
    ),
    bind=_bind,
)

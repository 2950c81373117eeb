"""Models that say a label at a tag of plain text: what their families share.

    QUESTION … STEP 1 tag … STEP 2 tag …

The whole is one text, the tag after a step is one token of it, and the score is the softmax over
two tokens of the vocabulary, one for right and one for wrong, at the tag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prm.errors import CheckpointError, RecordError
from prm.render import Rendered
from prm.zoo.family import Format, Readout
from prm.zoo.text import encode_tagged, one_id


class TaggedFormat(Format):
    """Renders a text with a tag after each step.

    Args:
        tokenizer: the checkpoint's.
        pieces: from problem and steps to the text before each tag; as many as steps.
        tag: the text after each piece.
        wrong: the label for wrong.
        right: the label for right.
        context: see `Format`.

    Raises:
        CheckpointError: the tag or a label is not one token, or the tokenizer does not say which
            characters its tokens are.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        pieces: Callable[[str, Sequence[str]], list[str]],
        tag: str,
        wrong: str,
        right: str,
        context: int | None,
    ) -> None:
        if not tokenizer.is_fast:
            raise CheckpointError("the tokenizer gives no offsets; save it with a tokenizer.json")
        self._tokenizer = tokenizer
        self._pieces = pieces
        self._tag = tag
        self._tag_id = one_id(tokenizer, tag)
        self.context = context
        labels = one_id(tokenizer, wrong), one_id(tokenizer, right)
        self.readout = Readout(head="tokens", how="probability", tokens=labels)

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """See `Format.render`."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        pieces = self._pieces(problem, steps)
        return encode_tagged(self._tokenizer, pieces, self._tag, self._tag_id)

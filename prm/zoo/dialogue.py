"""Models that answer each step in a chat: what their families share.

    user QUESTION and STEP 1 | assistant LABEL | user STEP 2 | assistant LABEL | …

The conversation is the tokenizer's own chat template's, a default system message with it. The score
is the softmax over two tokens at the place that predicts the assistant's label. All labels in the
conversation are the one for right, and a step is read before its own, so that one forward over the
whole gives what published code takes from one forward a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError

from prm.errors import CheckpointError, RecordError
from prm.render import Rendered, token_ids
from prm.zoo.family import Format, Readout
from prm.zoo.text import Special, cut_specials, encode

_TURN = "\u2063TURN\u2063"  # an invisible separator: no template contains it


class DialogueFormat(Format):
    """Renders a step a turn.

    Args:
        tokenizer: the checkpoint's.
        turns: from problem and steps to the users' turns; as many as steps.
        wrong: the label for wrong; its first token counts.
        right: the label for right, likewise; it is what the conversation says throughout.
        context: see `Format`.

    Raises:
        CheckpointError: there is no chat template, it does not repeat itself, or it does not keep
            turns apart by special tokens; or both labels begin with the same token.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        turns: Callable[[str, Sequence[str]], list[str]],
        wrong: str,
        right: str,
        context: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._turns = turns
        self.context = context
        labels = [token_ids(tokenizer, text, special=True) for text in (wrong, right)]
        first = labels[0][0], labels[1][0]
        if first[0] == first[1]:
            raise CheckpointError(f"labels {wrong!r} and {right!r} begin with the same token")
        self.readout = Readout(head="tokens", how="probability", tokens=first)
        head, answer, user, self._trims = _template(tokenizer)
        self._head, self._user = (cut_specials(tokenizer, text) for text in (head, user))
        before = cut_specials(tokenizer, answer)
        self._answer, self._label = [*before, right], labels[1]
        apart = any(isinstance(piece, Special) for piece in self._user[:1]) and any(
            isinstance(piece, Special) for piece in before
        )
        alone = encode(tokenizer, *self._answer) == encode(tokenizer, *before) + self._label
        if not (apart and alone):
            raise CheckpointError(
                f"the chat template does not keep a label {right!r} apart from the turns around it"
            )

    def render(self, problem: str, steps: Sequence[str], reference: str | None = None) -> Rendered:
        """See `Format.render`."""
        if not steps:
            raise RecordError("no steps to score", field="steps")
        ids: list[int] = []
        ends = []
        before = self._head
        for turn in self._turns(problem, steps):
            content = turn.strip() if self._trims else turn
            ids += encode(self._tokenizer, *before, content, *self._answer)
            ends.append(len(ids) - len(self._label) - 1)
            before = self._user
        return Rendered(ids, ends)


def _template(tokenizer: Any) -> tuple[str, str, str, bool]:
    """What a chat template writes around contents.

    Returns:
        the text before the first user's content, that between a user's and an assistant's, that
        between an assistant's and a user's, and whether white space around contents is dropped.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError("the tokenizer has no chat template, and this family needs its own")
    # Tabs, which a template has no cause to write itself, show whether white space is dropped.
    turns = [
        {"role": role, "content": content}
        for _ in range(3)
        for role, content in (("user", f"\t{_TURN}\t"), ("assistant", _TURN))
    ]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except TemplateError as error:
        raise CheckpointError(f"the tokenizer's chat template refuses a chat ({error})") from None
    kept = text.count(f"\t{_TURN}\t")
    parts = text.replace(f"\t{_TURN}\t", _TURN).split(_TURN)
    answers, users = set(parts[1:6:2]), set(parts[2:6:2])
    if len(parts) != 7 or len(answers) != 1 or len(users) != 1 or kept not in (0, 3):
        raise CheckpointError("the tokenizer's chat template does not repeat itself turn by turn")
    return parts[0], parts[1], parts[2], kept == 0

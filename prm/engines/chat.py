"""Chats to token ids, such that what a message says can never act as a template.

A chat template joins texts, so `<|im_end|>` inside a message would become the real token and
end the turn. Here the template is filled with marks instead of contents; what stands around
the marks is tokenised with special tokens, the contents without, and the ids are joined.

For contents without special tokens the ids equal those of `apply_chat_template`, except where
a content touches the template with white space (ChatML has a newline before each content: one
that starts with a newline would share a token with it), where the template looks into a
content (some drop earlier `<think>` blocks), and under tokenizers that put a space before
every text (Llama 2's).
"""

from __future__ import annotations

import re
from typing import Any

from prm.engines.base import Request
from prm.errors import CheckpointError

# An invisible separator, which no template contains, around the message's number. The em
# spaces show whether the template strips contents: then they are gone.
_MARK = re.compile("(\u2003?)\u2063([0-9]+)\u2063(\u2003?)")


class ChatEncoder:
    """Encodes requests with one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        model: its name, for errors.

    Raises:
        CheckpointError: there is no chat template, or the tokenizer makes special tokens out
            of plain text.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._templates: dict[tuple[str, ...], list[str | re.Match[str]]] = {}
        if not getattr(tokenizer, "chat_template", None):
            raise CheckpointError(f"{model}: no chat template; use an instruct or chat model")
        self._refuse_leak()

    def encode(self, request: Request) -> list[int]:
        """Token ids of the chat, up to where the assistant goes on after the prefill.

        Raises:
            CheckpointError: the chat template refuses these roles or loses a message.
        """
        ids: list[int] = []
        for part in self._template(tuple(message.role for message in request.messages)):
            if isinstance(part, str):
                ids += self._ids(part, special=True)
                continue
            left, number, right = part.groups()
            content = request.messages[int(number)].content
            content = content if left else content.lstrip()
            ids += self._ids(content if right else content.rstrip(), special=False)
        return ids + self._ids(request.prefill, special=False)

    def _template(self, roles: tuple[str, ...]) -> list[str | re.Match[str]]:
        if roles not in self._templates:
            self._templates[roles] = self._split(roles)
        return self._templates[roles]

    def _split(self, roles: tuple[str, ...]) -> list[str | re.Match[str]]:
        from jinja2 import TemplateError

        turns = [
            {"role": role, "content": f"\u2003\u2063{number}\u2063\u2003"}
            for number, role in enumerate(roles)
        ]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise CheckpointError(
                f"{self._model}: its chat template refuses the roles {', '.join(roles)} ({error})"
            ) from None
        parts: list[str | re.Match[str]] = []
        end = 0
        for mark in _MARK.finditer(text):
            parts += [text[end : mark.start()], mark]
            end = mark.end()
        parts.append(text[end:])
        found = sorted(int(part[2]) for part in parts if not isinstance(part, str))
        if found != list(range(len(roles))):
            raise CheckpointError(
                f"{self._model}: its chat template does not hold each message once "
                f"(roles {', '.join(roles)})"
            )
        return parts

    def _ids(self, text: str, *, special: bool) -> list[int]:
        if not text:
            return []
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        return list(encoded["input_ids"])

    def _refuse_leak(self) -> None:
        # Some tokenizer classes ignore `split_special_tokens`.
        for token_id, token in self._tokenizer.added_tokens_decoder.items():
            if token.special and token_id in self._ids(str(token), special=False):
                raise CheckpointError(
                    f"{self._model}: its tokenizer turns the plain text {str(token)!r} into a "
                    "special token, so a message could forge a turn; use a fast tokenizer"
                )

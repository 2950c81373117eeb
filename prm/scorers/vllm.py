"""Scores on vLLM: one pooling request a sequence, rows picked at the places that the format says.

vLLM gets our token ids and gives the head's outputs at every token, so that no step tag is searched
for and long prompts may still be read in parts. What stands for the head:

| head                      | class of vLLM                                                        |
|---------------------------|----------------------------------------------------------------------|
| `score`, one layer        | the decoder's causal class, turned into a classifier                 |
| `score`, two layers       | Qwen2ForRewardModel, Qwen2ForProcessRewardModel                      |
| `tokens`                  | the classifier again, its two rows taken from the output embedding   |

Of a family that reads prefixes each is a request of its own; the longest goes first, and the others
find what they share with it in vLLM's prefix cache, in whole blocks (16 tokens; on a CPU 128, which
`options: {block_size: 32}` makes less).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import torch

from prm.engines.vllm_core import VLLMCore  # before vLLM itself: it sets what vLLM reads on import

# isort: split
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm import PoolingParams, PoolingRequestOutput
from vllm.config import PoolerConfig

from prm.engines.flow import Course, Flow
from prm.errors import CheckpointError, ConfigError, RecordError
from prm.records import Failure, Solution, StepScores
from prm.render import Branched, Rendered
from prm.scorers.base import (
    Scored,
    ScorerConfig,
    declared_threshold,
    model_name,
    reference_kind,
    reference_text,
    refuse_device,
    result,
    self_batching,
)
from prm.scorers.transformers import check_dtype, check_length, choose_context
from prm.zoo import weights
from prm.zoo.entry import Threshold
from prm.zoo.family import Family, Readout, ReferenceKind

TASK: Final = "token_classify"

Ask = tuple[Sequence[int], PoolingParams]
Answer = PoolingRequestOutput[Any] | str
"""The head's outputs, or why there are none."""
Read = tuple[list[float] | str, int]
"""Scores, or why there are none, and how many tokens were read."""


class VLLMScorer:
    """Scores with a checkpoint of any family whose head vLLM has a class for.

    Args:
        config: see `ScorerConfig`; `options` go to `vllm.LLM`, with defaults as `VLLMEngine` has.
        folder: where the checkpoint's files lie.
        family: what the checkpoint is.

    Attributes:
        format: the family's, bound to this checkpoint.
        context: the most tokens of a solution.
        tokens: as `ModelScorer` says, those that vLLM had in its cache left out.
        flow: see `FlowingScorer`.

    Raises:
        CheckpointError: the folder is not such a checkpoint, or vLLM has no class for its head.
        ConfigError: a device, a key in `options` that is set elsewhere, or a `max_length` that the
            checkpoint does not have.
        EngineError: vLLM cannot load the model.
    """

    def __init__(self, config: ScorerConfig, folder: Path, family: Family) -> None:
        refuse_device(config)
        check_dtype(config.dtype)
        self.name = model_name(config)
        self.family = family.entry.family
        tokenizer = weights.load_tokenizer(folder)
        self.format = family.bind(tokenizer, folder, config.model)
        weights.require_safetensors(folder)
        model = _model_config(folder)
        head = _head(folder, self.format.readout, model)
        self.context = choose_context(config, self.format.context, model)
        self.reference: ReferenceKind = reference_kind(
            config,
            self.format.reference,
            family=self.family,
            takes_reference=family.entry.takes_reference,
        )
        self.tokens = 0
        self.batching = self_batching(config)
        settings = {
            "model": str(folder),
            "runner": "pooling",
            "dtype": _dtype(config.dtype, model, head),
            "max_model_len": self.context,
            "trust_remote_code": False,
            "load_format": "safetensors",
            "pooler_config": PoolerConfig(task=TASK, tok_pooling_type="ALL"),
            **_classes(folder, self.format.readout, model, head, tokenizer),
        }
        if twice := sorted(settings.keys() & config.options.keys()):
            raise ConfigError(
                f"{config.model}: options holds {', '.join(twice)}, which scoring sets itself; "
                "leave it out"
            )
        self._core: VLLMCore[PoolingParams, PoolingRequestOutput[Any]] = VLLMCore(
            self.name, config.options, **settings
        )
        self.flow: Flow[Ask, Answer, Any] = Flow(self._core)

    @property
    def threshold(self) -> Threshold | None:
        """See `ModelScorer`."""
        return declared_threshold(self.format, self.reference)

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        """See `StepScorer.score_each`.

        Raises:
            EngineError: vLLM died.
        """
        return [found for found, _ in self.flow.run(map(self.course, batch))]

    def course(self, solution: Solution) -> Course[Ask, Answer, Scored]:
        """See `FlowingScorer.course`."""
        try:
            reference = reference_text(solution, self.reference)
            item = self.format.render(solution.problem, solution.steps, reference)
            check_length(item, self.context)
        except RecordError as error:
            return Failure(id=solution.id, reason=str(error)), 0
        found, tokens = yield from self.reading(item)
        if isinstance(found, str):
            return Failure(id=solution.id, reason=found), tokens
        return result(solution, self.name, found), tokens

    def reading(self, item: Rendered | Branched) -> Course[Ask, Answer, Read]:
        """What is asked about a rendering, for `flow`; ends with its scores and tokens read."""
        params = PoolingParams(
            task=TASK,
            use_activation=False,
            # Rows of tokens that are in the cache are not given, but of a prefix the last alone is
            # read, and that one is always computed.
            skip_reading_prefix_cache=isinstance(item, Rendered),
        )
        answers = yield [(ids, params) for ids in _prompts(item)]
        outputs = [answer for answer in answers if not isinstance(answer, str)]
        tokens = sum(len(output.prompt_token_ids) - output.num_cached_tokens for output in outputs)
        self.tokens += tokens
        refusals = [answer for answer in answers if isinstance(answer, str)]
        return refusals[0] if refusals else self._scores(item, outputs), tokens

    def close(self) -> None:
        """See `ModelScorer.close`; ends vLLM's process."""
        self._core.close()

    def _scores(
        self, item: Rendered | Branched, outputs: Sequence[PoolingRequestOutput[Any]]
    ) -> list[float] | str:
        """Scores, or why there are none."""
        for output in outputs:
            if output.error is not None:
                return f"vLLM: {' '.join(output.error.message.split())[:300]}"
        if isinstance(item, Branched):
            rows = torch.stack([output.outputs.data[-1] for output in reversed(outputs)])
        else:
            rows = outputs[0].outputs.data
            if len(rows) != len(item.input_ids):
                return f"vLLM gave {len(rows)} rows for {len(item.input_ids)} tokens"
            rows = rows[item.step_ends]
        scores: list[float] = self.format.readout.scores(rows).tolist()
        return scores


def _prompts(item: Rendered | Branched) -> list[list[int]]:
    """What is sent for a rendering; prefixes from the last on, which the others share most with."""
    if isinstance(item, Rendered):
        return [item.input_ids]
    return [item.trunk[: branch.start] + branch.ids for branch in reversed(item.branches)]


def _model_config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0]}") from None


def _head(folder: Path, readout: Readout, model: Any) -> torch.nn.Sequential:
    """The head in the type of its weights: vLLM does not say what it finds missing, or where."""
    like = SimpleNamespace(config=model, device="cpu", dtype=None)
    try:
        head = weights.load_head(
            folder, readout.head, outputs=readout.outputs, like=like, tokens=readout.tokens
        )
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0]}") from None
    assert isinstance(head, torch.nn.Sequential)
    return head


def _dtype(asked: str, model: Any, head: torch.nn.Sequential) -> str:
    """The dtype's name; vLLM's own `auto` would make halves of float32."""
    if asked != "auto":
        return asked
    declared = getattr(model, "dtype", None) or next(head.parameters()).dtype
    return str(declared).removeprefix("torch.")


def _classes(
    folder: Path, readout: Readout, model: Any, head: torch.nn.Sequential, tokenizer: Any
) -> dict[str, Any]:
    """What tells vLLM its classes for backbone and head.

    Raises:
        CheckpointError: it has none.
    """
    overrides: dict[str, Any] = {"num_labels": readout.outputs}
    if len(head) > 1:
        first = head[0]
        assert isinstance(first, torch.nn.Linear)
        biases = all(layer.bias is not None for layer in head if isinstance(layer, torch.nn.Linear))
        if model.model_type != "qwen2" or first.out_features != first.in_features or not biases:
            raise CheckpointError(
                f"{folder}: vLLM has no class for a head of two layers like this one "
                f"({model.model_type}, {first.in_features} to {first.out_features}); set backend "
                "to transformers"
            )
        kind = "Qwen2ForRewardModel" if readout.outputs == 1 else "Qwen2ForProcessRewardModel"
        return {"convert": "none", "hf_overrides": overrides | {"architectures": [kind]}}
    if model.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"{folder}: {model.model_type} is no decoder that vLLM can make a classifier of; set "
            "backend to transformers"
        )
    overrides["architectures"] = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model.model_type]]
    if readout.tokens is not None:
        overrides["method"] = "no_post_processing"
        overrides["classifier_from_token"] = tokenizer.convert_ids_to_tokens(list(readout.tokens))
    return {"convert": "classify", "hf_overrides": overrides}

"""The transformers engine: slower than vLLM, but it runs wherever torch does.

One logits processor does what a request asks for, row by row: its grammar, its temperature,
its own random numbers. So requests of any kind share a batch, and what one row writes depends
on its neighbours only through float rounding.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from prm.engines.base import TOO_LONG, Completion, EngineConfig, Request, Token
from prm.engines.beginnings import Beginnings, batches, usable
from prm.engines.chat import ChatEncoder
from prm.engines.room import filled, roomy, rows_of
from prm.errors import CheckpointError, EngineError

_LOAD_ERRORS = (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError)

BATCH_TOKENS = 32_768
"""The most tokens of a batch, prompts and answers together: some GB of KV cache for 7B."""

ROOM = 512
"""Tokens of an answer that a cache has room for from the start; a longer one moves it."""


class _Row:
    """One completion in the making."""

    def __init__(self, request: Request, sample: int, prompt: list[int], limit: int) -> None:
        self.request = request
        self.prompt = prompt
        self.limit = limit
        self.tokens: list[int] = []
        self.told: list[tuple[list[int], list[float]]] = []
        self.finish_reason: str | None = None
        self.text = ""
        self.stopped_at = ""
        self.matcher: Any = None
        self.expected: torch.Tensor | None = None
        self.random: torch.Generator | None = None
        self.found = 0
        self._seed = None if request.seed is None else request.seed + sample

    def start(self, device: torch.device, matcher: Any) -> None:
        self.matcher = matcher
        if self.request.temperature > 0:
            self.random = torch.Generator(device)
            if self._seed is None:
                self.random.seed()
            else:
                self.random.manual_seed(self._seed)


class TransformersEngine:
    """Runs `AutoModelForCausalLM.generate` on a GPU if there is one, else on the CPU.

    Args:
        config: its `options` go to `from_pretrained`; with `device_map` there the model
            stays where that puts it.

    Raises:
        EngineError: transformers cannot load the model.
        CheckpointError: weights are missing, or the tokenizer does not suit (see `ChatEncoder`).
    """

    def __init__(self, config: EngineConfig) -> None:
        self.name = config.name
        source = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        source = {key: value for key, value in source.items() if value is not None}
        loaded: Any  # its stub does not know `output_loading_info`
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(config.model, **source)
            loaded = AutoModelForCausalLM.from_pretrained(
                config.model,
                dtype=config.dtype,
                output_loading_info=True,
                **source,
                **config.options,
            )
            model, report = loaded
            if "device_map" not in config.options and torch.cuda.is_available():
                model = model.to("cuda")
        except _LOAD_ERRORS as error:
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"transformers cannot load {self.name}: {reason}") from error
        if report["missing_keys"]:  # transformers would fill them with noise
            missing = sorted(report["missing_keys"])
            raise CheckpointError(
                f"{self.name}: {len(missing)} weights are missing, such as {missing[0]}; "
                "name a causal language model"
            )
        self._model = model
        self._model.eval()
        self._chat = ChatEncoder(self._tokenizer, self.name)
        text_config = self._model.config.get_text_config()
        self._vocabulary: int = text_config.vocab_size
        self._context: int | None = config.max_model_len or getattr(
            text_config, "max_position_embeddings", None
        )
        self._ends = _end_tokens(self._tokenizer, self._model.generation_config)
        # The checkpoint's own sampling settings (repetition penalty, top-k) would be merged
        # into every call; a request says all there is to say.
        self._model.generation_config = GenerationConfig()
        self._compiler: Any = None
        self._pad = self._ends[0] if self._ends else 0
        self._beginnings = Beginnings(model, self._pad, BATCH_TOKENS) if usable(model) else None
        # Rows are packed by a setting of the model, which other threads would find amid theirs.
        self._one_at_a_time = threading.Lock()

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        rows = [self._rows(request) for request in requests]
        once: list[_Row] = []
        shared: list[_Row] = []
        for request, group in zip(requests, rows, strict=True):
            reads = self._reads(request) and len(group[0].prompt) > 1
            (shared if reads else once).extend(row for row in group if row.finish_reason is None)
        with self._one_at_a_time:
            for batch in _batches(once):
                self._run(batch, read=False)
            for batch in _batches(shared):
                self._run(batch, read=True)
        return [
            [
                Completion(
                    text=row.text,
                    finish_reason=row.finish_reason or "length",
                    prompt_tokens=len(row.prompt),
                    cached_tokens=row.found,
                    completion_tokens=len(row.tokens),
                    tokens=self._told(row),
                    stopped_at=row.stopped_at,
                )
                for row in group
            ]
            for group in rows
        ]

    def _reads(self, request: Request) -> bool:
        """Whether its prompt is better read before its answers are begun."""
        beginnings = self._beginnings
        return beginnings is not None and (beginnings.packs or request.n > 1 or request.continues)

    def close(self) -> None:
        """Free the model's memory."""
        del self._model, self._beginnings
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _told(self, row: _Row) -> tuple[Token, ...]:
        """The tokens with their alternatives, those of the end left out."""
        return tuple(
            Token.of(self._text(token), zip(map(self._text, others), found, strict=True))
            for token, (others, found) in zip(row.tokens, row.told, strict=False)
            if token not in self._ends
        )

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))

    def _rows(self, request: Request) -> list[_Row]:
        prompt = self._chat.encode(request)
        room = request.max_tokens if self._context is None else self._context - len(prompt)
        rows = [
            _Row(request, sample, prompt, min(request.max_tokens, room))
            for sample in range(request.n)
        ]
        for row in rows:
            row.finish_reason = TOO_LONG if room < 1 else None
        return rows

    def _run(self, rows: list[_Row], *, read: bool) -> None:
        device = self._model.device
        for row in rows:
            row.start(device, self._matcher(row.request.regex))
        width = max(len(row.prompt) for row in rows)
        gaps = [width - len(row.prompt) for row in rows]
        ids = [[self._pad] * gap + row.prompt for gap, row in zip(gaps, rows, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        with torch.inference_mode():
            try:
                cache = self._cache(rows, gaps, read=read)
                output = self._model.generate(
                    torch.tensor(ids, device=device),
                    attention_mask=torch.tensor(mask, device=device),
                    generation_config=GenerationConfig(
                        do_sample=False,
                        max_new_tokens=max(row.limit for row in rows),
                        eos_token_id=self._ends or None,
                        pad_token_id=self._pad,
                        disable_compile=True,
                        return_dict_in_generate=True,
                    ),
                    past_key_values=cache,
                    logits_processor=LogitsProcessorList([_Choose(rows)]),
                    stopping_criteria=StoppingCriteriaList(
                        [_Finish(rows, self._tokenizer, self._ends)]
                    ),
                )
            except torch.OutOfMemoryError as error:
                raise EngineError(
                    f"out of memory with {len(rows)} completions of up to "
                    f"{max(len(row.prompt) + row.limit for row in rows)} tokens; lower "
                    "max_tokens or max_model_len, or use engine 'vllm'"
                ) from error
        if read and self._beginnings is not None:
            for place, (gap, row) in enumerate(zip(gaps, rows, strict=True)):
                if row.request.continues and row.stopped_at:
                    own = [*row.prompt, *row.tokens[:-1]]  # the last was not read
                    layers = rows_of(output.past_key_values, place, gap, gap + len(own))
                    self._beginnings.keep(row.request.group, own, layers)

    def _cache(self, rows: Sequence[_Row], gaps: Sequence[int], *, read: bool) -> Any:
        """What `generate` goes on from; None where the model has a cache of its own kind.

        Args:
            rows: of the batch.
            gaps: columns of padding before each.
            read: read all but the last token of the prompts first.
        """
        if self._beginnings is None:
            return None
        width = max(len(row.prompt) for row in rows)
        cache = roomy(width + min(ROOM, max(row.limit for row in rows)))
        if not read:
            return cache
        known = self._beginnings.read([(row.request.group, row.prompt[:-1]) for row in rows])
        for row, one in zip(rows, known, strict=True):
            row.found = one.found
        return filled(cache, [one.layers for one in known], gaps, width - 1)

    def _matcher(self, regex: str | None) -> Any:
        if regex is None:
            return None
        try:
            import xgrammar
        except ImportError as error:
            raise EngineError(
                "constrained answers need xgrammar; pip install 'aurora-prm[constrained]'"
            ) from error
        if self._compiler is None:
            info = xgrammar.TokenizerInfo.from_huggingface(
                self._tokenizer, vocab_size=self._vocabulary, stop_token_ids=self._ends
            )
            self._compiler = xgrammar.GrammarCompiler(info)
        return xgrammar.GrammarMatcher(self._compiler.compile_regex(regex))


class _Choose(LogitsProcessor):
    """Makes the greedy choice of `generate` the one that each row's request asks for.

    Sampling is the argmax of logits plus Gumbel noise, which draws exactly from the softmax;
    the noise comes from the row's own generator, so batches do not matter.
    """

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        for index, row in enumerate(self._rows):
            if row.finish_reason is not None:
                continue
            if row.request.alternatives:
                row.expected = scores[index].float().log_softmax(-1)
            if row.matcher is not None:
                scores[index] = _constrain(scores[index], row.matcher)
            if row.random is not None:
                scores[index] = _noisy(scores[index], row.request, row.random)
        return scores


def _constrain(logits: torch.Tensor, matcher: Any) -> torch.Tensor:
    import xgrammar

    mask = xgrammar.allocate_token_bitmask(1, logits.shape[-1])
    matcher.fill_next_token_bitmask(mask, 0)
    allowed = logits[None].clone()
    xgrammar.apply_token_bitmask_inplace(allowed, mask.to(logits.device))
    return allowed[0]


def _noisy(logits: torch.Tensor, request: Request, random: torch.Generator) -> torch.Tensor:
    logits = logits / request.temperature
    if request.top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        outside = ordered.cumsum(-1) - ordered >= request.top_p
        logits = logits.index_fill(0, order[outside], -torch.inf)
    return logits - torch.empty_like(logits).exponential_(generator=random).log()


class _Finish(StoppingCriteria):
    """Records each row's new token and ends rows: at an end token, a stop string, the limit."""

    def __init__(self, rows: Sequence[_Row], tokenizer: Any, ends: Sequence[int]) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._ends = set(ends)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            if row.finish_reason is None:
                self._add(row, token)
        done = [row.finish_reason is not None for row in self._rows]
        return torch.tensor(done, device=input_ids.device)

    def _add(self, row: _Row, token: int) -> None:
        row.tokens.append(token)
        if row.expected is not None:
            found, others = row.expected.topk(row.request.alternatives)
            pairs = [*others.tolist(), token], [*found.tolist(), row.expected[token].item()]
            row.told.append(pairs)
        if row.matcher is not None and not row.matcher.is_terminated():
            row.matcher.accept_token(token)
        if token in self._ends:
            row.finish_reason, row.text = "stop", self._decode(row.tokens[:-1])
        elif (stopped := self._stopped(row)) is not None:
            row.finish_reason, (row.text, row.stopped_at) = "stop", stopped
        elif len(row.tokens) >= row.limit:
            row.finish_reason, row.text = "length", self._decode(row.tokens)

    def _stopped(self, row: _Row) -> tuple[str, str] | None:
        """The text before the first stop string, and that string, once there is one."""
        if not row.request.stop:
            return None
        # A token has at least one byte, so the newest stop string lies within this tail.
        reach = max(len(stop.encode()) for stop in row.request.stop) + 1
        tail = self._decode(row.tokens[-reach:])
        if not any(stop in tail for stop in row.request.stop):
            return None
        text = self._decode(row.tokens)
        found = [(at, stop) for stop in row.request.stop if (at := text.find(stop)) >= 0]
        return (text[: min(found)[0]], min(found)[1]) if found else None

    def _decode(self, tokens: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def _batches(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    """Rows of like length together, the longest first, so that a lack of memory shows early."""
    ordered = sorted(rows, key=lambda row: -len(row.prompt) - row.limit)
    return batches(ordered, lambda row: len(row.prompt) + row.limit, BATCH_TOKENS)


def _end_tokens(tokenizer: Any, generation: Any) -> list[int]:
    """The tokens that end an answer: the tokenizer's and the checkpoint's, as in vLLM."""
    named = getattr(generation, "eos_token_id", None)
    ends = named if isinstance(named, list) else [named]
    return sorted({token for token in [*ends, tokenizer.eos_token_id] if token is not None})

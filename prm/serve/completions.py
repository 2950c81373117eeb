"""What clients of OpenAI's chat completions send, as far as it makes sense here, and what they get.

Whatever would change the answers and is not done here is refused, never dropped; what changes none
(`user`, `metadata` and their like) is ignored. Our own field is `best_of_n`, in both directions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from prm.aggregation import Aggregation
from prm.search.choice import Choice
from prm.serve.candidates import Candidate
from prm.serve.schemas import MaybeBlank, Strict, Text, sound


class TextPart(Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: MaybeBlank


class Turn(Strict):
    """A message; its parts are put together as lines."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[TextPart],
        Field(min_length=1, fail_fast=True),
        BeforeValidator(
            lambda found: [{"type": "text", "text": found}] if isinstance(found, str) else found,
            json_schema_input_type=str | list[TextPart],
        ),
    ]

    @property
    def text(self) -> str:
        """The whole content."""
        return "\n".join(part.text for part in self.content)


class StreamOptions(Strict):
    """What a stream holds beside the answer; it is not padded, whatever `include_obfuscation`."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Selection(Strict):
    """Out of how many answers, and how, to choose (extension).

    Attributes:
        n: how many answers the policy writes; null is the server's `limits.candidates`.
        aggregation: how step scores become a reward.
        vote: `reward`: the greatest. `majority`: of the most frequent final answer. `weighted`: of
            the final answer with the largest sum of rewards.
        return_candidates: tell of all candidates.
    """

    n: Annotated[int, Field(ge=1)] | None = None
    aggregation: Aggregation = "min"
    vote: Choice = "reward"
    return_candidates: bool = False


def _refuse(value: Any) -> None:
    # What says "none of that" changes nothing; clients send it along.
    if value and value != {"type": "text"}:
        raise ValueError("not done here, and it would change the answers; leave it out")


StopText = Annotated[str, Field(min_length=1), AfterValidator(sound)]
Stop = Annotated[
    list[StopText],
    Field(max_length=16, fail_fast=True),
    BeforeValidator(
        lambda found: [found] if isinstance(found, str) else found,
        json_schema_input_type=StopText | list[StopText],
    ),
]

NotDone = Annotated[None, BeforeValidator(_refuse, json_schema_input_type=None)]


class ChatRequest(Strict):
    """OpenAI's request, as far as it makes sense here.

    Attributes:
        model: if given, must be the policy's name.
        n: how many of the best answers to return; fewer come where fewer could be scored.
        max_completion_tokens: the most tokens of one candidate, thinking included; null is the
            server's limit. A candidate that is cut is none.
        max_tokens: its old name.
        temperature: 0.8 by default; 0 writes the same every time, so then `best_of_n.n` must be 1.
        seed: candidate `i` is drawn with `seed + i`.
        stream: the answer is chosen before the first chunk comes.
        best_of_n: see `Selection`.
    """

    model: Text | None = None
    messages: Annotated[list[Turn], Field(min_length=1, fail_fast=True)]
    n: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Stop | None = None
    seed: Annotated[int, Field(ge=-(2**62), lt=2**62)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    best_of_n: Selection = Field(default_factory=Selection)

    metadata: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    user: Any = None

    audio: NotDone = None
    frequency_penalty: NotDone = None
    function_call: NotDone = None
    functions: NotDone = None
    logit_bias: NotDone = None
    logprobs: NotDone = None
    modalities: NotDone = None
    moderation: NotDone = None
    parallel_tool_calls: NotDone = None
    prediction: NotDone = None
    presence_penalty: NotDone = None
    reasoning_effort: NotDone = None
    response_format: NotDone = None
    tool_choice: NotDone = None
    tools: NotDone = None
    top_logprobs: NotDone = None
    verbosity: NotDone = None
    web_search_options: NotDone = None

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("max_tokens and max_completion_tokens differ; give one")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options are for stream: true")
        return self


class Answer(BaseModel):
    """What the policy wrote."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One answer, best first."""

    index: int
    message: Answer
    finish_reason: Literal["stop"] = "stop"


class ChatUsage(BaseModel):
    """The policy's tokens, of all candidates; each is a request, so the prompt counts for each."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Chosen(BaseModel):
    """How the answer was chosen (extension).

    Attributes:
        index: the best candidate.
        reward: of the best candidate; raw, so it may leave [0, 1].
        ranking: all candidates with a reward, best first; `choices` are the first of them.
        scorer: the reward model.
        scorer_tokens: what it read: see `Batcher.score`.
        candidates: all, in the order in which they were drawn; null where not asked for.
    """

    index: int
    reward: float
    aggregation: Aggregation
    vote: Choice
    ranking: list[int]
    scorer: str
    scorer_tokens: int
    candidates: list[Candidate] | None = None


class ChatCompletion(BaseModel):
    """OpenAI's response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    best_of_n: Chosen

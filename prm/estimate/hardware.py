"""What stages are taken to run on, and how long they take there: rooflines, nothing measured.

    reading   2 P operations a token + 4 w a pair of tokens, at a share of the peak; so is scoring
    training  6 P (4 P where frozen) + 12 w, at another share
    writing   a token for each of B texts in the time that it takes to read the weights and the B
              caches from memory, or to compute 2 P B if that is longer

P is the number of parameters without tables of embeddings, w layers × width of all query heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

GUESSES = ("problem", "reference", "answer", "step")
HALF = 2
"""Bytes of a weight or of a cached value: bfloat16."""
KEPT = 0.9
"""Of a GPU's memory, for weights and caches: vLLM's `gpu_memory_utilization`."""
ROOM = 0.1
"""Of it at the least for caches alone."""


@dataclass(frozen=True)
class Gpu:
    """A device.

    Attributes:
        peak: dense bfloat16 operations a second.
        bandwidth: of its memory, bytes a second.
        memory: bytes.
    """

    peak: float
    bandwidth: float
    memory: float


GPUS = {
    "A100": Gpu(312e12, 2.039e12, 80e9),
    "H100": Gpu(989e12, 3.35e12, 80e9),
    "H200": Gpu(989e12, 4.8e12, 141e9),
}
"""Source: NVIDIA's data sheets, of the SXM boards; the A100 with 80 GB."""


@dataclass
class Hardware:
    """What `--dry-run` reckons with; nothing else reads it.

    Attributes:
        gpu: which; peak, bandwidth and memory are those of its data sheet.
        gpus_per_node: of a node-hour.
        price_per_gpu_hour: in dollars, or whatever is paid. 2 is what DeepSeek-V3's report
            (arXiv 2412.19437) reckons with; clouds ask for 1.5 to 7.
        prefill_share: of the peak, when prompts are read and solutions scored.
        decode_share: of the bandwidth (or of the peak), when text is written.
        decode_batch: the most texts that a replica writes at once, as far as their caches fit.
        train_share: of the peak, without what gradient checkpointing computes again.
        train_gpus: that training is launched on.
        decode_tokens_per_second: model → measured, a GPU; in place of what is computed.
        parameters: model → how many, where neither a configuration at hand nor its name says it.
    """

    gpu: Literal["A100", "H100", "H200"] = "H100"
    gpus_per_node: int = 8
    price_per_gpu_hour: float = 2.0
    prefill_share: float = 0.5
    decode_share: float = 0.5
    decode_batch: int = 128
    train_share: float = 0.4
    train_gpus: int = 1
    decode_tokens_per_second: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.gpus_per_node, self.decode_batch, self.train_gpus) < 1:
            raise ValueError("gpus_per_node, decode_batch and train_gpus start at 1")
        for name in ("prefill_share", "decode_share", "train_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies above 0 and goes to 1")
        if self.price_per_gpu_hour < 0:
            raise ValueError("price_per_gpu_hour is negative")
        for name in ("decode_tokens_per_second", "parameters"):
            if any(value <= 0 for value in getattr(self, name).values()):
                raise ValueError(f"{name} holds a number that is not above 0")

    def __str__(self) -> str:
        gpu = self.device
        return (
            f"{self.gpu} ({gpu.peak / 1e12:,.0f} TFLOP/s, {gpu.bandwidth / 1e12:.3g} TB/s, "
            f"{gpu.memory / 1e9:.0f} GB), {self.gpus_per_node} a node, "
            f"{self.price_per_gpu_hour:.2f} a GPU-hour\n"
            f"          reading at {self.prefill_share:.0%} and training at {self.train_share:.0%} "
            f"of the peak; writing at {self.decode_share:.0%} of the bandwidth, up to "
            f"{self.decode_batch} texts at once"
        )

    @property
    def device(self) -> Gpu:
        """Its figures."""
        return GPUS[self.gpu]


@dataclass
class Guess:
    """Lengths in tokens that nobody knows before, where no file tells them.

    Attributes:
        problem, reference: of a problem, and of its reference solution.
        answer: of a solution; as `prm sample --dry-run` guesses it.
        answers: policy → the same, of those that write at another length.
        step: of a step.
    """

    problem: int = 100
    reference: int = 300
    answer: int = 600
    answers: dict[str, int] = field(default_factory=dict)
    step: int = 60

    def __post_init__(self) -> None:
        if (
            min(getattr(self, name) for name in GUESSES) < 1
            or min(self.answers.values(), default=1) < 1
        ):
            raise ValueError("all lengths start at 1")

    def __str__(self) -> str:
        parts = [f"{name} {getattr(self, name):,}" for name in GUESSES]
        parts += [f"answer of {name} {tokens:,}" for name, tokens in self.answers.items()]
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Model:
    """The sizes of a model that decide how fast it is.

    Attributes:
        name: as configurations have it.
        parameters: all of them, or all that are known.
        active: those that a token is multiplied with: all but tables of embeddings.
        width: layers × width of all query heads; 0 where it is not known, which leaves attention
            out: a few per cent of a text of some thousand tokens.
        cache: bytes that a token of the context takes.
        source: where the sizes are from.
    """

    name: str
    parameters: float
    active: float
    width: float
    cache: float
    source: str

    @property
    def weights(self) -> float:
        """Their bytes."""
        return HALF * self.parameters


def guessed(name: str, parameters: float, source: str) -> Model:
    """A model of which only the number of parameters is known.

    A cached token takes 40,000 bytes × the root of the parameters in billions: within a factor of
    two of Llama 3.1's 8B and 70B and of Qwen2.5's 1.5B to 72B.
    """
    cache = 40_000 * (parameters / 1e9) ** 0.5
    return Model(
        name=name, parameters=parameters, active=parameters, width=0, cache=cache, source=source
    )


def pairs(length: float) -> float:
    """Of a token of a text with itself or an earlier one."""
    return length * (length + 1) / 2


def read_seconds(model: Model, tokens: float, pairs: float, hardware: Hardware) -> float:
    """GPU-seconds of a forward pass over so many tokens, and pairs that attend to one another."""
    operations = 2 * model.active * tokens + 4 * model.width * pairs
    return operations / (hardware.device.peak * hardware.prefill_share)


def train_seconds(
    model: Model, tokens: float, pairs: float, frozen: bool, hardware: Hardware
) -> float:
    """GPU-seconds of forward and backward passes."""
    operations = (4 if frozen else 6) * model.active * tokens + 12 * model.width * pairs
    return operations / (hardware.device.peak * hardware.train_share)


def holding(model: Model, wanted: int, hardware: Hardware) -> int:
    """How many GPUs a replica takes: as many as wanted, or the next power of two that holds it."""
    gpus = wanted
    while model.weights > (KEPT - ROOM) * hardware.device.memory * gpus:
        gpus = 1 << gpus.bit_length()
    return gpus


def write_rate(model: Model, context: float, gpus: int, hardware: Hardware) -> float:
    """Tokens a second and GPU.

    Args:
        model: who writes.
        context: tokens that a text has behind it, on average.
        gpus: of a replica; they hold the weights.
        hardware: where.
    """
    if model.name in hardware.decode_tokens_per_second:
        return hardware.decode_tokens_per_second[model.name]
    device, share = hardware.device, hardware.decode_share
    caches = context * model.cache
    room = (KEPT * device.memory * gpus - model.weights) / caches
    batch = max(1, min(hardware.decode_batch, int(room)))
    step = max(
        (model.weights + batch * caches) / (device.bandwidth * share),
        2 * model.active * batch / (device.peak * share),
    )
    return batch / step  # of `gpus` devices that each do a part: their number cancels out

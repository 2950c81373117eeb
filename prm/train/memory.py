"""What training holds in a device's memory: pure arithmetic over a model's sizes.

Weights, gradients and optimizer states follow from how they are spread (`states`), and are exact
but for padding. Activations (`activations`) are those of a layer as Llama, Qwen and Mistral have
it: two RMS norms, attention with rotary positions, a gated MLP. They are counted tensor by tensor
in the way of Korthikanti et al. (arXiv 2205.05198, section 4), for what transformers' code saves;
its attention scores are absent, since the attention in use computes them again.

Not counted: adapters' own activations, casts of frozen weights, what the allocator loses between
blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

GIB = 2**30
RESERVED = 2 * GIB
"""Of a device, for the CUDA context, the communication library and gaps between blocks."""

ZERO_BUCKET = 500_000_000
ZERO_LIVE = 1_000_000_000
"""Elements: DeepSpeed's defaults for reduce_bucket_size; for stage3_max_live_parameters and
sub_group_size."""

Sharding = Literal["none", "zero1", "zero2", "zero3", "fsdp"]
Offload = Literal["none", "optimizer", "all"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What of a model decides its memory.

    Attributes:
        parameters: all of them.
        trainable: those that are trained.
        linear: those of linear layers, trained ones alone.
        largest: those of the largest part that is gathered at once: a layer, or the embedding.
        layers, hidden, intermediate: of the trunk.
        query, key: width of all query heads and of all key heads.
        heads: query heads.
    """

    parameters: int
    trainable: int
    linear: int
    largest: int
    layers: int
    hidden: int
    intermediate: int
    query: int
    key: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a run is spread over devices.

    Attributes:
        sharding: `none` (each device holds all), DeepSpeed's ZeRO, or PyTorch's FSDP2.
        devices: how many.
        half: whether it computes in bfloat16 or float16.
        offload: of weights and optimizer, what stands in the host's memory.
        shared: how many devices share a row (`prm.train.sequence`); 1: none do.
    """

    sharding: Sharding
    devices: int
    half: bool = True
    offload: Offload = "none"
    shared: int = 1

    def __str__(self) -> str:
        names = {"none": "one copy each", "fsdp": "FSDP"}
        name = names.get(self.sharding, f"ZeRO-{self.sharding[-1]}")
        return (
            name
            + {"none": "", "optimizer": " + optimizer offload", "all": " + offload"}[self.offload]
            + (f", rows over {self.shared}" if self.shared > 1 else "")
        )

    @property
    def autocast(self) -> bool:
        """Whether weights stay in float32 and every operation casts what it takes."""
        return self.half and self.sharding == "none"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device, and on its host.

    Attributes:
        weights, gradients, optimizer: as long as training lasts.
        activations: what a forward pass saves for the backward pass.
        buffers: beside the activations while gradients are computed.
        step: beside the first three while the optimizer steps, when no activations are there.
        host: in the host's memory, for this device.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int = 0
    buffers: int = 0
    step: int = 0
    host: int = 0

    @property
    def total(self) -> int:
        """The most at any time on the device."""
        static = self.weights + self.gradients + self.optimizer
        return static + max(self.activations + self.buffers, self.step)


def measure(model: torch.nn.Module) -> Size:
    """The sizes of a model, on whatever device; `meta` needs no memory."""
    config: Any = model.config
    config = config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    # The parts that ZeRO-3 and FSDP gather by themselves: layers, and what stands outside them.
    layers = [
        sum(parameter.numel() for parameter in module.parameters())
        for name, module in model.named_modules()
        if name.rpartition(".")[2].isdigit()
        and name.rpartition(".")[0].rpartition(".")[2] == "layers"
    ]
    tables = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        linear=sum(
            module.weight.numel()
            for module in model.modules()
            if isinstance(module, torch.nn.Linear) and module.weight.requires_grad
        ),
        largest=max(layers + tables),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        query=config.num_attention_heads * head,
        key=keys * head,
        heads=config.num_attention_heads,
    )


def states(size: Size, layout: Layout) -> Memory:
    """Weights, gradients and AdamW's states, and the buffers of their exchange.

    Per parameter of P, T of them trained, over N devices (b bytes: 2 in half precision, else 4):

        none    weights 4P     gradients 4T, 8T if N > 1      optimizer 8T
        ZeRO-1  weights bP     gradients bT                   optimizer 12T/N
        ZeRO-2  weights bP     gradients bT/N                 optimizer 12T/N
        ZeRO-3  weights bP/N   gradients bT/N                 optimizer 12T/N
        FSDP    weights 4P/N   gradients 4T/N                 optimizer 8T/N

    Source: ZeRO (arXiv 1910.02054, section 5); the optimizer holds two float32 moments, and under
    ZeRO a float32 copy of the weights. With several devices and no sharding DDP's buckets hold
    the gradients once more. A ZeRO step turns gradients to float32: all of a device's share, or
    under ZeRO-3 a group of at most `ZERO_LIVE` after the other.
    """
    n, trained = layout.devices, size.trainable
    whole = 2 if layout.half else 4

    def share(count: int) -> int:
        return -(-count // n)

    if layout.sharding == "none":
        gradients = 4 * trained * (2 if n > 1 else 1)
        return Memory(weights=4 * size.parameters, gradients=gradients, optimizer=8 * trained)
    if layout.sharding == "fsdp":
        # One part in use with its whole gradient, and the next one on its way.
        return Memory(
            weights=4 * share(size.parameters),
            gradients=4 * share(trained),
            optimizer=8 * share(trained),
            buffers=3 * whole * size.largest,
        )
    split = layout.sharding == "zero3"
    weights = whole * (share(size.parameters) if split else size.parameters)
    gradients = whole * (trained if layout.sharding == "zero1" else share(trained))
    optimizer = 12 * share(trained)
    step = 4 * (min(share(trained), ZERO_LIVE) if split else share(trained))
    buffers = whole * min(trained, ZERO_BUCKET)
    if split:
        buffers += whole * max(min(size.parameters, ZERO_LIVE), size.largest)
    host = 0
    if layout.offload != "none":  # the host holds the step's float32 gradients all the time
        host = optimizer + 4 * share(trained) + (gradients if split else 0)
        gradients = optimizer = step = 0
    if layout.offload == "all":
        host, weights = host + weights, 0
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        buffers=buffers,
        step=step,
        host=host,
    )


def activations(
    size: Size, layout: Layout, tokens: int, *, checkpointing: bool, width: int | None
) -> tuple[int, int]:
    """What a forward pass over so many tokens saves, and what stands beside it at the peak.

    Per token and layer, with width h, MLP width i, query and key widths q and k, b bytes an
    element:

        norms      2 (4 + b + b) h    the input as float32, the normalised one, the output
        attention  b (2 q + 2 k)      queries, keys, values, result; + 4 a head
        MLP        4 b i              gate, its activation, up, their product

    Under autocast the residual stream is float32 and each of the five linear layers behind a norm
    has a cast of its own: 2 (4 + 4) h + 5 · 2 h; the casts of the weights last for the pass. With
    checkpointing a layer saves only its input, and one layer at a time is computed again. The
    backward pass holds gradients of an MLP's inside (2 b i more than it frees) and of the stream.

    All this grows with the tokens, not with their square. A padded batch has a mask, which every
    layer keeps in the queries' type: b a token and token of its row. There k is q, since the keys
    are repeated for every query head.

    Args:
        size: the model's.
        layout: its precision counts.
        tokens: of the batch, padding included.
        checkpointing: `gradient_checkpointing`.
        width: tokens of a row of a padded batch; None for a packed one.

    Returns:
        bytes saved, and bytes beside them.
    """
    b, h = (2 if layout.half else 4), size.hidden
    stream = 4 * h if layout.autocast else b * h
    key, mask = (size.key, 0) if width is None else (size.query, b * width)
    norms = 26 * h if layout.autocast else 2 * (4 + 2 * b) * h
    layer = norms + b * (2 * size.query + 2 * key) + mask + 4 * b * size.intermediate
    layer += 4 * size.heads + 8  # float32: the softmax's sums, and the norms' scales
    beside = tokens * (2 * b * size.intermediate + stream)
    casts = 2 * size.linear if layout.autocast else 0
    if not checkpointing:
        return tokens * size.layers * layer, beside + casts
    # The casts are all there when the forward pass ends, and no layer is computed again yet.
    return tokens * (size.layers * stream + layer), max(beside, casts - tokens * layer)


def forecast(
    size: Size, layout: Layout, tokens: int, *, checkpointing: bool, width: int | None
) -> Memory:
    """Everything together, for so many tokens in a forward pass.

    Of a row that devices share each has its part, and no mask.
    """
    still = states(size, layout)
    if layout.shared > 1:
        tokens, width = -(-tokens // layout.shared), None
    saved, beside = activations(size, layout, tokens, checkpointing=checkpointing, width=width)
    return Memory(
        weights=still.weights,
        gradients=still.gradients,
        optimizer=still.optimizer,
        activations=saved,
        buffers=still.buffers + beside,
        step=still.step,
        host=still.host,
    )

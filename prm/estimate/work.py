"""What a stage asks and computes, and how many GPU-hours that takes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from annotate.forecast import Row
from prm.engines import EngineConfig
from prm.errors import ConfigError
from prm.estimate import hardware, models
from prm.estimate.hardware import Hardware, Model
from prm.estimate.volume import Volume


@dataclass(frozen=True, kw_only=True)
class Work:
    """A stage's, or a part of it.

    Attributes:
        requests: calls of engines.
        prompt, cached, written: tokens of prompts, those of them that a prefix cache has read
            before, and tokens that are written.
        forward: tokens that are scored or trained on.
        steps: of the optimizer.
        gpu_hours: busy ones.
        hours: one engine after the other, each on its GPUs.
        gpus: the most at once.
        paid: at an endpoint's prices.
    """

    requests: float = 0.0
    prompt: float = 0.0
    cached: float = 0.0
    written: float = 0.0
    forward: float = 0.0
    steps: float = 0.0
    gpu_hours: float = 0.0
    hours: float = 0.0
    gpus: int = 0
    paid: float = 0.0

    def __add__(self, other: Work) -> Work:
        sums = {
            item.name: getattr(self, item.name) + getattr(other, item.name)
            for item in fields(self)
            if item.name != "gpus"
        }
        return Work(**sums, gpus=max(self.gpus, other.gpus))

    def cost(self, on: Hardware) -> float:
        """Of its GPU-hours, and what endpoints ask for."""
        return self.gpu_hours * on.price_per_gpu_hour + self.paid


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a model was taken to be.

    Attributes:
        model: which.
        gpus: of a replica.
        seconds: GPU-seconds of writing.
        written: tokens in them.
    """

    model: Model
    gpus: int
    seconds: float = 0.0
    written: float = 0.0


class Machine:
    """Turns tokens into hours.

    Args:
        on: what stages run on.

    Attributes:
        paces: of each model that was used, in order.
        notes: what was taken otherwise than configured.
    """

    def __init__(self, on: Hardware) -> None:
        self.on = on
        self.paces: dict[str, Pace] = {}
        self.notes: list[str] = []
        self._made: dict[str, Model] = {}

    def made(self, path: str, model: Model) -> None:
        """A stage will have left this model there."""
        self._made[str(Path(path).resolve())] = replace(model, name=path, source=f"as {model.name}")

    def model(self, name: str, *, head: bool) -> Model:
        """The sizes of a model. Errors as `models.model`."""
        return self._made.get(str(Path(name).resolve())) or models.model(name, self.on, head=head)

    def ask(self, engine: EngineConfig, row: Row, *, samples: int = 1) -> Work:
        """An engine answers requests, each with so many texts.

        Raises:
            ConfigError: an endpoint's prices, or the size of a model, are not known.
        """
        asked = Work(
            requests=row.requests, prompt=row.prompt, cached=row.cached, written=row.expected
        )
        if not row.requests:
            return asked
        if engine.kind == "openai" and engine.prices is not None:
            paid = engine.prices.cost(row.prompt, row.cached, row.expected)
            return replace(asked, paid=paid)
        if engine.endpoint is not None and engine.endpoint.dialect == "openai":
            raise ConfigError(f"{engine.name}: what its tokens cost is not known; set its `prices`")
        if engine.kind == "transformers":
            self.note(
                "engine transformers is taken to be as fast as vllm, without its prefix cache"
            )
        model = self.model(engine.model, head=True)
        replica, gpus = self._gpus(engine, model)
        length = row.prompt / row.requests
        new = row.prompt - row.cached
        # A token that is read attends to half of its prompt, were all of it new: as many pairs.
        seconds = hardware.read_seconds(model, new, new / length * hardware.pairs(length), self.on)
        context = length + row.expected / (row.requests * samples) / 2
        writing = row.expected / hardware.write_rate(model, context, replica, self.on)
        before = self.paces.get(model.name, Pace(model=model, gpus=replica))
        self.paces[model.name] = replace(
            before, seconds=before.seconds + writing, written=before.written + row.expected
        )
        return self._timed(asked, seconds + writing, gpus)

    def score(self, name: str, volume: Volume, *, told: float, gpus: int = 1) -> Work:
        """A reward model reads solutions, each once."""
        model = self.model(name, head=False)
        self.paces.setdefault(name, Pace(model=model, gpus=gpus))
        tokens = sum(one.items * one.read(told=told) for one in volume)
        seconds = hardware.read_seconds(model, tokens, _pairs(volume, told), self.on)
        return self._timed(Work(forward=tokens), seconds, gpus)

    def train(
        self, model: Model, volume: Volume, *, told: float, epochs: float, frozen: bool
    ) -> Work:
        """A model is trained on solutions, so often."""
        self.paces.setdefault(model.name, Pace(model=model, gpus=self.on.train_gpus))
        tokens = epochs * sum(one.items * one.read(told=told) for one in volume)
        pairs = epochs * _pairs(volume, told)
        seconds = hardware.train_seconds(model, tokens, pairs, frozen, self.on)
        return self._timed(Work(forward=tokens), seconds, self.on.train_gpus)

    def _timed(self, work: Work, seconds: float, gpus: int) -> Work:
        hours = seconds / 3600
        return replace(work, gpu_hours=hours, hours=hours / gpus, gpus=gpus)

    def _gpus(self, engine: EngineConfig, model: Model) -> tuple[int, int]:
        """GPUs of a replica, and of all of them."""
        options = engine.options
        wanted = int(options.get("tensor_parallel_size", 1))
        wanted *= int(options.get("pipeline_parallel_size", 1))
        replica = hardware.holding(model, wanted, self.on)
        if replica > wanted and engine.kind != "openai":
            self.note(
                f"{model.name}: {model.weights / 1e9:,.0f} GB do not fit {wanted} "
                f"{self.on.gpu}; {replica} are taken: set options.tensor_parallel_size"
            )
        count = 1 if engine.replicas is None else engine.replicas.count
        if engine.endpoint is not None:
            count = len(engine.endpoint.urls)
        return replica, replica * count

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)


def _pairs(volume: Volume, told: float) -> float:
    return sum(one.items * hardware.pairs(one.read(told=told)) for one in volume)

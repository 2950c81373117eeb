"""The work of every stage, and what it leaves for those after it.

Each function takes a stage's configuration and returns its `Work`; what the stage will have written
goes on the shelf. Nothing is set aside on the way: each figure is the most that arrives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import annotate.sample
import annotate.split
import annotate.stage
from annotate.forecast import CHARACTERS, Asking, Reader, Row, scaled
from annotate.pieces import candidates
from annotate.strategy import (
    load_rewriting,
    load_splitting,
    load_strategy,
    render_pieces,
    render_text,
)
from prm.engines import Request
from prm.estimate import models
from prm.estimate.hardware import Guess
from prm.estimate.volume import Shelf, Volume, stand_in
from prm.estimate.work import Machine, Work
from prm.scorers import ScorerConfig

STAND_INS = 2
"""Solutions that stand for a policy's: a prefix cache helps the second as it helps the others."""
DEFAULT_EPOCHS, DEFAULT_ROWS = 3.0, 8
"""What `transformers.TrainingArguments` takes where nothing is set."""


@dataclass
class Desk:
    """What stages share while a recipe is gone through.

    Attributes:
        shelf: the files.
        machine: the hours.
        guess: lengths.
        policies: the names of those that were met.
    """

    shelf: Shelf
    machine: Machine
    guess: Guess
    policies: list[str] = field(default_factory=list)


def sample(config: annotate.sample.Config, desk: Desk) -> Work:
    """Every policy answers every problem under each of its prompts."""
    volume = desk.shelf.problems(config.problems, "problems")
    done, left = Work(), []
    for policy in config.policies:
        desk.policies.append(policy.name)
        guess = desk.guess.answers.get(policy.name, desk.guess.answer)
        written = min(guess, policy.max_tokens)
        # What is thought apart is no part of the solution.
        kept = written if policy.thinking == "keep" else min(desk.guess.answer, written)
        for prompt in policy.generators:
            words = (len(prompt.system) + len(prompt.template)) / CHARACTERS
            for one in volume:
                row = Row(
                    requests=round(one.items),
                    prompt=round(one.items * (words + one.problem)),
                    expected=round(one.items * policy.samples * written),
                )
                done += desk.machine.ask(policy.engine, row, samples=policy.samples)
                many = one.items * policy.samples
                left.append(
                    replace(one, items=many, tokens=float(kept), steps=1.0, generator=prompt.name)
                )
    desk.shelf.put(Path(config.out, "solutions.jsonl"), left)
    return done


def split(config: annotate.split.Config, desk: Desk) -> Work:
    """A model says where the steps of each text begin; rules cost nothing."""
    volume = desk.shelf.solutions(config.source, "source")
    done, left = Work(), []
    for one in volume:
        if one.steps > 1:
            left.append(one)
            continue
        after = replace(one, steps=max(1.0, one.tokens / desk.guess.step))
        left.append(after)
        if config.engine is not None:
            row = _separating(config, " ".join(stand_in(after, 0).steps), after.steps)
            done += desk.machine.ask(config.engine, scaled(row, one.items, config.engine))
    desk.shelf.put(Path(config.out, "solutions.jsonl"), left)
    return done


def _separating(config: annotate.split.Config, text: str, steps: float) -> Row:
    """What a model is asked about one text, and answers: numbers, or the text again as JSON."""
    if config.how == "rewrite":
        messages = render_text(load_rewriting(config.prompts), text)
        written = len(text) / CHARACTERS + 6 * steps  # a key, quotes and a comma a step
    else:
        pieces = [text[begin:end] for begin, end in candidates(text)]
        messages = render_pieces(load_splitting(config.prompts), pieces)
        written = 2 * steps + 1
    read = Reader(None).read(Request(messages=messages, max_tokens=1))
    return Row(requests=1, prompt=len(read), expected=round(written))


def judge(config: annotate.stage.Config, desk: Desk) -> Work:
    """Judges are asked under every strategy, as `prm annotate --dry-run` has it."""
    volume = desk.shelf.solutions(config.source, "source")
    done, reader = Work(), Reader(None)
    for voter in config.judges:
        settings = voter.settings
        strategies = [
            load_strategy(name, settings.prompts, settings.layout) for name in voter.strategies
        ]
        for one in volume:
            found = [Asking(strategy.name, strategy, settings) for strategy in strategies]
            for number in range(STAND_INS):
                before: Sequence[int] | None = None
                for asking in found:
                    before = asking.add(stand_in(one, number), reader, before)
            factor = one.items / STAND_INS * settings.samples
            for asking in found:
                done += desk.machine.ask(voter.engine, scaled(asking.row, factor, voter.engine))
    if config.sequential is not None and config.judges:
        desk.machine.note("sequential voting will ask less")
    desk.shelf.put(Path(config.out, "annotations.jsonl"), volume)
    return done


def verify(config: Any, desk: Desk) -> Work:
    """Votes become labels; no model."""
    volume = desk.shelf.annotations(config.annotations)
    desk.shelf.put(Path(config.out, "labelled.jsonl"), volume)
    return Work()


def build_bench(config: Any, desk: Desk) -> Work:
    """A benchmark is drawn evenly."""
    volume = desk.shelf.solutions(config.source, "source", labelled=True)
    total = sum(one.items for one in volume)
    share = 1.0 if config.size is None or not total else min(1.0, config.size / total)
    drawn = [replace(one, items=one.items * share) for one in volume]
    desk.shelf.put(Path(config.out, "benchmark.jsonl"), drawn)
    return Work()


def train(config: Any, desk: Desk) -> Work:
    """A model is trained on whatever fits its rows."""
    machine, sources = desk.machine, enumerate(config.sources)
    volume = [
        replace(one, items=one.items * (1 - config.held_out))
        for index, source in sources
        for one in desk.shelf.solutions(source, f"sources[{index}]", labelled=True)
    ]
    told = {"worked": 1.0 - config.reference_drop}.get(config.reference, 0.0)
    fitting = [one for one in volume if one.read(told=told) <= config.render.max_length]
    for one in volume:
        if one not in fitting:
            machine.note(
                f"{one.generator or 'solutions'}: {one.read(told=told):,.0f} tokens on average, "
                f"more than render.max_length {config.render.max_length:,}: taken as set aside"
            )
    if config.model is None:
        size = config.scratch
        model = models.scratch(
            size.vocab_size, size.hidden_size, size.layers, size.intermediate_size
        )
    else:
        model = machine.model(config.model, head=False)
    machine.made(str(Path(config.out, "model")), model)
    epoch = _steps(config, fitting, told, machine.on.train_gpus)
    epochs = float(config.trainer.get("num_train_epochs", DEFAULT_EPOCHS))
    most = int(config.trainer.get("max_steps", -1))
    if most > 0 and epoch:
        epochs = most / epoch
    done = machine.train(model, fitting, told=told, epochs=epochs, frozen=bool(config.peft))
    return replace(done, steps=math.ceil(epoch * epochs))


def _steps(config: Any, volume: Volume, told: float, gpus: int) -> int:
    """Optimizer steps of an epoch."""
    each = gpus * int(config.trainer.get("gradient_accumulation_steps", 1))
    if config.batches.tokens is None:
        rows = int(config.trainer.get("per_device_train_batch_size", DEFAULT_ROWS))
        return math.ceil(sum(one.items for one in volume) / (rows * each))
    tokens = sum(one.items * one.read(told=told) for one in volume)
    return math.ceil(tokens / (config.batches.tokens * each))


def score(config: Any, desk: Desk) -> Work:
    """A reward model scores solutions."""
    return _scored(config.scorer, desk.shelf.solutions(config.source, "source"), desk)


def bench(config: Any, desk: Desk) -> Work:
    """Every checkpoint scores every benchmark, once for all rows that share it."""
    from universalbench.scoring import group

    done = Work()
    tasks = [
        (
            task,
            desk.shelf.solutions(task.source, f"tasks[{index}].source", labelled=_labelled(task)),
        )
        for index, task in enumerate(config.tasks)
    ]
    for one in group(config.predictors):
        scorer = one.members[0].checkpoint
        if scorer is None:
            continue
        for task, volume in tasks:
            # Where nobody's name is known, all are by whoever is asked for.
            named = [part for part in volume if part.generator in task.generators]
            known = any(part.generator for part in volume)
            done += _scored(scorer, named if task.generators and known else volume, desk)
    return done


def _labelled(task: Any) -> bool:
    return task.kind in ("steps", "prmbench", "universalbench")


def _scored(config: ScorerConfig, volume: Volume, desk: Desk) -> Work:
    told = 0.0 if config.reference == "none" else 1.0
    gpus = int(config.options.get("tensor_parallel_size", 1))
    if config.critique.engine is not None:
        desk.machine.note(f"{config.model}: writes critiques, of which only the reading is counted")
    done = desk.machine.score(config.model, volume, told=told, gpus=gpus)
    if config.base is not None:
        done += desk.machine.score(config.base, volume, told=told, gpus=gpus)
    return done


def solve(config: Any, desk: Desk) -> Work:
    """Every search writes and scores `n` solutions' worth of tokens, each token once."""
    policy = config.policy
    written = min(desk.guess.answer, policy.max_tokens)
    words = (len(policy.system) + len(policy.template)) / CHARACTERS
    done = Work()
    for one in desk.shelf.problems(config.problems, "problems"):
        for search in config.searches:
            row = Row(
                requests=round(one.items),
                prompt=round(one.items * (words + one.problem)),
                expected=round(one.items * search.n * written),
            )
            done += desk.machine.ask(policy.engine, row, samples=search.n)
            many = replace(one, items=one.items * search.n, reference=0.0, tokens=float(written))
            steps = max(1.0, written / desk.guess.step)
            done += _scored(config.scorer, [replace(many, steps=steps)], desk)
    desk.machine.note(
        "prm solve: prefixes are taken to be cached; beams write as much as best of n"
    )
    return done


def free(_: Any, __: Desk) -> Work:
    """No model runs."""
    return Work()


WORK: dict[str, Callable[[Any, Desk], Work]] = {
    "sample": sample,
    "split": split,
    "annotate": judge,
    "verify": verify,
    "verify-answers": free,
    "export": free,
    "train": train,
    "score": score,
    "build-bench": build_bench,
    "bench": bench,
    "search": free,
    "solve": solve,
}
"""Stage → its work; the others never end, or run stages of their own."""

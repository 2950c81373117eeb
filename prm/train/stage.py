"""`prm train`: labelled solutions to a checkpoint that stock transformers loads."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from prm import jsonl, sources
from prm.attention import use_packed_attention
from prm.errors import ConfigError, PRMError
from prm.records import Failure
from prm.render import Renderer
from prm.run import Counts, Run, fingerprint
from prm.sources import Place
from prm.train import sequence, statistics, zero3
from prm.train.arguments import training_arguments
from prm.train.base import load_base
from prm.train.batches import collate_packed, collate_padded
from prm.train.checkpoint import last_checkpoint, save
from prm.train.config import Config, check
from prm.train.data import SolutionFile, StepDataset, separate_leaks, split
from prm.train.forecast import forecast
from prm.train.launch import leave_at_exit
from prm.train.losses import StepLoss
from prm.train.trainer import EpochCallback, PRMTrainer
from prm.zoo.aurora import Declaration
from prm.zoo.entry import Threshold

__all__ = ["Config", "forecast", "run"]

LEAKED = "in a benchmark"
"""Reason of a solution set aside: it answers a problem of `benchmarks`."""


OUTPUTS = ("model", "rejected.jsonl")


def run(config: Config) -> Counts | None:
    """Train; resumes from the trainer's last checkpoint.

    Under `torchrun` or `accelerate launch` every process calls this. The main one alone holds
    the run folder and reads the sources; the others follow what it found there, and return None.
    """
    check(config)
    inputs = {
        f"{name}[{index}]": sources.identify(place)
        for name, places in (("sources", config.sources), ("benchmarks", config.benchmarks))
        for index, place in enumerate(places)
    }
    if config.model is not None and Path(config.model).is_dir():
        inputs["model"] = fingerprint(config.model)
    arguments = training_arguments(config)  # joins the process group, before any model is made
    zero3.prepare(arguments)
    sequence.prepare(arguments)
    with contextlib.ExitStack() as stack:
        main: _Main | None = None
        finished, refused = False, None
        if PartialState().is_main_process:
            try:
                writes = [*OUTPUTS, _data(config).name, "trainer"]
                folder = Run(config.out, "train", config, inputs, writes)
                main = _Main(stack.enter_context(folder))
                finished = main.folder.counts is not None
                if not finished:
                    main.gather(config)
            except PRMError as error:
                refused = error
        # Nobody goes on alone: a process left waiting for the main one would wait for ever.
        finished, refused = broadcast_object_list([finished, refused])
        if refused is not None:
            leave_at_exit()
            raise refused
        if not finished:
            try:
                _train(config, arguments, main)
            except PRMError:
                # Before the first step nothing ties this folder to the configuration.
                if main is not None and not (Path(config.out) / "trainer").exists():
                    _data(config).unlink(missing_ok=True)
                raise
        leave_at_exit()
        return main.folder.counts if main else None


@dataclass
class _Main:
    """What only the main process has.

    Attributes:
        folder: the run folder.
        set_aside: rows that their data set left without labels.
    """

    folder: Run
    set_aside: list[Failure] = field(default_factory=list)

    def gather(self, config: Config) -> None:
        """Bring all sources into one file, which every process reads."""
        found = (sources.labelled(source, self.set_aside) for source in config.sources)
        jsonl.write(_data(config), (item for items in found for item in items))


def _data(config: Config) -> Path:
    return Path(config.out) / "data.jsonl"


def _train(config: Config, arguments: TrainingArguments, main: _Main | None) -> None:
    out = Path(config.out)
    items = SolutionFile(_data(config))
    clean, leaked = _without_leaks(items, config)
    training, held_out = split(clean, config.held_out, config.seed)
    if not training or not held_out:
        problems = len({item.solution.problem for item in clean})
        raise ConfigError(
            f"of {problems} problems, {len(training)} solutions are to train on and "
            f"{len(held_out)} are held out; give more problems, or change held_out "
            f"({config.held_out})"
        )
    model, tokenizer = load_base(config, training)
    data = partial(
        StepDataset,
        renderer=Renderer(tokenizer, config.render),
        loss=config.loss,
        reference=config.reference,
        seed=config.seed,
        too_long=config.too_long,
    )
    dataset = data(training, reference_drop=config.reference_drop)
    measured_on = data(held_out, reference_drop=0.0)
    for name, part in (("to train on", dataset), ("held out", measured_on)):
        if not len(part):
            reasons = Counter(item.reason for item in part.rejected)
            raise ConfigError(f"no solution {name} is left: {dict(reasons)}")
    if main is not None:
        _tell(dataset, config)
    collate: Any = partial(collate_padded, pad_id=tokenizer.pad_token_id)
    if config.batches.packing:
        collate = collate_packed
    shared = arguments.parallelism_config
    if config.batches.packing or shared is not None:
        longest = max([*dataset.lengths, *measured_on.lengths])
        if shared is not None:
            sequence.require_sequence_parallel(
                model.config,
                shared.sp_size,
                longest=longest,
                batches=config.batches,
                rows=arguments.per_device_train_batch_size,
            )
        attention = use_packed_attention(model, longest, half=arguments.bf16 or arguments.fp16)
        if shared is not None:
            sequence.attend_by(shared, attention)
    trainer = PRMTrainer(
        loss=StepLoss(config.loss),
        batches=config.batches,
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=measured_on,
        data_collator=collate,
        callbacks=[EpochCallback(dataset)],
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(out / "trainer"))
    measured = trainer.evaluate()
    without: dict[str, float] | None = None
    if config.reference != "none" and config.reference_drop > 0:
        without = trainer.evaluate(measured_on.without_references())
    count = len(measured_on)
    declaration = Declaration(
        render=config.render,
        reference=config.reference,
        reference_drop=config.reference_drop,
        loss=config.loss.kind,
        meaning=config.loss.meaning,
        base=config.model or f"none (from nothing, seed {config.seed})",
        threshold=_threshold(measured, count, ""),
        threshold_without_reference=_threshold(without, count, ", references withheld")
        if without
        else None,
    )
    save(trainer, tokenizer, declaration, measured, without, out)
    if main is not None:
        leaks = (Failure(id=item.id, reason=LEAKED) for item in leaked)
        rejected = [*main.set_aside, *leaks, *dataset.rejected, *measured_on.rejected]
        # Ids are unique within a source, not across sources.
        distinct = {item.id: item for item in rejected}
        jsonl.write(main.folder.path("rejected.jsonl"), [distinct[id] for id in sorted(distinct)])
        counts = Counts(
            read=len(items) + len(main.set_aside),
            written=len(dataset) + len(measured_on),
            rejected=dict(Counter(item.reason for item in rejected)),
        )
        main.folder.finish(counts, OUTPUTS)
    trainer.accelerator.wait_for_everyone()


def _tell(dataset: StepDataset, config: Config) -> None:
    """Say what there is to train on, before the first step."""
    found = statistics.summary(dataset.solutions(), dataset.lengths, config.loss)
    print(statistics.text(found), flush=True)
    for warning in statistics.warnings(found):
        print(f"train: {warning}", file=sys.stderr, flush=True)


def _threshold(measured: dict[str, float], solutions: int, how: str) -> Threshold | None:
    """The best threshold on the held-out problems; None where they cannot show one."""
    wrong, steps = int(measured["eval_wrong_steps"]), int(measured["eval_steps"])
    if not 0 < wrong < steps:
        print(
            f"train: {wrong} of the {steps} held-out steps are wrong, so the checkpoint declares "
            "no threshold; raise held_out, or train on solutions with and without errors",
            file=sys.stderr,
        )
        return None
    return Threshold(
        value=measured["eval_best_threshold"],
        split=f"held-out problems ({solutions} solutions, {wrong} of {steps} steps wrong{how})",
        metric="F1 of wrong steps",
    )


def _without_leaks(items: SolutionFile, config: Config) -> tuple[SolutionFile, SolutionFile]:
    """The solutions to train on, and those that answer a benchmark's problem."""
    clean, leaked = separate_leaks(items, _texts(config.benchmarks))
    if len(leaked) and config.on_leak == "refuse":
        raise ConfigError(
            f"{len(leaked)} training solutions (first: {leaked[0].id!r}) answer a problem of "
            "`benchmarks`; remove them, or set on_leak: drop to set them aside"
        )
    return clean, leaked


def _texts(places: Iterable[Place]) -> Iterator[str]:
    for place in places:
        yield from sources.problem_texts(place)

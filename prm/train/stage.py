"""`prm train`: labelled solutions to a checkpoint that stock transformers loads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import trl
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME

from prm import jsonl, sources
from prm.errors import CheckpointError, ConfigError, PRMError
from prm.records import Failure, LabelledSolution
from prm.render import Renderer, RenderSettings
from prm.run import Counts, Run, fingerprint
from prm.sources import Place, Source
from prm.train import zero3
from prm.train.card import write_card
from prm.train.data import StepDataset, collate, separate_leaks, split
from prm.train.scratch import ScratchConfig, make_model, make_tokenizer
from prm.train.trainer import EpochCallback, PRMTrainer, step_metrics
from prm.zoo.aurora import Declaration, Threshold, write_declaration


@dataclass
class Config:
    """`prm train`.

    Attributes:
        out: the run folder; gets `model/`, `rejected.jsonl`, and the trainer's checkpoints.
        sources: labelled solutions.
        model: a base model's folder or name; None makes one from nothing.
        revision: the base model's commit.
        scratch: the size of that model from nothing.
        benchmarks: what will be measured later; no training problem may occur there.
        on_leak: `refuse` fails on such a problem, `drop` sets its solutions aside, counted.
        reference: what stands in the reference's place: the worked solution, the final answer
            alone, or nothing.
        reference_drop: probability of leaving the reference out.
        render: how solutions become token ids.
        held_out: share of problems kept for the threshold and the curves.
        seed: of split, drops, initial weights and order.
        peft: LoRA and the like, as keys of `trl.ModelConfig`; the adapter is merged at the end.
        trainer: keys of `transformers.TrainingArguments`.
    """

    out: str
    sources: list[Source]
    model: str | None = None
    revision: str | None = None
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    benchmarks: list[Place] = field(default_factory=list)
    on_leak: Literal["refuse", "drop"] = "refuse"
    reference: Literal["worked", "answer", "none"] = "worked"
    reference_drop: float = 0.5
    render: RenderSettings = field(default_factory=RenderSettings)
    held_out: float = 0.05
    seed: int = 0
    peft: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)


def run(config: Config) -> Counts | None:
    """Train; resumes from the trainer's last checkpoint.

    Under `torchrun` or `accelerate launch` every process calls this. The main one alone holds
    the run folder; the others follow what it found there, and return None.
    """
    _check(config)
    inputs = {
        f"{name}[{index}]": sources.identify(place)
        for name, places in (("sources", config.sources), ("benchmarks", config.benchmarks))
        for index, place in enumerate(places)
    }
    if config.model is not None and Path(config.model).is_dir():
        inputs["model"] = fingerprint(config.model)
    arguments = _arguments(config)  # joins the process group, before any model is made
    zero3.prepare(arguments)
    main = PartialState().is_main_process
    with contextlib.ExitStack() as stack:
        folder: Run | None = None
        finished, refused = False, None
        if main:
            try:
                folder = stack.enter_context(Run(config.out, "train", config, inputs))
                finished = folder.counts is not None
            except PRMError as error:
                refused = error
        # Nobody goes on alone: a process left waiting for the main one would wait for ever.
        finished, refused = broadcast_object_list([finished, refused])
        if refused is not None:
            raise refused
        if not finished:
            _train(config, arguments, folder)
        return folder.counts if folder else None


def _check(config: Config) -> None:
    if not config.sources:
        raise ConfigError("train needs at least one entry in `sources`")
    if not 0.0 <= config.reference_drop <= 1.0:
        raise ConfigError(f"reference_drop is {config.reference_drop}; it must lie in [0, 1]")
    if not 0.0 < config.held_out < 1.0:
        raise ConfigError(f"held_out is {config.held_out}; it must lie between 0 and 1")
    if config.reference != "none" and not config.render.takes_reference:
        raise ConfigError("render.takes_reference is false; set reference: none to agree")


def _train(config: Config, arguments: TrainingArguments, folder: Run | None) -> None:
    out = Path(config.out)
    items, leaked = _read(config)
    training, held_out = split(items, config.held_out, config.seed)
    if not training or not held_out:
        problems = len({item.solution.problem for item in items})
        raise ConfigError(
            f"of {problems} problems, {len(training)} solutions are to train on and "
            f"{len(held_out)} are held out; give more problems, or change held_out "
            f"({config.held_out})"
        )
    model, tokenizer = _start(config, training)
    renderer = Renderer(tokenizer, config.render)
    data = partial(
        StepDataset,
        renderer=renderer,
        reference=config.reference,
        seed=config.seed,
    )
    dataset = data(training, reference_drop=config.reference_drop)
    trainer = PRMTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=data(held_out, reference_drop=0.0),
        data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
        compute_metrics=step_metrics,
        callbacks=[EpochCallback(dataset)],
    )
    trainer.train(resume_from_checkpoint=_last_checkpoint(out / "trainer"))
    measured = trainer.evaluate()
    without: dict[str, float] | None = None
    if config.reference != "none" and config.reference_drop > 0:
        without = trainer.evaluate(data(held_out, reference_drop=1.0))
    declaration = Declaration(
        render=config.render,
        reference=config.reference,
        reference_drop=config.reference_drop,
        loss="squared_error",
        base=config.model or f"none (from nothing, seed {config.seed})",
        threshold=_threshold(measured, len(held_out), ""),
        threshold_without_reference=_threshold(without, len(held_out), ", references withheld")
        if without
        else None,
    )
    _save(trainer, tokenizer, declaration, measured, without, out)
    if folder is not None:
        # Ids are unique within a source, not across sources.
        rejected = [Failure(id=id, reason="in a benchmark") for id in {item.id for item in leaked}]
        jsonl.write(folder.path("rejected.jsonl"), sorted(rejected, key=lambda item: item.id))
        counts = Counts(
            read=len(items) + len(leaked),
            written=len(items),
            rejected={"in a benchmark": len(leaked)} if leaked else {},
        )
        folder.finish(counts, ["model", "rejected.jsonl"])
    trainer.accelerator.wait_for_everyone()


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


def _last_checkpoint(folder: Path) -> str | None:
    """The trainer's last checkpoint that is whole: its state is what the trainer writes last."""
    for path in sorted(
        folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True
    ):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):  # killed while it was being written
            continue
        return str(path)
    return None


def _read(config: Config) -> tuple[list[LabelledSolution], list[LabelledSolution]]:
    """The solutions to train on, and those that answer a benchmark's problem."""
    items: list[LabelledSolution] = []
    for source in config.sources:
        items += sources.labelled(source)
    clean, leaked = separate_leaks(items, _texts(config.benchmarks))
    if leaked and config.on_leak == "refuse":
        raise ConfigError(
            f"{len(leaked)} training solutions (first: {leaked[0].id!r}) answer a problem of "
            "`benchmarks`; remove them, or set on_leak: drop to set them aside"
        )
    return clean, leaked


def _texts(places: Iterable[Place]) -> Iterable[str]:
    for place in places:
        yield from sources.problem_texts(place)


def _start(config: Config, training: list[LabelledSolution]) -> tuple[Any, Any]:
    """The model and tokenizer to start from."""
    set_seed(config.seed)  # a base model's new head and LoRA's matrices are drawn at random
    if config.model is None:
        texts = (
            "\n".join([item.solution.problem, *item.solution.steps, item.solution.reference or ""])
            for item in training
        )
        tokenizer = make_tokenizer(texts, config.scratch.vocab_size)
        model = make_model(
            config.scratch, tokenizer, context=config.render.max_length, seed=config.seed
        )
    else:
        try:
            tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
            settings = AutoConfig.from_pretrained(
                config.model, revision=config.revision, num_labels=1
            )
            settings.classifier_dropout = 0.0
            # Full precision, whatever the file holds: in bfloat16 small updates round to nothing.
            model = AutoModelForTokenClassification.from_pretrained(
                config.model, revision=config.revision, config=settings, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{config.model}: {str(error).splitlines()[0]}") from None
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
    context = model.config.max_position_embeddings
    if config.render.max_length > context:
        raise ConfigError(
            f"render.max_length {config.render.max_length} exceeds the model's context of {context}"
        )
    if config.peft:
        from peft import get_peft_model

        try:
            adapter = trl.get_peft_config(
                trl.ModelConfig(use_peft=True, **({"lora_task_type": "TOKEN_CLS"} | config.peft))
            )
            assert adapter is not None  # use_peft is set
            model = get_peft_model(model, adapter)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"peft: {error}; keys are those of trl.ModelConfig") from None
    return model, tokenizer


_OURS = {
    "output_dir",
    "seed",
    "label_names",
    "remove_unused_columns",
    # Workers that outlive an epoch would never hear of the next one's reference drops.
    "dataloader_persistent_workers",
}
"""Keys of `trainer` that the stage sets itself."""


def _arguments(config: Config) -> TrainingArguments:
    defaults: dict[str, Any] = {
        "output_dir": str(Path(config.out) / "trainer"),
        "seed": config.seed,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "report_to": [],
        "disable_tqdm": not sys.stderr.isatty(),  # a bar is for eyes; a log gets the losses
        "lr_scheduler_type": "cosine",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
    }
    clash = sorted(_OURS & set(config.trainer))
    if clash:
        raise ConfigError(f"trainer.{clash[0]} is set by the stage; leave it out")
    if config.trainer.get("max_steps") == 0 or config.trainer.get("num_train_epochs") == 0:
        raise ConfigError("trainer.max_steps and trainer.num_train_epochs start above 0")
    for known in dataclasses.fields(TrainingArguments):
        given = config.trainer.get(known.name)
        if isinstance(given, str) and isinstance(known.default, (int, float)):
            raise ConfigError(f"trainer.{known.name} is {given!r}; it must be like {known.default}")
    try:
        return TrainingArguments(**(defaults | config.trainer))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"trainer: {error}; keys are those of transformers.TrainingArguments"
        ) from None


def _save(
    trainer: PRMTrainer,
    tokenizer: Any,
    declaration: Declaration,
    measured: dict[str, float],
    without: dict[str, float] | None,
    out: Path,
) -> None:
    """Write `model/` whole: into a temporary folder, then renamed."""
    temporary, final = out / ".model", out / "model"
    if trainer.is_world_process_zero():
        shutil.rmtree(temporary, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        with zero3.gathered(model):
            merged = model.merge_and_unload()
            if trainer.is_world_process_zero():
                merged.save_pretrained(temporary)
    else:
        trainer.save_model(str(temporary))
    if trainer.is_world_process_zero():
        (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle
        tokenizer.save_pretrained(temporary)
        write_declaration(temporary, declaration)
        write_card(temporary, declaration, measured, without)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)

"""The trainer on batches made by hand: evaluation, the best checkpoint, and what stops a run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import (
    Qwen2Config,
    Qwen2ForTokenClassification,
    TrainerCallback,
    TrainingArguments,
)

from prm import metrics
from prm.errors import TrainingError
from prm.train.batches import BatchConfig
from prm.train.losses import IGNORE, LossConfig, StepLoss
from prm.train.trainer import PRMTrainer, step_metrics

torch.set_num_threads(1)

ENDS = range(20, 24)
"""Token ids that end a step; a step is right where its is odd."""


MEASURED = (
    *("loss", "auroc", "best_f1", "best_threshold", "macro_f1", "first_error_f1", "ece"),
    *("wrong_steps", "steps"),
)


def examples(count: int, seed: int = 0) -> list[dict]:
    """Solutions of one to five steps of one to three tokens."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    made = []
    for _ in range(count):
        ids, ends, labels = [2, 3], [], []
        for _ in range(draw(1, 6)):
            ids += [draw(4, 20) for _ in range(draw(1, 4))]
            ids.append(draw(ENDS.start, ENDS.stop))
            labels.append(0.9 if ids[-1] % 2 else 0.1)
            ends.append(len(ids) - 1)
        weights = [1.0 if draw(0, 2) else 0.5] * len(labels)
        made.append({"input_ids": ids, "step_ends": ends, "labels": labels, "weights": weights})
    return made


def collate(batch: list[dict], *, packed: bool) -> dict[str, torch.Tensor]:
    width = max(len(one["input_ids"]) for one in batch)
    rows = []
    for number, one in enumerate(batch):
        length = len(one["input_ids"])
        row = {"input_ids": torch.tensor(one["input_ids"]), "position_ids": torch.arange(length)}
        row["labels"] = torch.full((length,), IGNORE)
        row["weights"], row["groups"] = torch.zeros(length), torch.full((length,), -1)
        row["labels"][one["step_ends"]] = torch.tensor(one["labels"])
        row["weights"][one["step_ends"]] = torch.tensor(one["weights"])
        row["groups"][one["step_ends"]] = number
        row["attention_mask"] = torch.ones(length, dtype=torch.long)
        rows.append(row)
    names = {"input_ids": 0, "labels": IGNORE, "weights": 0, "groups": -1}
    if packed:
        return {
            name: torch.cat([row[name] for row in rows])[None] for name in (*names, "position_ids")
        }
    return {
        name: torch.stack(
            [
                torch.nn.functional.pad(row[name], (0, width - len(row[name])), value=fill)
                for row in rows
            ]
        )
        for name, fill in (names | {"attention_mask": 0}).items()
    }


class Examples(list):
    """A list of examples that says how long each is, as `StepDataset` does."""

    epoch = 0

    @property
    def lengths(self) -> list[int]:
        return [len(one["input_ids"]) for one in self]


def make_model(labels: int) -> Qwen2ForTokenClassification:
    torch.manual_seed(0)
    size = {"vocab_size": 24, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128}
    rest = {"num_labels": labels, "classifier_dropout": 0.0, "pad_token_id": 0}
    return Qwen2ForTokenClassification(Qwen2Config(**size, **heads, **rest))


def make_trainer(
    out: Path, kind: str = "squared_error", *, packed: bool = False, **keys
) -> PRMTrainer:
    """A trainer of 32 examples, and 11 held out; `keys` are those of `TrainingArguments`."""
    loss = StepLoss(LossConfig(kind=kind))
    held_out, callbacks = keys.pop("held_out", examples(11, seed=1)), keys.pop("callbacks", [])
    batches = keys.pop("batches", None)
    defaults = {
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "dataloader_pin_memory": False,
    }
    return PRMTrainer(
        loss=loss,
        batches=batches,
        model=make_model(loss.config.labels),
        args=TrainingArguments(output_dir=str(out), **(defaults | keys)),
        train_dataset=Examples(examples(32)),
        eval_dataset=held_out,
        data_collator=partial(collate, packed=packed),
        callbacks=callbacks,
    )


# ── evaluation ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["squared_error", "two_class"])
@pytest.mark.parametrize("packed", [False, True])
def test_predictions_are_the_scores_at_the_step_ends(tmp_path, kind, packed):
    trainer = make_trainer(tmp_path, kind, packed=packed)
    held_out = examples(11, seed=1)
    held_out[0]["labels"][-1] = IGNORE  # a step that the loss leaves out is still a step
    predicted = trainer.predict(held_out)
    labels, weights = predicted.label_ids
    steps = max(len(one["labels"]) for one in held_out)
    assert predicted.predictions.shape == labels.shape == weights.shape == (11, steps)
    for row, one in enumerate(held_out):
        with torch.no_grad():
            logits = trainer.model(torch.tensor([one["input_ids"]])).logits[0, one["step_ends"]]
        scores = logits[:, 0] if kind == "squared_error" else logits[:, 1] - logits[:, 0]
        size = len(one["labels"])
        assert predicted.predictions[row, :size] == pytest.approx(scores.numpy(), abs=1e-5)
        assert labels[row, :size] == pytest.approx(one["labels"])
        assert weights[row, :size] == pytest.approx(one["weights"])
        assert (labels[row, size:] == IGNORE).all()
    assert predicted.predictions.dtype == np.float32


@pytest.mark.parametrize("kind", ["squared_error", "binary_cross_entropy", "two_class", "ranking"])
def test_what_is_measured_does_not_depend_on_batches(tmp_path, kind):
    """Neither on their size nor their layout; the loss, too, is that of all held-out steps."""
    measured = []
    for size, packed in ((1, False), (3, False), (11, False), (3, True)):
        trainer = make_trainer(tmp_path, kind, packed=packed, per_device_eval_batch_size=size)
        figures = trainer.evaluate()
        assert ("eval_ece" in figures) == (kind != "ranking")
        names = [name for name in MEASURED if f"eval_{name}" in figures]
        measured.append({name: figures[f"eval_{name}"] for name in names})
    held_out = collate(examples(11, seed=1), packed=False)
    targets = (held_out[name] for name in ("labels", "weights", "groups"))
    with torch.no_grad():
        logits = trainer.model(held_out["input_ids"], held_out["attention_mask"]).logits
        whole = StepLoss(LossConfig(kind=kind))(logits, *targets).item()
    for figures in measured:
        assert len(figures) == len(MEASURED) - (kind == "ranking")
        assert figures == pytest.approx(measured[0], abs=1e-5)
        assert figures["loss"] == pytest.approx(whole, rel=1e-5)


def prediction(*rows: list[tuple[float, float]]) -> SimpleNamespace:
    """What `step_metrics` gets, from score and label of each step of each solution."""
    width = max(map(len, rows))
    table = np.array([row + [(-7.0, IGNORE)] * (width - len(row)) for row in rows], np.float32)
    return SimpleNamespace(
        predictions=table[..., 0], label_ids=(table[..., 1], np.ones_like(table[..., 0]))
    )


def test_step_metrics_by_hand():
    seen = prediction(
        [(0.9, 1.0), (0.2, 0.25), (0.4, 1.0)],  # first error at 1
        [(0.8, 0.75)],  # none
        [(0.3, 0.0), (IGNORE, IGNORE), (0.1, 0.0)],  # at 0, and 0.1 is the second labelled step
    )
    measured = step_metrics(seen, StepLoss(LossConfig()))
    # Below .35 lie the three wrong steps and no right one.
    assert measured["best_threshold"] == pytest.approx(0.35)
    assert measured["best_f1"] == measured["macro_f1"] == measured["auroc"] == 1.0
    assert measured["first_error_f1"] == 1.0
    assert (measured["wrong_steps"], measured["steps"]) == (3, 6)
    distances = (0.1, 0.05, 0.6, 0.05, 0.3, 0.1)
    assert measured["loss"] == pytest.approx(sum(d * d for d in distances) / 12)
    assert measured["ece"] == pytest.approx(sum(distances) / 6)  # each in a bin of its own


def test_first_errors_have_a_threshold_of_their_own():
    seen = prediction([(0.5, 1.0), (0.2, 0.0), (0.6, 0.0), (0.6, 0.0)], [(0.55, 1.0)])
    measured = step_metrics(seen, StepLoss(LossConfig()))
    # Of single steps, calling all wrong is best: precision 3/5, recall 1. It puts the first
    # error of both solutions at 0. A cut at .35 has both right.
    assert measured["best_threshold"] > 0.6
    assert measured["best_f1"] == pytest.approx(0.75)
    assert measured["first_error_f1"] == 1.0


def test_step_metrics_of_steps_that_cannot_be_told_apart():
    seen = prediction([(0.2, 1.0), (0.2, 0.0)], [(0.2, 1.0)])
    measured = step_metrics(seen, StepLoss(LossConfig(kind="ranking", margin=0.0)))
    # All called wrong: precision 1/3, recall 1, F1 ½; no right step is found.
    assert (measured["best_f1"], measured["macro_f1"], measured["auroc"]) == (0.5, 0.25, 0.5)
    assert measured["first_error_f1"] == 0.0  # the first step of the wrong solution is called
    assert "ece" not in measured
    e = math.exp(0.2)
    first = (math.log(1 + e) + math.log(1 + e + e) - 0.2) / 2
    second = math.log(1 + e) - 0.2
    assert measured["loss"] == pytest.approx((2 * first + second) / 3, rel=1e-5)


def test_step_metrics_take_a_logit_for_what_it_is():
    seen = prediction([(math.log(3), 0.5), (-math.log(4), 0.0)])
    measured = step_metrics(seen, StepLoss(LossConfig(kind="two_class")))
    assert measured["ece"] == pytest.approx((0.25 + 0.2) / 2)  # ¾ for ½ and ⅕ for 0
    assert measured["best_threshold"] == pytest.approx((0.75 + 0.2) / 2)


@given(
    st.lists(st.tuples(st.floats(-12, 12, width=32), st.sampled_from([0.0, 1.0])), min_size=1),
    st.sampled_from(["binary_cross_entropy", "two_class", "ranking"]),
)
def test_a_threshold_of_sigmoids_calls_the_steps_wrong_that_the_raw_one_would(steps, kind):
    seen = prediction(steps)
    raw = seen.predictions[0].astype(float)
    wrong = seen.label_ids[0][0] < 0.5
    loss = StepLoss(LossConfig(kind=kind))
    read = loss.scores(torch.from_numpy(seen.predictions[0])).numpy().astype(float)
    # Sigmoids may fall together in float32; only then may another cut be the best.
    assume(len(set(read)) == len(set(raw)))
    declared = step_metrics(seen, loss)["best_threshold"]
    assert 0.0 < declared <= 1.0
    assert ((read < declared) == (raw < metrics.best_step_threshold(wrong, raw))).all()


def test_step_metrics_tell_neighbouring_float32_scores_apart():
    near = float(np.nextafter(np.float32(0.5), np.float32(1)))
    measured = step_metrics(prediction([(0.5, 0.0), (near, 1.0)]), StepLoss(LossConfig()))
    assert measured["best_f1"] == measured["auroc"] == 1.0
    assert 0.5 < measured["best_threshold"] <= near


class Callback(TrainerCallback):
    """Does something to the model after a step."""

    def __init__(self, step: int, change) -> None:
        self.step, self.change = step, change

    def on_step_end(self, args, state, control, model=None, **_) -> None:
        if state.global_step == self.step:
            with torch.no_grad():
                self.change(model)


def test_the_best_model_by_macro_f1_is_loaded_at_the_end(tmp_path):
    def spoil(model) -> None:
        model.score.weight.zero_()

    keys = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 10, "save_steps": 10}
    keys |= {"metric_for_best_model": "macro_f1", "load_best_model_at_end": True, "max_steps": 50}
    trainer = make_trainer(tmp_path, callbacks=[Callback(50, spoil)], **keys)
    trainer.train()
    history = [row["eval_macro_f1"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len(history) == 5
    assert history[-1] < max(history) == trainer.state.best_metric > 0.8
    assert trainer.evaluate()["eval_macro_f1"] == max(history)
    assert trainer.model.score.weight.abs().max() > 0


@pytest.mark.parametrize("kind", ["squared_error", "binary_cross_entropy", "two_class", "ranking"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_loss_learns_to_tell_the_steps_apart(tmp_path, kind, packed):
    trainer = make_trainer(tmp_path, kind, packed=packed, max_steps=30, logging_steps=30)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_auroc"] > 0.95
    assert after["eval_loss"] < 0.8 * before["eval_loss"]


def test_the_log_says_how_fast_a_run_goes(tmp_path):
    trainer = make_trainer(tmp_path, eval_strategy="steps", eval_steps=3)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(row["tokens_per_second"] > 0 for row in rows)
    # Six batches of four of 32 examples, none twice: what one epoch of eight batches lacks.
    totals = [row["tokens"] for row in rows]
    lengths = sorted(len(one["input_ids"]) for one in examples(32))
    assert sum(lengths[:24]) <= totals[-1] <= sum(lengths[-24:])
    assert 0 < totals[0] < totals[1] < totals[2]
    assert "mfu" not in rows[0]  # a CPU has no declared peak


class Slow(TrainerCallback):
    """Makes each batch of an evaluation take a fifth of a second longer."""

    def on_prediction_step(self, args, state, control, **_) -> None:
        time.sleep(0.2)


def test_an_evaluation_does_not_count_as_slow_training(tmp_path):
    keys = {"eval_strategy": "steps", "eval_steps": 3, "logging_steps": 2}
    trainer = make_trainer(tmp_path, callbacks=[Slow()], **keys)
    taken = trainer.train().metrics["train_runtime"]
    counted, before = 0.0, 0.0
    for row in trainer.state.log_history:
        if "tokens" in row:
            counted += (row["tokens"] - before) / row["tokens_per_second"]
            before = row["tokens"]
    # Two evaluations of three batches, the first between two logs: at least 1.2 s.
    assert 0 < counted < taken - 1.1


def test_an_evaluation_of_the_loss_alone(tmp_path):
    keys = {"prediction_loss_only": True, "per_device_eval_batch_size": 11}
    trainer = make_trainer(tmp_path, eval_strategy="steps", eval_steps=1, **keys)
    measured = trainer.evaluate()
    whole = make_trainer(tmp_path, per_device_eval_batch_size=11).evaluate()["eval_loss"]
    assert measured["eval_loss"] == pytest.approx(whole, rel=1e-5)
    assert "eval_auroc" not in measured
    # What is evaluated is not counted as trained on: 24 of the 32 examples.
    trainer.train()
    totals = [row["tokens"] for row in trainer.state.log_history if "tokens" in row]
    assert totals[-1] <= sum(sorted(trainer.train_dataset.lengths)[-24:])


def test_a_training_batch_can_hold_so_many_tokens(tmp_path):
    batches = BatchConfig(tokens=64)
    trainer = make_trainer(tmp_path, packed=True, batches=batches, max_steps=-1, num_train_epochs=1)
    seen = [batch["input_ids"].shape for batch in trainer.get_train_dataloader()]
    assert max(tokens for _, tokens in seen) <= 64
    assert sum(tokens for _, tokens in seen) == sum(trainer.train_dataset.lengths)
    trainer.train()
    assert trainer.state.global_step == len(seen)
    assert trainer.state.log_history[-2]["tokens"] <= sum(trainer.train_dataset.lengths)
    # Evaluation goes on counting solutions.
    assert len(trainer.get_eval_dataloader()) == 3


def test_deepspeed_does_not_round_the_labels(tmp_path, monkeypatch):
    """In bfloat16 0.9 would become 0.8984."""
    trainer = make_trainer(tmp_path)
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(dtype=lambda: torch.bfloat16))
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    monkeypatch.setattr(trainer, "accelerator", SimpleNamespace(state=SimpleNamespace()))
    trainer.accelerator.state.deepspeed_plugin = plugin
    batch = collate(examples(4), packed=True)
    prepared = trainer._prepare_inputs({**batch, "other": torch.ones(2)})
    assert prepared["other"].dtype == torch.bfloat16  # what the base class does
    for name in ("labels", "weights", "groups"):
        assert torch.equal(prepared[name], batch[name])
        assert prepared[name].dtype == batch[name].dtype


# ── what stops a run ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_batch(tmp_path, value):
    poison = Callback(2, lambda model: model.score.bias.fill_(value))
    trainer = make_trainer(tmp_path / "run", callbacks=[poison])
    kept = tmp_path / "run" / "bad_batch.safetensors"
    with pytest.raises(TrainingError, match=rf"step 3: the loss is {value}; .*{kept}") as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    with safe_open(kept, "pt") as file:
        assert file.metadata() == {"step": "3", "what": f"the loss is {value}"}
        batch = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    names = {"input_ids", "attention_mask", "labels", "weights", "groups"}
    assert set(batch) == names
    known = {tuple(one["input_ids"]): one for one in examples(32)}
    for ids, mask, labels in zip(
        batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        one = known[tuple(ids[mask.bool()].tolist())]
        assert labels[labels != IGNORE].tolist() == pytest.approx(one["labels"])


def test_a_score_that_is_no_number_stops_the_evaluation(tmp_path):
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.model.score.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="step 1: the score of a held-out step is no finite"):
        trainer.evaluate()
    assert (tmp_path / "bad_batch.safetensors").is_file()


# ── two processes ────────────────────────────────────────────────────────────────────────────


def launch(out: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run lines of Python in two processes on the CPU, with this module at hand; a hang fails."""
    path = out / "program.py"
    path.write_text("from test_prm_train_trainer import *\nimport json\n" + program)
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}:{root / 'tests'}"}
    return subprocess.run(
        [*command, "--nproc_per_node", "2", str(path)],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(tmp_path):
    """Held-out sets that do not share out evenly: nothing counts twice, nothing is lost."""
    program = (
        f"out = Path({str(tmp_path)!r})\n"
        "for packed in (False, True):\n"
        "    for count in (11, 12):\n"
        "        held_out = examples(count, seed=1)\n"
        "        keys = dict(packed=packed, held_out=held_out, ddp_backend='gloo')\n"
        "        trainer = make_trainer(out, 'two_class', per_device_eval_batch_size=2, **keys)\n"
        "        figures = trainer.evaluate()\n"
        "        if trainer.is_world_process_zero():\n"
        "            (out / f'{packed}-{count}.json').write_text(json.dumps(figures))\n"
    )
    ended = launch(tmp_path, program)
    assert ended.returncode == 0, ended.stderr[-3000:]
    for count in (11, 12):
        trainer = make_trainer(tmp_path, "two_class", held_out=examples(count, seed=1))
        alone = trainer.evaluate()
        for packed in (False, True):
            both = json.loads((tmp_path / f"{packed}-{count}.json").read_text())
            for key in MEASURED:
                assert both[f"eval_{key}"] == pytest.approx(alone[f"eval_{key}"], abs=1e-5), key


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_ends_both(tmp_path):
    program = (
        f"out = Path({str(tmp_path)!r})\n"
        "def poison(model):\n"
        "    if os.environ['RANK'] == '1':\n"
        "        model.score.bias.fill_(float('nan'))\n"
        "callbacks = [Callback(2, poison)]\n"
        "make_trainer(out / 'run', callbacks=callbacks, ddp_backend='gloo').train()\n"
    )
    ended = launch(tmp_path, program)
    assert ended.returncode != 0
    assert ended.stderr.count("TrainingError: step 3: the loss is nan") == 1
    names = [path.name for path in (tmp_path / "run").glob("bad_batch*")]
    assert names == ["bad_batch_1.safetensors"]

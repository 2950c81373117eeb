"""Losses, batches, leak check and split; then real training runs of a few steps."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sums
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from prm import jsonl
from prm.errors import CheckpointError, ConfigError, RecordError
from prm.records import Failure, LabelledSolution, Solution
from prm.render import Renderer, RenderSettings
from prm.score import ScorerConfig, TransformersScorer, score
from prm.sources import Place, Source
from prm.train import stage
from prm.train.data import StepDataset, collate, separate_leaks, split
from prm.train.losses import IGNORE, squared_error
from prm.train.scratch import ScratchConfig, make_model, make_tokenizer
from prm.train.trainer import step_metrics
from prm.zoo.aurora import read_declaration


@pytest.fixture(scope="module")
def tokenizer():
    items = sums.labelled(8)
    return make_tokenizer((step for item in items for step in item.solution.steps), 320)


@pytest.fixture(scope="module")
def renderer(tokenizer):
    return Renderer(tokenizer, RenderSettings(max_length=256))


def item(id: str, problem: str = "1 + 1?", steps=("2",), labels=(1.0,), **keys) -> LabelledSolution:
    solution = Solution(id=id, problem=problem, steps=tuple(steps), reference="1 + 1 = 2")
    return LabelledSolution(solution=solution, labels=tuple(labels), **keys)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def distance(left: Path, right: Path) -> float:
    """The largest difference between the weights of two runs."""
    one, other = weights(left), weights(right)
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


# ── loss ─────────────────────────────────────────────────────────────────────────────────────


def test_squared_error_by_hand():
    scores = torch.tensor([[0.5, 9.0, 0.9], [7.0, 0.0, 1.0]])
    labels = torch.tensor([[1.0, IGNORE, 0.7], [IGNORE, 0.25, 0.0]])
    trust = torch.tensor([1.0, 0.5])
    # Σ w (r − r̂)² = .25 + .04 + ½ (.0625 + 1) = .82125, over twice the four labelled steps.
    assert squared_error(scores, labels, trust).item() == pytest.approx(0.82125 / 8)
    # Over accumulated batches the trainer counts: here ten steps.
    assert squared_error(scores, labels, trust, 10).item() == pytest.approx(0.82125 / 20)
    assert squared_error(scores, labels, trust, torch.tensor(10)).item() == pytest.approx(0.0410625)


def test_squared_error_ignores_what_stands_between_step_ends():
    labels = torch.tensor([[IGNORE, 1.0]])
    for noise in (0.0, 1e6, float("inf"), float("nan")):
        scores = torch.tensor([[noise, 0.5]], requires_grad=True)
        loss = squared_error(scores, labels, torch.ones(1))
        loss.backward()
        assert loss.item() == pytest.approx(0.125)
        assert scores.grad is not None
        assert scores.grad.tolist() == [[0.0, -0.5]]


def test_squared_error_without_labels_is_zero():
    assert squared_error(torch.ones(1, 3), torch.full((1, 3), IGNORE), torch.ones(1)).item() == 0.0


def test_squared_error_of_bfloat16_scores_is_computed_in_float32():
    scores = torch.tensor([[0.7]], dtype=torch.bfloat16)  # .69921875 in bfloat16
    loss = squared_error(scores, torch.tensor([[0.7]]), torch.ones(1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.00078125**2 / 2, rel=1e-3)


def test_step_metrics_tell_neighbouring_float32_scores_apart():
    near = np.nextafter(np.float32(0.5), np.float32(1))
    prediction = SimpleNamespace(
        label_ids=np.array([[0.0, 1.0, IGNORE]], dtype=np.float32),
        predictions=np.array([[[0.5], [near], [-7.0]]], dtype=np.float32),
    )
    measured = step_metrics(prediction)
    assert measured["best_f1"] == measured["auroc"] == 1.0
    assert 0.5 < measured["best_threshold"] <= near


# ── data ─────────────────────────────────────────────────────────────────────────────────────


def test_collate_golden():
    examples = [
        {"input_ids": [5, 6, 7, 8], "step_ends": [1, 3], "labels": (0.7, 0.0), "weight": 0.5},
        {"input_ids": [9, 10], "step_ends": [1], "labels": (1.0,), "weight": 1.0},
    ]
    batch = collate(examples, pad_id=3)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    expected = torch.tensor([[IGNORE, 0.7, IGNORE, 0.0], [IGNORE, 1.0, IGNORE, IGNORE]])
    assert torch.equal(batch["labels"], expected)
    assert batch["weights"].tolist() == [0.5, 1.0]
    assert (batch["labels"].dtype, batch["input_ids"].dtype) == (torch.float32, torch.int64)


def test_the_ignored_label_is_no_label():
    assert IGNORE == -100.0  # what the trainer counts by
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        item("1", labels=(IGNORE,))


def dataset(renderer, items, drop: float, seed: int = 0) -> StepDataset:
    return StepDataset(items, renderer, reference="worked", reference_drop=drop, seed=seed)


def kept(data: StepDataset, epoch: int) -> list[bool]:
    """Which items show their reference in an epoch: those that differ from the form without."""
    data.epoch = epoch
    without = dataset(data._renderer, data._items, drop=1.0)
    return [data[index]["input_ids"] != without[index]["input_ids"] for index in range(len(data))]


def test_reference_drop_of_zero_and_one(renderer, tokenizer):
    items = [item(f"{index}") for index in range(20)]
    assert all(kept(dataset(renderer, items, 0.0), 0))
    always = tokenizer.decode(dataset(renderer, items, 1.0)[0]["input_ids"])
    assert "There is no reference answer" in always
    assert "1 + 1 = 2" not in always
    assert "1 + 1 = 2" in tokenizer.decode(dataset(renderer, items, 0.0)[0]["input_ids"])


def test_reference_drop_depends_on_seed_epoch_and_id_alone(renderer):
    items = [item(f"{index}") for index in range(100)]
    data = dataset(renderer, items, 0.5)
    first = kept(data, 0)
    assert 30 < sum(first) < 70
    assert kept(data, 1) != first
    assert kept(dataset(renderer, items, 0.5, seed=1), 0) != first
    assert kept(dataset(renderer, items[::-1], 0.5), 0) == first[::-1]


def test_soft_labels_and_weights_pass_through(renderer):
    data = dataset(renderer, [item("1", steps=("2", "so 2"), labels=(0.7, 0.3), weight=0.25)], 0.0)
    batch = collate([data[0]], pad_id=0)
    assert batch["labels"][batch["labels"] != IGNORE].tolist() == pytest.approx([0.7, 0.3])
    assert batch["weights"].tolist() == [0.25]


def test_a_solution_that_is_too_long_is_refused_by_name(renderer):
    long = item("long one", steps=["12345 " * 100], labels=[1.0])
    with pytest.raises(RecordError, match=r"'long one'.*more than max_length 256"):
        dataset(renderer, [item("1"), long], 0.0)


def test_too_long_with_the_reference_alone_is_refused_too(tokenizer):
    short = Renderer(tokenizer, RenderSettings(max_length=10_000))
    length = len(short.render("1 + 1?", ["2"], "1 + 1 = 2").input_ids)
    tight = Renderer(tokenizer, RenderSettings(max_length=length - 1))
    with pytest.raises(RecordError, match="max_length"):
        dataset(tight, [item("1")], 0.99)


def test_leaks_are_found_through_case_punctuation_and_spaces():
    items = [item("a", "What is  2+2?"), item("b", "What is 2 + 3?"), item("c", "WHAT is “2 2”")]
    clean, leaked = separate_leaks(items, ["what is 2 + 2", "something else"])
    assert [entry.id for entry in leaked] == ["a", "c"]
    assert [entry.id for entry in clean] == ["b"]


PROBLEMS = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(PROBLEMS, PROBLEMS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_split_is_disjoint_by_problem_and_stable(first, more, held_out, seed):
    def made(numbers, prefix):
        return [item(f"{prefix}{n}", f"Problem {k}{'?' * (n % 2)}") for n, k in enumerate(numbers)]

    items = made(first, "a")
    train, rest = split(items, held_out, seed)
    assert sorted([*train, *rest], key=lambda x: x.id) == sorted(items, key=lambda x: x.id)
    keys = [{entry.solution.problem.strip("?") for entry in side} for side in (train, rest)]
    assert not keys[0] & keys[1]
    # Adding data moves nothing.
    larger_train, larger_rest = split([*made(more, "b"), *items], held_out, seed)
    assert [entry for entry in larger_train if entry.id.startswith("a")] == train
    assert [entry for entry in larger_rest if entry.id.startswith("a")] == rest


def test_split_holds_out_about_its_share():
    items = [item(str(index), f"Problem {index}") for index in range(2000)]
    rest = split(items, 0.1, seed=0)[1]
    assert 150 < len(rest) < 250
    assert split(items, 0.1, seed=1)[1] != rest


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def data(tmp_path):
    return sums.write(tmp_path / "labelled.jsonl", sums.labelled(40))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """A tokenizer from nothing, and what stock transformers loads after it was saved."""
    made = make_tokenizer(["Tom has 12 * 3 = 36 eggs.\n#### 36"] * 3, 400)
    folder = str(tmp_path_factory.mktemp("scratch"))
    make_model(ScratchConfig(hidden_size=64), made, context=64, seed=0).save_pretrained(folder)
    made.save_pretrained(folder)
    return made, AutoTokenizer.from_pretrained(folder)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([" 12", "3.\n\n", "(it's", "_a", "eggs", "é", "\n", "  ", "<|im_end|>"])
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    ).map("".join)
)
def test_a_tokenizer_from_nothing_is_the_same_after_saving(tokenizers, text):
    made, loaded = tokenizers
    assert made(text)["input_ids"] == loaded(text)["input_ids"]


def test_a_checkpoint_is_whole_and_safe(tiny_prm):
    names = {path.name for path in tiny_prm.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "prm.json", "README.md"} <= names
    unsafe = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".py")
    assert not [name for name in names if name.endswith(unsafe)]
    declared = json.loads((tiny_prm / "prm.json").read_text())
    assert declared["threshold"]["split"].startswith("held-out ")
    assert declared["loss"] == "squared_error"
    assert read_declaration(tiny_prm).render == RenderSettings(max_length=256)
    card = (tiny_prm / "README.md").read_text()
    assert f"A step below {declared['threshold']['value']:.4f} counts as wrong" in card
    assert "{" not in card.replace("{base}", "")
    assert not (tiny_prm.parent / ".model").exists()


def test_training_overfits_a_handful(tmp_path):
    """Soft labels are learned as they are: 0.7 comes back as 0.7, not as 0 or 1."""
    soft = [
        LabelledSolution(solution=entry.solution, labels=(0.7, 0.25, float(number % 2)))
        for number, entry in enumerate(sums.labelled(10))
    ]
    path = sums.write(tmp_path / "soft.jsonl", soft)
    keys = {"max_steps": 160, "per_device_train_batch_size": 8, "learning_rate": 5e-3}
    config = sums.config(tmp_path / "run", path, trainer=keys, reference_drop=0.0)
    stage.run(config)
    training, _ = split(soft, config.held_out, config.seed)
    scorer = TransformersScorer(ScorerConfig(str(tmp_path / "run" / "model")))
    rows = score(scorer, [entry.solution for entry in training])
    errors = [
        abs(value - label)
        for row, entry in zip(rows, training, strict=True)
        for value, label in zip(row.scores, entry.labels, strict=True)
    ]
    assert len(training) >= 5
    assert max(errors) < 0.12


def test_gradient_accumulation_changes_nothing(tmp_path):
    """Solutions of different lengths and weights: only a count over the whole batch is exact."""
    rng = random.Random(0)
    uneven = []
    for entry in sums.labelled(40):
        extra = rng.randint(0, 6)
        solution = Solution(
            id=entry.id, problem=entry.solution.problem, steps=(*entry.solution.steps, *"abcdef")
        )
        size = 3 + extra
        cut = Solution(id=entry.id, problem=solution.problem, steps=solution.steps[:size])
        labels = tuple(rng.choice((0.0, 0.5, 1.0)) for _ in range(size))
        trust = rng.choice((1.0, 0.5))
        uneven.append(LabelledSolution(solution=cut, labels=labels, weight=trust))
    path = sums.write(tmp_path / "uneven.jsonl", uneven)
    for name, batch, accumulated in (("whole", 8, 1), ("halves", 4, 2), ("single", 1, 8)):
        keys = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
        # Plain gradient descent: Adam's first step would hide a wrong scale.
        keys |= {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
        keys |= {"lr_scheduler_type": "constant"}
        stage.run(sums.config(tmp_path / name, path, trainer=keys))
    assert distance(tmp_path / "whole", tmp_path / "halves") < 1e-6
    assert distance(tmp_path / "whole", tmp_path / "single") < 1e-6


def test_the_same_run_twice_gives_the_same_weights(tmp_path, data, causal_lm):
    for start in (None, str(causal_lm)):
        name = "scratch" if start is None else "base"
        stage.run(sums.config(tmp_path / f"{name}-1", data, model=start))
        torch.manual_seed(12345)  # the caller's random state must not matter
        stage.run(sums.config(tmp_path / f"{name}-2", data, model=start))
        assert distance(tmp_path / f"{name}-1", tmp_path / f"{name}-2") == 0.0


def test_resuming_ends_where_an_uninterrupted_run_ends(tmp_path, data):
    # Twelve steps of an epoch of eight; dropped references differ between epochs.
    keys = {"max_steps": 12, "save_strategy": "steps", "save_steps": 5}
    stage.run(sums.config(tmp_path / "run", data, trainer=keys))
    uninterrupted = weights(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text(_unfinished(tmp_path / "run" / "run.json"))
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "trainer").iterdir())
    assert checkpoints == ["checkpoint-10", "checkpoint-12", "checkpoint-5"]
    # Killed while the second checkpoint was being written.
    shutil.rmtree(tmp_path / "run" / "trainer" / "checkpoint-12")
    torn = tmp_path / "run" / "trainer" / "checkpoint-10"
    (torn / "trainer_state.json").write_text('{"epoch": 1')
    (torn / "model.safetensors").write_bytes(b"torn")
    stage.run(sums.config(tmp_path / "run", data, trainer=keys))
    resumed = weights(tmp_path / "run")
    assert max(float((resumed[k] - uninterrupted[k]).abs().max()) for k in resumed) < 1e-6
    state = json.loads((torn.parent / "checkpoint-12" / "trainer_state.json").read_text())
    assert state["global_step"] == 12


def _unfinished(path: Path) -> str:
    record = json.loads(path.read_text())
    return json.dumps({k: v for k, v in record.items() if k not in ("outputs", "counts")})


def test_a_finished_run_is_left_alone(tmp_path, data):
    first = stage.run(sums.config(tmp_path / "run", data))
    path = tmp_path / "run" / "model" / "model.safetensors"
    before = path.stat().st_mtime_ns
    assert stage.run(sums.config(tmp_path / "run", data)) == first
    assert path.stat().st_mtime_ns == before


def test_training_from_a_base_model(tmp_path, data, causal_lm):
    stage.run(sums.config(tmp_path / "run", data, model=str(causal_lm)))
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "run" / "model")
    assert model.config.num_labels == 1
    base = load_file(causal_lm / "model.safetensors")
    ours = weights(tmp_path / "run")
    assert set(base) - set(ours) == {"lm_head.weight"}
    assert set(ours) - set(base) == {"score.weight", "score.bias"}
    change = max(float((ours[key] - base[key]).abs().max()) for key in set(base) & set(ours))
    assert 0 < change < 0.01  # two steps away from the base, not drawn anew
    assert read_declaration(tmp_path / "run" / "model").base == str(causal_lm)


def test_a_base_in_half_precision_is_trained_in_full_precision(tmp_path, data, causal_lm):
    half = AutoModelForTokenClassification.from_pretrained(causal_lm, num_labels=1).bfloat16()
    half.save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(causal_lm).save_pretrained(tmp_path / "half")
    stage.run(sums.config(tmp_path / "run", data, model=str(tmp_path / "half")))
    assert {value.dtype for value in weights(tmp_path / "run").values()} == {torch.float32}


def test_lora_is_merged_into_a_stock_checkpoint(tmp_path, data, causal_lm):
    keys = {"lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]}
    config = sums.config(tmp_path / "run", data, model=str(causal_lm), peft=keys)
    stage.run(config)
    ours, base = weights(tmp_path / "run"), load_file(causal_lm / "model.safetensors")
    assert not [key for key in ours if "lora" in key or "base_model" in key]
    changed = {key for key in ours if key in base and not torch.equal(ours[key], base[key])}
    assert changed
    assert all("q_proj.weight" in key or "v_proj.weight" in key for key in changed)
    scorer = TransformersScorer(ScorerConfig(str(tmp_path / "run" / "model")))
    assert len(score(scorer, [sums.labelled(1)[0].solution])[0].scores) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trainer": {"lerning_rate": 1}}, "lerning_rate"),
        ({"trainer": {"output_dir": "x"}}, r"trainer\.output_dir is set by the stage"),
        ({"trainer": {"learning_rate": "fast"}}, r"learning_rate is 'fast'; it must be like 5e-05"),
        ({"trainer": {"max_steps": 0}}, "start above 0"),
        ({"trainer": {"dataloader_persistent_workers": True}}, "is set by the stage"),
        ({"peft": {"lora_rank": 8}}, "lora_rank"),
        ({"peft": {"lora_target_modules": ["nowhere"]}}, "nowhere"),
        ({"reference_drop": 1.5}, "reference_drop is 1.5"),
        ({"held_out": 0.0}, "held_out is 0.0"),
        ({"render": RenderSettings(takes_reference=False, max_length=256)}, "reference: none"),
        ({"held_out": 1e-9}, "0 are held out"),
    ],
)
def test_wrong_configurations_are_refused(tmp_path, data, keys, message):
    with pytest.raises(ConfigError, match=message):
        stage.run(sums.config(tmp_path / "run", data, **keys))
    assert not (tmp_path / "run" / "model").exists()


def test_a_context_longer_than_the_base_models_is_refused(tmp_path, data, causal_lm):
    long = RenderSettings(max_length=4096)
    with pytest.raises(ConfigError, match="4096 exceeds the model's context of 1024"):
        stage.run(sums.config(tmp_path / "run", data, model=str(causal_lm), render=long))


def test_a_base_model_that_is_not_there_is_refused(tmp_path, data):
    with pytest.raises(CheckpointError, match="nowhere"):
        stage.run(sums.config(tmp_path / "run", data, model=str(tmp_path / "nowhere")))


def test_leaks_are_refused_or_set_aside(tmp_path, data):
    bench = [entry.solution.problem.upper().replace("?", " ?!") for entry in sums.labelled(40)[3:6]]
    rows = "".join(json.dumps({"problem": text}) + "\n" for text in bench)
    (tmp_path / "bench.jsonl").write_text(rows)
    benchmarks = [Place(path=str(tmp_path / "bench.jsonl"))]
    config = sums.config(tmp_path / "run", data, benchmarks=benchmarks)
    # The same ids in a second source, for other problems: they stay.
    twin = sums.write(tmp_path / "twin.jsonl", sums.labelled(6, seed=9))
    config.sources.append(Source(path=str(twin)))
    with pytest.raises(ConfigError, match=r"3 training solutions \(first: 'sum-3'\)"):
        stage.run(config)
    config.on_leak, config.out = "drop", str(tmp_path / "dropped")
    counts = stage.run(config)
    assert (counts.read, counts.written, counts.rejected) == (46, 43, {"in a benchmark": 3})
    rejected = list(jsonl.read(tmp_path / "dropped" / "rejected.jsonl", Failure))
    assert [entry.id for entry in rejected] == ["sum-3", "sum-4", "sum-5"]


@pytest.mark.parametrize("keep", ["all right", "all wrong"])
def test_without_both_kinds_of_steps_no_threshold_is_declared(tmp_path, capsys, keep):
    items = [item for item in sums.labelled(40) if (0.0 in item.labels) == (keep == "all wrong")]
    data = sums.write(tmp_path / "one-sided.jsonl", items)
    stage.run(sums.config(tmp_path / "run", data))
    declaration = read_declaration(tmp_path / "run" / "model")
    assert (declaration.threshold, declaration.threshold_without_reference) == (None, None)
    assert "It declares no threshold." in (tmp_path / "run" / "model" / "README.md").read_text()
    assert "so the checkpoint declares no threshold" in capsys.readouterr().err

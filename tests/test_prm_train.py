"""Real training runs of a few steps."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import sums
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from prm import jsonl, metrics
from prm.errors import CheckpointError, ConfigError
from prm.records import Failure, LabelledSolution, Solution
from prm.render import RenderSettings
from prm.scorers import ScorerConfig, score_all
from prm.scorers import load as load_scorer
from prm.sources import Place, Source
from prm.train import stage
from prm.train.data import split
from prm.train.losses import LossConfig
from prm.train.scratch import ScratchConfig, make_model, make_tokenizer
from prm.zoo.aurora import read_declaration


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def distance(left: Path, right: Path) -> float:
    """The largest difference between the weights of two runs."""
    one, other = weights(left), weights(right)
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


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
    scorer = load_scorer(ScorerConfig(str(tmp_path / "run" / "model")))
    rows = score_all(scorer, [entry.solution for entry in training])
    errors = [
        abs(value - label)
        for row, entry in zip(rows, training, strict=True)
        for value, label in zip(row.scores, entry.labels, strict=True)
    ]
    assert len(training) >= 5
    assert max(errors) < 0.12


@pytest.mark.parametrize("kind", ["binary_cross_entropy", "two_class", "ranking"])
def test_scores_of_a_loss_over_logits_are_probabilities(tmp_path, data, kind):
    """The declared threshold finds the wrong held-out steps as well as training said it does."""
    config = sums.config(tmp_path / "run", data, loss=LossConfig(kind=kind), reference_drop=0.0)
    config.trainer |= {"max_steps": 20, "learning_rate": 5e-3}
    stage.run(config)
    declared = read_declaration(tmp_path / "run" / "model")
    assert (declared.loss, declared.meaning) == (kind, config.loss.meaning)
    _, held_out = split(sums.labelled(40), config.held_out, config.seed)
    scorer = load_scorer(ScorerConfig(str(tmp_path / "run" / "model")))
    rows = score_all(scorer, [entry.solution for entry in held_out])
    scores = [value for row in rows for value in row.scores]
    wrong = [label < 0.5 for entry in held_out for label in entry.labels]
    assert all(0.0 < value < 1.0 for value in scores)
    assert 0.0 < declared.threshold.value < 1.0
    found = metrics.step_f1(wrong, [value < declared.threshold.value for value in scores])
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"F1 of wrong steps {found.f1:.3f}" in card


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
    scorer = load_scorer(ScorerConfig(str(tmp_path / "run" / "model")))
    assert len(score_all(scorer, [sums.labelled(1)[0].solution])[0].scores) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"trainer": {"lerning_rate": 1}}, "lerning_rate"),
        ({"trainer": {"output_dir": "x"}}, r"trainer\.output_dir is set by the stage"),
        ({"trainer": {"learning_rate": "fast"}}, r"learning_rate is 'fast'; it must be like 5e-05"),
        ({"trainer": {"max_steps": 0}}, "start above 0"),
        ({"trainer": {"dataloader_persistent_workers": True}}, "is set by the stage"),
        ({"trainer": {"parallelism_config": {"sp_size": 2}}}, "does not divide 1 process"),
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

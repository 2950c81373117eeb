"""TRL's token classifiers and PURE: ids, positions and scores against the published recipes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import published
import pytest
import tiny
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from prm.scorers import ScorerConfig, load, score

NAMES = {
    "Qwen2-0.5B-Reward-Math-Sheperd": ("trl", "\n"),
    "Qwen2.5-Math-7B-Instruct-PRM-0.2": ("trl", "\n\n"),
    "PURE-PRM-7B": ("pure-prm", "\n\n"),
}


def write(folder: Path, **config) -> Path:
    return published.write_stock(folder, "qwen2-labels", tiny.make_tokenizer(), **config)


@pytest.fixture(scope="module", params=NAMES)
def scorer(request, tmp_path_factory):
    return load(ScorerConfig(str(write(tmp_path_factory.mktemp("trl") / request.param))))


def as_trained(folder: Path, problem: str, steps: tuple[str, ...]) -> tuple[list[int], list[float]]:
    """TRL's tokenisation for training, and what it labels: p(LABEL_1); for PURE p1 − p0."""
    _, separator = NAMES[folder.name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    ids = tokenizer(problem, add_special_tokens=False)["input_ids"]
    if tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids]
    separator_ids = tokenizer.encode(separator, add_special_tokens=False)
    places = []
    for step in steps:
        step_ids = tokenizer(step, add_special_tokens=False)["input_ids"]
        ids = [*ids, *step_ids, *separator_ids]
        places.append(len(ids) - 1)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    rows = torch.softmax(logits[places], dim=-1)
    pure = folder.name.startswith("PURE")
    return ids, (rows[:, 1] - rows[:, 0] if pure else rows[:, 1]).tolist()


# fmt: off
PINNED = {
    "\n": (
        [
            39, 78, 86, 220, 76, 293, 88, 30, 87, 280, 220, 16, 198, 292, 288, 337, 220, 16,
            13, 198,
        ],
        [12, 19],
    ),
    "\n\n": (
        [
            39, 78, 86, 220, 76, 293, 88, 30, 87, 280, 220, 16, 198, 198, 292, 288, 337, 220,
            16, 13, 198, 198,
        ],
        [13, 21],
    ),
}
# fmt: on
"""Of `x = 1` and `The answer is 1.` for the question `How many?`."""


def test_ids_and_places(scorer):
    rendered = scorer.format.render("How many?", ["x = 1", "The answer is 1."])
    separator = NAMES[Path(scorer.backbone.name_or_path).name][1]
    assert (rendered.input_ids, rendered.step_ends) == PINNED[separator]


def test_scores_are_those_of_training(scorer):
    folder = Path(scorer.backbone.name_or_path)
    assert scorer.family == NAMES[folder.name][0]
    ids, expected = as_trained(folder, published.PROBLEM, published.STEPS)
    assert scorer.format.render(published.PROBLEM, published.STEPS).input_ids == ids
    found = score(scorer, published.PROBLEM, published.STEPS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


@pytest.mark.parametrize("steps", [item for item in published.AWKWARD if "<|" not in str(item)])
def test_awkward_steps_too(scorer, steps):
    folder = Path(scorer.backbone.name_or_path)
    ids, expected = as_trained(folder, published.PROBLEM, steps)
    assert scorer.format.render(published.PROBLEM, steps).input_ids == ids
    found = score(scorer, published.PROBLEM, steps)
    assert found == pytest.approx(expected, abs=1e-5)


def test_awkward_steps(scorer):
    published.check_awkward(scorer)


def test_company_changes_nothing(scorer):
    published.check_company(scorer)


def test_only_pure_declares_a_threshold(scorer):
    if scorer.family == "pure-prm":
        assert scorer.threshold.value == 0.0
        assert all(-1 <= s <= 1 for s in score(scorer, "x", published.STEPS))
    else:
        assert scorer.threshold is None


def test_bos_is_written_where_there_is_one(tmp_path):
    tokenizer = published.llama3_tokenizer()
    folder = published.write_stock(tmp_path / "llama", "llama-labels", tokenizer)
    ids = load(ScorerConfig(str(folder), family="trl")).format.render("x", ["y"]).input_ids
    assert ids == [tokenizer.bos_token_id, *tokenizer("xy\n", add_special_tokens=False).input_ids]


def test_the_separator_can_be_declared(tmp_path):
    """A folder's own training: the default, unless `config.json` says otherwise."""
    folder = write(tmp_path / "mine")

    def ids() -> list[int]:
        return load(ScorerConfig(str(folder), family="trl")).format.render("x", ["y"]).input_ids

    default, _ = PINNED["\n"]
    assert ids()[-1] == default[-1]
    config = json.loads((folder / "config.json").read_text())
    declared = config | {"step_separator": " ки"}
    (folder / "config.json").write_text(json.dumps(declared))
    tokenizer = tiny.make_tokenizer()
    assert ids() == [
        *tokenizer("x").input_ids,
        *tokenizer("y").input_ids,
        *tokenizer(" ки").input_ids,
    ]
    (folder / "config.json").write_text(json.dumps(config | {"step_separator": ""}))
    assert "step_separator '' has no tokens" in published.refusal(folder, family="trl")


@pytest.mark.parametrize("family", ["trl", "pure-prm"])
def test_what_is_refused(family, tmp_path):
    folder = write(tmp_path / "three", num_labels=3)
    assert "the head has 3 outputs; this family has 2" in published.refusal(folder, family=family)
    published.check_pickles_are_refused(folder, tmp_path / "pickles", family)
    causal = tmp_path / "causal"
    shutil.copytree(tiny.make_causal_lm(tmp_path / "lm"), causal)
    message = published.refusal(causal, family=family)
    assert "no head 'score' of one or two layers in the weights (none of that name)" in message
    assert "nothing says which family" in published.refusal(folder)

"""Qwen2.5-Math-PRM and ReasonFlux-PRM: ids, positions and scores against the card's recipe."""

from __future__ import annotations

from pathlib import Path

import published
import pytest
import tiny
import torch
from transformers import Qwen2Model

from prm.scorers import ScorerConfig, load, score
from prm.zoo.qwen_prm import SYSTEM

CHECKPOINTS = ["Qwen2.5-Math-PRM-7B", "ReasonFlux-PRM-7B"]
# fmt: off
PINNED = {
    "Qwen2.5-Math-PRM-7B": (
        [
            388, 368, 198, 47, 75, 68, 294, 68, 355, 262, 286, 220, 65, 88, 286, 11, 352, 220,
            79, 84, 83, 220, 88, 78, 84, 81, 346, 64, 75, 288, 220, 86, 72, 83, 71, 272, 220,
            59, 65, 78, 87, 68, 67, 90, 92, 13, 386, 198, 388, 278, 258, 198, 39, 78, 86, 220,
            76, 293, 88, 30, 386, 198, 388, 294, 325, 361, 198, 87, 280, 220, 16, 389, 82, 78,
            220, 16, 389,
        ],
        [71, 76],
    ),
    "ReasonFlux-PRM-7B": (
        [
            388, 278, 258, 198, 39, 78, 86, 220, 76, 293, 88, 30, 386, 198, 388, 294, 325, 361,
            198, 87, 280, 220, 16, 389, 82, 78, 220, 16, 389,
        ],
        [23, 28],
    ),
}
# fmt: on
"""Of `x = 1` and `so 1` for the question `How many?`."""


@pytest.fixture(scope="module", params=CHECKPOINTS)
def folder(request, tmp_path_factory) -> Path:
    return published.write_qwen2(
        tmp_path_factory.mktemp("qwen-prm") / request.param,
        tiny.make_tokenizer("<extra_0>"),
        layers=2,
        outputs=2,
        architecture="Qwen2ForProcessRewardModel",
    )


def by_the_card(
    folder: Path, problem: str, steps: tuple[str, ...]
) -> tuple[list[int], list[float]]:
    """The card's recipe: one text by the chat template, softmax at every `<extra_0>`."""
    from safetensors.torch import load_file

    tokenizer = tiny.make_tokenizer("<extra_0>")
    turns = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": problem},
        {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
    ]
    if "ReasonFlux" in folder.name:
        del turns[0]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    ids = tokenizer(text)["input_ids"]
    weights = load_file(folder / "model.safetensors")
    model = Qwen2Model.from_pretrained(folder).eval().float()
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
        inner = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
        logits = inner @ weights["score.2.weight"].T + weights["score.2.bias"]
    tag = tokenizer.convert_tokens_to_ids("<extra_0>")
    probabilities = torch.softmax(logits, dim=-1)
    return ids, [probabilities[place, 1].item() for place, id in enumerate(ids) if id == tag]


@pytest.mark.parametrize(
    "steps", [published.STEPS, *(item for item in published.AWKWARD if "<" not in "".join(item))]
)
def test_scores_are_those_of_the_card(folder, steps):
    scorer = load(ScorerConfig(str(folder)))
    rendered = scorer.format.render(published.PROBLEM, steps)
    ids, expected = by_the_card(folder, published.PROBLEM, steps)
    # The card's text goes on after the last tag; a causal model does not look there.
    assert rendered.input_ids == ids[: len(rendered.input_ids)]
    assert [rendered.input_ids[end] for end in rendered.step_ends] == [ids[-3]] * len(steps)
    found = score(scorer, published.PROBLEM, steps)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == len(steps)


def test_ids_and_places(folder):
    rendered = load(ScorerConfig(str(folder))).format.render("How many?", ["x = 1", "so 1"])
    assert (rendered.input_ids, rendered.step_ends) == PINNED[folder.name]


def test_awkward_steps(folder):
    published.check_awkward(load(ScorerConfig(str(folder))))


@pytest.mark.parametrize("steps", published.AWKWARD)
def test_text_that_spells_a_token_stays_text(folder, steps):
    scorer = load(ScorerConfig(str(folder)))
    special = set(tiny.make_tokenizer("<extra_0>").all_special_ids)

    def count(steps: tuple[str, ...]) -> int:
        ids = scorer.format.render(published.PROBLEM, steps).input_ids
        return sum(id in special for id in ids)

    assert count(steps) == count(("x",) * len(steps)) > len(steps)


def test_company_changes_nothing(folder):
    published.check_company(load(ScorerConfig(str(folder))))


def test_what_is_refused(folder, tmp_path):
    published.check_pickles_are_refused(folder, tmp_path / "pickles", "qwen-prm")
    other = published.write_stock(tmp_path / "other", "qwen2-labels", tiny.make_tokenizer())
    message = published.refusal(other, family="qwen-prm")
    assert "the tokenizer has no token '<extra_0>'" in message
    three = published.write_stock(
        tmp_path / "three", "qwen2-labels", tiny.make_tokenizer("<extra_0>"), num_labels=3
    )
    message = published.refusal(three, family="qwen-prm")
    assert "the head has 3 outputs; this family has 2" in message

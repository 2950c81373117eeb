"""VersaPRM: ids, positions and scores against the published recipe."""

from __future__ import annotations

from pathlib import Path

import published
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm.scorers import ScorerConfig, load, score

TAG = " \n\n\n\n"
# fmt: off
IDS = [
    363, 306, 357, 30, 259, 87, 266, 220, 16, 260, 308, 359, 328, 220, 16, 13, 260,
]
# fmt: on
"""Of `x = 1` and `The answer is 1.` for the question `How many?`."""


def write(folder: Path) -> Path:
    return published.write_stock(folder / "Llama-PRM800K", "llama", published.llama3_tokenizer())


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return load(ScorerConfig(str(write(tmp_path_factory.mktemp("versa")))))


def by_the_card(scorer, problem: str, steps: tuple[str, ...]) -> tuple[list[int], list[float]]:
    """The card's recipe: one text, `-` and `+` by their ids, the tag searched for."""
    folder = scorer.backbone.name_or_path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    text = problem + " \n\n" + TAG.join(steps) + TAG
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        logits = model(ids).logits[:, :, [12, 10]]
    scores = logits.softmax(dim=-1)[:, :, 1]
    tag = tokenizer.encode(TAG, add_special_tokens=False)
    assert len(tag) == 1  # 23535 in Llama 3
    return ids[0].tolist(), scores[ids == tag[0]].tolist()


def test_ids_and_places(scorer):
    rendered = scorer.format.render("How many?", ["x = 1", "The answer is 1."])
    assert rendered.input_ids == IDS
    assert rendered.step_ends == [9, 16]
    assert scorer.format.readout.tokens == (12, 10)  # as in Llama 3 and Qwen 2.5


def test_scores_are_those_of_the_card(scorer):
    ids, expected = by_the_card(scorer, published.PROBLEM, published.STEPS)
    assert scorer.format.render(published.PROBLEM, published.STEPS).input_ids == ids
    found = score(scorer, published.PROBLEM, published.STEPS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


def test_white_space_at_a_tag_loses_no_score(scorer):
    """It grows together with the tag in the joined text, where the card's search finds nothing."""
    steps = ("one  ", "two", "\nthree", "four")
    expected = by_the_card(scorer, published.PROBLEM, steps)[1]
    assert len(expected) == 2
    assert len(score(scorer, published.PROBLEM, steps)) == 4
    # Up to the tag that grew, all is as published; after it the text begins anew.
    tokenizer = AutoTokenizer.from_pretrained(scorer.backbone.name_or_path)
    rendered = scorer.format.render(published.PROBLEM, ("zero", *steps))
    tag = tokenizer.encode(TAG, add_special_tokens=False)

    def alone(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    assert rendered.input_ids == [
        *tokenizer.encode(published.PROBLEM + " \n\nzero" + TAG),
        *[*alone("one  "), *tag],
        *[*alone("two"), *tag],
        *alone("\nthree" + TAG + "four" + TAG),
    ]


def test_awkward_steps(scorer):
    published.check_awkward(scorer)


def test_company_changes_nothing(scorer):
    published.check_company(scorer)


def test_what_is_refused(tmp_path):
    folder = write(tmp_path)
    published.check_pickles_are_refused(folder, tmp_path / "pickles", "versa-prm")
    other = published.write_stock(tmp_path / "other", "mistral", published.mistral_tokenizer())
    message = published.refusal(other, family="versa-prm")
    assert r"the tokenizer has no token ' \n\n\n\n'" in message


def test_an_adapter_is_refused_with_what_to_do(tmp_path):
    folder = tmp_path / "VersaPRM"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(b"")
    for family in ("auto", "versa-prm"):
        assert "a LoRA adapter; merge it into its base" in published.refusal(folder, family=family)

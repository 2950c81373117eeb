"""FoVer's PRMs: ids, positions and scores against the published recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import published
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm.scorers import ScorerConfig, load, score

NAMES = {"llama": "Llama-3.1-8B-FoVer-PRM", "qwen2": "Qwen-2.5-7B-FoVer-PRM"}
PINNED = {
    "Llama-3.1-8B-FoVer-PRM": (410, [388, 408], (282, 303)),
    "Qwen-2.5-7B-FoVer-PRM": (317, [287, 311], (272, 66)),
}
"""Number of ids, places, and the first tokens of `incorrect` and `correct`."""
TASK = (
    "** Problem **\nHow many?\n\n** Task **\nYour task is to evaluate the accuracy of each step in "
    'the provided solution to the above question. For each step, respond with "correct" if the '
    "reasoning is logically valid and mathematically sound, or if the step is a general statement "
    'or transition that does not contain reasoning. Respond with "incorrect" if the step includes '
    "any errors or flawed logic.\n\n** Sotluion **\nx = 1"
)


@pytest.fixture(scope="module", params=NAMES)
def folder(request, tmp_path_factory) -> Path:
    tokenizer = published.llama3_tokenizer() if request.param == "llama" else tiny.make_tokenizer()
    target = tmp_path_factory.mktemp("fover") / NAMES[request.param]
    return published.write_stock(target, request.param, tokenizer)


@pytest.fixture(scope="module")
def scorer(folder):
    return load(ScorerConfig(str(folder)))


def by_the_card(folder: Path, turns: list[str]) -> tuple[list[int], list[int], list[float]]:
    """The repository's recipe: header tokens searched for, first tokens of the two words.

    Returns:
        ids, places, scores.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    chat = []
    for turn in turns:
        chat += [{"role": "user", "content": turn}, {"role": "assistant", "content": "correct"}]
    prompt = np.array(tokenizer.apply_chat_template(chat, return_dict=False))

    def first(text: str) -> int:
        return tokenizer.encode(text, add_special_tokens=False)[0]

    header = tokenizer.encode("assistant", add_special_tokens=False)
    masks = []
    # Token, and how far it stands before the place that is read.
    if "Llama" in folder.name:
        marks = [("\n\n", 0), ("<|end_header_id|>", 1)]
        masks.append(find(prompt, header[-1], 2))
    else:
        marks = [("\n", 0), ("<|im_start|>", 1 + len(header))]
        masks.append(find(prompt, header[-1], 1))
    masks += [find(prompt, first(text), distance) for text, distance in marks]
    places = np.where(np.logical_and.reduce(masks))[0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt.tolist()])).logits[0][places.tolist()]
    pair = torch.stack([logits[:, first("incorrect")], logits[:, first("correct")]], dim=1)
    return prompt.tolist(), places.tolist(), torch.softmax(pair, dim=1)[:, 1].tolist()


def find(prompt: np.ndarray, token: int, distance: int) -> np.ndarray:
    mask = np.zeros(len(prompt) + distance, dtype=bool)
    mask[np.where(prompt == token)[0] + distance] = True
    return mask[: len(prompt)]


def test_ids_places_and_scores_are_those_of_the_repository(folder, scorer):
    ids, places, expected = by_the_card(folder, [TASK, "so 1", "The answer is 1."])
    rendered = scorer.format.render("How many?", ["x = 1", "so 1", "The answer is 1."])
    assert rendered.input_ids == ids[: len(rendered.input_ids)]
    assert rendered.step_ends == places
    found = score(scorer, "How many?", ["x = 1", "so 1", "The answer is 1."])
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


def test_places_and_labels(folder, scorer):
    rendered = scorer.format.render("How many?", ["x = 1", "The answer is 1."])
    length, ends, tokens = PINNED[folder.name]
    assert len(rendered.input_ids) == length
    assert rendered.step_ends == ends
    assert scorer.format.readout.tokens == tokens


def test_awkward_steps(scorer):
    published.check_awkward(scorer)


def test_company_changes_nothing(scorer):
    published.check_company(scorer)


def test_what_is_refused(folder, tmp_path):
    published.check_pickles_are_refused(folder, tmp_path / "pickles", "fover")

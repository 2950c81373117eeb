"""Math-Shepherd and ER-PRM: ids, positions and scores against the published recipes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import published
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm.scorers import ScorerConfig, load, score
from prm.zoo import math_shepherd

FAMILIES = ["math-shepherd", "er-prm"]
TEXT = {
    "math-shepherd": "How many? Step 1: x = 1 ки\nStep 2: The answer is 1. ки",
    "er-prm": "How many? Step 1: x = 1 киStep 2: The answer is 1. ки",
}
# fmt: off
IDS = {
    "math-shepherd": [
        1, 387, 416, 271, 317, 399, 378, 314, 312, 343, 13, 277, 316, 384, 389, 418, 381, 312,
        263, 343,
    ],
    "er-prm": [
        363, 306, 357, 30, 293, 220, 16, 25, 220, 87, 266, 220, 16, 302, 267, 220, 17, 25, 220,
        308, 359, 328, 220, 16, 13, 302,
    ],
}
# fmt: on
ENDS = {"math-shepherd": [9, 19], "er-prm": [13, 25]}


def write(family: str, folder: Path) -> Path:
    if family == "math-shepherd":
        name = folder / "math-shepherd-mistral-7b-prm"
        return published.write_stock(name, "mistral", published.mistral_tokenizer())
    name = folder / "Llama3.1-Math-PRM"
    return published.write_stock(name, "llama", published.llama3_tokenizer())


@pytest.fixture(scope="module", params=FAMILIES)
def scorer(request, tmp_path_factory):
    folder = write(request.param, tmp_path_factory.mktemp(request.param))
    return load(ScorerConfig(str(folder)))


def by_the_card(scorer, text: str) -> tuple[list[int], list[float]]:
    """Math-Shepherd's card and ER-PRM's evaluation: look the tag up, search for it, softmax."""
    folder = scorer.backbone.name_or_path
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    if scorer.family == "math-shepherd":
        candidates = tokenizer.encode("+ -")[1:]
        tag = tokenizer.encode("ки")[-1]
    else:
        candidates = [tokenizer.encode(" +")[-1], tokenizer.encode(" -")[-1]]
        tag = tokenizer.encode(" ки")[-1]
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        logits = model(ids).logits[:, :, candidates]
    scores = logits.softmax(dim=-1)[:, :, 0]
    return ids[0].tolist(), scores[ids == tag].tolist()


def test_ids_and_places(scorer):
    rendered = scorer.format.render("How many?", ["x = 1", "The answer is 1."])
    assert rendered.input_ids == IDS[scorer.family]
    assert rendered.step_ends == ENDS[scorer.family]
    assert rendered.input_ids == by_the_card(scorer, TEXT[scorer.family])[0]


def test_scores_are_those_of_the_card(scorer):
    numbered = [f"Step {number}: {step} ки" for number, step in enumerate(published.STEPS, 1)]
    joiner = "\n" if scorer.family == "math-shepherd" else ""
    ids, expected = by_the_card(scorer, f"{published.PROBLEM} {joiner.join(numbered)}")
    assert scorer.format.render(published.PROBLEM, published.STEPS).input_ids == ids
    found = score(scorer, published.PROBLEM, published.STEPS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


def test_a_step_that_has_its_number_keeps_it(scorer):
    numbered = ["Step 1: x = 1", "Step 2: The answer is 1."]
    assert scorer.format.render("How many?", numbered).input_ids == IDS[scorer.family]
    other = scorer.format.render("How many?", ["Step by step: x = 1", numbered[1]])
    assert len(other.input_ids) > len(IDS[scorer.family])


def test_awkward_steps(scorer):
    published.check_awkward(scorer)


def test_company_changes_nothing(scorer):
    published.check_company(scorer)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_refused(family, tmp_path):
    folder = write(family, tmp_path)
    published.check_pickles_are_refused(folder, tmp_path / "pickles", family)
    assert load(ScorerConfig(str(folder))).family == family
    other = published.write_stock(tmp_path / "other", "qwen2", tiny.make_tokenizer())
    assert "the tokenizer has no token ' ки'" in published.refusal(other, family=family)


def test_ids_of_the_real_vocabulary(tmp_path):
    """Mistral's own, with SentencePiece as the judge: tag 12902, `+` 648, `-` 387."""
    data = Path(pytest.importorskip("mistral_common").__file__).parent / "data"
    sentencepiece = pytest.importorskip("sentencepiece")
    shutil.copy(data / "tokenizer.model.v1", tmp_path / "tokenizer.model")
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(special | {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True})
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    form = math_shepherd.FAMILY.bind(tokenizer, tmp_path, "")
    assert form.readout.tokens == (387, 648)
    judge = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for steps in (published.STEPS, *published.AWKWARD):
        lines = math_shepherd.numbered(published.PROBLEM, steps, joiner="\n")
        rendered = form.render(published.PROBLEM, steps)
        assert rendered.input_ids == [1, *judge.encode("".join(f"{line} ки" for line in lines))]
        assert [rendered.input_ids[end] for end in rendered.step_ends] == [12902] * len(steps)

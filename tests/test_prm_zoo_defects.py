"""Errors of published scoring code, each with its wrong outcome and ours.

The numbers in the names are those of a list of known defects; 3, rounding of soft labels, concerns
training and is tested there.
"""

from __future__ import annotations

from pathlib import Path

import published
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from prm.records import Failure, Solution
from prm.scorers import ScorerConfig, load, score
from prm.zoo import qwen_prm
from prm.zoo.family import Readout


@pytest.fixture(scope="module")
def shepherd(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("defects") / "math-shepherd-mistral-7b-prm"
    return published.write_stock(target, "mistral", published.mistral_tokenizer())


@pytest.fixture(scope="module")
def rlhflow(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("defects") / "Llama3.1-8B-PRM-Deepseek-Data"
    return published.write_stock(target, "llama", published.llama3_tokenizer())


@pytest.fixture(scope="module")
def trl(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("defects") / "Qwen2-0.5B-Reward-Math-Sheperd"
    return published.write_stock(target, "qwen2-labels", tiny.make_tokenizer())


def test_1_probabilities_that_underflow_lose_no_step():
    """Good, bad, unsure: the bad step's row vanishes where zeros are taken for padding."""
    logits = torch.tensor([[0, 18], [18, 0], [0, 1]], dtype=torch.float16)
    probabilities = torch.softmax(logits, dim=-1)
    wrong = probabilities[probabilities != 0].view(-1, 2)[:, 1].tolist()
    assert wrong == pytest.approx([1.0, 0.731], abs=1e-3)
    ours = Readout(head="score", how="probability").scores(logits).tolist()
    assert ours == pytest.approx([1.0, 0.0, 0.731], abs=1e-3)
    assert 0 < ours[1] < 1e-7
    margins = Readout(head="score", how="margin").scores(logits).tolist()
    assert margins == pytest.approx([1.0, -1.0, 0.462], abs=1e-3)


def test_2_the_box_is_no_backspace():
    wrong = "put your final answer within \boxed{}."
    assert "\x08oxed" in wrong
    assert qwen_prm.SYSTEM.endswith(r"within \boxed{}.")
    assert "\x08" not in qwen_prm.SYSTEM
    tokenizer = tiny.make_tokenizer()
    assert (
        tokenizer(wrong)["input_ids"] != tokenizer(qwen_prm.SYSTEM[-len(wrong) - 1 :])["input_ids"]
    )


def test_4_nothing_is_cut_silently(shepherd):
    tokenizer = AutoTokenizer.from_pretrained(shepherd)
    lines = [f"Step {number}: {step} ки" for number, step in enumerate(published.STEPS, 1)]
    text = f"{published.PROBLEM} " + "\n".join(lines)
    length = len(tokenizer.encode(text))
    most = length // 2
    tokenizer.truncation_side = "left"
    cut = tokenizer(text, truncation=True, max_length=most)["input_ids"]
    assert "boxes" not in tokenizer.decode(cut)  # the question is gone
    tokenizer.truncation_side = "right"
    cut = tokenizer(text, truncation=True, max_length=most)["input_ids"]
    assert cut.count(tokenizer.encode("ки")[-1]) < 3  # late scores are gone
    scorer = load(ScorerConfig(str(shepherd), max_length=most))
    solution = Solution(id="1", problem=published.PROBLEM, steps=published.STEPS)
    [result] = scorer.score_each([solution])
    assert isinstance(result, Failure)
    assert f"{length} tokens, more than max_length {most}; nothing is cut" in result.reason


def test_5_no_separator_after_the_question(trl):
    tokenizer = AutoTokenizer.from_pretrained(trl)
    model = AutoModelForTokenClassification.from_pretrained(trl).eval()

    def last(text: str) -> float:
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits
        return torch.softmax(logits[0, -1], dim=-1)[1].item()

    problem, steps = "How many?", ("x = 1", "so 1")
    wrong = ["\n".join((problem, *steps[:count])) + "\n" for count in (1, 2)]
    right = [text.replace("?\n", "?") for text in wrong]  # as training has it
    ours = score(load(ScorerConfig(str(trl))), problem, steps)
    assert ours == pytest.approx([last(text) for text in right], abs=1e-5)
    for mine, theirs in zip(ours, map(last, wrong), strict=True):
        assert abs(mine - theirs) > 1e-3


def test_6_a_step_that_spells_the_tag_adds_no_score(shepherd):
    steps = ("The Russian for that ends in ки here.", "So 1.")
    tokenizer = AutoTokenizer.from_pretrained(shepherd)
    model = AutoModelForCausalLM.from_pretrained(shepherd).eval()
    text = f"{published.PROBLEM} Step 1: {steps[0]} ки\nStep 2: {steps[1]} ки"
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        logits = model(ids).logits[:, :, tokenizer.encode("+ -")[1:]]
    searched = logits.softmax(dim=-1)[:, :, 0][ids == tokenizer.encode("ки")[-1]].tolist()
    assert len(searched) == 3
    ours = score(load(ScorerConfig(str(shepherd))), published.PROBLEM, steps)
    assert ours == pytest.approx([searched[1], searched[2]], abs=1e-5)


@pytest.mark.parametrize("name", ["<extra_0>", "<|im_end|>"])
def test_6_a_step_that_spells_a_special_token_stays_text(name):
    tokenizer = tiny.make_tokenizer("<extra_0>")
    steps = (f"a {name} b", "c")
    text = "<extra_0>".join(steps) + "<extra_0>"
    special = tokenizer.convert_tokens_to_ids(name)
    joined = tokenizer(text)["input_ids"]
    assert joined.count(special) == text.count(name)  # the step's own is read as a token
    form = qwen_prm.QwenPRMFormat(tokenizer, None, None)
    rendered = form.render("x", steps)
    plain = form.render("x", ("a", "c"))
    assert rendered.input_ids.count(special) == plain.input_ids.count(special)
    assert len(rendered.step_ends) == 2


def test_7_blank_steps_have_scores_too(shepherd, rlhflow, trl):
    steps = ("x = 1", "", "  ", "so 1")
    kept = [step for step in steps if step.strip() != ""]  # what a published processor does
    assert len(kept) == 2
    for folder in (shepherd, rlhflow, trl):
        scorer = load(ScorerConfig(str(folder)))
        assert len(score(scorer, "How many?", steps)) == 4


def test_8_question_and_first_step_are_one_turn(rlhflow):
    tokenizer = AutoTokenizer.from_pretrained(rlhflow)
    model = AutoModelForCausalLM.from_pretrained(rlhflow).eval()

    def plus(*users: str) -> float:
        chat = [{"role": "user", "content": user} for user in users]
        chat.append({"role": "assistant", "content": "+"})
        ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=False)
        with torch.no_grad():
            pair = model(ids).logits[0, -3, [10, 12]]
        return pair.softmax(dim=-1)[0].item()

    ours = score(load(ScorerConfig(str(rlhflow))), "How many?", ("x = 1",))
    assert ours == pytest.approx([plus("How many? x = 1")], abs=1e-5)
    assert abs(ours[0] - plus("How many?", "x = 1")) > 1e-3

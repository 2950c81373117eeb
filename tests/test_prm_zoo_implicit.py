"""Implicit PRMs: ids, places and scores against the card's code, and against that of the eval."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import chatml
import published
import pytest
import torch
from transformers import AutoModelForCausalLM

from prm.errors import CheckpointError, ConfigError, RecordError
from prm.records import Solution
from prm.scorers import ScorerConfig, identify, load, ratio, score, score_all
from prm.zoo.implicit import ImplicitFormat

KINDS = {
    "qwen2": (chatml.make_tokenizer, "EurusPRM-Stage1"),
    "llama": (published.llama3_tokenizer, "ImplicitPRM_DPO"),
}
STEPS = tuple(f"Step {number}: {step}" for number, step in enumerate(published.STEPS, 1))
CARD = (
    "Step 1: To convert the point (0,3), we need r and the angle.",
    "Step 1: Find the radius (r). So, r = |3| = 3.",  # numbered so on the card
    "Step 2: The polar coordinates are (3, 2).\n\nTherefore (3, 2).\n\n\n\\boxed{(3, 2)}",
)
LOOSE = ("Step 1: ends with a colon:", "Step 2: ends with lines\n\n", "Step 3:   ", "Step 4: x")


@cache
def tokenizer(kind: str):
    return KINDS[kind][0]()


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory) -> tuple[str, Path, Path]:
    """A policy and its base, of one vocabulary and different weights."""
    kind, root = request.param, tmp_path_factory.mktemp("implicit")
    words = tokenizer(kind)
    policy = published.write_stock(root / KINDS[kind][1], kind, words)
    return kind, policy, published.write_stock(root / "base", kind, words, initializer_range=0.15)


def scorer_of(pair, **keys):
    _, policy, base = pair
    return load(ScorerConfig(str(policy), base=str(base), **keys))


def log_probabilities(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).eval().float()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


def by_the_card(pair, problem: str, steps) -> tuple[list[int], list[float]]:
    """The card's code; for Llama 3 with what the eval of ImplicitPRM takes off."""
    kind, policy, base = pair
    words = tokenizer(kind)

    def conversation(count: int) -> str:
        turns = [
            {"role": "user", "content": problem},
            {"role": "assistant", "content": "\n\n".join(steps[:count])},
        ]
        return words.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)

    ids = words(conversation(len(steps)), add_special_tokens=False)["input_ids"]
    last = []
    for count in range(len(steps) + 1):
        text = conversation(count).strip()
        if count != len(steps) and text.endswith("<|eot_id|>"):
            text = text[: -len("<|eot_id|>")]
        if count not in (0, len(steps)):
            text += "\n\n"
        last.append(len(words.encode(text, add_special_tokens=False)) - 2)
    mask = torch.tensor([0] * last[0] + [1] * (len(ids) - last[0]))
    reward = log_probabilities(policy, ids) - log_probabilities(base, ids)
    sums = (0.001 * reward * mask[1:]).cumsum(-1)
    return ids, [sums[place].item() for place in last[1:]]


def test_ids_and_places_written_down_for_chatml():
    rendered = ImplicitFormat(tokenizer("qwen2"), None).render("Q?", ["a.", "Step 2: b"])
    assert rendered.input_ids == [
        *[350, 312, 198, 48, 30, 348, 198],  # <|im_start|> user newline Q ? <|im_end|> newline
        *[350, 64, 278, 285, 83, 198],  # <|im_start|> assistant newline
        *[286, 220, 16, 25, 257, 259],  # Step 1: a, and stop and separator in one token
        *[286, 220, 17, 25, 320, 348, 198],  # Step 2: b <|im_end|> newline
    ]
    assert rendered.start == 12  # the newline before the answer
    assert rendered.step_ends == [20, 24]  # the blank after the second "Step"; <|im_end|>


def test_places_written_down_for_llama_3():
    rendered = ImplicitFormat(tokenizer("llama"), None).render(" Q? ", ["a.", "b"])
    tail = [366, 256, 267, 220, 16, 25, 258, 13, 256, 267, 220, 17, 25, 220, 65, 367]
    assert rendered.input_ids[57:] == tail  # <|end_header_id|> … <|eot_id|>
    assert rendered.start == 57
    assert rendered.step_ends == [65, 72]  # the separator; <|eot_id|>


@pytest.mark.parametrize("steps", [STEPS, CARD, LOOSE, STEPS[:1]])
def test_scores_are_those_of_the_card(pair, steps):
    scorer = scorer_of(pair)
    assert scorer.family == "implicit-prm"
    ids, expected = by_the_card(pair, published.PROBLEM, steps)
    rendered = scorer.format.render(published.PROBLEM, steps)
    assert rendered.input_ids == ids
    found = score(scorer, published.PROBLEM, steps)
    assert found == pytest.approx(expected, abs=1e-7)
    assert len({round(value, 5) for value in found}) == len(steps)


def test_a_score_is_the_sum_from_the_beginning(pair):
    scorer = scorer_of(pair)
    _, policy, base = pair
    item = scorer.format.render(published.PROBLEM, STEPS)
    reward = log_probabilities(policy, item.input_ids) - log_probabilities(base, item.input_ids)
    for end, found in zip(item.step_ends, score(scorer, published.PROBLEM, STEPS), strict=True):
        assert found == pytest.approx(0.001 * reward[item.start - 1 : end].sum().item(), abs=1e-7)


def test_steps_get_their_labels_once(pair):
    scorer = scorer_of(pair)
    labelled = scorer.format.render(published.PROBLEM, STEPS)
    assert scorer.format.render(published.PROBLEM, published.STEPS) == labelled
    mixed = [STEPS[0], published.STEPS[1], STEPS[2]]
    assert scorer.format.render(published.PROBLEM, mixed) == labelled


@pytest.mark.parametrize("steps", published.AWKWARD)
def test_awkward_steps(pair, steps):
    scorer = scorer_of(pair)
    special = set(tokenizer(pair[0]).all_special_ids)
    items = [scorer.format.render(published.PROBLEM, s) for s in (steps, ["x"] * len(steps))]
    counts = [sum(id in special for id in item.input_ids) for item in items]
    assert counts[0] == counts[1]
    ends = items[0].step_ends
    assert ends == sorted(set(ends))
    assert items[0].start < ends[0] < ends[-1] < len(items[0].input_ids)
    assert len(score(scorer, published.PROBLEM, steps)) == len(steps)


@pytest.mark.parametrize("logits", [1, 2000, ratio.LOGITS])
def test_solutions_of_several_lengths_score_as_alone(pair, logits, monkeypatch):
    scorer = scorer_of(pair)
    batch = [
        Solution(id=str(count), problem=published.PROBLEM, steps=(published.STEPS * 3)[:count])
        for count in (1, 5, 2, 9)
    ]
    alone = [score(scorer, item.problem, item.steps) for item in batch]
    monkeypatch.setattr(ratio, "LOGITS", logits)
    for item, expected in zip(score_all(scorer, batch), alone, strict=True):
        assert item.scores == pytest.approx(expected, abs=1e-7)


def test_the_tokens_of_both_models_count(pair):
    scorer = scorer_of(pair)
    score(scorer, published.PROBLEM, STEPS)
    ids = scorer.format.render(published.PROBLEM, STEPS).input_ids
    assert scorer.tokens == 2 * len(ids)


def test_log_probabilities_are_never_a_table_of_a_batch(pair, monkeypatch):
    scorer = scorer_of(pair)
    monkeypatch.setattr(ratio, "LOGITS", 4000)
    shapes = []
    for _, head in (scorer.policy, scorer.base):
        head.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    score(scorer, published.PROBLEM, STEPS)
    assert len(shapes) > 4
    assert max(shape.numel() for shape in shapes) <= 4000


def test_a_policy_held_against_itself_scores_nought(pair):
    _, policy, _ = pair
    scorer = load(ScorerConfig(str(policy), base=str(policy)))
    assert score(scorer, published.PROBLEM, STEPS) == [0.0, 0.0, 0.0]


def test_a_base_is_needed(pair):
    with pytest.raises(ConfigError, match="set base to the one that training started from"):
        load(ScorerConfig(str(pair[1])))


def test_the_vocabularies_must_match(pair, tmp_path):
    kind, policy, _ = pair
    words = published.llama3_tokenizer() if kind == "qwen2" else chatml.make_tokenizer()
    base = published.write_stock(tmp_path / "base", kind, words)
    message = rf"its vocabulary is not that of base {re.escape(str(base))} \(\d+ tokens differ"
    with pytest.raises(CheckpointError, match=message):
        load(ScorerConfig(str(policy), base=str(base)))


def test_the_shorter_context_counts(pair, tmp_path):
    kind, policy, _ = pair
    short = published.write_stock(
        tmp_path / "short", kind, tokenizer(kind), max_position_embeddings=64
    )
    assert load(ScorerConfig(str(policy), base=str(short))).context == 64


def test_a_base_is_part_of_what_is_identified(pair):
    _, policy, base = pair
    names = {identify(ScorerConfig(str(policy), base=str(other))) for other in (base, policy)} | {
        identify(ScorerConfig(str(policy)))
    }
    assert len(names) == 3


def test_other_families_take_no_base(tiny_prm):
    with pytest.raises(ConfigError, match="family aurora is held against no base"):
        load(ScorerConfig(str(tiny_prm), base=str(tiny_prm)))


def test_what_the_family_needs():
    with pytest.raises(CheckpointError, match="the tokenizer has no chat template"):
        ImplicitFormat(published.mistral_tokenizer(), None)
    plain = chatml.make_tokenizer()
    plain.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    with pytest.raises(CheckpointError, match="does not end an answer with one special token"):
        ImplicitFormat(plain, None)
    once = chatml.make_tokenizer()
    once.chat_template = "{{ messages[0]['content'] }}<|im_end|>"
    with pytest.raises(CheckpointError, match="does not hold each turn once"):
        ImplicitFormat(once, None)
    with pytest.raises(RecordError, match="no steps to score"):
        ImplicitFormat(tokenizer("qwen2"), None).render("Q?", [])

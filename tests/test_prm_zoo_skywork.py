"""Skywork-o1-Open-PRM: ids, positions and scores against the published inference code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import chatml
import published
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2Model

from prm.errors import CheckpointError, RecordError
from prm.scorers import ScorerConfig, load, score
from prm.zoo.skywork import SkyworkFormat

LINES = ("a.\n\nb", "c\n", "\n", "d = 1,\ne")


@cache
def tokenizer():
    return chatml.make_tokenizer(bos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    config = Qwen2Config(
        vocab_size=len(tokenizer()),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        initializer_range=0.2,
        pad_token_id=tokenizer().pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        backbone, head = Qwen2Model(config), torch.nn.Linear(64, 1)
    return published.write_checkpoint(
        tmp_path_factory.mktemp("skywork") / "Skywork-o1-Open-PRM-Qwen-2.5-1.5B",
        backbone,
        tokenizer(),
        {"v_head.summary.weight": head.weight * 4, "v_head.summary.bias": head.bias},
        architecture="Qwen2ForPrmModel",
    )


def as_published(problem: str, response: str) -> tuple[list[int], list[int]]:
    """Ids, and a flag for each that ends a line; lines of the response are its steps there."""
    words = tokenizer()
    ids = words.encode(words.bos_token + problem + "\n")
    flags = [0] * len(ids)
    newline = words.encode("\n")[-1]
    for line in response.split("\n"):
        line_ids = words.encode(line) if line != "" else []
        line_ids += [newline]
        ids += line_ids
        flags += [0] * (len(line_ids) - 1) + [1]
    return ids, flags


def by_the_code(folder: Path, problem: str, steps) -> list[float]:
    """The probability at each line's end; of each step's lines the last."""
    ids, flags = as_published(problem, "\n".join(steps))
    weights = load_file(folder / "model.safetensors")
    model = Qwen2Model.from_pretrained(folder).eval().float()
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
        values = hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"]
    rewards = [
        value.sigmoid().item() for value, flag in zip(values[:, 0], flags, strict=True) if flag
    ]
    scores = []
    for step in steps:
        lines = step.count("\n") + 1
        scores.append(rewards[:lines][-1])
        del rewards[:lines]
    assert rewards == []
    return scores


def test_ids_and_places_written_down():
    rendered = SkyworkFormat(tokenizer(), None).render("Q?", ["a.\n\nb", "", "c\n"])
    assert rendered.input_ids == [
        *[348, 48, 30, 198],  # bos Q ? newline
        *[64, 13, 198, 198, 65, 198],  # a . newline, an empty line, b newline
        198,  # a step of nothing
        *[66, 198, 198],  # c newline, an empty line
    ]
    assert rendered.step_ends == [9, 10, 13]


@pytest.mark.parametrize(
    "steps",
    [
        published.STEPS,
        LINES,
        ("one",),
        *(item for item in published.AWKWARD if "<" not in "".join(item)),
    ],
)
def test_scores_are_those_of_the_code(folder, steps):
    scorer = load(ScorerConfig(str(folder)))
    assert scorer.family == "skywork-prm"
    expected = by_the_code(folder, published.PROBLEM, steps)
    assert score(scorer, published.PROBLEM, steps) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == len(steps)


@given(st.lists(st.text("ab1 .\n\r\t数", max_size=8), min_size=1, max_size=6))
def test_ids_are_those_of_the_code(steps):
    rendered = SkyworkFormat(tokenizer(), None).render(published.PROBLEM, steps)
    ids, flags = as_published(published.PROBLEM, "\n".join(steps))
    assert rendered.input_ids == ids
    assert all(flags[end] for end in rendered.step_ends)
    assert len(rendered.step_ends) == len(steps)
    assert rendered.step_ends[-1] == len(ids) - 1


def test_awkward_steps(folder):
    published.check_awkward(load(ScorerConfig(str(folder))))


def test_solutions_of_several_lengths_score_as_alone(folder):
    published.check_company(load(ScorerConfig(str(folder))))


def test_text_that_spells_bos_stays_text(folder):
    rendered = load(ScorerConfig(str(folder))).format.render("<|endoftext|>", ["<|im_end|>"])
    assert [id for id in rendered.input_ids if id >= 348] == [348]


def test_the_head_stays_in_float32(folder):
    scorer = load(ScorerConfig(str(folder), dtype="bfloat16"))
    assert scorer.backbone.dtype == torch.bfloat16
    assert next(scorer.head.parameters()).dtype == torch.float32
    found = score(scorer, published.PROBLEM, published.STEPS)
    expected = by_the_code(folder, published.PROBLEM, published.STEPS)
    assert found == pytest.approx(expected, abs=0.1)


def test_what_the_family_needs():
    with pytest.raises(CheckpointError, match="the tokenizer has no bos token"):
        SkyworkFormat(chatml.make_tokenizer(), None)
    with pytest.raises(RecordError, match="no steps to score"):
        SkyworkFormat(tokenizer(), None).render("Q?", [])


def test_other_heads_are_refused(folder, tmp_path):
    backbone = Qwen2Model.from_pretrained(folder)
    made = published.write_checkpoint(
        tmp_path / "x", backbone, tokenizer(), {}, architecture="Qwen2ForPrmModel"
    )
    assert "no head 'v_head.summary'" in published.refusal(made)

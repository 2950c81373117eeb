"""Universal-PRM: ids, branches and scores against the card's loop over prefixes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import chatml
import published
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import Qwen2Model

from prm.errors import RecordError
from prm.records import Failure, Solution
from prm.render import Branch, Branched
from prm.scorers import ScorerConfig, load, score, score_all
from prm.zoo import universal
from prm.zoo.universal import UniversalFormat

REFERENCE = "3 * 12 = 36\n36 - 5 = 31\n#### 31"
MANY = tuple(f"{number} + 1 = {number + 1}." for number in range(60))
PLAIN = [item for item in published.AWKWARD if "<" not in "".join(item)]


@cache
def tokenizer():
    return chatml.make_tokenizer()


def make(folder: Path, layers: int, **head: torch.Tensor) -> Path:
    """A checkpoint with a head of one or two layers, or with the given tensors for one."""
    return published.write_qwen2(
        folder, tokenizer(), layers=layers, outputs=1, head=head or None, positions=4096
    )


@pytest.fixture(scope="module", params=[1, 2])
def folder(request, tmp_path_factory) -> Path:
    return make(
        tmp_path_factory.mktemp(f"head-{request.param}") / "Universal-PRM-7B", request.param
    )


def by_the_card(folder: Path, problem: str, steps, reference: str) -> list[tuple[list[int], float]]:
    """The card's recipe: one forward a prefix, the sigmoid at its last token."""
    words, weights = tokenizer(), load_file(folder / "model.safetensors")
    model = Qwen2Model.from_pretrained(folder).eval().float()
    if reference != "":
        question = problem + "\n\n###\n\nThe reference answer is: " + reference
    else:
        question = (
            problem
            + "\n\n###\n\nThe reference answer is: There is no reference answer for this question."
        )
    found = []
    for count in range(1, len(steps) + 1):
        answer = "\n\n".join(steps[:count]) + "\n\n"
        turns = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": question},
        ]
        query = words.apply_chat_template(
            turns, tokenize=True, add_generation_prompt=True, return_dict=False
        )
        ids = query + words(answer)["input_ids"] + [words.eos_token_id]
        with torch.no_grad():
            state = model(torch.tensor([ids])).last_hidden_state[0, -1]
            if "score.weight" in weights:
                output = state @ weights["score.weight"].T
            else:
                inner = torch.relu(state @ weights["score.0.weight"].T + weights["score.0.bias"])
                output = inner @ weights["score.2.weight"].T + weights["score.2.bias"]
        found.append((ids, torch.sigmoid(output).item()))
    return found


def prefixes(item: Branched) -> list[list[int]]:
    return [item.trunk[: branch.start] + branch.ids for branch in item.branches]


def test_ids_and_branches_written_down():
    item = UniversalFormat(tokenizer(), None).render("Q?", ["a", "\nb."], "c")
    system = [350, 347, 198, 339, 334, 257, 343, 290, 13, 348, 198]
    user = [350, 312, 198, 48, 30, 256, 338, 264, 288, 269, 267, 25, 220, 66, 348, 198]
    opened = [350, 64, 278, 285, 83, 198]
    # "a", three newlines in one token, "b", ".\n\n"
    assert item.trunk == system + user + opened + [64, 283, 65, 259]
    # The first prefix ends in two newlines, a token (256) that the whole does not have there; the
    # last is the whole. Both are read at eos (348).
    assert item.branches == [Branch(34, [256, 348]), Branch(37, [348])]


@pytest.mark.parametrize("steps", [published.STEPS, MANY, ("one step",), *PLAIN])
@pytest.mark.parametrize("reference", [REFERENCE, ""])
def test_scores_are_those_of_the_card(folder, steps, reference):
    scorer = load(ScorerConfig(str(folder), max_length=4096))
    expected = by_the_card(folder, published.PROBLEM, steps, reference)
    item = scorer.format.render(published.PROBLEM, steps, reference or None)
    assert prefixes(item) == [ids for ids, _ in expected]
    scores = scorer._forward([item])[0]
    assert scores == pytest.approx([score for _, score in expected], abs=1e-5)
    assert len({round(score, 4) for score in scores}) >= (len(steps) > 1) + 1


def test_the_reference_is_an_input(folder):
    scorer = load(ScorerConfig(str(folder)))
    assert scorer.family == "universal-prm"
    assert scorer.reference == "worked"
    told = score(scorer, published.PROBLEM, published.STEPS, REFERENCE)
    expected = by_the_card(folder, published.PROBLEM, published.STEPS, REFERENCE)
    assert told == pytest.approx([score for _, score in expected], abs=1e-5)
    withheld = load(ScorerConfig(str(folder), reference="none"))
    untold = score(withheld, published.PROBLEM, published.STEPS, REFERENCE)
    expected = by_the_card(folder, published.PROBLEM, published.STEPS, "")
    assert untold == pytest.approx([score for _, score in expected], abs=1e-5)
    assert max(abs(one - other) for one, other in zip(told, untold, strict=True)) > 1e-3


@pytest.mark.parametrize("steps", published.AWKWARD)
def test_text_that_spells_a_token_stays_text(folder, steps):
    scorer = load(ScorerConfig(str(folder)))
    special = set(tokenizer().all_special_ids)
    counts = [
        [sum(id in special for id in ids) for ids in prefixes(scorer.format.render(*texts))]
        for texts in ((published.PROBLEM, ["x"] * len(steps)), (published.PROBLEM, steps, steps[0]))
    ]
    assert counts[0] == counts[1] == [6] * len(steps)
    assert len(score(scorer, published.PROBLEM, steps)) == len(steps)


TEXT = st.text(
    st.one_of(
        st.sampled_from("\n\n\n  \r\t.,:!'abrestvmld1230é\u0301\u0085\u2028\u00a0数"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from(["chatml", "llama", "mistral"]))
@example(["x.", "\n", " \n y", "", ""], "chatml")
@example(["it'", "re", "\u0301e"], "chatml")
@example(["0 :"], "llama")
def test_every_prefix_has_the_ids_that_it_has_alone(steps, kind):
    words = {
        "chatml": tokenizer,
        "llama": cache(published.llama3_tokenizer),
        "mistral": cache(published.mistral_tokenizer),
    }[kind]()
    text = "".join(step + "\n\n" for step in steps)
    cuts = [sum(len(step) + 2 for step in steps[:count]) for count in range(1, len(steps) + 1)]
    whole, found = universal._prefix_ids(words, text, cuts)

    def alone(part: str) -> list[int]:
        return words(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    assert whole == alone(text)
    for cut, (shared, rest) in zip(cuts, found, strict=True):
        assert whole[:shared] + rest == alone(text[:cut])
        assert not rest or rest[:1] != whole[shared : shared + 1]  # as many are shared as can be
    assert found[-1] == (len(whole), [])


def test_a_long_solution_is_not_tokenised_prefix_by_prefix(monkeypatch):
    read = []
    token_ids = universal.token_ids

    def watched(words, text, *, special):
        read.append(len(text))
        return token_ids(words, text, special=special)

    monkeypatch.setattr(universal, "token_ids", watched)
    UniversalFormat(tokenizer(), None).render("Q?", ["3 * 12 = 36 pens. " * 20] * 50)
    assert len(read) == 50
    assert max(read) <= 8


def test_solutions_of_several_lengths_score_as_alone(folder):
    scorer = load(ScorerConfig(str(folder), batch_tokens=2048))
    batch = [
        Solution(id=str(count), problem=published.PROBLEM, steps=(published.STEPS * 4)[:count])
        for count in (1, 12, 2, 7, 12)
    ]
    together = [item.scores for item in score_all(scorer, batch)]
    for item, scores in zip(batch, together, strict=True):
        assert scores == pytest.approx(score(scorer, item.problem, item.steps), abs=1e-5)
    assert together[1] == pytest.approx(together[4], abs=1e-5)


def test_tokens_are_those_that_were_computed(folder):
    scorer = load(ScorerConfig(str(folder)))
    item = scorer.format.render(published.PROBLEM, published.STEPS)
    score(scorer, published.PROBLEM, published.STEPS)
    assert scorer.tokens == len(item.trunk) + sum(len(branch.ids) for branch in item.branches)
    assert scorer.tokens < sum(map(len, prefixes(item))) / 2


def test_the_longest_prefix_must_fit(folder):
    item = load(ScorerConfig(str(folder))).format.render(published.PROBLEM, published.STEPS)
    longest = len(prefixes(item)[-1])
    solution = Solution(id="1", problem=published.PROBLEM, steps=published.STEPS)
    fits = load(ScorerConfig(str(folder), max_length=longest))
    assert len(score_all(fits, [solution])[0].scores) == 3
    [failure] = load(ScorerConfig(str(folder), max_length=longest - 1)).score_each([solution])
    assert isinstance(failure, Failure)
    assert f"{longest} tokens, more than max_length {longest - 1}" in failure.reason


def test_no_steps():
    with pytest.raises(RecordError, match="no steps to score"):
        UniversalFormat(tokenizer(), None).render("Q?", [])


def test_other_heads_are_refused_with_what_was_found(tmp_path):
    folder = make(tmp_path / "Universal-PRM", 0, **{"score.dense.weight": torch.zeros(1, 64)})
    assert "no head 'score' of one or two layers in the weights (score.dense.weight)" in (
        published.refusal(folder)
    )


def test_models_that_are_not_exact_are_refused_on_loading(tmp_path):
    folder = make(tmp_path / "Universal-PRM", 1)
    config = json.loads((folder / "config.json").read_text())
    config |= {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    config["layer_types"] = ["sliding_attention"] * 2
    (folder / "config.json").write_text(json.dumps(config))
    assert "prefixes cannot be scored exactly in one pass: layers of sliding" in (
        published.refusal(folder)
    )


def test_a_tokenizer_without_chatml_is_refused(tmp_path):
    folder = make(tmp_path / "Universal-PRM", 1)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    published.mistral_tokenizer().save_pretrained(folder)
    assert "the tokenizer has no token '<|im_start|>'" in published.refusal(folder)

"""Scores of growing solutions: those of whole passes, for the tokens of the new steps alone."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path as Folder
from typing import Any

import chatml
import published
import pytest
import tiny
import torch
from searching import World

from prm.records import Failure, Problem, StepScores
from prm.render import RenderSettings
from prm.scorers import ScorerConfig, load
from prm.scorers.base import Draft
from prm.scorers.prefix import PrefixScorer, can_reuse, tokens_read
from prm.scorers.transformers import TransformersScorer
from prm.search.beam import beam
from prm.search.budget import Budget
from prm.search.scoring import Newest, Rescoring, Reusing, path_scorer
from prm.search.solve import solve
from prm.search.tree import Growth, Path
from prm.zoo import aurora

TOLERANCE = 1e-5
"""Of a score, in float32."""

PROBLEMS = (
    published.PROBLEM,
    "What is 2 + 3?",
    "Ann has 3 boxes. " * 6 + "How many?",
)
STEPS = (
    *(step for steps in published.AWKWARD for step in steps),
    *published.STEPS,
    "x",
    " so it is; and then, in more words than before, it is what it was",
)


def write_aurora(folder: Folder) -> Folder:
    published.write_stock(folder, "qwen2-labels", tiny.make_tokenizer(), num_labels=1)
    declaration = aurora.Declaration(
        render=RenderSettings(max_length=1024),
        reference="worked",
        reference_drop=0.5,
        loss="squared_error",
        base="scratch",
    )
    aurora.write_declaration(folder, declaration)
    return folder


def write_qwen_prm(folder: Folder) -> Folder:
    return published.write_qwen2(
        folder,
        tiny.make_tokenizer("<extra_0>"),
        layers=2,
        outputs=2,
        architecture="Qwen2ForProcessRewardModel",
    )


def write_universal(folder: Folder) -> Folder:
    return published.write_qwen2(folder, chatml.make_tokenizer(), layers=1, outputs=1)


def write_math_shepherd(folder: Folder) -> Folder:
    tokenizer = published.mistral_tokenizer()
    return published.write_stock(folder, "mistral", tokenizer, sliding_window=None)


def write_er_prm(folder: Folder) -> Folder:
    return published.write_stock(folder, "llama", published.llama3_tokenizer())


def write_rlhflow(folder: Folder) -> Folder:
    return published.write_stock(folder, "llama", published.llama3_tokenizer())


CHECKPOINTS = {
    "model": write_aurora,
    "Qwen2.5-Math-PRM-7B": write_qwen_prm,
    "Universal-PRM-7B": write_universal,
    "math-shepherd-mistral-7b-prm": write_math_shepherd,
    "Llama3.1-Math-PRM": write_er_prm,
    "Llama3.1-8B-PRM-Mistral-Data": write_rlhflow,
}


def made(name: str, folder: Folder) -> TransformersScorer:
    scorer = load(ScorerConfig(str(CHECKPOINTS[name](folder / name)), dtype="float32"))
    assert can_reuse(scorer)
    return scorer


@pytest.fixture(scope="module", params=CHECKPOINTS)
def scorer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> TransformersScorer:
    return made(request.param, tmp_path_factory.mktemp("prefix"))


def draft(problem: str, steps: tuple[str, ...]) -> Draft:
    return Draft(id=f"{problem} {steps}", problem=problem, steps=steps)


def whole(scorer: TransformersScorer, batch: list[Draft]) -> list[tuple[float, ...]]:
    """Each alone, as `prm score` would."""
    return [scorer.score_each([item])[0].scores for item in batch]


def grown(scorer: TransformersScorer, seed: int, rounds: int = 4) -> tuple[float, int, int]:
    """Grow trees at random; the greatest error, and the tokens computed and of whole passes."""
    drawing = random.Random(seed)
    reusing = PrefixScorer(scorer)
    live: list[tuple[str, tuple[str, ...]]] = [(problem, ()) for problem in PROBLEMS]
    error, computed, rescored = 0.0, 0, 0
    for _ in range(rounds):
        batch = list(
            {
                (problem, (*steps, drawing.choice(STEPS)))
                for problem, steps in live
                for _ in range(drawing.randint(1, 3))
            }
        )
        batch.sort()
        drafts = [draft(*item) for item in batch]
        before = scorer.tokens
        found = reusing.score(drafts, [True] * len(drafts))
        assert scorer.tokens - before == sum(item.computed for item in found)
        for item, own, expected in zip(found, drafts, whole(scorer, drafts), strict=True):
            assert isinstance(item.result, StepScores)
            assert item.result.solution_id == own.id
            assert len(item.result.scores) == len(own.steps)
            error = max(
                error,
                *(abs(a - b) for a, b in zip(item.result.scores, expected, strict=True)),
            )
            assert item.whole == tokens_read(scorer.format.render(own.problem, own.steps))
        computed += sum(item.computed for item in found)
        rescored += sum(item.whole for item in found)
        live = drawing.sample(batch, min(len(batch), 5))  # beams end, others branch
        reusing.keep(live)
    return error, computed, rescored


def test_scores_are_those_of_whole_passes(scorer: TransformersScorer) -> None:
    results = [grown(scorer, seed) for seed in range(3)]
    error = max(error for error, _, _ in results)
    print(f"{scorer.family}: max |Δ| {error:.1e}")
    assert error <= TOLERANCE
    computed, rescored = (sum(each) for each in list(zip(*results, strict=True))[1:])
    assert computed < 0.7 * rescored


def test_batches_inside_change_nothing(
    scorer: TransformersScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = grown(scorer, 7, rounds=2)[1]
    monkeypatch.setattr(scorer, "batching", replace(scorer.batching, tokens=1))
    error, computed, _ = grown(scorer, 7, rounds=2)
    assert error <= TOLERANCE
    assert computed == together


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TransformersScorer:
    return made("Qwen2.5-Math-PRM-7B", tmp_path_factory.mktemp("plain"))


def tokens(scorer: TransformersScorer, *steps: str) -> int:
    return tokens_read(scorer.format.render(PROBLEMS[0], steps))


def test_a_new_step_costs_its_own_tokens_and_a_prompt_is_read_once(
    plain: TransformersScorer,
) -> None:
    reusing = PrefixScorer(plain)
    first = [draft(PROBLEMS[0], (step,)) for step in ("a x", "b x", "c x")]
    found = reusing.score(first, [True] * 3)
    prompt = tokens(plain, "a x") - (tokens(plain, "b x", "a x") - tokens(plain, "b x"))
    assert sum(one.computed for one in found) == prompt + 3 * (tokens(plain, "a x") - prompt)
    for _ in range(2):  # a step that is scored again costs as much again
        [one] = reusing.score([draft(PROBLEMS[0], ("b x", "then"))], [True])
        assert one.computed == tokens(plain, "b x", "then") - tokens(plain, "b x")
        assert one.whole == tokens(plain, "b x", "then")


def test_what_is_not_kept_is_read_again(plain: TransformersScorer) -> None:
    reusing = PrefixScorer(plain)
    start = [draft(PROBLEMS[0], (step,)) for step in ("a x", "b x")]
    reusing.score(start, [True, True])
    reusing.keep([(PROBLEMS[0], ("b x",))])
    grown = [draft(PROBLEMS[0], (step, "then")) for step in ("a x", "b x")]
    forgotten, kept = reusing.score(grown, [True, True])
    assert forgotten.computed == forgotten.whole
    assert kept.computed < kept.whole
    for one, scores in zip((forgotten, kept), whole(plain, grown), strict=True):
        assert one.result.scores == pytest.approx(scores, abs=TOLERANCE)
    reusing.keep([])
    assert reusing.score(grown[:1], [False])[0].computed == forgotten.whole


def test_what_does_not_grow_is_not_kept(plain: TransformersScorer) -> None:
    reusing = PrefixScorer(plain)
    reusing.score([draft(PROBLEMS[0], ("a x",))], [False])
    [again] = reusing.score([draft(PROBLEMS[0], ("a x", "b"))], [False])
    assert again.computed == again.whole


def test_a_failure_is_one_solutions_own(plain: TransformersScorer, monkeypatch: Any) -> None:
    reusing = PrefixScorer(plain)
    batch = [draft(PROBLEMS[0], (step,)) for step in ("a", "long " * 2000, "b")]
    before = plain.tokens
    found = reusing.score(batch, [True] * 3)
    assert isinstance(found[1].result, Failure)
    assert "more than max_length 1024; nothing is cut" in found[1].result.reason
    assert (found[1].computed, found[1].whole) == (0, 0)
    assert all(isinstance(found[index].result, StepScores) for index in (0, 2))
    assert plain.tokens - before == found[0].computed + found[2].computed
    nothing = torch.nn.Linear(64, 2)
    torch.nn.init.constant_(nothing.bias, torch.nan)
    monkeypatch.setattr(plain, "head", nothing)
    [one] = reusing.score([draft(PROBLEMS[0], ("a", "b"))], [True])
    assert isinstance(one.result, Failure)
    assert "nan" in one.result.reason


def test_models_that_cannot_be_continued_are_scored_whole(
    tmp_path: Folder, plain: TransformersScorer
) -> None:
    folder = published.write_stock(
        tmp_path / "math-shepherd-mistral-7b-prm",
        "mistral",
        published.mistral_tokenizer(),
        sliding_window=8,
    )
    sliding = load(ScorerConfig(str(folder), dtype="float32"))
    assert not can_reuse(sliding)
    assert isinstance(path_scorer(sliding), Rescoring)
    assert isinstance(path_scorer(plain), Reusing)


# In a search


def paths_of(scorer: Any, world: World, problems: list[Problem]) -> tuple[Any, Any]:
    """Beam searches with a policy that is a function, side by side."""

    class Policy:
        def grow(self, growths: list[Growth]) -> list[tuple[list[Path], Budget]]:
            return [(world.grow(one), Budget(written=one.count)) for one in growths]

    searches = [
        beam(problem, width=3, expansions=2, steps=4, aggregation="min") for problem in problems
    ]
    return solve(searches, Policy(), scorer)  # type: ignore[arg-type]


def test_a_search_finds_the_same_with_and_without_reuse(scorer: TransformersScorer) -> None:
    problems = [Problem(id=str(index), problem=text) for index, text in enumerate(PROBLEMS)]
    world = World(seed=3, letters=4, ending=0.15)
    (one, spent), (other, whole) = (
        paths_of(way, world, problems) for way in (Reusing(PrefixScorer(scorer)), Rescoring(scorer))
    )
    for found, expected in zip(one, other, strict=True):
        assert [(path.texts, path.end) for path in found] == [
            (path.texts, path.end) for path in expected
        ]
        for path, same in zip(found, expected, strict=True):
            assert path.scores == pytest.approx(same.scores, abs=TOLERANCE)
    assert spent.keys() == whole.keys() == {problem.id for problem in problems}
    for name, budget in spent.items():
        assert budget.whole == whole[name].whole == whole[name].read
        assert budget.written == whole[name].written
        assert budget.read < 0.7 * budget.whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen2.5-Math-PRM-7B", "Universal-PRM-7B"])
def test_on_vllm_the_newest_step_is_scored_and_the_rest_is_cached(
    name: str, tmp_path: Folder
) -> None:
    pytest.importorskip("vllm")
    ours = made(name, tmp_path)
    config = ScorerConfig(
        str(tmp_path / name),
        backend="vllm",
        dtype="float32",
        options={"block_size": 32, "enable_prefix_caching": True},
    )
    theirs = load(config)
    try:
        way = path_scorer(theirs)
        assert isinstance(way, Newest)
        problems = [Problem(id=str(index), problem=text) for index, text in enumerate(PROBLEMS)]
        world = World(seed=3, letters=4, ending=0.1)
        one, spent = paths_of(way, world, problems)
        other, whole = paths_of(Rescoring(ours), world, problems)
        before = theirs.tokens
        [(reason, budget)] = way.score([Path(problem=problems[0], texts=("long " * 2000,))])
        assert "nothing is cut" in reason
        assert budget == Budget()
        assert theirs.tokens == before == sum(budget.read for budget in spent.values())
    finally:
        theirs.close()
    error = 0.0
    for found, expected in zip(one, other, strict=True):
        assert [(path.texts, path.end) for path in found] == [
            (path.texts, path.end) for path in expected
        ]
        for path, same in zip(found, expected, strict=True):
            error = max(error, *(abs(a - b) for a, b in zip(path.scores, same.scores, strict=True)))
    print(f"{name}: max |Δ| {error:.1e}")
    assert error <= TOLERANCE
    read, rescored = (sum(b.read for b in each.values()) for each in (spent, whole))
    print(f"{name}: {read} of {rescored} tokens computed")
    assert read < 0.8 * rescored

"""The shipped micro models: what their cards promise, on both engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from annotate.boundary import split_texts
from annotate.judge import JudgeSettings, judge
from examples.micro import truth
from examples.micro.lessons import PROMPTS, STRATEGIES, Teacher
from examples.micro.policies import POLICIES
from prm import engines, jsonl, metrics
from prm.engines import Engine, EngineConfig, Message, Request
from prm.engines.chat import ChatEncoder
from prm.records import Judgment, LabelledSolution

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "examples/micro/models"
NAMES = (*(policy.name for policy in POLICIES), "judge", "base")
BENCHMARK = list(jsonl.read(ROOT / "universalbench/data/micro.jsonl", LabelledSolution))
FIGURES = json.loads((MODELS / "measured.json").read_text())
TOKENIZER = AutoTokenizer.from_pretrained(MODELS / "judge")
SETTINGS = JudgeSettings(prompts=str(PROMPTS), max_tokens=160)


@pytest.fixture(scope="module")
def ours() -> Engine:
    return engines.load(
        EngineConfig(model=str(MODELS / "judge"), kind="transformers", dtype="float32")
    )


@pytest.fixture(scope="module")
def items() -> list[LabelledSolution]:
    """Solutions of all policies, long ones too."""
    return BENCHMARK[:: len(BENCHMARK) // 40][:40]


def judged(engine: Engine, items: list[LabelledSolution]) -> list[tuple[Judgment, ...]]:
    return list(judge([i.solution for i in items], engine, STRATEGIES, settings=SETTINGS))


def test_the_models_are_small_and_have_cards():
    size = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
    assert size < 20_000_000
    for name in NAMES:
        card = (MODELS / name / "README.md").read_text()
        assert f"# Micro model: {name}" in card
        assert json.loads((MODELS / name / "config.json").read_text())["model_type"] == "qwen2"
        tokenizers = {(MODELS / other / "tokenizer.json").read_bytes() for other in NAMES}
        assert len(tokenizers) == 1


def test_the_measured_figures_keep_their_bars():
    rates = {name: row["pass_at_1"] for name, row in FIGURES["policies"].items()}
    assert max(rates.values()) - min(rates.values()) >= 0.3
    assert 0.2 <= min(rates.values()) <= 0.6
    for name in STRATEGIES:
        assert 0.7 <= FIGURES["judge"][name]["f1"] <= 0.97


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_tokenizer(text: str):
    # Qwen2's normal form, as for every Qwen2 model, and no other change.
    import unicodedata

    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == unicodedata.normalize(
        "NFC", text
    )


def test_a_digit_is_a_token():
    ids = TOKENIZER("Tom has 12 * 3 = 36 eggs.", add_special_tokens=False)["input_ids"]
    assert TOKENIZER.convert_ids_to_tokens(ids) == (
        ["Tom", "Ġhas", "Ġ", "1", "2", "Ġ*", "Ġ", "3", "Ġ=", "Ġ", "3", "6", "Ġeggs", "."]
    )


def test_the_benchmark_holds_exact_labels_of_held_out_problems():
    from examples.micro.measure import BENCHMARK as COUNT
    from examples.micro.measure import SEED
    from examples.micro.problems import micro_problems

    known = {p.record.id: p.record for p in micro_problems(SEED, COUNT, held_out=True)}
    assert {item.solution.generator for item in BENCHMARK} == {p.name for p in POLICIES}
    assert len(BENCHMARK) > 0.95 * COUNT * len(POLICIES)
    for item in BENCHMARK:
        problem = known[item.solution.id.split("/")[0]]
        assert (item.solution.problem, item.solution.reference) == (
            problem.problem,
            problem.reference,
        )
        assert item.labels == truth.label(item.solution)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_lessons_are_what_an_engine_asks(strategy: str, items: list[LabelledSolution]):
    from annotate.strategy import load_strategy, render

    teacher = Teacher(TOKENIZER)
    chat = ChatEncoder(TOKENIZER, "micro")
    asking = load_strategy(strategy, str(PROMPTS))
    for item in items[:10]:
        lesson = teacher.judge(item.solution, strategy)
        messages = render(asking, item.solution)
        prompt = chat.encode(Request(messages=messages, max_tokens=1))
        assert lesson.ids[: len(prompt)] == prompt
        prefilled = 0 if asking.reasoning else len(TOKENIZER("judge_result=")["input_ids"])
        read = [i for i, weight in enumerate(lesson.weights[: len(prompt) + prefilled]) if weight]
        steps = TOKENIZER.decode([lesson.ids[index] for index in read])
        assert steps.split() == " ".join(item.solution.steps).split()
        assert all(weight > 0 for weight in lesson.weights[len(prompt) + prefilled :])
        assert lesson.ids[-1] == TOKENIZER.eos_token_id
        for (place, right), text, label in zip(
            lesson.probes, item.solution.steps, item.labels, strict=True
        ):
            assert right == label
            ending = TOKENIZER.decode(lesson.ids[: place + 1]).rstrip("\n")
            assert ending.endswith(text)


def test_every_strategy_finds_most_wrong_steps_and_no_two_agree(
    ours: Engine, items: list[LabelledSolution]
):
    rows = judged(ours, items)
    wrong = [label == 0.0 for item in items for label in item.labels]
    answers = {}
    for index, name in enumerate(STRATEGIES):
        assert all(row[index].error is None for row in rows)
        said = [verdict == 0.0 for row in rows for verdict in row[index].verdicts]
        assert metrics.step_f1(wrong, said).f1 > 0.6  # 0.7 and more on more solutions
        answers[tuple(said)] = name
    assert len(answers) == len(STRATEGIES)


def test_the_judge_separates_steps(ours: Engine, items: list[LabelledSolution]):
    texts = [" ".join(item.solution.steps) for item in items]
    found = split_texts(texts, ours, prompts=str(PROMPTS))
    exact = {
        (item.solution.generator == "long-middle", steps == item.solution.steps)
        for steps, item in zip(found, items, strict=True)
    }
    assert (False, False) not in exact  # short steps: always as the world cuts them
    assert (True, True) in exact  # long ones: now and then, see the card


@pytest.mark.slow
def test_both_engines_give_the_same_verdicts(ours: Engine, items: list[LabelledSolution]):
    pytest.importorskip("vllm")
    theirs = engines.load(EngineConfig(model=str(MODELS / "judge"), kind="vllm", dtype="float32"))
    try:
        pairs = zip(judged(ours, items), judged(theirs, items), strict=True)
        same = [
            one == other
            for mine, yours in pairs
            for a, b in zip(mine, yours, strict=True)
            for one, other in zip(a.verdicts, b.verdicts, strict=True)
        ]
    finally:
        theirs.close()
    print(f"same verdicts: {sum(same)} of {len(same)}")
    assert sum(same) >= 0.99 * len(same)


def test_policies_answer_in_the_worlds_words(items: list[LabelledSolution]):
    engine = engines.load(
        EngineConfig(model=str(MODELS / "plain-strong"), kind="transformers", dtype="float32")
    )
    message = Message(role="user", content=items[0].solution.problem)
    ((answer,),) = engine.generate([Request(messages=(message,), max_tokens=320)])
    assert answer.finish_reason == "stop"
    assert truth.true_steps(answer.text)[-1].startswith("The answer is ")

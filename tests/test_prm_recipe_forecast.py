"""`prm run RECIPE --dry-run`: sums by hand, and every recipe that ships, without a network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sums
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import annotate.sample
import annotate.stage
from annotate.judge import JudgeSettings
from annotate.sample import ANSWER
from annotate.stage import JudgeConfig
from prm import config, jsonl
from prm.cli import STAGES, main
from prm.engines import EngineConfig
from prm.errors import ConfigError
from prm.estimate import hardware, models
from prm.estimate.hardware import GPUS, Guess, Hardware, Model, guessed
from prm.estimate.table import Estimate, estimate, short
from prm.estimate.volume import Expected, Shelf, stand_in
from prm.recipe import Recipe, folder, prepare, require_alone
from prm.records import Problem, Solution
from prm.sources import Source
from prm.train import forecast, pace

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "configs/recipes").glob("*.yaml"))
MODULES = {name: module for name, (module, _) in STAGES.items()}
SEVEN = "org/some-7B-model"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an estimate asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def made(stages: list[dict[str, Any]], **keys: Any) -> Estimate:
    recipe = config.from_dict(Recipe, {"out": "/nowhere/out", "stages": stages, **keys}, "r")
    prepared = prepare(recipe, "r", MODULES)
    named = [(folder(name, one), name, one) for name, _, one in prepared]
    return estimate(named, recipe.hardware, recipe.guess, "r", only=recipe.only)


def sampling(problems: int = 10, samples: int = 3, **policy: Any) -> dict[str, Any]:
    engine = {"model": SEVEN}
    own = {"name": "p", "engine": engine, "samples": samples, **policy}
    source = {"path": "/nowhere/problems.jsonl", "limit": problems}
    return {
        "stage": "sample",
        "config": {"out": "/nowhere/sample", "problems": source, "policies": [own]},
    }


SPLIT = {
    "stage": "split",
    "config": {"out": "/nowhere/split", "source": {"path": "/nowhere/sample/solutions.jsonl"}},
}
JUDGE = {
    "stage": "annotate",
    "config": {
        "out": "/nowhere/annotate",
        "source": {"path": "/nowhere/split/solutions.jsonl"},
        "judges": [{"engine": {"model": SEVEN}, "settings": {"max_tokens": 10_000}}],
    },
}
VERIFY = {
    "stage": "verify",
    "config": {"out": "/nowhere/verify", "annotations": "/nowhere/annotate/annotations.jsonl"},
}
TRAIN = {
    "stage": "train",
    "config": {
        "out": "/nowhere/train",
        "sources": [{"path": "/nowhere/verify/labelled.jsonl"}],
        "model": SEVEN,
        "held_out": 0.5,
        "trainer": {"num_train_epochs": 2, "per_device_train_batch_size": 5},
    },
}
CHAIN = [sampling(), SPLIT, JUDGE, VERIFY, TRAIN]


# ── how fast ─────────────────────────────────────────────────────────────────────────────────


def test_what_stands_in_two_places_is_the_same() -> None:
    for name, gpu in GPUS.items():
        assert pace.peak(f"NVIDIA {name} 80GB") == gpu.peak
    assert Guess().answer == ANSWER
    assert Hardware().train_share == forecast.SHARE


BILLION = Model(name="m", parameters=1.1e9, active=1e9, width=100.0, cache=1e5, source="by hand")


def test_reading_and_training_by_hand() -> None:
    a100 = Hardware(gpu="A100", prefill_share=0.5, train_share=0.25)
    read = hardware.read_seconds(BILLION, 1000, 500_500, a100)
    assert read == pytest.approx((2e9 * 1000 + 400 * 500_500) / 156e12)
    full = hardware.train_seconds(BILLION, 1000, 500_500, False, a100)
    assert full == pytest.approx((6e9 * 1000 + 1200 * 500_500) / 78e12)
    assert hardware.train_seconds(BILLION, 1000, 0, True, a100) == pytest.approx(4e12 / 78e12)
    assert hardware.pairs(3) == 6  # 1 + 2 + 3


def test_writing_waits_for_the_memory_or_for_the_arithmetic() -> None:
    on = Hardware(gpu="A100", decode_share=0.5, decode_batch=10)
    # 2.2 GB of weights and 10 caches of 0.1 GB each at 1.0195 TB/s, for 10 tokens.
    by_memory = 10 * 1.0195e12 / (2.2e9 + 10 * 1e8)
    assert hardware.write_rate(BILLION, 1000, 1, on) == pytest.approx(by_memory)
    # So many short texts at once that 2 operations a weight and text take longer.
    many = replace(on, decode_batch=1000)
    assert hardware.write_rate(BILLION, 1, 1, many) == pytest.approx(156e12 / 2e9)
    # Caches of 10 GB each: of 72 GB beside the weights 6 fit, not 10.
    by_room = 6 * 1.0195e12 / (2.2e9 + 6 * 1e10)
    assert hardware.write_rate(BILLION, 100_000, 1, on) == pytest.approx(by_room)
    measured = replace(on, decode_tokens_per_second={"m": 42.0})
    assert hardware.write_rate(BILLION, 1000, 1, measured) == 42.0


@pytest.mark.parametrize(
    ("billions", "wanted", "gpus"), [(7, 1, 1), (72, 4, 4), (72, 1, 4), (72, 2, 4), (405, 8, 16)]
)
def test_a_model_takes_as_many_gpus_as_hold_it(billions: float, wanted: int, gpus: int) -> None:
    model = guessed("m", billions * 1e9, "")
    assert hardware.holding(model, wanted, Hardware()) == gpus


@pytest.mark.parametrize(
    ("billions", "known"),  # bytes a token of 2 layers' width of keys, in bfloat16
    [
        (1.54, 2 * 2 * 28 * 256),  # Qwen2.5
        (7.62, 2 * 2 * 28 * 512),
        (14.8, 2 * 2 * 48 * 1024),
        (32.8, 2 * 2 * 64 * 1024),
        (72.7, 2 * 2 * 80 * 1024),
        (8.03, 2 * 2 * 32 * 1024),  # Llama 3.1
        (70.6, 2 * 2 * 80 * 1024),
    ],
)
def test_the_cache_of_a_known_size_is_within_a_factor_of_two(billions: float, known: int) -> None:
    assert 0.5 < guessed("m", billions * 1e9, "").cache / known < 2


# ── how large ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("Qwen/Qwen2.5-Math-72B-Instruct", 72e9),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.5e9),
        ("org/tiny-360M", 360e6),
        ("meta-llama/Llama-3.3-70b-instruct/", 70e9),
    ],
)
def test_a_size_is_read_from_the_name(name: str, parameters: float) -> None:
    found = models.model(name, Hardware(), head=True)
    assert (found.parameters, found.source) == (parameters, "by its name")


@pytest.mark.parametrize("name", ["gpt-4o", "Mixtral-8x7B", "Qwen/Qwen3-30B-A3B", "7B/final"])
def test_a_size_that_no_name_tells_is_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match=r"how many parameters.*hardware\.parameters="):
        models.model(name, Hardware(), head=True)
    declared = Hardware(parameters={name: 5e9})
    assert models.model(name, declared, head=True).parameters == 5e9


@pytest.mark.parametrize("name", ["judge", "base"])
def test_a_folder_is_counted_to_the_last_parameter(name: str) -> None:
    from safetensors import safe_open

    path = ROOT / "examples/micro/models" / name
    with safe_open(path / "model.safetensors", "pt") as file:
        stored = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    count = sum(rows * (columns[0] if columns else 1) for rows, *columns in stored.values())
    found = models.model(str(path), Hardware(), head=name == "judge")
    head = sum(
        rows * columns
        for key, (rows, *rest) in stored.items()
        if "score" in key
        for columns in (rest or [1])
    )
    assert found.parameters == count - head
    settings_ = json.loads((path / "config.json").read_text())
    layers, heads = settings_["num_hidden_layers"], settings_["num_attention_heads"]
    size = settings_.get("head_dim") or settings_["hidden_size"] // heads
    assert found.width == layers * heads * size
    assert found.cache == 4 * layers * settings_["num_key_value_heads"] * size


# ── how much ─────────────────────────────────────────────────────────────────────────────────


def test_sampling_by_hand() -> None:
    prompts = [{"name": "a"}, {"name": "b", "system": "s" * 35}]
    stage = sampling(prompts=prompts, samples=3, max_tokens=500)
    found = made([stage], guess={"problem": 50, "answer": 600})
    work = found.total
    assert work.requests == 2 * 10
    # `{problem}` itself counts as 9 characters.
    assert work.prompt == pytest.approx(10 * (2 * (50 + 9 / 3.5) + 10), abs=2)
    assert work.written == 2 * 10 * 3 * 500  # 600 do not fit
    model = guessed(SEVEN, 7e9, "")
    seconds = 2 * 7e9 * work.prompt / (989e12 * 0.5)
    for prompt in (50 + 9 / 3.5, 60 + 9 / 3.5):
        context = round(10 * prompt) / 10 + 250
        seconds += 15_000 / hardware.write_rate(model, context, 1, Hardware())
    assert work.gpu_hours == pytest.approx(seconds / 3600, rel=1e-6)
    assert found.node_hours(work) == work.gpu_hours / 8
    assert work.cost(found.hardware) == 2 * work.gpu_hours


def test_a_chain_that_no_file_exists_of() -> None:
    found = made(CHAIN, guess={"problem": 100, "reference": 200, "answer": 600, "step": 60})
    sample, split, judge, verify, train = (line.work for line in found.lines)
    assert None not in (sample, split, judge, verify, train)
    assert sample.requests == 10
    assert split == verify  # by rules
    assert split.gpu_hours == 0
    assert judge.requests == 30 * 6  # p0 and p2 reason first
    # A list of 10 verdicts under each strategy, and twice a reasoning as long as the solution.
    assert judge.written == pytest.approx(30 * (4 * 21 + 2 * 600), rel=0.05)
    assert judge.prompt > 30 * 6 * 900
    assert 0 < judge.cached < judge.prompt
    # Half of 30 solutions, twice; the reference in every second: 100 + 100 + 600 + 10 step ends.
    assert train.forward == pytest.approx(15 * 2 * 810)
    assert train.steps == 3 * 2  # 15 in rows of 5, twice
    seconds = 6 * 7e9 * train.forward / (989e12 * 0.4)
    assert train.gpu_hours == pytest.approx(seconds / 3600)


def test_a_judge_is_asked_what_its_own_dry_run_says(tmp_path: Path) -> None:
    """Where the file is there, from the file."""
    sizes = (3, 7)
    items = [
        stand_in(Expected(items=1, problem=80, reference=150, tokens=90 * steps, steps=steps), n)
        for n, steps in enumerate(sizes * 10)
    ]
    path = tmp_path / "solutions.jsonl"
    jsonl.write(path, [replace(item, generator=f"g{len(item.steps)}") for item in items])
    engine = EngineConfig(model="/nowhere/some-7B")  # without a tokenizer
    voter = JudgeConfig(engine=engine, settings=JudgeSettings(layout="shared"))
    own = annotate.stage.Config(out="x", source=Source(path=str(path)), rules=[], judges=[voter])
    said = annotate.stage.forecast(own).total
    stage = {"stage": "annotate", "config": config.to_dict(own)}
    work = made([stage]).total
    assert work.requests == said.requests == 20 * 6
    assert work.prompt == pytest.approx(said.prompt, rel=0.01)
    assert work.cached == pytest.approx(said.cached, rel=0.05)
    assert work.written == pytest.approx(said.expected, rel=0.05)


def test_a_file_that_is_there_counts_and_not_its_limit_or_a_guess(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    jsonl.write(path, [Problem(id=str(n), problem="x" * 350) for n in range(4)])
    stage = sampling(samples=1)
    stage["config"]["problems"] = {"path": str(path)}
    work = made([stage]).total
    assert work.requests == 4
    assert work.prompt == round(4 * (100 + 9 / 3.5))
    volume = Shelf(Guess()).problems(config.from_dict(Source, {"path": str(path)}, "s"), "s")
    assert [(one.items, one.reference) for one in volume] == [(4, 0.0)]


def test_what_is_neither_there_nor_limited_is_an_error() -> None:
    stage = sampling()
    del stage["config"]["problems"]["limit"]
    with pytest.raises(ConfigError, match=r"^r: stages\[0\] \(sample\): problems: .* no such file"):
        made([stage])
    stage["config"]["problems"] = {"hub": "some/set"}
    with pytest.raises(ConfigError, match="hub:some/set: not fetched for an estimate"):
        made([stage])
    with pytest.raises(ConfigError, match="no stage before makes it"):
        made([VERIFY])


def test_solutions_too_long_to_train_on_are_told_and_left_out() -> None:
    long = sampling(samples=1, max_tokens=8000)
    long["config"]["policies"].append(
        {"name": "q", "engine": {"model": SEVEN}, "samples": 1, "max_tokens": 8000}
    )
    found = made([long, SPLIT, JUDGE, VERIFY, TRAIN], guess={"answers": {"p": 5000}})
    assert found.lines[-1].work is not None
    assert found.lines[-1].work.forward == pytest.approx(5 * 2 * (100 + 150 + 600 + 10))
    assert any(
        "p: 5,333 tokens on average, more than render.max_length 4,096" in note
        for note in found.notes
    )
    other = made([sampling()], guess={"answers": {"nobody": 5}})
    assert "note      guess.answers: nobody is no policy of this recipe" in str(other)


def test_a_limit_leaves_out_what_an_earlier_stage_makes_beyond_it() -> None:
    fewer = {
        **TRAIN,
        "config": TRAIN["config"] | {"sources": [TRAIN["config"]["sources"][0] | {"limit": 12}]},
    }
    all_, some = (
        made([sampling(), SPLIT, JUDGE, VERIFY, last]).lines[-1].work for last in (TRAIN, fewer)
    )
    assert all_ is not None
    assert some is not None
    assert some.forward == pytest.approx(all_.forward * 12 / 30)


def test_thoughts_that_stand_apart_are_written_and_not_judged() -> None:
    stages = [sampling(thinking="apart", max_tokens=8000), SPLIT, JUDGE]
    apart = made(stages, guess={"answers": {"p": 5000}})
    plain = made([sampling(), SPLIT, JUDGE])
    assert apart.lines[0].work is not None
    assert apart.lines[0].work.written == 30 * 5000
    assert apart.lines[2] == plain.lines[2]


def test_a_scorer_that_an_earlier_stage_trains_is_as_large_as_its_base() -> None:
    scored = {
        "stage": "score",
        "config": {
            "out": "/nowhere/score",
            "source": {"path": "/nowhere/split/solutions.jsonl"},
            "scorer": {"model": "/nowhere/train/model", "reference": "none"},
        },
    }
    work = made([*CHAIN, scored]).lines[-1].work
    assert work is not None
    assert work.forward == 30 * (100 + 600 + 10)
    assert work.gpu_hours == pytest.approx(2 * 7e9 * work.forward / (989e12 * 0.5) / 3600)
    with pytest.raises(ConfigError, match="how many parameters"):
        made([sampling(), SPLIT, scored])


def test_rows_of_a_benchmark_that_share_a_checkpoint_are_scored_once() -> None:
    source = {"format": "processbench", "hub": "a/b", "limit": 40}
    checkpoint = {"model": SEVEN}
    bench = {
        "stage": "bench",
        "config": {
            "out": "/nowhere/bench",
            "tasks": [{"name": "t", "kind": "processbench", "source": source}],
            "predictors": [
                {"name": "a", "checkpoint": checkpoint, "threshold": 0.4},
                {"name": "b", "checkpoint": checkpoint, "threshold": 0.5},
                {"name": "c", "baseline": "always_right"},
            ],
        },
    }
    assert made([bench]).total.forward == 40 * (100 + 600 + 10)  # ProcessBench has no references


def test_a_search_writes_n_solutions_of_each_problem() -> None:
    solve = {
        "stage": "solve",
        "config": {
            "out": "/nowhere/solve",
            "problems": {"hub": "a/b", "limit": 5},
            "policy": {"engine": {"model": SEVEN}},
            "scorer": {"model": SEVEN},
            "searches": [
                {"method": "best_of_n", "n": 4},
                {"method": "beam", "n": 16, "width": 4},
            ],
        },
    }
    work = made([solve]).total
    assert work.written == 5 * 20 * 600
    assert work.forward == 5 * 20 * (100 + 600 + 10)


def test_an_endpoint_with_prices_costs_money_and_no_hours() -> None:
    hosted = {
        "model": "gpt",
        "kind": "openai",
        "endpoint": {"urls": ["https://h/v1"], "dialect": "openai"},
        "prices": {"input": 1.0, "output": 10.0},
    }
    found = made([sampling(engine=hosted)])
    work = found.total
    assert work.gpu_hours == 0
    assert work.cost(found.hardware) == pytest.approx((work.prompt + 10 * work.written) / 1e6)
    del hosted["prices"]
    with pytest.raises(ConfigError, match="set its `prices`"):
        made([sampling(engine=hosted)])


def test_replicas_share_the_hours_and_not_the_bill() -> None:
    one = made([sampling()]).total
    engine = {"model": SEVEN, "replicas": {"count": 8, "gpus": 1}}
    eight = made([sampling(engine=engine)]).total
    assert eight.gpu_hours == pytest.approx(one.gpu_hours)
    assert eight.hours == pytest.approx(one.hours / 8)
    assert (one.gpus, eight.gpus) == (1, 8)


@settings(max_examples=8)
@given(
    problems=st.integers(1, 10**6),
    more=st.integers(0, 10**6),
    samples=st.integers(1, 64),
    again=st.integers(0, 64),
)
def test_more_problems_or_samples_never_take_less(
    problems: int, more: int, samples: int, again: int
) -> None:
    def figures(problems: int, samples: int) -> list[float]:
        stages = [sampling(problems, samples), SPLIT, JUDGE, VERIFY, TRAIN]
        found = made(stages)
        lines = [line.work for line in found.lines if line.work is not None]
        return [
            value
            for work in [*lines, found.total]
            for value in (
                work.requests,
                work.prompt,
                work.written,
                work.forward,
                work.steps,
                work.gpu_hours,
                work.hours,
            )
        ]

    few, many = figures(problems, samples), figures(problems + more, samples + again)
    # Row by row sums are rounded to whole tokens.
    assert all(b >= a * (1 - 1e-6) for a, b in zip(few, many, strict=True))


@given(
    tokens=st.floats(1, 5000),
    steps=st.integers(1, 60),
    problem=st.floats(1, 500),
    reference=st.floats(0, 500),
)
def test_a_stand_in_is_as_long_as_it_should_be(
    tokens: float, steps: int, problem: float, reference: float
) -> None:
    one = Expected(items=1, problem=problem, reference=reference, tokens=tokens, steps=steps)
    item = stand_in(one, 0)
    assert len(item.steps) == steps
    written = sum(len(step) for step in item.steps) / 3.5
    assert abs(written - tokens) <= steps  # whole characters, and none blank
    assert (item.reference is None) == (reference == 0)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "-"),
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (4.5e9, "4.5G"),
        (7e13, "70T"),
        (7e16, "70,000T"),
    ],
)
def test_numbers_keep_three_digits(number: float, text: str) -> None:
    assert short(number) == text


# ── on the command line ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What the recipes that read files read, in small."""
    from examples.micro.problems import micro_problems

    for name, held_out in (("train", False), ("test", True)):
        problems = [item.record for item in micro_problems(0, 5, held_out=held_out)]
        jsonl.write(tmp_path / f"{name}_problems.jsonl", problems)
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "processbench").mkdir()
    row = {"question": "What is 2 + 3?", "answer": "2 + 3 = 5\n#### 5"}
    (tmp_path / "gsm8k/test.jsonl").write_text(json.dumps(row))
    said = {"solution": "2 + 3 = 5\nA 5", "is_correct": True}
    solved = {"question": row["question"], "ground_truth": "2 + 3 = 5\nA: 5", "175b": said}
    (tmp_path / "gsm8k/example_model_solutions.jsonl").write_text(json.dumps(solved))
    judged = {"id": "0", "generator": "g", "problem": row["question"], "steps": ["2 + 3 = 5"]}
    judged |= {"final_answer_correct": True, "label": -1}
    (tmp_path / "processbench/gsm8k.json").write_text(json.dumps([judged]))
    return tmp_path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_estimated_offline(
    path: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)  # a recipe names shipped models from here
    out = data / "out"
    assert main(["run", str(path), "--dry-run", f"out={out}", f"data={data}"]) == 0
    said = capsys.readouterr().out
    stages = yaml.safe_load(path.read_text())["stages"]
    assert said.splitlines()[0].split()[:2] == ["stage", "requests"]
    assert said.splitlines()[len(stages) + 1].startswith("all ")
    assert "This is an estimate" in said
    assert not out.exists()


def lines_of(name: str) -> dict[str, Any]:
    path = ROOT / f"configs/recipes/{name}.yaml"
    recipe = config.load(Recipe, path, ["out=/nowhere/full"])
    named = [(folder(s, c), s, c) for s, _, c in prepare(recipe, str(path), MODULES)]
    found = estimate(named, recipe.hardware, recipe.guess, str(path))
    assert not [note for note in found.notes if "do not fit" in note or "set aside" in note]
    return {line.name: line.work for line in found.lines}


def test_the_full_recipes_are_as_large_as_they_say() -> None:
    small, large = lines_of("full-7b"), lines_of("full-72b")
    assert small["annotate"].requests == 6 * 12_000 * 8
    assert large["annotate"].requests == 6 * 690_000
    assert small["candidates (sample)"].written == 500 * 64 * 600
    # Every GPU of a node, or of four, is busy while solutions are written and judged.
    assert {small[name].gpus for name in ("sample", "split", "annotate", "train")} == {8}
    assert {large[name].gpus for name in ("sample", "split", "annotate")} == {32}
    assert large["train"].gpus == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hardware.gpus=8", "unknown key 'hardware.gpus'; did you mean 'hardware.gpu'?"),
        ("hardware.gpu=H900", "H900"),
        ("hardware.prefill_share=1.5", "prefill_share is 1.5"),
        ("hardware.parameters={m: -1}", "parameters holds a number that is not above 0"),
        ("guess.step=0", "all lengths start at 1"),
        ("guess.anwser=5", "did you mean 'guess.answer'?"),
        ("only=[nothing]", "only: no stage's run folder is named 'nothing'; there are sample,"),
    ],
)
def test_what_it_is_told_wrong(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(ROOT / "configs/recipes/full-7b.yaml")
    assert main(["run", path, override, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


# ── a part of a recipe ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def by_rules(tmp_path: Path) -> Path:
    """A recipe of two stages that need no model."""
    item = Solution(id="0", problem="What is 2 + 3?", steps=("2 + 3 = 5.",), answer="5")
    jsonl.write(tmp_path / "solutions.jsonl", [item])
    stages = [
        {
            "stage": "annotate",
            "config": {
                "out": "${out}/votes",
                "source": {"path": str(tmp_path / "solutions.jsonl")},
                "rules": ["arithmetic"],
            },
        },
        {
            "stage": "verify",
            "config": {"out": "${out}/verify", "annotations": "${out}/votes/annotations.jsonl"},
        },
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"out": str(tmp_path / "out"), "stages": stages}))
    return path


def test_only_chooses_what_runs_and_what_has_run_is_told(
    by_rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = by_rules.parent / "out"
    assert main(["run", str(by_rules), "--dry-run", "only=[verify]"]) == 0
    said = capsys.readouterr().out
    assert "votes" not in said
    assert main(["run", str(by_rules), "only=[votes]"]) == 0
    assert capsys.readouterr().out.startswith("── annotate\n")
    assert (out / "votes/annotations.jsonl").exists()
    assert not (out / "verify").exists()
    assert main(["run", str(by_rules), "--dry-run"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:3]
    assert first.split() == ["votes", "(annotate)", "has", "run"]
    assert "has run" not in second
    assert main(["run", str(by_rules)]) == 0
    assert (out / "verify/run.json").exists()


def test_what_has_run_is_not_summed_up() -> None:
    found = made(CHAIN)
    assert found.total.requests == 10 + 180
    done = replace(found, lines=[replace(found.lines[0], finished=True), *found.lines[1:]])
    assert done.total.requests == 180


def test_a_launch_of_several_processes_is_for_training_alone(by_rules: Path) -> None:
    recipe = config.load(Recipe, ROOT / "configs/recipes/full-7b.yaml")
    prepared = [(name, one) for name, _, one in prepare(recipe, "r", MODULES)]
    require_alone(recipe, "r", prepared, 1)
    with pytest.raises(ConfigError, match=r"r: sample runs in one process, and this is 8; add"):
        require_alone(recipe, "r", prepared, 8)
    require_alone(replace(recipe, only=["train"]), "r", prepared, 8)


@pytest.mark.slow
def test_training_is_launched_by_itself_and_the_recipe_goes_on(tmp_path: Path) -> None:
    """As `accelerate launch` does it: several processes of `prm run … 'only=[train]'`."""
    data = sums.write(tmp_path / "labelled.jsonl", sums.labelled(24))
    trainer = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True}
    trained = sums.config(tmp_path / "train", data, trainer=trainer)
    score = {
        "out": str(tmp_path / "score"),
        "source": {"path": str(data)},
        "scorer": {"model": str(tmp_path / "train/model"), "device": "cpu"},
    }
    stages = [
        {"stage": "train", "config": config.to_dict(trained)},
        {"stage": "score", "config": score},
    ]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"out": str(tmp_path), "stages": stages}))  # JSON is YAML
    one = [sys.executable, "-m", "prm", "run", str(path)]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600
        )

    launched = run([*two, *one[1:], "only=[train]"])
    assert launched.returncode == 0, launched.stderr[-3000:]
    assert launched.stdout.count("── train") == 1
    weights = (tmp_path / "train/model/model.safetensors").read_bytes()
    rest = run(one)
    assert rest.returncode == 0, rest.stderr[-3000:]
    assert (tmp_path / "train/model/model.safetensors").read_bytes() == weights
    assert (tmp_path / "score/scores.jsonl").exists()


def test_a_stage_without_an_estimate_says_so() -> None:
    serve = {"stage": "serve", "config": {"scorer": {"model": SEVEN}}}
    assert "serve  not estimated" in str(made([serve]))

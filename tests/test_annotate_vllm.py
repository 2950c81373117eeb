"""The stages of annotation on vLLM, as a user starts them, with the micro models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prm import jsonl
from prm.records import Annotation, Solution

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
STRATEGIES = ["p0", "p1", "p2", "p3"]


def prm(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prm", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def micro(model: str, more: str = "") -> str:
    return f"{{kind: vllm, model: examples/micro/models/{model}, dtype: float32{more}}}"


def voted(out: Path, solutions: Path, engine: str, *strategies: str) -> list[Annotation]:
    """What the micro judge says."""
    prompts = "{prompts: examples/micro/prompts, max_tokens: 160}"
    asked = f"[{', '.join(strategies)}]"
    prm(
        *("annotate", "configs/annotate/micro.yaml", f"out={out}", f"source.path={solutions}"),
        f"judges=[{{engine: {engine}, strategies: {asked}, settings: {prompts}}}]",
    )
    return list(jsonl.read(out / "annotations.jsonl", Annotation))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from examples.micro.problems import micro_problems

    folder = tmp_path_factory.mktemp("vllm")
    problems = [item.record for item in micro_problems(5, 8)]
    jsonl.write(folder / "problems.jsonl", problems)
    prm(
        *("sample", f"out={folder / 'sample'}", f"problems.path={folder / 'problems.jsonl'}"),
        f"policies=[{{name: p, samples: 2, temperature: 1.0, engine: {micro('plain-middle')}}}]",
    )
    return folder / "sample" / "solutions.jsonl"


@pytest.fixture(scope="module")
def separated(sampled: Path) -> Path:
    out = sampled.parent.parent / "split"
    prm(
        *("split", "configs/split/micro.yaml", f"out={out}", f"source.path={sampled}"),
        f"engine={micro('judge')}",
    )
    return out / "solutions.jsonl"


def test_samples_are_apart_and_seeded(sampled: Path) -> None:
    solutions = list(jsonl.read(sampled, Solution))
    assert len(solutions) == 16
    texts = [solution.steps for solution in solutions]
    assert len(set(texts)) > 8  # two samples of a problem seldom agree


def test_the_judge_finds_the_steps_word_for_word(sampled: Path, separated: Path) -> None:
    texts = {solution.id: solution.steps[0] for solution in jsonl.read(sampled, Solution)}
    split = list(jsonl.read(separated, Solution))
    assert len(split) == len(texts)
    for solution in split:
        assert "".join(" ".join(solution.steps).split()) == "".join(texts[solution.id].split())
        assert len(solution.steps) > 1
    by_model = [solution.metadata["split"] == "boundary" for solution in split]
    assert sum(by_model) > len(by_model) / 2


def test_every_list_of_verdicts_fits_its_steps(separated: Path, tmp_path: Path) -> None:
    annotations = voted(tmp_path / "here", separated, micro("judge"), *STRATEGIES)
    assert len(annotations) == 16
    for annotation in annotations:
        assert [judgment.strategy for judgment in annotation.judgments] == STRATEGIES
        for judgment in annotation.judgments:
            assert judgment.error is None
            assert set(judgment.verdicts) <= {0.0, 1.0}


def test_a_replica_on_ray_says_the_same(
    separated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    here = voted(tmp_path / "here", separated, micro("judge"), "p1")
    there = voted(tmp_path / "there", separated, micro("judge", ", replicas: {count: 1}"), "p1")
    assert there == here

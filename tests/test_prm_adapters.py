"""Reward functions for trainers, and the examples of clients, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import served

from annotate.pieces import split_steps
from prm.adapters import verl
from prm.adapters.trl import StepReward, text_of
from prm.client import Client
from prm.errors import ConfigError
from prm.scorers import ScorerConfig, load, score

ROOT = Path(__file__).parents[1]
QUESTION = "What is 2 + 3?"
RESPONSE = "First, 2 + 3 = 5.\n\nSo the answer is 5."


@pytest.fixture(scope="module")
def url(tiny_prm: Path) -> Iterator[str]:
    with served.serve(tiny_prm) as found:
        yield found


@pytest.fixture(scope="module")
def expected(tiny_prm: Path) -> list[float]:
    scorer = load(ScorerConfig(str(tiny_prm)))
    return score(scorer, QUESTION, split_steps(RESPONSE), "5")


def test_trl_gets_one_reward_each_for_texts_and_conversations(url, expected):
    reward = StepReward(Client(url), aggregation="mean", reference="answer")
    assert reward.__name__ == "prm_mean"
    chat = [{"role": "system", "content": "x"}, {"role": "user", "content": QUESTION}]
    found = reward(
        prompts=[QUESTION, chat, QUESTION],
        completions=[RESPONSE, [{"role": "assistant", "content": RESPONSE}], " \n"],
        answer=["5", "5", "5"],
        trainer_state=None,
    )
    mean = pytest.approx(sum(expected) / len(expected), abs=1e-6)
    assert found == [mean, mean, None]


def test_trl_gets_none_for_what_cannot_be_scored(url):
    reward = StepReward(Client(url))
    assert reward(prompts=[QUESTION], completions=["1 2 3 4 5 6 7 8 9 " * 60]) == [None]
    assert reward(prompts=[QUESTION], completions=[""]) == [None]


def test_trl_names_a_missing_column(url):
    reward = StepReward(Client(url), reference="answer")
    with pytest.raises(ConfigError, match="no column 'answer'; it has gold, other"):
        reward(prompts=["x"], completions=["y"], gold=["1"], other=[2])


def test_the_last_turn_of_a_role_counts():
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert text_of(turns, role="user") == "c"
    assert text_of(turns[:2]) == "b"
    assert text_of([]) == ""
    assert text_of("d", role="user") == "d"


@pytest.fixture
def environment(url, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("PRM_URL", url)
    verl._client.cache_clear()
    yield
    verl._client.cache_clear()


def test_verl_gets_a_score(environment, monkeypatch, expected):
    extra = {"question": QUESTION, "index": 3}
    assert verl.compute_score("x", RESPONSE, "5", extra) == {
        "score": pytest.approx(min(expected), abs=1e-6),
        "steps": 2.0,
    }
    monkeypatch.setenv("PRM_AGGREGATION", "last")
    assert verl.compute_score("x", RESPONSE, "5", extra)["score"] == pytest.approx(
        expected[-1], abs=1e-6
    )
    assert verl.compute_score("x", "  ", "5", extra) == {"score": 0.0, "steps": 0.0}


def test_verl_says_what_is_missing(environment, monkeypatch):
    with pytest.raises(ConfigError, match="data source 'x': extra_info has no `question`"):
        verl.compute_score("x", RESPONSE, "5", {"index": 3})
    monkeypatch.delenv("PRM_URL")
    verl._client.cache_clear()
    with pytest.raises(ConfigError, match="PRM_URL is not set"):
        verl.compute_score("x", RESPONSE, "5", {"question": QUESTION})


def run(name: str, url: str, model: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PRM_URL": url,
        "PRM_MODEL": model.parent.name,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, f"examples/serving/{name}.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_examples_of_plain_clients(url, tiny_prm):
    lines = run("score_requests", url, tiny_prm).splitlines()
    assert [line.split()[:2] for line in lines] == [["good", "ok"], ["bad", "ok"]]
    assert len(run("rerank_cohere", url, tiny_prm).splitlines()) == 2
    assert "'steps': 2.0" in run("verl_reward", url, tiny_prm)
    assert run("openrlhf_reward", url, tiny_prm).count(",") == 1


@pytest.mark.slow
def test_grpo_of_trl_trains_on_step_rewards(url, tiny_prm, causal_lm, tmp_path):
    printed = run("grpo_trl", url, tiny_prm, str(causal_lm), str(tmp_path))
    lines = [line for line in printed.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines] == ["step 1", "step 2"]

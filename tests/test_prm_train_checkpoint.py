"""What the real command leaves: the losses it went through, and a checkpoint for stock software."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sums
import yaml

from prm.cli import main
from prm.config import to_dict
from prm.records import StepScores
from prm.scorers import ScorerConfig
from prm.scorers import load as load_scorer
from prm.train import stage

GOLDEN = Path(__file__).parent / "golden" / "loss_curve.json"


@pytest.mark.parametrize("packing", [True, False])
def test_loss_curve_golden(tmp_path: Path, packing: bool) -> None:
    """The losses of thirty steps; the same ones packed and padded."""
    data = sums.write(tmp_path / "labelled.jsonl", sums.labelled(40))
    trainer = {"max_steps": 30, "logging_steps": 1, "learning_rate": 1e-3}
    trainer |= {"save_strategy": "steps", "logging_strategy": "steps", "save_steps": 30}
    config = to_dict(sums.config(tmp_path / "run", data, trainer=trainer))
    config["batches"]["packing"] = packing
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(tmp_path / "train.yaml")]) == 0
    state = json.loads((tmp_path / "run/trainer/checkpoint-30/trainer_state.json").read_text())
    losses = [row["loss"] for row in state["log_history"] if "loss" in row]
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


@pytest.mark.slow
def test_stock_vllm_gives_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Largest difference of a score: 1e-5, in float32."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    vllm = pytest.importorskip("vllm")
    size = replace(sums.SMALL, hidden_size=64)  # vLLM on a CPU knows no smaller heads
    data = sums.write(tmp_path / "labelled.jsonl", sums.labelled(24))
    stage.run(sums.config(tmp_path / "run", data, scratch=size, trainer={"max_steps": 20}))
    model = tmp_path / "run/model"
    solutions = [item.solution for item in sums.labelled(6, seed=3)]
    scorer = load_scorer(ScorerConfig(model=str(model)))
    rendered = [
        scorer.format.render(item.problem, item.steps, item.reference) for item in solutions
    ]
    engine = vllm.LLM(model=str(model), runner="pooling", dtype="float32", enforce_eager=True)
    try:
        outputs = engine.encode(
            [{"prompt_token_ids": item.input_ids} for item in rendered],
            pooling_task="token_classify",
            pooling_params=vllm.PoolingParams(use_activation=False),
        )
    finally:
        engine.llm_engine.engine_core.shutdown()
    ours = scorer.score_each(solutions)
    for item, output, scored in zip(rendered, outputs, ours, strict=True):
        assert isinstance(scored, StepScores)
        theirs = [float(output.outputs.data[place, 0]) for place in item.step_ends]
        assert theirs == pytest.approx(scored.scores, abs=1e-5)

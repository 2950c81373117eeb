"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from prm import engines
from prm.engines import Engine, EngineConfig

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public data sets: `$PRM_DATA`, else `../shared/data` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PRM_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set PRM_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def causal_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny random causal LM of `tiny.make_causal_lm`."""
    import tiny  # imports torch, which most tests do without

    return tiny.make_causal_lm(tmp_path_factory.mktemp("models") / "causal-lm")


@pytest.fixture(scope="session")
def transformers_engine(causal_lm: Path) -> Iterator[Engine]:
    """The tiny causal LM under transformers."""
    engine = engines.load(EngineConfig(model=str(causal_lm), kind="transformers", dtype="float32"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def vllm_engine(causal_lm: Path) -> Iterator[Engine]:
    """The tiny causal LM under vLLM, one for the whole session; for tests marked `slow`."""
    pytest.importorskip("vllm")
    engine = engines.load(EngineConfig(model=str(causal_lm), kind="vllm", dtype="float32"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def tiny_prm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `model` folder of a reward model trained for a few steps on `sums`."""
    import sums

    from prm.train import stage

    folder = tmp_path_factory.mktemp("tiny-prm")
    data = sums.write(folder / "labelled.jsonl", sums.labelled(24))
    stage.run(sums.config(folder / "run", data, trainer={"max_steps": 20}))
    return folder / "run" / "model"

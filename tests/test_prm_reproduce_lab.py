"""What cells the figures of `prm reproduce` declare, and the configurations that ship for them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from prm import config
from prm.cli import STAGES
from prm.errors import ConfigError
from prm.reproduce import stage
from prm.reproduce.cells import Cell, before
from prm.reproduce.config import Config, World
from prm.reproduce.figure import read
from prm.reproduce.lab import Lab

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted(
    path for path in ROOT.glob("configs/reproduce/*.yaml") if path.name != "world.yaml"
)
FIGURES = stage.FIGURES


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations name the world from there."""
    monkeypatch.chdir(ROOT)


def lab(*figures: str, **values: object) -> Lab:
    made = Lab(Config(out="out", world="configs/reproduce/world.yaml", **values))  # type: ignore[arg-type]
    for name in figures:
        importlib.import_module(f"prm.reproduce.figures.{name}").declare(made)
    return made


def test_a_cell_is_declared_once_whoever_needs_it() -> None:
    made = lab(seeds=[1])
    assert made.shared_model(1) == made.shared_model(1) == "@1/model-soft/model"
    names = list(made.cells)
    assert len(names) == len(set(names))
    made.labels(1)
    assert list(made.cells) == names
    assert made.path("@1/labels/labelled.jsonl") == Path("out/1/labels/labelled.jsonl")


def test_one_name_for_two_cells_is_a_bug() -> None:
    made = lab(seeds=[1])
    made.labels(1)
    with pytest.raises(AssertionError, match="two cells are 1/labels"):
        made.labels(1, voting={"labels": "hard"})


@pytest.mark.parametrize("name", FIGURES)
def test_every_cell_has_its_maker_before_it_and_a_sound_configuration(name: str) -> None:
    made = lab(name, seeds=[1, 2])
    modules = {key: module for key, (module, _) in STAGES.items()}
    seen: dict[str, Cell] = {}
    for cell in made.cells.values():
        assert before(cell, seen) <= seen.keys()
        seen[cell.name] = cell
        module = importlib.import_module(modules.get(cell.stage, cell.stage))
        config.from_dict(module.Config, cell.resolved(made.out), cell.name)
    for seed in (1, 2):
        own = [cell for cell in made.cells.values() if cell.name.startswith(f"{seed}/")]
        assert own
        assert all(need.startswith(f"{seed}/") for cell in own for need in cell.needs)
    assert len(made.cells) == len(own) * 2


@pytest.mark.parametrize("name", FIGURES)
def test_a_figures_cells_hang_on_the_seed(name: str) -> None:
    """Nothing of a seed is another's: each stage with chance in it has the seed."""
    made = lab(name, seeds=[7])
    for cell in made.cells.values():
        if cell.stage in ("sample", "train", "solve", "prm.reproduce.derive"):
            assert cell.config["seed"] == 7, cell.name
        for judge in cell.config.get("judges", ()):
            assert judge["settings"]["seed"] == 7, cell.name


def test_figures_share_cells() -> None:
    """Together they have no more than apart, and none is named twice with another content."""
    together = lab(*FIGURES, seeds=[1])
    apart = {name: cell for one in FIGURES for name, cell in lab(one, seeds=[1]).cells.items()}
    assert together.cells == apart
    assert len(apart) < sum(len(lab(one, seeds=[1]).cells) for one in FIGURES)


# ── the configurations that ship ─────────────────────────────────────────────────────────────


def test_the_world_loads() -> None:
    world = config.load(World, ROOT / "configs/reproduce/world.yaml")
    assert all(Path(policy.engine.model).is_dir() for policy in world.policies)
    with pytest.raises(ConfigError, match="none of the policies"):
        config.load(World, ROOT / "configs/reproduce/world.yaml", ["chooser=nobody"])


def test_every_figure_has_a_file_that_makes_it_alone_out_of_the_same_cells() -> None:
    whole = config.load(Config, "configs/reproduce/micro.yaml")
    assert whole.figures == []
    for name in stage.FIGURES:
        words = Lab(whole).command(name).split()
        assert words[:2] == ["prm", "reproduce"]
        alone = config.load(Config, words[2])
        assert alone.figures == [name]
        assert (alone.out, alone.world, alone.size) == (whole.out, whole.world, whole.size)
        assert alone.seeds == whole.seeds


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_run_is_forecast(path: Path) -> None:
    settings = config.load(Config, path)
    forecast = stage.forecast(settings)
    assert forecast.cells["sample"] >= len(settings.seeds) == forecast.seeds
    assert str(forecast).startswith(f"{sum(forecast.cells.values())} cells of ")


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"figures: 'los' is none; there are judge, "):
        stage.forecast(Config(out="o", world="configs/reproduce/world.yaml", figures=["los"]))


def test_the_short_run_is_held_against_a_recording_of_itself() -> None:
    short = config.load(Config, "configs/reproduce/short.yaml")
    assert short.recorded is not None
    recorded = read(short.recorded)
    assert recorded.world == short.world
    assert recorded.size == config.to_dict(short.size)
    assert list(recorded.seeds) == short.seeds
    assert [figure.name for figure in recorded.figures] == short.figures
    for figure in recorded.figures:
        guarded = [row for row in figure.rows if row.headline]
        assert guarded
        assert all(row.value.interval is not None for row in guarded)


def test_the_document_and_continuous_integration_name_what_there_is() -> None:
    text = (ROOT / "docs/reproduce.md").read_text()
    assert len(text.splitlines()) <= 150
    for path in SHIPPED:
        if path.name not in ("micro.yaml", "short.yaml"):
            assert f"`{path.name}`" in text
    named = set(re.findall(r"configs/[\w./-]+\.(?:yaml|json)", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert "reproduce-short" in (ROOT / ".ci/run").read_text()
    assert re.search(
        r"^reproduce-short:.*\n\t.*prm reproduce configs/reproduce/short\.yaml$",
        (ROOT / "Makefile").read_text(),
        re.MULTILINE,
    )

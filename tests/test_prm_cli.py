"""The `prm` command: mistakes end in one line on standard error and exit code 2."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from prm import config
from prm.cli import REPORTS, STAGES, main
from prm.errors import ConfigError
from prm.recipe import Recipe, prepare, require_inputs
from prm.reproduce.config import World

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
MODULES = {name: module for name, (module, _) in STAGES.items()}

SOLUTION = {"id": "a", "problem": "2 + 3?", "steps": ["2 + 3 = 5", "The answer is 5."]}
ANNOTATION = {
    "solution": SOLUTION,
    "judgments": [{"judge": "j", "strategy": "s", "verdicts": [1.0, 1.0]}],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a few input files, good and bad."""
    monkeypatch.chdir(tmp_path)
    good = json.dumps(SOLUTION)
    for name, text in {
        "good.jsonl": good,
        "torn.jsonl": good + "\n" + good[:-9],
        "blank.jsonl": json.dumps(SOLUTION | {"steps": []}),
        "twice.jsonl": good + "\n" + good,
        "unknown.jsonl": json.dumps(SOLUTION | {"stepz": []}),
        "annotations.jsonl": json.dumps(ANNOTATION),
        "short.jsonl": json.dumps(
            ANNOTATION | {"judgments": [{"judge": "j", "strategy": "s", "verdicts": [1.0]}]}
        ),
        "processbench.jsonl": json.dumps({"problem": "p", "steps": ["s"], "label": 0}),
        "stepwise.jsonl": json.dumps({"prompt": "p", "completions": ["s"], "labels": [1, 0]}),
        "empty.jsonl": json.dumps(
            {"question": "q", "ground_truth": "x\nA: 5", "m": {"is_correct": True, "solution": ""}}
        ),
        "bad.yaml": "out: [",
        "list.yaml": "- out",
        "twice.yaml": "out: a\nout: b",
        "recipe.yaml": "out: o\nstages:\n  - {stage: anotate}",
        "bare.yaml": "out: o\nstages: []",
        "file": "",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


ANNOTATE = ["annotate", "out=out", "rules=[arithmetic]"]
BAD = {
    "unknown stage": (["anotate"], "invalid choice: 'anotate'"),
    "no stage": ([], "required: STAGE"),
    "unknown flag": ([*ANNOTATE, "--fast"], "unrecognized arguments: --fast"),
    "no recipe": (["run"], "required: CONFIG"),
    "unknown key": ([*ANNOTATE, "sorce.path=x"], "'sorce'; did you mean 'source'?"),
    "unknown key inside": ([*ANNOTATE, "source.pth=x"], "did you mean 'source.path'?"),
    "missing key": (["annotate", "out=out"], "required key 'source' is not set"),
    "wrong type": ([*ANNOTATE, "source.path=good.jsonl", "chunk=x"], "key 'chunk'"),
    "zero chunk": ([*ANNOTATE, "source.path=good.jsonl", "chunk=0"], "chunk is 0"),
    "no such config": (["annotate", "none.yaml"], "none.yaml: no such configuration file"),
    "not YAML": (["annotate", "bad.yaml"], "bad.yaml: not valid YAML"),
    "a list": (["annotate", "list.yaml"], "must hold `key: value` lines"),
    "duplicate key": (["annotate", "twice.yaml"], "duplicate key"),
    "not an override": (["annotate", "bare.yaml", "out"], "'out' is not an override"),
    "neither file nor override": (["annotate", "out"], "out: no such configuration file"),
    "missing file": ([*ANNOTATE, "source.path=none.jsonl"], "none.jsonl: no such file"),
    "a folder for a file": ([*ANNOTATE, "source.path=."], ".: a folder where a file is needed"),
    "no folder": (["annotate", "out=", "source.path=good.jsonl"], "override 'out=': out is empty"),
    "another format": (
        [*ANNOTATE, "source.path=empty.jsonl"],
        "The row looks like gsm8k_solutions: set `format: gsm8k_solutions`",
    ),
    "no place": ([*ANNOTATE, "source.limit=5"], "exactly one of `path`"),
    "unknown kind of file": ([*ANNOTATE, "source.path=file"], "unknown kind of file"),
    "torn line": ([*ANNOTATE, "source.path=torn.jsonl"], "torn.jsonl:2: torn or invalid JSON"),
    "no steps": ([*ANNOTATE, "source.path=blank.jsonl"], "blank.jsonl:1: steps is empty"),
    "id twice": ([*ANNOTATE, "source.path=twice.jsonl"], "'a' occurs twice, first on line 1"),
    "unknown field": ([*ANNOTATE, "source.path=unknown.jsonl"], ":1: field 'stepz': unknown field"),
    "missing column": (
        [*ANNOTATE, "source.path=processbench.jsonl", "source.format=processbench"],
        "processbench.jsonl:1: missing column 'id'; the row has problem, steps, label",
    ),
    "labels and steps": (
        [*ANNOTATE, "source.path=stepwise.jsonl", "source.format=stepwise"],
        "stepwise.jsonl:1: 2 labels for 1 steps",
    ),
    "empty solution": (
        [*ANNOTATE, "source.path=empty.jsonl", "source.format=gsm8k_solutions"],
        "empty.jsonl:1: steps is empty",
    ),
    "verdicts and steps": (
        ["verify", "out=out", "annotations=short.jsonl"],
        "short.jsonl:1: strategy 's' has 1 verdicts for 2 steps",
    ),
    "out is a file": (
        ["annotate", "out=file", "rules=[arithmetic]", "source.path=good.jsonl"],
        "file: cannot be written (File exists); set `out`",
    ),
    "split of nothing": (["split", "out=out", "source.path=none.jsonl"], "no such file"),
    "sample without policies": (
        ["sample", "out=out", "problems.path=good.jsonl"],
        "at least one entry in `policies`",
    ),
    "score without a model": (
        ["score", "out=out", "source.path=good.jsonl", "scorer.model=none"],
        "none: no such model folder",
    ),
    "unknown stage in a recipe": (["run", "recipe.yaml"], "stages[0]: 'anotate' is no stage"),
    "report of nothing": (["report"], "prm report: the following arguments are required: STAGE"),
    "unknown report": (["report", "anotate"], "invalid choice: 'anotate'"),
    "unknown key of a report": (
        ["report", "annotate", "out=out", "anotations=x"],
        "prm report annotate: override 'anotations=x': unknown key 'anotations'; did you mean",
    ),
    "report of an empty file": (
        ["report", "annotate", "out=out", "annotations=file"],
        "prm report annotate: file: no annotations in this file",
    ),
    "empty recipe": (["run", "bare.yaml"], "bare.yaml: the recipe has no stages"),
    "no such recipe": (["run", "none.yaml"], "none.yaml: no such configuration file"),
}


def run(*arguments: str) -> int:
    """As the shell sees it: the exit code, whoever raised it."""
    try:
        return main(arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("here")
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, message = BAD[name]
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("prm")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    assert captured.out == ""


@pytest.mark.parametrize("name", ["unknown stage", "unknown key", "torn line", "missing column"])
def test_a_mistake_in_a_process_of_its_own(here: Path, name: str) -> None:
    arguments, message = BAD[name]
    done = subprocess.run(
        [sys.executable, "-m", "prm", *arguments],
        cwd=here,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_folder_of_another_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "out=out", "annotations=annotations.jsonl") == 0
    line = capsys.readouterr().out
    assert line.startswith("verify: in 1, out 1, rejected 0, failed 0 → out (")
    assert run("verify", "out=out", "annotations=annotations.jsonl", "chunk=7") == 0
    capsys.readouterr()
    changed = "rules.down_weight=0.4"
    assert run("verify", "out=out", "annotations=annotations.jsonl", changed) == 2
    error = capsys.readouterr().err
    assert "rules.down_weight was 0.5 and is now 0.4" in error
    assert error.count("\n") == 1
    assert run(*ANNOTATE, "source.path=good.jsonl") == 2
    assert 'stage was "verify" and is now "annotate"' in capsys.readouterr().err
    (here / "annotations.jsonl").write_text(json.dumps(ANNOTATION) + "\n\n")
    assert run("verify", "out=out", "annotations=annotations.jsonl") == 2
    assert "the content of inputs.annotations changed" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["torn.jsonl", "short.jsonl"])
def test_a_mended_input_may_take_the_folder(here: Path, wrong: str) -> None:
    assert run("verify", "out=out", f"annotations={wrong}") == 2
    assert not (here / "out" / "run.json").exists()
    assert run("verify", "out=out", "annotations=annotations.jsonl") == 0


def test_anything_else_is_a_bug_and_keeps_its_traceback(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import verify.stage

    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(verify.stage, "run", broken)
    with pytest.raises(ZeroDivisionError):
        run("verify", "out=out", "annotations=annotations.jsonl")


def test_interrupted(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import verify.stage

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify.stage, "run", interrupted)
    assert run("verify", "out=out", "annotations=annotations.jsonl") == 130
    assert "interrupted; the same command resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "name"),
    [("prm.cli.importlib.import_module", "prm verify"), ("prm.cli._parser", "prm")],
)
@pytest.mark.parametrize("arguments", [["out=out", "annotations=x"], ["--help"]])
def test_interrupted_before_the_stage_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
    name: str,
    arguments: list[str],
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    assert run("verify", *arguments) == 130
    error = capsys.readouterr().err
    assert error.endswith(": interrupted; the same command resumes\n")
    assert error.strip().startswith(name.split()[0])


# Help


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown and purpose[:30] in shown for name, (_, purpose) in STAGES.items())


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_stage_lists_its_keys(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stage, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"`prm {stage}`")
    documented, _, defaults = shown.partition("Defaults (??? must be set):")
    for item in dataclasses.fields(importlib.import_module(MODULES[stage]).Config):
        assert item.name in yaml.safe_load(defaults)
        assert item.name in documented


def test_help_of_report_names_the_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "report" in capsys.readouterr().out
    assert run("report", "--help") == 0
    shown = capsys.readouterr().out
    assert all(name in shown and purpose[:30] in shown for name, (_, purpose) in REPORTS.items())


@pytest.mark.parametrize("report", REPORTS)
def test_help_of_a_report_lists_its_keys(report: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", report, "--help") == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"`prm report {report}`")
    defaults = yaml.safe_load(shown.partition("Defaults (??? must be set):")[2])
    module = importlib.import_module(REPORTS[report][0])
    assert list(defaults) == [item.name for item in dataclasses.fields(module.Config)]


def test_help_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "--help") == 0
    shown = capsys.readouterr().out
    assert "all stages of a recipe" in shown
    assert "data: the folder with the data sets, as `${data}`." in shown
    example = shown.partition("list:\n\n")[2].partition("\n\npositional")[0]
    recipe = config.from_dict(Recipe, yaml.safe_load(example), "help")
    assert [name for name, _, _ in prepare(recipe, "help", MODULES)] == ["annotate", "verify"]


@pytest.mark.parametrize(
    "words",
    [("zoo",), ("bench", "--help"), ("reproduce", "configs/reproduce/micro.yaml", "--dry-run")],
)
def test_a_reader_that_leaves_is_no_bug(words: tuple[str, ...]) -> None:
    """As in `prm zoo | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "prm", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    shown = capsys.readouterr().out
    for word in ("python", "cores", "memory", "torch", "transformers", "annotate", "train"):
        assert word in shown


# The configurations that ship

STAGE_FILES = sorted(
    path
    for path in CONFIGS.glob("*/*.yaml")
    if path.parent.name not in ("recipes", "launch", "constraints", "report")
)


def test_every_stage_has_a_configuration() -> None:
    assert {path.parent.name for path in STAGE_FILES} == set(STAGES)


@pytest.mark.parametrize("path", STAGE_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_configurations_fit_their_schema(path: Path) -> None:
    module = importlib.import_module(MODULES[path.parent.name])
    # What several configurations of `prm reproduce` name is a file of its own.
    schema = World if path.name == "world.yaml" else module.Config
    assert isinstance(config.load(schema, path), schema)


@pytest.mark.parametrize("report", REPORTS)
def test_every_report_has_a_configuration_that_fits(report: str) -> None:
    module = importlib.import_module(REPORTS[report][0])
    loaded = config.load(module.Config, CONFIGS / "report" / f"{report}.yaml")
    assert isinstance(loaded, module.Config)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("recipes/*.yaml")), ids=lambda path: path.name)
def test_shipped_recipes_fit_their_stages(path: Path) -> None:
    loaded = config.load(Recipe, path)
    prepared = prepare(loaded, str(path), MODULES)
    assert [name for name, _, _ in prepared] == [step.stage for step in loaded.stages]


# Recipes

RECIPE = """
out: out
stages:
  - stage: annotate
    config: {out: "${out}/annotate", source: {path: good.jsonl}, rules: [arithmetic]}
  - stage: verify
    config: {out: "${out}/verify", annotations: "${out}/annotate/annotations.jsonl"}
"""


def test_a_recipe_runs_its_stages_and_resumes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "r.yaml").write_text(RECIPE)
    assert run("run", "r.yaml") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(" → ")[0] for line in shown] == [
        "── annotate",
        "annotate: in 1, out 1, rejected 0, failed 0",
        "── verify",
        "verify: in 1, out 0, rejected 1 (step_without_a_vote 1), failed 0",
    ]
    assert run("run", "r.yaml", "out=elsewhere") == 0
    assert (here / "elsewhere" / "verify" / "rejected.jsonl").exists()
    before = (here / "out" / "annotate" / "annotations.jsonl").stat().st_mtime_ns
    assert run("run", "r.yaml") == 0
    assert (here / "out" / "annotate" / "annotations.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("mend", "message"),
    [
        (
            lambda text: text.replace("annotations:", "anotations:"),
            "stages[1] (verify): unknown key 'anotations'; did you mean 'annotations'?",
        ),
        (lambda text: text.replace("stage: verify", "stage: verfy"), "stages[1]: 'verfy' is no"),
        (lambda text: text.replace("stage: verify", "stag: verify"), "stages[1].stag"),
        (
            lambda text: text.replace(', annotations: "${out}/annotate/annotations.jsonl"', ""),
            "required key 'annotations' is not set",
        ),
        (lambda text: text.replace("${out}/verify", "${ot}/verify"), "'ot' not found"),
    ],
)
def test_a_typo_in_the_last_stage_stops_the_first(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    mend: Callable[[str], str],
    message: str,
) -> None:
    (here / "r.yaml").write_text(mend(RECIPE))
    assert run("run", "r.yaml") == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (here / "out").exists()


LATE = """  - stage: bench
    config:
      out: elsewhere/bench
      tasks:
        - name: t
          kind: processbench
          source: {path: good.jsonl, references: {path: "PATH"}}
"""


def test_a_missing_late_input_stops_the_first_stage(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "r.yaml").write_text(RECIPE + LATE.replace("PATH", "none.jsonl"))
    assert run("run", "r.yaml") == 2
    captured = capsys.readouterr()
    assert captured.err == (
        "prm run: r.yaml: stages[2] (bench): tasks[0].source.references.path: none.jsonl: "
        "no such file\n"
    )
    assert captured.out == ""
    assert not (here / "out").exists()


@pytest.mark.parametrize("path", ["good.jsonl", "${out}/new.jsonl", "elsewhere/split/s.jsonl"])
@pytest.mark.usefixtures("here")
def test_inputs_that_are_there_or_will_be(path: str) -> None:
    first = {"stage": "split", "config": {"out": "elsewhere/split", "source": {"path": "file"}}}
    stages = [first, *yaml.safe_load("stages:\n" + LATE.replace("PATH", path))["stages"]]
    recipe = config.from_dict(Recipe, {"out": "out", "stages": stages}, "r")
    prepared = [(name, made) for name, _, made in prepare(recipe, "r", MODULES)]
    assert len(prepared) == len(stages)
    require_inputs(recipe, "r", prepared)  # raises nothing


def test_a_recipe_names_its_file_in_errors() -> None:
    with pytest.raises(ConfigError, match=r"^r\.yaml: the recipe has no stages$"):
        prepare(Recipe(out="o"), "r.yaml", MODULES)

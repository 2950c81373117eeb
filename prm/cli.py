"""The `prm` command: the table of stages, each imported only when it is called.

    prm STAGE [CONFIG.yaml] [key=value …]
    prm report STAGE [CONFIG.yaml] [key=value …]

What a user can mend (`PRMError`) is printed in one line and ends with exit code 2; anything
else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from prm import config as configuration
from prm.describe import describe
from prm.errors import ConfigError, PRMError
from prm.recipe import Recipe, folder, prepare, require_alone, require_inputs, runs
from prm.run import Counts

STAGES = {
    "sample": ("annotate.sample", "policies write solutions of problems"),
    "split": ("annotate.split", "solutions are separated into steps"),
    "annotate": ("annotate.stage", "rules and LLM judges vote on every step"),
    "verify": ("verify.stage", "votes become labels, checked against reference answers"),
    "verify-answers": ("verify.grading", "final answers are compared with reference answers"),
    "export": ("prm.export.stage", "annotated or labelled solutions become a data set with a card"),
    "train": ("prm.train.stage", "labelled solutions become a reward model"),
    "score": ("prm.score", "a reward model scores every step"),
    "build-bench": ("universalbench.build.stage", "labelled solutions become a benchmark"),
    "bench": ("universalbench.stage", "predictors are compared on benchmarks"),
    "search": ("prm.search.stage", "best of N, majority and their kin over given candidates"),
    "solve": ("prm.search.online", "a policy and a reward model search for solutions"),
    "serve": ("prm.serve.stage", "an HTTP server for scores and reranking"),
    "reproduce": ("prm.reproduce.stage", "the claims of the method, measured again"),
}
"""Stage → its module (with `Config` and `run`) and what it does."""

REPORTS = {
    "annotate": ("annotate.report.stage", "how far the voters agree, and examples to look at"),
    "verify": (
        "verify.report.stage",
        "what the checks of labels said and did, and examples of each",
    ),
    "bench": ("universalbench.report.stage", "runs on a page: tables, differences, curves, errors"),
    "reproduce": (
        "prm.reproduce.agreement",
        "whether two runs of other seeds come to the same numbers and verdicts",
    ),
}
"""Stage whose output a report is of → its module, likewise, and what it shows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    name = "prm"
    only_text = True  # until a stage begins, which talks to more than the terminal
    try:
        _quiet_libraries()
        options = _parse(arguments)
        name = f"prm {options.command}"
        only_text = options.command in ("doctor", "zoo")
        if options.command == "doctor":
            from prm.doctor import report

            print(report(), flush=True)
        elif options.command == "zoo":
            print(_zoo(options.words), flush=True)
        elif options.command == "run":
            if options.dry_run:
                estimated = _estimate(options.config, options.overrides)
                only_text = True
                print(estimated, flush=True)
            else:
                _run_recipe(options.config, options.overrides)
        else:
            stage = importlib.import_module(options.module)
            words = _runs_named(stage, options.config, options.overrides)
            path, overrides = _config_and_overrides(*words)
            config = configuration.load(stage.Config, path, overrides)
            if options.dry_run:
                forecast = _forecast(options.command, stage, config)
                if os.environ.get("RANK", "0") == "0":  # one process of a launch speaks for all
                    only_text = True
                    print(forecast, flush=True)
            else:
                _run_stage(options.command, stage, config)
    except PRMError as error:
        problem = str(error)
    except BrokenPipeError:
        if not only_text:
            raise
        # Whoever read the text has seen enough (`prm zoo | head`); nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; the same command resumes", file=sys.stderr)
        return 130
    else:
        return 0
    # Only here, where the failed stage is gone: its progress bar has ended its line.
    print(f"{name}: {problem}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="prm",
        description="Process reward models: annotate, verify, train, evaluate, serve.",
        epilog="`prm STAGE --help` lists the keys of a stage.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="STAGE")
    _add_stages(commands, STAGES)
    purpose = "a page that shows what a stage left"
    report = commands.add_parser("report", help=purpose, description=purpose)
    _add_stages(report.add_subparsers(required=True, metavar="STAGE"), REPORTS, "report ")
    purpose = "all stages of a recipe, one after the other"
    recipe = commands.add_parser(
        "run",
        help=purpose,
        description=f"{purpose}\n\n{inspect.cleandoc(Recipe.__doc__ or '')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_dry_run(recipe)
    _add_arguments(recipe, None)
    commands.add_parser("doctor", help="what this machine can run, and what to install")
    purpose = "which published reward models can be scored, and how each is used"
    zoo = commands.add_parser("zoo", help=purpose, description=purpose)
    zoo.add_argument(
        "words",
        nargs="*",
        metavar="FAMILY | convert FOLDER OUT",
        help="a family to describe; or a folder of pickled weights to write anew as safetensors",
    )
    return parser


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """As `parse_args`, which takes no override after an option such as `--dry-run`."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    wrong = [word for word in rest if word.startswith("-") or "=" not in word]
    if wrong or (rest and "overrides" not in options):
        parser.error(f"unrecognized arguments: {' '.join(wrong or rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error, in place of a usage block."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _add_stages(commands: Any, stages: Mapping[str, tuple[str, str]], before: str = "") -> None:
    """Add a command per stage; `before` is what stands before its name on the command line."""
    for name, (module, purpose) in stages.items():
        stage = commands.add_parser(name, help=purpose, description=purpose, add_help=False)
        stage.add_argument("-h", "--help", action=_KeysAction, module=module)
        _add_dry_run(stage)
        stage.set_defaults(command=f"{before}{name}", module=module)
        _add_arguments(stage, "?")


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="what it would ask and cost")


def _add_arguments(parser: argparse.ArgumentParser, config: str | None) -> None:
    parser.add_argument("config", nargs=config, metavar="CONFIG", help="a YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="dotted keys, later ones win"
    )


class _KeysAction(argparse.Action):
    """Prints what the stage's `Config` documents; needs its module, hence not a plain help."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, module: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="the keys of this stage")
        self._module = module

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(describe(importlib.import_module(self._module).Config), flush=True)
        parser.exit()


def _runs_named(
    stage: Any, path: str | None, overrides: Sequence[str]
) -> tuple[str | None, Sequence[str]]:
    """Run folders among the words of a stage that takes `runs`, as the override they stand for.

    Whatever is neither an override nor a YAML file is meant as one: the stage says of each that is
    no run what is wrong with it.

    Raises:
        ConfigError: a file of a run is named.
    """
    if "runs" not in {item.name for item in dataclasses.fields(stage.Config)}:
        return path, overrides
    words = [word for word in (path, *overrides) if word is not None]
    for word in words:
        if word.endswith((".json", ".jsonl")) and os.path.isfile(word):
            parent = os.path.dirname(word) or "."
            raise ConfigError(f"{word}: a file of a run; give the run's folder, {parent}")
    named = [word for word in words if not _is_override_or_file(word)]
    if not named:
        return path, overrides
    rest = [word for word in words if word not in named]
    override = f"runs={json.dumps(named)}"
    return (rest[0], [*rest[1:], override]) if rest else (None, [override])


def _is_override_or_file(word: str) -> bool:
    if os.path.isdir(word):
        return False
    return "=" in word or word.endswith((".yaml", ".yml")) or os.path.exists(word)


def _config_and_overrides(
    path: str | None, overrides: Sequence[str]
) -> tuple[str | None, Sequence[str]]:
    """A first argument with `=` and no such file is an override: a stage needs no file."""
    if path is not None and "=" in path and not os.path.exists(path):
        return None, [path, *overrides]
    return path, overrides


def _run_stage(name: str, stage: Any, config: Any) -> None:
    began = time.monotonic()
    counts = stage.run(config)
    if isinstance(counts, Counts):
        print(f"{name}: {counts} → {config.out} ({time.monotonic() - began:.1f} s)", flush=True)


def _forecast(name: str, stage: Any, config: Any) -> Any:
    """What a stage would ask and cost, where it can tell."""
    if not hasattr(stage, "forecast"):
        raise ConfigError(f"{name} has no --dry-run; sample, annotate and train have one")
    return stage.forecast(config)


def _run_recipe(path: str, overrides: Sequence[str]) -> None:
    recipe, prepared = _prepared(path, overrides)
    stages = [(name, config) for name, _, config in prepared]
    require_inputs(recipe, path, stages)
    require_alone(recipe, path, stages, int(os.environ.get("WORLD_SIZE", "1")))
    for name, stage, config in prepared:
        if not runs(recipe, name, config):
            continue
        if os.environ.get("RANK", "0") == "0":  # one process of a launch speaks for all
            print(f"── {name}", flush=True)
        _run_stage(name, stage, config)


def _estimate(path: str, overrides: Sequence[str]) -> Any:
    """What all stages of a recipe would ask and cost."""
    from prm.estimate.table import estimate

    recipe, prepared = _prepared(path, overrides)
    stages = [(folder(name, config), name, config) for name, _, config in prepared]
    return estimate(stages, recipe.hardware, recipe.guess, path, only=recipe.only)


def _prepared(path: str, overrides: Sequence[str]) -> tuple[Recipe, list[tuple[str, Any, Any]]]:
    """A recipe, and every stage's configuration: all are checked before the first stage starts."""
    recipe = configuration.load(Recipe, path, overrides)
    return recipe, prepare(recipe, path, {key: value[0] for key, value in STAGES.items()})


def _zoo(words: Sequence[str]) -> str:
    from prm.zoo import convert, listing

    if not words:
        return listing.overview()
    if words[0] == "convert":
        if len(words) != 3:
            raise ConfigError("convert takes a folder and a new one: prm zoo convert FOLDER OUT")
        return f"{convert.convert(*words[1:])} tensors → {words[2]}"
    if len(words) == 1:
        return listing.describe(words[0])
    raise ConfigError(f"one family at a time; {len(words)} were named")


def _quiet_libraries() -> None:
    """Keep libraries' start-up notices from drowning our lines; a user's own setting wins."""
    for variable, value in {
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }.items():
        os.environ.setdefault(variable, value)
    # DeepSpeed warns on import, whoever imports it, that a machine has no GPU; it resets its
    # logger's level, but not its filters.
    logging.getLogger("DeepSpeed").addFilter(
        lambda record: "Setting accelerator to CPU" not in record.getMessage()
    )


if __name__ == "__main__":
    sys.exit(main())

"""Imports point one way: the kernel at the bottom, floors above it, only `prm.cli` on top."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("prm", "annotate", "verify", "universalbench")
KERNEL = {
    "prm.errors",
    "prm.records",
    "prm.jsonl",
    "prm.config",
    "prm.run",
    "prm.progress",
    "prm.formats",
    "prm.html",
    "prm.sources",
    "prm.render",
    "prm.metrics",
    "prm.aggregation",
    "prm.best_of_n",
    "prm.selection",
    "prm.engines",
    "prm.engines.base",
    "prm.engines.flow",
}
HEAVY = {"torch", "vllm", "transformers", "trl", "deepspeed", "accelerate", "peft", "datasets"}
FLOORS = {
    "prm.attention": 0,
    "verify": 1,
    "prm.score": 1,
    "prm.scorers": 1,
    "prm.export": 1,
    "prm.zoo": 1,
    "prm.train": 1,
    "annotate": 2,
    "universalbench": 2,
    "prm.search": 3,
    "prm.serve": 4,
    "prm.client": 1,
    "prm.adapters": 4,
    "prm.reproduce": 5,
    "prm.estimate": 5,
}
OUTSIDE = {"prm", "prm.__main__", "prm.cli", "prm.describe", "prm.recipe", "prm.doctor"}
"""Modules on no floor: the command line and what only it uses."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(module: str, *, everywhere: bool = False) -> set[str]:
    """What a module imports when it is imported itself; `everywhere` adds what its functions do.

    `from a import b` counts as `a.b` where that is one of our modules.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(MODULES[module].read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(MODULES) or {node.module}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            if everywhere:
                waiting += ast.iter_child_nodes(node)
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def floor(module: str) -> int | None:
    """The floor of one of our modules; that of the kernel and each engine's file is 0."""
    if module in KERNEL or module.startswith("prm.engines."):
        return 0
    return next(
        (
            level
            for package, level in FLOORS.items()
            if module == package or module.startswith(f"{package}.")
        ),
        None,
    )


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] in PACKAGES}


def test_every_module_has_its_place() -> None:
    assert set(MODULES) >= KERNEL
    assert {name for name in MODULES if floor(name) is None} == OUTSIDE


@pytest.mark.parametrize("module", sorted(KERNEL))
def test_the_kernel_imports_no_heavy_library_and_no_stage(module: str) -> None:
    at_top = imported(module)
    assert not {name.split(".")[0] for name in at_top} & HEAVY
    assert ours(imported(module, everywhere=True)) <= KERNEL | {
        name for name in MODULES if module == "prm.engines" and name.startswith("prm.engines.")
    }


@pytest.mark.parametrize("module", sorted(set(MODULES) - OUTSIDE))
def test_imports_point_downwards(module: str) -> None:
    own = floor(module)
    assert own is not None
    for other in ours(imported(module, everywhere=True)):
        if other == "prm.cli" and module == "prm.reproduce.stage":
            continue  # it runs the stages, as the command line does
        assert other not in OUTSIDE - {"prm"}, f"{module} imports {other}"
        level = floor(other)
        assert level is not None, f"{module} imports {other}"
        assert level <= own, f"{module} (floor {own}) imports {other} (floor {level})"


@pytest.mark.parametrize(
    ("one", "other"), [("annotate", "universalbench"), ("verify", "prm.train")]
)
def test_neighbours_do_not_import_each_other(one: str, other: str) -> None:
    for package, forbidden in ((one, other), (other, one)):
        for module in MODULES:
            if module.startswith(package):
                used = ours(imported(module, everywhere=True))
                assert not [name for name in used if name.startswith(forbidden)], module


def test_only_the_command_line_names_stages() -> None:
    # By their modules' names, in strings; `prm.cli` imports none of them at its top.
    from prm.cli import REPORTS, STAGES

    stages = {module for module, _ in [*STAGES.values(), *REPORTS.values()]}
    assert stages <= set(MODULES)
    assert not imported("prm.cli", everywhere=True) & stages
    for module, path in MODULES.items():
        if module == "prm.cli":
            continue
        texts = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not texts & stages, module


@pytest.mark.parametrize(
    "modules",
    [
        "prm.cli",
        "prm.recipe, prm.sources, prm.render, prm.metrics, prm.engines",
        "verify.stage, verify.report.stage",
        "annotate.stage, annotate.sample, annotate.split, annotate.report.stage",
    ],
)
def test_light_modules_load_no_heavy_library(modules: str) -> None:
    code = f"import sys, {modules}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_no_module_is_named_after_nothing() -> None:
    names = {part for module in MODULES for part in module.split(".")}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc", "core"}


def test_no_module_is_left_out_of_the_repository() -> None:
    """A pattern of `.gitignore` may fit a package, which then exists on one machine alone."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    paths = [str(path.relative_to(ROOT)) for path in MODULES.values()]
    done = subprocess.run(
        ["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_packages_are_listed_for_the_wheel() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    packages = {name_of(path) for path in MODULES.values() if path.name == "__init__.py"}
    assert packages <= set(listed)

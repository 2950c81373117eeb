"""UniversalBench's format: full-trajectory labels over policies that differ in length and style.

UniversalBench (arXiv 2502.11520) was described and not published. This is our format for such a
benchmark, which `prm build-bench` writes: one `LabelledSolution` a line, each label 0 or 1, over
the full trajectory (steps after the first error have their own), with generator and reference, and
with two keys of `metadata`: `subset`, a name such as `AIME`, and `length`, `long` or `short`. Shown
together (`AIME long`) they are the part of the benchmark that a solution belongs to.
"""

from __future__ import annotations

from prm.errors import ConfigError, RecordError
from prm.records import LabelledSolution
from prm.sources import Source, labelled
from universalbench.tasks.steps import fully_labelled
from universalbench.tasks.task import Task

LENGTHS = ("long", "short")


def load(name: str, source: Source) -> Task:
    """Solutions, their subsets, and for each step whether it is wrong.

    Raises:
        ConfigError: the source is not of our records.
        RecordError: a label is soft, or a solution lacks what the format asks for.
    """
    if source.format != "records":
        raise ConfigError(
            f"{source}: kind universalbench reads our own records, as `prm build-bench` writes "
            "them; take kind steps for other formats"
        )
    items = list(labelled(source))
    subsets = [subset_name(item, source) for item in items]
    return fully_labelled(name, "universalbench", items, subsets, source)


def subset_name(item: LabelledSolution, path: object) -> str:
    """The part of the benchmark that a solution belongs to, such as `AIME long`.

    Raises:
        RecordError: the solution lacks what the format asks for.
    """
    solution = item.solution
    subset, length = solution.metadata.get("subset"), solution.metadata.get("length")
    if not isinstance(subset, str) or not subset.strip():
        missing = f"metadata.subset is {subset!r}; it must be a name, such as AIME"
    elif length not in LENGTHS:
        missing = f"metadata.length is {length!r}; it must be long or short"
    elif not solution.generator:
        missing = "generator is empty; name the policy that wrote the steps"
    elif solution.reference is None:
        missing = "reference is null; join one through source.references"
    else:
        return f"{subset} {length}"
    raise RecordError(f"solution {item.id!r}: {missing}", path=path)

"""`prm zoo`: which checkpoints can be scored, and what is declared of each family."""

from __future__ import annotations

import textwrap

from prm.zoo.catalog import FAMILIES, families, family, named
from prm.zoo.entry import Entry

_WIDTH = 96


def overview() -> str:
    """One line per family: name, what runs it, whether it takes a reference, its checkpoints."""
    entries = [known.entry for known in families()]
    rows = [["family", "runs on", "reference", "checkpoints"]]
    rows += [
        [
            entry.family,
            ", ".join(entry.backends),
            "yes" if entry.takes_reference else "no",
            ", ".join(item.id for item in entry.checkpoints) or "what `prm train` makes",
        ]
        for entry in entries
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    indent = " " * (sum(widths) + 6)
    lines = []
    for *cells, last in rows:
        before = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines += textwrap.wrap(
            f"{before}  {last}",
            width=max(_WIDTH, len(indent) + 40),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(
        [*lines, "", "`prm zoo FAMILY` says how a family is used; so does `prm zoo CHECKPOINT`."]
    )


def describe(name: str) -> str:
    """All that the entry of a family declares.

    Args:
        name: the family's, or that of one of its checkpoints.

    Raises:
        ConfigError: there is no such family.
    """
    published = None if name in FAMILIES else named(name)
    entry = (published or family(name)).entry
    lines = [entry.family, ""]
    lines += [_field(label, value) for label, value in _declared(entry)]
    if entry.checkpoints:
        lines += ["", "checkpoints"]
    for item in entry.checkpoints:
        checked = item.revision or "written from public code, checked with random weights"
        lines.append(
            f"  {item.id}: {item.context:,} tokens, {item.dtype}, licence {item.licence}; {checked}"
        )
    return "\n".join(lines)


def _declared(entry: Entry) -> list[tuple[str, str]]:
    bounds = "any number"
    if entry.bounds is not None:
        bounds = f"{entry.bounds[0]:g} to {entry.bounds[1]:g}"
    cut = "none published; choose one on a split that you do not report"
    if not entry.checkpoints:
        cut = "as `prm.json` declares, with a reference and without"
    elif entry.threshold is not None:
        cut = f"{entry.threshold.value:g} ({entry.threshold.metric} on {entry.threshold.split})"
    return [
        ("architecture", entry.architecture),
        ("input", entry.template),
        ("read at", entry.positions),
        ("score", f"{entry.readout}; {bounds}"),
        ("means", entry.meaning),
        ("cost", entry.passes),
        ("threshold", cut),
        ("reference", "an input" if entry.takes_reference else "not taken"),
        ("runs on", ", ".join(entry.backends)),
        ("source", entry.source),
    ]


def _field(label: str, value: str) -> str:
    return textwrap.fill(
        f"{label:<13} {value}",
        width=_WIDTH,
        subsequent_indent=" " * 14,
        break_long_words=False,
        break_on_hyphens=False,
    )

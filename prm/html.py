"""HTML pages of reports: where they go, and how the text of records gets into them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from prm.errors import ConfigError, RunConflictError

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and marks that turn the direction of writing: with them a text could look
like another than it is."""


def render(package: str, **values: Any) -> str:
    """The page of a package's report. All text is escaped, and its unseen characters are shown.

    Args:
        package: the one whose `report/page.html` is the template.
        values: what the template names.
    """
    environment = Environment(
        loader=PackageLoader(package, "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(values)


def make_folder(out: str, writes: Sequence[str] = (), title: str = "") -> Path:
    """The folder of a report, which is no run folder: a report is made anew each time.

    Args:
        out: the folder.
        writes: the files that the report makes. They may be there only beside its own page.
        title: of that page, by which `report.html` is known as its own.

    Raises:
        RunConflictError: a stage ran here, which may have a page of the same name; or a file of
            `writes` is there that no such report left.
        ConfigError: the folder cannot be written.
    """
    folder = Path(out)
    if (folder / "run.json").exists():
        # Benchmarks write a page of the same name, and would never write it again.
        raise RunConflictError(f"{folder}: holds the run of a stage; set another `out`")
    there = [name for name in writes if os.path.lexists(folder / name)]
    if there and not _is_titled(folder / "report.html", title):
        raise RunConflictError(
            f"{folder}: holds {there[0]}, which no such report left; set another `out`, or move it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); set `out`") from None
    return folder


def _is_titled(page: Path, title: str) -> bool:
    try:
        with open(page, "rb") as file:
            return f"<title>{title}</title>".encode() in file.read(1 << 12)
    except OSError:
        return False


def _visible(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSEEN.sub(lambda match: f"‹U+{ord(match[0]):04X}›", value)
    return value

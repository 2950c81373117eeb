"""HTML pages of reports: where they go, and how the text of records gets into them."""

from __future__ import annotations

import re
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


def make_folder(out: str) -> Path:
    """The folder of a report, which is no run folder: a report is made anew each time.

    Raises:
        RunConflictError: a stage ran here, which may have a page of the same name.
        ConfigError: the folder cannot be written.
    """
    folder = Path(out)
    if (folder / "run.json").exists():
        # Benchmarks write a page of the same name, and would never write it again.
        raise RunConflictError(f"{folder}: holds the run of a stage; set another `out`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); set `out`") from None
    return folder


def _visible(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSEEN.sub(lambda match: f"‹U+{ord(match[0]):04X}›", value)
    return value

"""All families, and which of them a checkpoint belongs to.

A checkpoint is recognised, in this order, by the family that is asked for, by a file that only one
family has, by the name it was published under (of the Hub id or of the folder), or by an
architecture that only one family has. A guess is never made.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from prm.errors import CheckpointError, ConfigError
from prm.zoo.family import AnyFamily, Family

FAMILIES = {
    "aurora": "prm.zoo.aurora",
    "qwen-prm": "prm.zoo.qwen_prm",
    "universal-prm": "prm.zoo.universal",
    "skywork-prm": "prm.zoo.skywork",
    "implicit-prm": "prm.zoo.implicit",
    "math-shepherd": "prm.zoo.math_shepherd",
    "er-prm": "prm.zoo.er_prm",
    "versa-prm": "prm.zoo.versa",
    "rlhflow": "prm.zoo.rlhflow",
    "fover": "prm.zoo.fover",
    "trl": "prm.zoo.trl",
    "pure-prm": "prm.zoo.pure",
    "genprm": "prm.zoo.genprm",
    "thinkprm": "prm.zoo.thinkprm",
    "r-prm": "prm.zoo.rprm",
}
"""Family → the module whose `FAMILY` it is."""


def family(name: str) -> AnyFamily:
    """The family of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in FAMILIES:
        near = [known for known in FAMILIES if name and known.startswith(name.lower())]
        near = near or difflib.get_close_matches(name.lower(), FAMILIES, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no family {name!r}{meant or ';'} there are {', '.join(FAMILIES)}")
    found: AnyFamily = import_module(FAMILIES[name]).FAMILY
    return found


def families() -> Iterator[AnyFamily]:
    """All families, in the table's order."""
    return map(family, FAMILIES)


def named(*names: str) -> AnyFamily | None:
    """The family that published a checkpoint under one of these names (Hub ids or paths)."""
    last = {name.rstrip("/").rpartition("/")[2].lower() for name in names}
    for known in families():
        if last & {item.id.rpartition("/")[2].lower() for item in known.entry.checkpoints}:
            return known
    return None


def _marked(folder: Path) -> Family | None:
    """The family whose own file lies in a folder."""
    for known in families():
        if isinstance(known, Family) and known.marker and (folder / known.marker).is_file():
            return known
    return None


def refuse_marked(asked: str, name: str, folder: Path) -> None:
    """Refuse to read a checkpoint as of another family than its own file says.

    Args:
        asked: the family that the user gave.
        name: the Hub id or path that the user gave.
        folder: where its files lie.

    Raises:
        CheckpointError: a file in the folder is of another family.
    """
    own = _marked(folder)
    if own is not None and own.entry.family != asked:
        raise CheckpointError(
            f"{name}: its {own.marker} makes it a checkpoint of family {own.entry.family}, not "
            f"{asked}; leave `family` out"
        )


def recognise(name: str, folder: Path) -> AnyFamily:
    """The family of a checkpoint.

    Args:
        name: the Hub id or path that the user gave.
        folder: where its files lie.

    Raises:
        CheckpointError: nothing says which family it is of.
    """
    own = [known for known in families() if isinstance(known, Family)]
    if (known := _marked(folder)) is not None:
        return known
    config = read_config(folder)
    if published := named(name, str(config.get("_name_or_path", ""))):
        return published
    architectures = set(config.get("architectures") or ())
    claims = [known for known in own if architectures & set(known.architectures)]
    if len(claims) == 1:
        return claims[0]
    raise CheckpointError(
        f"{name}: nothing says which family this checkpoint is of; set `family` to one of "
        + ", ".join(FAMILIES)
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(f"{folder}: no config.json in it; name a model folder") from None
    except ValueError:
        raise CheckpointError(f"{path}: not JSON") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: no JSON object")
    return config

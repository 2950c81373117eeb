"""Progress of long work on standard error: done, rate, time left.

Silent where standard error is not a terminal would hide hours of work from a log, so there a
line is printed now and then instead of a bar.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], stage: str, unit: str = "solution") -> tqdm[T]:
    """Iterate over `items`, showing progress under the stage's name.

    For work that is done one by one; where it is done in chunks, see `bar`. What cannot tell its
    length shows no remaining time.
    """
    total = len(items) if isinstance(items, Sized) else None
    return tqdm(items, total=total, **_style(stage, unit))


def bar(stage: str, total: int, *, done: int = 0, unit: str = "solution") -> tqdm[Any]:
    """A bar to `update` with what is done and written; also takes `set_postfix_str`.

    Args:
        stage: what is being done.
        total: of all there is to do, `done` included.
        done: by an earlier attempt; it does not count for the rate.
        unit: what is counted.
    """
    return tqdm(total=total, initial=done, **_style(stage, unit))


def _style(stage: str, unit: str) -> dict[str, Any]:
    interactive = sys.stderr.isatty()
    return {
        "desc": stage,
        "unit": f" {unit}s",
        "mininterval": 0.2 if interactive else 30.0,
        "dynamic_ncols": interactive,
        "smoothing": 0.05,
    }

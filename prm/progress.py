"""Progress of long work on standard error: done, rate, time left.

Silent where standard error is not a terminal would hide hours of work from a log, so there a
line is printed now and then instead of a bar.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(
    items: Iterable[T], stage: str, unit: str = "solution", total: int | None = None
) -> tqdm[T]:
    """Iterate over `items`, showing progress under the stage's name.

    The returned bar also takes `set_postfix_str` for what a stage wants to add (tokens). What
    cannot tell its length needs `total` for a remaining time.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        items,
        desc=stage,
        unit=f" {unit}s",
        total=len(items) if isinstance(items, Sized) else total,
        mininterval=0.2 if interactive else 30.0,
        dynamic_ncols=interactive,
        smoothing=0.05,
    )

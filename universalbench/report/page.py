"""Results as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from prm import jsonl
from universalbench.report.table import cells, columns, heading, notes


def write_page(path: str | Path, results: dict[str, Any]) -> None:
    """Write the report: per task a table, and bars of F1 with their intervals."""
    environment = Environment(
        loader=PackageLoader("universalbench", "report"), autoescape=True, undefined=StrictUndefined
    )
    tasks = []
    for task in results["tasks"]:
        rows = [row for row in results["rows"] if row["task"] == task["name"]]
        kind = "steps" if task["kind"] == "steps" else "first_error"
        metric = "F1 of wrong steps" if kind == "steps" else "F1 of first errors"
        tasks.append(
            {
                "heading": heading(task),
                "columns": columns(task),
                "lines": [cells(task, row) for row in rows],
                "notes": notes(rows),
                "metric": metric,
                "bars": [
                    {
                        "name": row["predictor"],
                        "f1": 100 * row[kind]["f1"],
                        "low": 100 * row[kind]["interval"][0],
                        "high": 100 * row[kind]["interval"][1],
                    }
                    for row in rows
                ],
            }
        )
    jsonl.write_text(path, environment.get_template("page.html").render(tasks=tasks))

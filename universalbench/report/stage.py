"""`prm report bench`: a page, Markdown and a leaderboard file of one or several runs.

A function of what `prm bench` left alone, and made anew each time: the same files give the same
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prm import html, jsonl
from prm.errors import ConfigError
from universalbench.report import leaderboard, markdown, page
from universalbench.report.runs import gather, read

OUTPUTS = ("report.html", "report.md", "leaderboard.jsonl")
TITLE = "Step benchmarks"
"""That of the template."""


@dataclass
class Config:
    """`prm report bench`.

    Attributes:
        runs: folders that `prm bench` left; on the command line they may stand without a key:
            `prm report bench A B`. A task that several of them have is compared across them.
        out: a folder; gets `report.html`, `report.md` and `leaderboard.jsonl`.
        examples: solutions to show of each task where two predictors differ most, and as many
            where a predictor and the truth do.
    """

    runs: list[str] = field(default_factory=list)
    out: str = "runs/bench-report"
    examples: int = page.EXAMPLES

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}; it starts at 0")


def run(config: Config) -> None:
    """Write the report; an earlier one in the same folder is replaced."""
    if not config.runs:
        raise ConfigError("report bench needs `runs`, folders that `prm bench` left")
    runs = read(config.runs)
    tasks = gather(runs)
    folder = html.make_folder(config.out, OUTPUTS, TITLE)
    jsonl.write(folder / "leaderboard.jsonl", leaderboard.entries(tasks))
    jsonl.write_text(folder / "report.md", markdown.render(runs, tasks))
    path = folder / "report.html"
    jsonl.write_text(path, page.render(runs, tasks, config.examples))
    rows = sum(len(task.entries) for task in tasks)
    print(f"report bench: {len(runs)} runs, {len(tasks)} tasks, {rows} rows → {path}", flush=True)

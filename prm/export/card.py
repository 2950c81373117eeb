"""The card of an exported data set: what the Hub and `datasets` read, and figures for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import yaml

from prm.records import Annotation, LabelledSolution, first_error

_MEANINGS = {
    "id": "unique here",
    "problem": "the question",
    "prompt": "the question",
    "steps": "the solution, in order",
    "completions": "the solution's steps, in order",
    "answer": "the problem's true final answer, where known",
    "reference": "a worked solution of the problem, where known",
    "generator": "who wrote the steps",
    "source": "the data set that the problem comes from",
    "final_answer_correct": "that data set's own word on the outcome, where it has one",
    "metadata": "what else is known of the solution, as JSON",
    "labels": "one for each step, see above",
    "agreement": "for each step the share of votes on the side of the majority, 0.5 to 1",
    "weight": "how much training should trust the solution, above 0 and at most 1",
    "evidence": "what each check of the labels said, and why",
    "corrections": "labels that a check changed: rule, step from 0, old and new label",
    "judgments": "who voted how, see above; `usage` (tokens) is JSON",
}

_ANNOTATED = """Solutions of problems in steps, with the votes of annotators on each step. A \
verdict is the probability that the step is right in the eyes of that voter, or null where it \
abstains. Votes are not checked against reference answers."""

_LABELLED = """Solutions of problems in steps, each step with a label: the mean of what its \
annotators voted, {told}. It is not a proof."""


@dataclass
class Tally:
    """Counts over solutions; `flawed` are those with a wrong step."""

    solutions: int = 0
    steps: int = 0
    wrong: int = 0
    flawed: int = 0


@dataclass
class Voter:
    """Counts over the judgments of one judge under one strategy; votes are on single steps."""

    judgments: int = 0
    unusable: int = 0
    votes: int = 0
    wrong: int = 0


class Summary:
    """What the card tells, gathered record by record.

    Args:
        cut: from where on a label is true, or None where labels are numbers; then those below one
            half count as wrong.
    """

    def __init__(self, cut: float | None) -> None:
        self.cut = cut
        self.wrong_below = 0.5 if cut is None else cut
        self.all = Tally()
        self.by: dict[str, dict[str, Tally]] = {
            "generator": defaultdict(Tally),
            "source": defaultdict(Tally),
        }
        self.voters: dict[tuple[str, str], Voter] = defaultdict(Voter)
        self.checks: dict[str, Counter[str]] = defaultdict(Counter)
        self.agreed = 0.0
        self.agreements = 0
        self.lighter = 0

    def add(self, record: Annotation | LabelledSolution) -> None:
        """Count one record."""
        solution = record.solution
        labels = record.labels if isinstance(record, LabelledSolution) else ()
        groups = (self.by[name][getattr(solution, name)] for name in self.by)
        for tally in (self.all, *groups):
            tally.solutions += 1
            tally.steps += len(solution.steps)
            tally.wrong += sum(label < self.wrong_below for label in labels)
            tally.flawed += first_error(labels, self.wrong_below) >= 0
        if isinstance(record, LabelledSolution):
            self.agreed += sum(record.agreement or ())
            self.agreements += len(record.agreement or ())
            self.lighter += record.weight < 1
            for found in record.evidence:
                self.checks[found.check][found.verdict] += 1
            return
        for judgment in record.judgments:
            votes = [verdict for verdict in judgment.verdicts if verdict is not None]
            voter = self.voters[judgment.judge, judgment.strategy]
            voter.judgments += 1
            voter.unusable += judgment.error is not None
            voter.votes += len(votes)
            voter.wrong += sum(vote < 0.5 for vote in votes)


def card(name: str, licence: str, columns: pa.Schema, summary: Summary) -> str:
    """The text of `README.md`.

    Args:
        name: the data set's.
        licence: as the Hub writes it.
        columns: of its files.
        summary: of all records in them.
    """
    front = {
        "pretty_name": name,
        "license": licence,
        "size_categories": [size_category(summary.all.solutions)],
        "tags": ["process-reward-model", "reasoning"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    }
    annotated = "judgments" in columns.names
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        _meaning(summary, annotated),
        table(["", ""], _figures(summary, columns.names)),
        *(_groups(summary, by, annotated) for by in summary.by),
    ]
    if summary.voters:
        parts += ["## Voters", table(*_voters(summary))]
    if summary.checks:
        parts += ["## Checks of the labels", table(*_checks(summary))]
    lines = [[f"`{item.name}`", f"`{item.type}`", _MEANINGS[item.name]] for item in columns]
    parts += ["## Columns", table(["column", "type", "meaning"], lines)]
    return "\n\n".join(parts) + "\n"


def _meaning(summary: Summary, annotated: bool) -> str:
    if annotated:
        return _ANNOTATED
    if summary.cut is None:
        told = "the probability that it is right (1) and not wrong (0)"
    else:
        told = f"true where that reaches {summary.cut:g}, which counts as right, and else false"
    return _LABELLED.format(told=told)


def _figures(summary: Summary, columns: Sequence[str]) -> list[list[str]]:
    tally = summary.all
    lines = [["solutions", f"{tally.solutions:,}"], ["steps", f"{tally.steps:,}"]]
    if "labels" in columns:
        wrong = f"wrong steps (label below {summary.wrong_below:g})"
        lines.append([wrong, share(tally.wrong, tally.steps)])
        lines.append(["solutions with a wrong step", share(tally.flawed, tally.solutions)])
    if "weight" in columns:
        lines.append(["solutions with a weight below 1", f"{summary.lighter:,}"])
    if summary.agreements:
        mean = summary.agreed / summary.agreements
        lines.append(["agreement of the voters, mean over steps", f"{mean:.3f}"])
    return lines


def _groups(summary: Summary, by: str, annotated: bool) -> str:
    head = [by, "solutions", "steps", *([] if annotated else ["wrong steps"])]
    lines = []
    for key, tally in sorted(summary.by[by].items()):
        line = [key or "not known", f"{tally.solutions:,}", f"{tally.steps:,}"]
        lines.append(line + ([] if annotated else [share(tally.wrong, tally.steps)]))
    return f"## By {by}\n\n{table(head, lines)}"


def _voters(summary: Summary) -> tuple[list[str], list[list[str]]]:
    head = ["voter", "strategy", "judgments", "unusable", "votes on steps", "of them wrong"]
    lines = [
        [
            judge,
            strategy,
            f"{voter.judgments:,}",
            f"{voter.unusable:,}",
            f"{voter.votes:,}",
            share(voter.wrong, voter.votes),
        ]
        for (judge, strategy), voter in sorted(summary.voters.items())
    ]
    return head, lines


def _checks(summary: Summary) -> tuple[list[str], list[list[str]]]:
    verdicts = ["pass", "fail", "unknown"]
    lines = [
        [check, *(f"{found[verdict]:,}" for verdict in verdicts)]
        for check, found in sorted(summary.checks.items())
    ]
    return ["check", *verdicts], lines


def share(part: int, whole: int) -> str:
    """A share in percent, for people."""
    return f"{part / whole:.1%}" if whole else "none"


def table(head: list[str], lines: list[list[str]]) -> str:
    """A Markdown table; what its cells hold breaks no line and ends no cell."""
    rows = [head, ["---"] * len(head), *lines]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def size_category(rows: int) -> str:
    """The Hub's word for the size of a data set: `n<1K`, `1K<n<10K` up to `n>1T`."""
    words = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    place = next((at for at in range(len(words)) if rows < 10 ** (at + 3)), len(words))
    if place == 0:
        return f"n<{words[0]}"
    if place == len(words):
        return f"n>{words[-1]}"
    return f"{words[place - 1]}<n<{words[place]}"

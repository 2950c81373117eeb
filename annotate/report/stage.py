"""`prm report annotate`: how far the voters of an annotated file agree, and a page to look at it.

A report is a function of its file alone and cheap beside the annotation it tells of, so it keeps
no run folder: it is made anew each time, also of a file that has changed, which a run folder would
refuse. The same file gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from annotate.agreement import measure
from annotate.findings import Agreement
from annotate.report.examples import Choice, view
from annotate.report.page import Inputs, kappa_text, render
from annotate.voters import Key
from prm import html, jsonl
from prm.errors import RecordError
from prm.progress import track
from prm.records import Annotation
from prm.run import fingerprint

OUTPUTS = ("agreement.json", "report.html")
TITLE = "Annotation: how far the voters agree"
"""That of the template."""


@dataclass
class Config:
    """`prm report annotate`.

    Attributes:
        out: a folder; gets `report.html`, and `agreement.json` with all its numbers.
        annotations: what `prm annotate` left.
        examples: solutions to show; half those with the most disagreement, half at random.
        seed: of the random ones.
    """

    out: str
    annotations: str
    examples: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}; it starts at 0")


def run(config: Config) -> None:
    """Write the report; an earlier one in the same folder is replaced."""
    inputs = Inputs(config.annotations, fingerprint(config.annotations))
    items = jsonl.read(config.annotations, Annotation)
    first = next(items, None)
    if first is None:
        raise RecordError("no annotations in this file", path=config.annotations)
    folder = html.make_folder(config.out, OUTPUTS, TITLE)
    choice = Choice(config.examples, config.seed)
    bar = track(itertools.chain([first], items), "report annotate")
    agreement = measure(_offering(bar, choice))
    names = {
        Key(voter.model_free, voter.judge, voter.strategy, voter.sample): voter.name
        for voter in agreement.voters
    }
    contested, drawn = ([view(item, names) for item in part] for part in choice.made())
    numbers = {"annotations": dataclasses.asdict(inputs)} | dataclasses.asdict(agreement)
    text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False)
    jsonl.write_text(folder / "agreement.json", text + "\n")
    page = folder / "report.html"
    jsonl.write_text(page, render(inputs, agreement, contested, drawn))
    print(f"report annotate: {headline(agreement)} → {page}", flush=True)


def headline(agreement: Agreement) -> str:
    """The kappas, over the steps on which all voted."""
    line = (
        f"Fleiss' kappa {kappa_text(agreement.all.complete)} "
        f"of {agreement.all.voters} voters on {agreement.all.complete.steps:,} steps"
    )
    models = agreement.llm
    if models.voters in (0, agreement.all.voters):
        return line
    return f"{line}, {kappa_text(models.complete)} of {models.voters} language models on " + (
        f"{models.complete.steps:,}"
    )


def _offering(annotations: Iterable[Annotation], choice: Choice) -> Iterator[Annotation]:
    for annotation in annotations:
        choice.offer(annotation)
        yield annotation

"""`prm report bench`: what runs left, on a page, in Markdown, in a leaderboard file."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark import item
from browser import CHROMIUM, probed
from hypothesis import given
from hypothesis import strategies as st
from page import Page

from prm import jsonl
from prm.cli import main
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import Annotation, Judgment, LabelledSolution, Solution
from prm.sources import Source
from universalbench import results, stage
from universalbench.predictors import PredictorConfig
from universalbench.published import published
from universalbench.report import details, examples, leaderboard, plots, tables
from universalbench.report import stage as report
from universalbench.report.grid import (
    Cell,
    Grid,
    duration,
    estimated,
    interval,
    markdown,
    p_value,
    points,
    threshold,
)
from universalbench.report.page import render
from universalbench.report.runs import gather, read
from universalbench.report.table import COLUMNS, notes
from universalbench.report.tables import differences
from universalbench.results import Estimate
from universalbench.tasks import TaskConfig

EVIL = "<script>alert(1)</script> & \"' $x_1$ | *y*"
TURNED = "evil\u202egnorw"
SHOWN = "evil‹U+202E›gnorw"
LONG = (
    "a predictor with a name that no table was made for, and-one-word-that-does-not-end-" + 60 * "x"
)


def labelled(count: int = 24) -> list[LabelledSolution]:
    """`count` problems with two solutions each, of two policies; a third of all has an error."""
    items = []
    rng = random.Random(5)
    for index in range(count):
        for policy, length in (("brief", 3), ("wordy", 6)):
            steps = tuple(f"step {number}: {'x' * rng.randint(1, 30)}" for number in range(length))
            first = rng.choice((None, None, rng.randrange(length)))
            labels = tuple(float(first is None or number != first) for number in range(length))
            solution = Solution(
                id=f"{index}-{policy}",
                problem=f"Problem {index} {EVIL}",
                steps=(*steps[:-1], f"The answer is {1 if first is None else 2}."),
                answer="1",
                reference="r",
                generator=f"{policy} {TURNED}",
                metadata={"subset": policy.upper(), "length": "long"},
            )
            items.append(LabelledSolution(solution=solution, labels=labels))
    return items


def annotated(path: Path, items: list[LabelledSolution], seed: int, noise: float) -> Path:
    """Ten voters that say the truth but for some noise."""
    rng = random.Random(seed)

    def said(label: float) -> float:
        return 1 - label if rng.random() < noise else label

    jsonl.write(
        path,
        [
            Annotation(
                solution=entry.solution,
                judgments=tuple(
                    Judgment(
                        judge="j",
                        strategy=f"p{voter}",
                        verdicts=tuple(said(label) for label in entry.labels),
                    )
                    for voter in range(10)
                ),
            )
            for entry in items
        ],
    )
    return path


class World:
    """Data and annotations in a folder, and runs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        items = labelled()
        data = folder / "data.jsonl"
        jsonl.write(data, items)
        self.good = annotated(folder / "good.jsonl", items, 1, 0.35)
        self.poor = annotated(folder / "poor.jsonl", items, 2, 0.45)
        first = [
            {
                "id": entry.solution.id,
                "generator": entry.solution.generator,
                "problem": entry.solution.problem,
                "steps": list(entry.solution.steps),
                "final_answer_correct": 0.0 not in entry.labels,
                "label": entry.labels.index(0.0) if 0.0 in entry.labels else -1,
            }
            for entry in items
        ]
        (folder / "first.json").write_text(json.dumps(first))
        prmbench = [
            {
                "idx": f"q{index}",
                "classification": name,
                "original_question": f"Question {index}?",
                "modified_question": f"Question {index}, changed?",
                "original_process": ["one", "two"],
                "modified_process": ["one", "two", "three"],
                "error_steps": [] if name == "multi_solutions" else [1 + index % 3],
            }
            for index in range(6)
            for name in ("redundency", "circular", "multi_solutions")
        ]
        (folder / "prmbench.jsonl").write_text("".join(json.dumps(r) + "\n" for r in prmbench))
        source = Source(path=str(data))
        self.tasks = {
            "steps": TaskConfig("steps", "steps", source),
            "full": TaskConfig("full", "universalbench", source),
            "choose": TaskConfig("choose", "candidates", source),
            "first": TaskConfig(
                "first", "processbench", Source(format="processbench", path=f"{folder}/first.json")
            ),
            "prmbench": TaskConfig(
                "prmbench", "prmbench", Source(format="prmbench", path=f"{folder}/prmbench.jsonl")
            ),
        }

    def votes(self, name: str, path: Path, **values) -> PredictorConfig:
        return PredictorConfig(name, annotations=str(path), **values)

    def bench(self, out: str, tasks: list[str], *predictors: PredictorConfig, **values) -> Path:
        """The folder of a run; `numbers` are of candidates."""
        chosen = [self.tasks[name] for name in tasks]
        path = self.folder / out
        n = values.pop("numbers", [1, 2])
        stage.run(
            stage.Config(out=str(path), tasks=chosen, predictors=list(predictors), n=n, **values)
        )
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


LABELS = ["steps", "full", "choose", "first"]


@pytest.fixture(scope="module")
def whole(world: World) -> Path:
    """A run with predictors of all sorts on tasks whose solutions are annotated."""
    return world.bench(
        "whole",
        LABELS,
        world.votes(EVIL, world.good, threshold=0.5),
        world.votes("poor", world.poor, threshold="steps", threshold_split=0.5),
        PredictorConfig("all right", baseline="always_right"),
        PredictorConfig(LONG, baseline="long_steps", threshold="steps"),
    )


@pytest.fixture(scope="module")
def classes(world: World) -> Path:
    """A run on PRMBench."""
    return world.bench(
        "classes",
        ["prmbench"],
        PredictorConfig("wrong", baseline="first_wrong"),
        PredictorConfig("right", baseline="always_right"),
    )


def page_of(*folders: Path, number: int = 3) -> str:
    runs = read(folders)
    return render(runs, gather(runs), number)


@pytest.fixture(scope="module")
def text(whole: Path, classes: Path) -> str:
    return page_of(whole, classes)


def cells(page: Page) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row] for row in page.rows]


# ── the page ─────────────────────────────────────────────────────────────────────────────────


def test_the_page_is_sound_and_stands_alone(text: str) -> None:
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "style:import"} & set(page.tags)
    assert page.tags.count("h1") == 1
    found = re.findall(r"\b(?:src|href|url\()[=(]?[\"']?([^\"')\s>]+)", text)
    assert found
    assert {target[0] for target in found} == {"#"}
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {target[1:] for target in found} <= set(ids)


def test_text_of_records_and_names_stays_text(text: str) -> None:
    page = Page(text)
    assert EVIL in page.text
    assert SHOWN in page.text
    assert TURNED not in page.text
    assert "<script" not in text


def test_a_reader_who_does_not_see_finds_everything(text: str) -> None:
    """Tables have captions and headers, drawings words, and headings leave no level out."""
    page = Page(text)
    assert page.tags.count("table") == page.tags.count("caption") > 20
    headers = re.findall(r"<th[ >][^>]*", text)
    assert headers
    assert all("scope=" in header for header in headers)
    assert len(re.findall(r"<svg class=\"plot\"", text)) == len(
        re.findall(r"<div role=\"img\" aria-label=\"[^\"]{20,}\">\s*<svg class=\"plot\"", text)
    )
    assert len(re.findall("<svg", text)) == len(re.findall(r"<svg[^>]*aria-hidden=\"true\"", text))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    regions = re.findall(r"<div class=\"scroll\"[^>]*>", text)
    assert all('tabindex="0"' in tag and 'aria-label="' in tag for tag in regions)


def test_the_page_shows_the_results(whole: Path) -> None:
    page = Page(page_of(whole))
    found = results.read(whole / "results.json")
    rows = cells(page)
    for row in found.rows:
        value = row.metrics[row.headline]
        low, high = value.interval
        wanted = f"{100 * value.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        cut = "–" if row.threshold is None else f"{row.threshold.value:.4g}"
        assert any(
            line[0].startswith(" ".join(row.predictor.split()))
            and wanted in line
            and cut in line
            and f"{row.solutions} {row.problems} problems" in line
            for line in rows
        ), (row.task, row.predictor)
    for definition in (found.definitions[row.headline] for row in found.rows):
        assert definition in page.text
    assert "poor: 24 solutions are set aside" in page.text
    assert "long_steps" in page.text
    assert found.tasks[0].digest in page.text
    assert "the scores are no probabilities" in page.text


def test_a_task_of_subsets_shows_them_and_what_is_published(whole: Path) -> None:
    page = Page(page_of(whole))
    row = next(row for row in results.read(whole / "results.json").rows if row.task == "full")
    slices = {item.name: item.estimate for item in row.slices if item.by == "subset"}
    assert list(slices) == ["BRIEF long", "WORDY long"]
    head = next(
        line for line in cells(page) if line[:4] == ["predictor", "mean F1 of subsets", *slices]
    )
    line = cells(page)[cells(page).index(head) + 1]
    assert line[2:4] == [
        f"{100 * found.value:.1f} {interval(found)} (few solutions)" for found in slices.values()
    ]
    known = published()["universalbench"]
    assert known.statement in page.text
    assert "Published elsewhere: other data" in page.text
    shown = [line[1:8] for line in cells(page) if line[0] == known.rows[0].model]
    assert [f"{value:.1f}" for value in known.rows[0].values.values()] in shown


def test_published_figures_stand_with_the_first_task_of_their_kind(world: World) -> None:
    tasks = [world.tasks["full"], replace(world.tasks["full"], name="again")]
    out = world.folder / "twice"
    predictor = PredictorConfig("x", baseline="first_wrong")
    stage.run(stage.Config(out=str(out), tasks=tasks, predictors=[predictor]))
    assert page_of(out).count("not measured here") == 2  # the table's caption, as text and as name


def test_classes_of_errors(classes: Path) -> None:
    page = Page(page_of(classes))
    details = {row.predictor: row.details for row in results.read(classes / "results.json").rows}
    for name in ("redundency", "circular", "multi_solutions"):
        shown = page.row(name, "simplicity" if name != "multi_solutions" else "sensitivity")
        for cell, predictor in zip(shown[2:], ("wrong", "right"), strict=True):
            score = details[predictor]["classes"][name]["prm_score"]
            assert cell == ("–" if score == -1 else f"{100 * score:.1f}")
    assert "correct" not in [row[0] for row in cells(page) if len(row) == 4 and row[1] == ""]


def test_prmscore_is_one_number_on_a_page(classes: Path) -> None:
    """What the main table calls PRMScore is what the table of classes says of all steps."""
    (task,) = gather(read([classes]))
    table, (score, *_) = tables.headline(task), details.classes(task)
    assert table.columns[1] == task.record.headline == "f1_macro"
    column = table.columns.index("PRMScore")
    (whole,) = [row for row in score.rows if row[0].text == "all steps"]
    assert [row[column].text for row in table.rows] == [cell.text for cell in whole[2:]]


def test_the_headline_stands_beside_the_names(whole: Path) -> None:
    for task in gather(read([whole])):
        table = tables.headline(task)
        shown = {metric: name for name, metric in COLUMNS[task.record.kind]}
        assert table.columns[1] == shown[task.record.headline]
        assert all(row[1].span is not None for row in table.rows if row[1].text != "–")


def test_the_terminal_shows_curves_and_what_is_left_out(world: World, capsys) -> None:
    folder = world.bench(
        "terminal",
        ["choose"],
        world.votes("good", world.good),
        world.votes("poor", world.poor),
        aggregations=["min", "mean"],
        numbers=[1, 2, 16, 32],
    )
    lines = capsys.readouterr().out.splitlines()
    of = {
        (row.predictor, item["method"]): item
        for row in results.read(folder / "results.json").rows
        for item in row.details["rows"]
        if item["n"] == 2
    }
    for name in ("good", "poor"):
        for method in ("best of N (min)", "weighted majority (min)"):
            (line,) = [line for line in lines if line.startswith(f"{name}: {method}")]
            assert line.split()[-1] == f"{100 * of[name, method]['accuracy']:.1f}"
    for method in ("pass@1", "majority", "oracle"):  # once, as no predictor bears on it
        (line,) = [line for line in lines if line.split()[0] == method]
        assert line.split()[-1] == f"{100 * of['good', method]['accuracy']:.1f}"
    assert "no N = 16, 32: some problem has only 2 candidates" in lines
    assert "the other aggregations, and intervals, stand in report.html" in lines
    assert Page(page_of(folder)).text.count("no N = 16, 32: some problem has only 2") == 2


def test_what_is_the_same_of_several_is_said_once(world: World, capsys) -> None:
    names = [f"p{number}" for number in range(5)]
    folder = world.bench(
        "alike", ["steps"], *(PredictorConfig(name, baseline="first_wrong") for name in names)
    )
    out = capsys.readouterr().out
    assert "cannot be told apart (95 %): 10 of 10 pairs, which report.html marks" in out
    row = results.read(folder / "results.json").rows[0]
    rows = [
        replace(row, predictor=name, unscored=3, unscored_reason="solution 'a': too long")
        for name in names
    ]
    assert notes(rows, []) == [
        "p0, p1, p2, p3, p4: 3 not scored, counted as missed (solution 'a': too long)"
    ]


def test_candidates_show_curves_and_all_numbers(whole: Path) -> None:
    text = page_of(whole)
    details = next(
        row for row in results.read(whole / "results.json").rows if row.task == "choose"
    ).details
    rows = cells(Page(text))
    for row in details["rows"]:
        if row["n"] == 2:
            low, high = row["interval"]
            wanted = f"{100 * row['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            assert any(line[0] == row["method"] and line[2] == wanted for line in rows)
    for method in ("best of N (min)", "weighted majority (min)"):
        assert f'aria-label="Right answers by {method}' in text


def test_prm_bench_writes_the_same_page(whole: Path) -> None:
    """But for when the run ended, which it could not know."""

    def timeless(text: str) -> str:
        text = re.sub(r", ended [-0-9T:Z]+", "", text)
        return re.sub(r"(>ended</th><td class=\"words\">)[^<]*", r"\1", text)

    assert timeless((whole / "report.html").read_text()) == timeless(page_of(whole))


def test_without_other_predictors_there_is_nothing_to_compare(world: World) -> None:
    page = Page(
        page_of(world.bench("lone", ["steps"], PredictorConfig("x", baseline="first_wrong")))
    )
    assert "Differences" not in page.text
    assert "Two predictors differ most" not in page.text
    assert "A predictor and the truth differ most" in page.text


def test_an_empty_report() -> None:
    page = Page(render([], [], 3))
    assert "No runs." in page.text


COLOURS = re.compile(r"--(\w+): (#[0-9a-f]{3,6})")


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read(text: str, dark: bool) -> None:
    """Contrast as WCAG 2.2 defines it: 4.5 of text, 3 of lines."""
    blocks = re.findall(r":root \{([^}]*)\}", text)
    colours = dict(COLOURS.findall(blocks[0]))
    if dark:
        colours |= dict(COLOURS.findall(blocks[1]))

    def light(name: str) -> float:
        code = colours[name][1:]
        code = code if len(code) == 6 else "".join(2 * sign for sign in code)
        parts = [int(code[index : index + 2], 16) / 255 for index in (0, 2, 4)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    def contrast(one: str, other: str) -> float:
        low, high = sorted((light(one), light(other)))
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "l0", "l1", "l3", "l4", "win", "loss"):
        assert contrast("ink", ground) >= 4.5, ground
    for name in ("soft", "bar", "wrong", "right"):
        assert contrast(name, "paper") >= 4.5, name
    for ground in ("win", "loss"):
        assert contrast("soft", ground) >= 4.5, ground
    for ground in ("l0", "l1"):
        assert contrast("wrong", ground) >= 3, ground
    for number in range(plots.COLOURS):
        assert contrast(f"s{number}", "paper") >= 3, number


# ── in a browser ─────────────────────────────────────────────────────────────────────────────


PROBE = """
<script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, width = frame.clientWidth;
    const all = selector => [...page.querySelectorAll(selector)];
    all("details").forEach(part => { part.open = true; });
    const cut = all(".scroll").filter(part => part.scrollWidth > part.clientWidth);
    const line = page.querySelector(".plot path[style*='--s0']");
    found[width] = {
      wide: page.documentElement.scrollWidth,
      outside: all("h1, h2, h3, h4, h5, p, figure, dl, summary, .plot")
        .filter(part => part.getBoundingClientRect().right > width + 1)
        .map(part => part.tagName + " " + part.textContent.slice(0, 60)),
      plots: all(".plot").map(part => part.getBoundingClientRect().width),
      cut: cut.length,
      reachable: cut.every(part => part.tabIndex === 0),
      headlines: all("h2[id^=task] ~ .scroll").map(part => part.querySelector("tr :nth-child(2)"))
        .filter(cell => cell.closest("table").caption.textContent.startsWith("Predictors on"))
        .map(cell => cell.getBoundingClientRect().right),
      shadow: frame.contentWindow.getComputedStyle(cut[0] || page.body).backgroundImage,
      line: frame.contentWindow.getComputedStyle(line).stroke,
    };
  }
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = btoa(JSON.stringify(found));
  document.body.append(out);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_fits_narrow_and_wide_windows(text: str, tmp_path: Path) -> None:
    widths = probed(text, PROBE, tmp_path)
    assert set(widths) == {"400", "1400"}
    for width, found in widths.items():
        assert found["wide"] <= int(width)
        assert found["outside"] == []
        assert found["reachable"]
        assert min(found["plots"]) > 200
        assert found["line"] == "rgb(37, 102, 173)"  # the page's variable reaches the drawing
    assert widths["400"]["cut"] > 5  # wide tables scroll inside
    # The headline is seen before anything is scrolled, and a shadow shows that there is more.
    assert widths["400"]["headlines"]
    assert max(widths["400"]["headlines"]) <= 400
    assert widths["400"]["shadow"].count("linear-gradient") == 2


# ── several runs ─────────────────────────────────────────────────────────────────────────────


def test_predictors_of_two_runs_compare_as_those_of_one(world: World) -> None:
    """Split thresholds included: which problems are set aside follows from the run alone."""
    predictors = [
        world.votes("good", world.good, threshold="steps", threshold_split=0.4),
        world.votes("poor", world.poor, threshold="steps"),
        PredictorConfig("none", baseline="always_right"),
    ]
    names = ["steps", "choose", "first"]
    together = results.read(world.bench("abc", names, *predictors) / "results.json")
    folders = [world.bench(f"{entry.name}-alone", names, entry) for entry in predictors]
    tasks = gather(read(folders))
    assert [pair for task in tasks for pair in task.comparisons] == list(together.comparisons)
    assert len(together.comparisons) == 3 * len(names)
    assert [entry.row for task in tasks for entry in task.entries] == [
        row for task in names for row in together.rows if row.task == task
    ]
    grid = differences(tasks[0])
    assert grid is not None
    assert [row[0].text for row in grid.rows] == ["good", "poor", "none"]


def test_one_name_in_two_runs_gets_the_runs_names(world: World) -> None:
    one = world.bench("x/bench", ["steps"], world.votes("votes", world.good))
    other = world.bench(
        "y/bench", ["steps", "first"], world.votes("votes", world.poor),
        PredictorConfig("own", baseline="always_right"),
    )  # fmt: skip
    runs = read([one, other])
    assert [run.name for run in runs] == ["x/bench", "y/bench"]
    steps, first = gather(runs)
    assert [entry.name for entry in steps.entries] == ["votes (x/bench)", "votes (y/bench)", "own"]
    assert [(pair.one, pair.other) for pair in steps.comparisons] == [
        ("votes (x/bench)", "votes (y/bench)"),
        ("votes (x/bench)", "own"),
        ("votes (y/bench)", "own"),
    ]
    # A task of one run alone keeps its comparisons, under the names of the report.
    assert [(pair.one, pair.other) for pair in first.comparisons] == [("votes (y/bench)", "own")]
    own = results.read(other / "results.json").comparisons[1]
    assert replace(first.comparisons[0], one="votes") == own


def test_differences_read_both_ways(whole: Path) -> None:
    (task, *_) = gather(read([whole]))
    grid = differences(task)
    pair = next(p for p in task.comparisons if (p.one, p.other) == (EVIL, "all right"))
    names = [row[0].text for row in grid.rows]
    here, there = names.index(EVIL), names.index("all right")
    low, high = pair.difference.interval
    one, other = grid.rows[here][1 + there], grid.rows[there][1 + here]
    assert one.text == points(pair.difference.value) + " †"
    assert other.text == points(-pair.difference.value) + " †"
    assert one.small.startswith(f"[{points(low)}, {points(high)}]\np")
    assert other.small.startswith(f"[{points(-high)}, {points(-low)}]\np")
    assert (one.kind, other.kind) == ("win", "loss")
    assert grid.rows[here][1 + here] == Cell("·")
    assert any("†" in note for note in grid.notes)


def test_who_cannot_be_told_apart_is_said(world: World) -> None:
    folder = world.bench(
        "same",
        ["steps"],
        PredictorConfig("one", baseline="first_wrong", threshold=0.5),
        PredictorConfig("other", baseline="first_wrong", threshold=0.6),
    )
    (task,) = gather(read([folder]))
    cell = differences(task).rows[0][2]
    assert cell == Cell("0.0", "[0.0, 0.0]\np = 1.000\ncannot be told apart")


def altered(path: Path, change) -> None:
    """Solutions of a source, changed."""
    items = list(jsonl.read(path, LabelledSolution))
    path.unlink()
    jsonl.write(path, change(items))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items[:-1],
         "48 and 47 solutions, 1 of them in the first alone, such as '23-wordy'"),
        (
            lambda items: [
                replace(i, solution=replace(i.solution, steps=("other", *i.solution.steps[1:])))
                if i.id == "3-brief" else i for i in items
            ],
            "of solution '3-brief' problem or steps differ",
        ),
        (
            lambda items: [
                replace(i, labels=(1 - i.labels[0], *i.labels[1:])) if i.id == "4-wordy" else i
                for i in items
            ],
            "of solution '4-wordy' the first error differs",
        ),
        (lambda items: items[::-1], "the solutions stand in another order"),
    ],
)  # fmt: skip
def test_a_task_with_other_items_is_refused(tmp_path: Path, change, message: str) -> None:
    predictor = PredictorConfig("x", baseline="first_wrong")
    first, second = World(tmp_path), tmp_path / "data.jsonl"
    one = first.bench("one", ["steps"], predictor)
    altered(second, change)
    other = first.bench("other", ["steps"], predictor)
    with pytest.raises(RecordError, match=f"task 'steps' is not the same in .*{message}; give one"):
        gather(read([one, other]))


def test_a_task_of_another_kind_is_refused(world: World) -> None:
    one = world.bench("kind-one", ["steps"], PredictorConfig("x", baseline="first_wrong"))
    out = world.folder / "kind-two"
    task = replace(world.tasks["full"], name="steps")
    predictor = PredictorConfig("x", baseline="first_wrong")
    stage.run(stage.Config(out=str(out), tasks=[task], predictors=[predictor]))
    with pytest.raises(RecordError, match="kind steps and universalbench; give one"):
        gather(read([one, out]))


def test_what_is_no_run_is_refused(whole: Path, world: World, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no run.json in this folder; give folders that `prm bench`"
    ):
        read([tmp_path])
    with pytest.raises(ConfigError, match="named twice"):
        read([whole, world.folder / "." / "whole"])
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"stage": "verify"}))
    with pytest.raises(ConfigError, match="holds a run of 'verify'"):
        read([copy])
    (copy / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != "outputs"}))
    with pytest.raises(ConfigError, match="not finished; run the same `prm bench` again"):
        read([copy])
    assert read([copy], finished=False)
    (copy / "run.json").write_text("[]")
    with pytest.raises(ConfigError, match="not a run record"):
        read([copy])
    (copy / "run.json").write_text(json.dumps(record))
    (copy / "results.json").unlink()
    with pytest.raises(RecordError, match="no such file; give the folder of a `prm bench` run"):
        read([copy])


@pytest.mark.parametrize("name", ["items.jsonl", "scores.jsonl"])
def test_files_that_do_not_belong_together_are_refused(
    whole: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    lines = (whole / name).read_text().splitlines(keepends=True)
    (tmp_path / "copy" / name).write_text("".join(lines[:-1]))
    with pytest.raises(RecordError, match="run `prm bench` anew"):
        read([tmp_path / "copy"])


# ── disagreements ────────────────────────────────────────────────────────────────────────────


def test_the_worst_disagreements_are_shown(whole: Path) -> None:
    steps, _, choose, first = gather(read([whole]))
    for task in (steps, choose, first):
        apart, errs = examples.worst(task, 4)
        assert 0 < len(errs) <= 4
        assert len(apart) <= 4
        problems = [example.problem for example in [*apart, *errs]]
        assert len(set(problems)) == len(problems)
        # Baselines need no explanation where there is anything else.
        assert {name for example in [*apart, *errs] for name in example.between} <= {EVIL, "poor"}
        for example in [*apart, *errs]:
            (here,) = [step for step in example.steps if step.here]
            said = dict(zip(example.predictors, here.said, strict=True))
            if task is choose:
                continue
            if len(example.between) == 2:
                assert {said[name].wrong for name in example.between} == {True, False}
            else:
                assert here.truth in ("right", "wrong")
                assert said[example.between[0]].wrong != (here.truth == "wrong")


def test_thresholds_make_no_rivals(world: World) -> None:
    folder = world.bench(
        "cuts",
        ["steps"],
        *(world.votes(f"good at {cut}", world.good, threshold=cut) for cut in (0.3, 0.5, 0.7)),
        world.votes("poor", world.poor, threshold=0.5),
    )
    (task,) = gather(read([folder]))
    apart, errs = examples.worst(task, 6)
    assert {example.between for example in apart} == {("good at 0.3", "poor")}
    assert {example.between for example in errs} == {("good at 0.3",), ("poor",)}


def test_none_are_shown_where_none_are_asked_for(whole: Path) -> None:
    page = Page(page_of(whole, number=0))
    assert "Worst disagreements" not in page.text


def test_the_truth_after_a_first_error_is_not_known() -> None:
    assert examples.truths(item(0, None, first=1)) == [False, True, None]
    assert examples.truths(item(0, None, first=-1)) == [False, False, False]
    assert examples.truths(item(0, None)) == [None, None, None]
    assert examples.truths(item(0, [True, False])) == [True, False]


SCORES = st.lists(st.sampled_from([-3.0, 0.0, 0.25, 0.5, 1.0, 7.0]), min_size=1, max_size=20)


@given(SCORES, st.sampled_from([-5.0, 0.0, 0.3, 0.5, 1.0, 9.0]))
def test_margins_have_the_side_of_the_call_and_the_order_of_scores(
    scores: list[float], cut: float
) -> None:
    row = np.array(scores)
    found = examples._margins(row, np.sort(row), cut)
    assert ((found < 0) == (row < cut)).all()
    assert (np.abs(found) <= 1).all()
    order = np.argsort(row, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    for one, other in zip(row, found, strict=True):
        assert (found[row == one] == other).all()


def test_long_solutions_are_shown_around_the_step_in_question(tmp_path: Path) -> None:
    steps = tuple(f"{'y' * 5000} {number}" for number in range(100))
    wrong = LabelledSolution(
        solution=Solution(id="s", problem="p" * 9000, steps=steps, generator="g"),
        labels=tuple(float(number != 50) for number in range(100)),
    )
    jsonl.write(tmp_path / "long.jsonl", [wrong])
    task = TaskConfig("t", "steps", Source(path=str(tmp_path / "long.jsonl")))
    predictor = PredictorConfig("right", baseline="always_right")
    out = tmp_path / "run"
    stage.run(stage.Config(out=str(out), tasks=[task], predictors=[predictor]))
    text = page_of(out)
    page = Page(text)
    assert "38 steps before" in page.text
    assert "37 steps after" in page.text
    assert "[…3,803 characters…]" in page.text
    assert "[…7,800 characters…]" in page.text
    assert len(text) < 200_000


# ── plots, numbers, Markdown, the leaderboard ────────────────────────────────────────────────


def drawings(key: str) -> list[str]:
    line = plots.Line(7, [0.0, 0.25, 1.0], [0.0, 80.0, 40.0], mark=(0.25, 80.0))
    spans = replace(line, x=[1, 2, 4], spans=[(0, 10), (70, 90), (30, 50)])
    level = plots.Levels([1, 2, 4], [5, 6, 7], (2.0, 2.0))
    return [
        plots.over_thresholds(line, (0.5, None), (0.25, 80.0), f"{key} a"),
        plots.square([line], ("x", "y"), (0, 100), f"{key} b"),
        plots.reliability(3, [(5.0, 10.0, 4), (90.0, 80.0, 100)], f"{key} c"),
        plots.over_numbers([spans], [level], f"{key} d"),
    ]


def test_drawings_take_their_colours_and_fonts_from_the_page() -> None:
    for text in drawings("k"):
        assert not re.findall(r"[:\"]\s*#[0-9a-f]{3,6}", text)
        assert "font-family" not in text
        assert "<style" not in text
        assert "<metadata" not in text
        assert "var(--s" in text
        assert "var(--ink)" in text
        Page(text)


def test_drawings_are_the_same_each_time_and_share_no_ids() -> None:
    assert drawings("k") == drawings("k")
    ids = [
        i for key in ("k", "l") for text in drawings(key) for i in re.findall(r'id="(\w+)"', text)
    ]
    assert ids
    assert len(ids) == len(set(ids))


def test_numbers_as_text() -> None:
    assert [points(value) for value in (0.1234, -0.1234, 0.0004, -0.0004, 0.0, None)] == [
        "+12.3", "−12.3", "0.0", "0.0", "0.0", "–",
    ]  # fmt: skip
    assert [p_value(value) for value in (None, 0.0001, 0.0314, 1.0)] == [
        "no p-value", "p < 0.001", "p = 0.031", "p = 1.000",
    ]  # fmt: skip
    assert [duration(value) for value in (0, 9.96, 61, 300, 9000)] == [
        "0.0 s", "10.0 s", "61 s", "5 min", "2.5 h",
    ]  # fmt: skip
    assert [threshold(value) for value in (0.0, np.nextafter(0.0, 1.0), 0.41925, -270.5)] == [
        "0", "above 0", "0.4193", "-270.5",
    ]  # fmt: skip
    assert interval(Estimate(value=None, why="0/0")) == "0/0"
    assert estimated(Estimate(value=0.5, interval=(0.25, 0.75)), drawn=True) == Cell(
        "50.0", "[25.0, 75.0]", "", (0.25, 0.5, 0.75)
    )


@given(st.lists(st.lists(st.text(max_size=20), min_size=2, max_size=2), min_size=1, max_size=4))
def test_markdown_tables_keep_their_shape_whatever_the_text(texts: list[list[str]]) -> None:
    grid = Grid("a *b*", ["x|y", "z"], [[Cell(cell) for cell in row] for row in texts])
    lines = markdown(grid).split("\n")
    assert lines[0] == r"**a \*b\***"
    table = lines[2 : 4 + len(texts)]
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table] == [3] * len(table)
    assert not re.findall(r"<|>", "".join(table))


def test_markdown_and_leaderboard_of_two_runs(whole: Path, classes: Path, tmp_path: Path) -> None:
    report.run(report.Config(runs=[str(whole), str(classes)], out=str(tmp_path / "r")))
    text = (tmp_path / "r" / "report.md").read_text()
    for task in (*LABELS, "prmbench"):
        assert f"\n## {task}\n" in text
    assert "| redundency | simplicity |" in text
    assert "<script" not in text
    lines = list(jsonl.read(tmp_path / "r" / "leaderboard.jsonl", leaderboard.Entry))
    rows = {}
    for folder in (whole, classes):
        found = results.read(folder / "results.json")
        rows |= {(row.task, row.predictor): (row, found) for row in found.rows}
    assert {(line.task, line.predictor) for line in lines} == set(rows)
    for line in lines:
        row, found = rows[line.task, line.predictor]
        metric = row.metrics[row.headline]
        assert (line.metric, line.value, line.interval) == (
            row.headline,
            metric.value,
            metric.interval,
        )
        assert line.threshold == (row.threshold.value if row.threshold else None)
        assert (line.solutions, line.unscored) == (row.solutions, row.unscored)
        assert line.sees_reference == row.sees_reference
        assert line.versions == found.versions
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+Z", line.date)
    judged = next(line for line in lines if line.predictor == "poor" and line.task == "steps")
    assert (judged.kind, judged.sees_reference, judged.threshold_how) == (
        "annotations", "worked", "split",
    )  # fmt: skip
    assert (
        judged.fingerprint
        == json.loads((whole / "run.json").read_text())["inputs"]["predictors.poor"]
    )


# ── the command ──────────────────────────────────────────────────────────────────────────────


def test_folders_stand_without_a_key(world: World, classes: Path, tmp_path: Path, capsys) -> None:
    plain = world.bench("plain", ["steps"], PredictorConfig("x", baseline="first_wrong"))
    assert main(["report", "bench", str(plain), str(classes), f"out={tmp_path / 'a'}"]) == 0
    assert "report bench: 2 runs, 2 tasks, 3 rows" in capsys.readouterr().out
    runs = f"runs=[{plain}, {classes}]"
    assert main(["report", "bench", runs, f"out={tmp_path / 'b'}"]) == 0
    file = tmp_path / "c.yaml"
    file.write_text(f"out: {tmp_path / 'c'}\nruns: [nowhere]\n")
    assert main(["report", "bench", str(file), str(plain), str(classes)]) == 0
    names = {"report.html", "report.md", "leaderboard.jsonl"}
    for folder in "abc":
        assert {path.name for path in (tmp_path / folder).iterdir()} == names
        for name in names:
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_a_word_that_is_no_run_is_told_so(whole: Path, tmp_path: Path, capsys) -> None:
    out = f"out={tmp_path / 'a'}"
    for words, said in (
        ([str(whole), str(tmp_path / "nope")], "nope: no run.json in this folder; give folders"),
        ([str(tmp_path / "nope")], "nope: no run.json in this folder; give folders"),
        (
            [f"{whole}/results.json"],
            f"results.json: a file of a run; give the run's folder, {whole}",
        ),
        ([str(tmp_path / "nope.yaml")], "nope.yaml: no such configuration file"),
    ):
        assert main(["report", "bench", *words, out]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_the_help_explains_every_key(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    assert "see the module" not in text
    assert "threshold: see" not in text
    assert "`declared`, the checkpoint's own" in text
    assert "`processbench` (first wrong steps are known)" in text


def test_errors_say_what_to_do(whole: Path, tmp_path: Path, capsys) -> None:
    assert main(["report", "bench", f"out={tmp_path / 'a'}"]) == 2
    assert "report bench needs `runs`, folders that `prm bench` left" in capsys.readouterr().err
    assert main(["report", "bench", str(whole), "examples=-1", f"out={tmp_path / 'a'}"]) == 2
    assert "examples is -1; it starts at 0" in capsys.readouterr().err
    with pytest.raises(RunConflictError, match="holds the run of a stage"):
        report.run(report.Config(runs=[str(whole)], out=str(whole)))


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(whole: Path, classes: Path, tmp_path: Path) -> None:
    for seed in "12":
        subprocess.run(
            [
                sys.executable,
                "-m",
                "prm",
                "report",
                "bench",
                whole,
                classes,
                f"out={tmp_path / seed}",
            ],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
        )
    for name in ("report.html", "report.md", "leaderboard.jsonl"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
def test_the_page_of_a_large_run_stays_small(tmp_path: Path) -> None:
    """1,400 items, six predictors."""
    items = labelled(700)
    data = tmp_path / "data.jsonl"
    jsonl.write(data, items)
    paths = [annotated(tmp_path / f"a{n}.jsonl", items, n, 0.1 * n) for n in range(1, 6)]
    out = tmp_path / "run"
    stage.run(
        stage.Config(
            out=str(out),
            tasks=[TaskConfig("t", "universalbench", Source(path=str(data)))],
            predictors=[
                *(PredictorConfig(path.stem, annotations=str(path)) for path in paths),
                PredictorConfig("long", baseline="long_steps", threshold="t"),
            ],
        )
    )
    assert (out / "report.html").stat().st_size < 1_000_000

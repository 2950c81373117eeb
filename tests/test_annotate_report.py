"""`prm report annotate`: the page shows the numbers of `agreement.json`, and records as text."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from page import Page

from annotate.report import stage
from annotate.report.examples import Choice, view
from annotate.report.stage import Config
from annotate.sequential import NOT_ASKED
from annotate.voters import identified, names
from prm import jsonl
from prm.cli import main
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import Annotation, Judgment, Solution

EVIL = "<script>alert(1)</script>&amp;\"'"
TURNED = "evil\u202egnorw\u202c \u2067x\u2069\u200f"
SHOWN = "evil‹U+202E›gnorw‹U+202C› ‹U+2067›x‹U+2069›‹U+200F›"
HEBREW = "שלום 2 + 2 = 4"


def solution(name: str, steps: int = 3, **values: str) -> Solution:
    texts = tuple(f"step {index} of {name}" for index in range(steps))
    return Solution(**({"id": name, "problem": f"problem {name}", "steps": texts} | values))


def judgment(strategy: str, *verdicts: float | None, judge: str = "judge", **values) -> Judgment:
    usage = {} if judge == "rules" else {"prompt_tokens": 100, "completion_tokens": 7}
    values = {"usage": usage, "text": f"{strategy} wrote this"} | values
    return Judgment(judge=judge, strategy=strategy, verdicts=verdicts, **values)


def small() -> list[Annotation]:
    """Twenty solutions, three voters and a rule; one answer unusable, one not asked for."""
    source = random.Random(3)
    items = []
    for number in range(20):
        truth = [source.random() < 0.7 for _ in range(3)]
        cast = [
            judgment(f"p{voter}", *(float(right ^ (source.random() < 0.2)) for right in truth))
            for voter in range(3)
        ]
        cast.append(judgment("arithmetic", truth[0] * 1.0, None, None, judge="rules"))
        if number == 4:
            error = "verdict cut at 12 tokens"
            cast[1] = judgment("p1", None, None, None, error=error, finish_reason="length")
        if number == 5:
            cast[2] = judgment("p2", None, None, None, finish_reason=NOT_ASKED, usage={}, text="")
        generator = "weak" if number % 2 else "strong"
        items.append(
            Annotation(solution=solution(f"s{number}", generator=generator), judgments=tuple(cast))
        )
    return items


def reported(folder: Path, items: list[Annotation], **values: int) -> tuple[str, dict]:
    """The page and the numbers."""
    jsonl.write(folder / "annotations.jsonl", items)
    out = folder / "report"
    stage.run(Config(out=str(out), annotations=str(folder / "annotations.jsonl"), **values))
    numbers = json.loads((out / "agreement.json").read_text())
    return (out / "report.html").read_text(), numbers


def percent(share: dict) -> str:
    return "–" if share["share"] is None else f"{100 * share['share']:.1f}"


def with_interval(text: str, interval: list[float], factor: int, digits: int) -> str:
    low, high = (f"{factor * bound:.{digits}f}" for bound in interval)
    return f"{text} [{low}, {high}]"


def test_the_page_shows_the_numbers_of_the_file(tmp_path: Path, capsys) -> None:
    html, found = reported(tmp_path, small())
    page = Page(html)
    for name, jury in (("all voters", found["all"]), ("language models", found["llm"])):
        row = page.row(name)
        assert row[1] == str(jury["voters"])
        for cell, kappa in ((2, "complete"), (4, "varying")):
            value, interval = jury[kappa]["value"], jury[kappa]["interval"]
            assert row[cell] == with_interval(f"{value:.3f}", interval, 1, 3)
            assert row[cell + 1] == str(jury[kappa]["steps"])
        dissent = jury["dissent"]
        assert row[6] == with_interval(percent(dissent), dissent["interval"], 100, 1)
        agreement = jury["agreement"]
        share = f"{100 * agreement['value']:.1f}"
        assert row[7] == with_interval(share, agreement["interval"], 100, 1)
        for split, steps in jury["splits"].items():
            assert [split, str(steps), f"{100 * steps / found['steps']:.1f} %"] in [
                row[:3] for row in page.rows
            ]
    for voter in found["voters"]:
        judge = "a rule" if voter["model_free"] else voter["judge"]
        row = page.row(voter["name"], judge)
        assert row[2:4] == [percent(voter["coverage"]), percent(voter["wrong"])]
        assert row[5:7] == [percent(voter["unusable"]), str(voter["not_asked"])]
        tokens = [voter["usage"].get(f"{kind}_tokens", 0) for kind in ("prompt", "completion")]
        assert row[7:] == [f"{count:,}" for count in tokens]
    order = [voter["name"] for voter in found["voters"]]
    matrix = {row[0]: row[1:] for row in page.rows if len(row) == len(order) + 1 and "·" in row}
    for pair in found["pairs"]:
        for one, other in (("first", "second"), ("second", "first")):
            cell = matrix[pair[one]][order.index(pair[other])]
            kappa = pair["kappa"]["value"]
            shown = "–" if kappa is None else f"{kappa:.3f}"
            assert cell == f"{percent(pair['agreement'])} %{shown}"
    for place in (*found["by_position"], *found["by_length"]):
        dissent = place["dissent"]
        counts = f"{dissent['count']} of {dissent['total']}"
        assert page.row(place["name"])[1:4] == [str(place["solutions"]), percent(dissent), counts]
    for tenth, steps in enumerate(found["labels"]):
        name = f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}"
        assert page.row(name)[1:3] == [str(steps), f"{100 * steps / found['steps']:.1f}"]
    for generator in found["generators"]:
        row = page.row(generator["name"])
        assert row[1:3] == [str(generator["solutions"]), str(generator["steps"])]
        wrong, erroneous = generator["wrong"], generator["erroneous"]
        assert row[3] == with_interval(percent(wrong), wrong["interval"], 100, 1)
        counts = f"{erroneous['count']} of {erroneous['total']}"
        assert row[4] == f"{percent(erroneous)} {counts}"
        assert row[6] == str(generator["median_first_error"])
    assert page.row("verdict cut at … tokens")[1:] == ["·", "1", "·", "·"]
    tiles = " ".join(page.text.split())
    assert "20 solutions 60 steps 4 voters, 3 of them language models" in tiles
    unusable = found["unusable"]
    assert f"{percent(unusable)} % of {unusable['total']} answers unusable" in tiles
    assert f"{found['tokens']:,} tokens" in tiles
    assert "could have changed a label: 1. So" in tiles

    line = capsys.readouterr().out
    whole, models = found["all"]["complete"], found["llm"]["complete"]
    assert line.count("\n") == 1
    assert line.startswith(f"report annotate: Fleiss' kappa {whole['value']:.3f} [")
    assert f"{models['value']:.3f} [" in line
    assert line.endswith(f"→ {tmp_path / 'report' / 'report.html'}\n")


def test_the_page_stands_alone(tmp_path: Path) -> None:
    html, _ = reported(tmp_path, small())
    page = Page(html)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name == "src" or name.startswith("on")]
    links = [value for name, value in page.attributes if name == "href"]
    anchors = [f"#{value}" for name, value in page.attributes if name == "id"]
    assert links == anchors
    assert "url(" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_the_same_file_gives_the_same_bytes_in_place_of_the_old_ones(tmp_path: Path) -> None:
    first, _ = reported(tmp_path, small())
    assert reported(tmp_path, small())[0] == first
    fewer, numbers = reported(tmp_path, small()[:7])
    assert numbers["solutions"] == 7
    assert fewer != first


def test_whatever_a_record_holds_is_text(tmp_path: Path) -> None:
    hostile = Solution(
        id=EVIL + TURNED,
        problem=EVIL + TURNED,
        steps=(EVIL, TURNED, HEBREW, "null\x00 bell\x07"),
        reference=EVIL + TURNED,
        generator=EVIL + TURNED,
    )
    said = Judgment(
        judge=EVIL,
        strategy=EVIL + TURNED,
        verdicts=(1.0, 0.0, 1.0, 0.3),
        text=f"{EVIL} {TURNED} {HEBREW} </pre></details>{{{{ 7 * 7 }}}}",
    )
    failed = Judgment(
        judge="j", strategy="p", verdicts=(None,) * 4, error=f"ended by {EVIL!r}{TURNED}"
    )
    html, _ = reported(tmp_path, [Annotation(solution=hostile, judgments=(said, failed))])
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert not re.search("[\x00\x07\u200f\u202a-\u202e\u2066-\u2069]", html)
    assert page.text.count(EVIL) >= 7
    assert page.text.count(SHOWN) >= 7
    assert f"{EVIL} {SHOWN} {HEBREW} </pre></details>{{{{ 7 * 7 }}}}" in page.text
    assert "null‹U+0000› bell‹U+0007›" in page.text
    titles = [value for name, value in page.attributes if name == "title"]
    assert f"{EVIL}{SHOWN}: wrong, step 4 0.30" in titles
    assert page.row("3", HEBREW)[2] == "1.00"
    assert [value for name, value in page.attributes if name == "dir"] == ["auto"] * 8


def test_every_step_has_its_label_and_every_vote(tmp_path: Path) -> None:
    item = Annotation(
        solution=solution("s", steps=5),
        judgments=(
            judgment("p0", 1.0, 0.0, 0.5, 0.75, None),
            judgment("p1", 1.0, 1.0, 1.0, 0.0, None),
            judgment("p2", None, None, None, None, None, error="the list is empty"),
            judgment("p3", None, None, None, None, None, finish_reason=NOT_ASKED),
        ),
    )
    page = Page(reported(tmp_path, [item])[0])
    rows = [page.row(str(number), f"step {number - 1} of s")[2:] for number in range(1, 6)]
    assert rows == [
        ["1.00", "✓", "✓", "!", "·"],
        ["0.50", "✗", "✓", "!", "·"],
        ["0.75", "½", "✓", "!", "·"],
        ["0.38", "✓ 0.75", "✗", "!", "·"],
        ["–", "–", "–", "!", "·"],
    ]
    classes = [value for name, value in page.attributes if name == "class"]
    assert [name for name in classes if name.startswith("label-")][5:] == [
        "label-4",
        "label-2",
        "label-3",
        "label-1",
        "label-none",
    ]
    assert "unusable: the list is empty" in page.text


def test_undefined_kappas_say_why(tmp_path: Path, capsys) -> None:
    items = [
        Annotation(solution=solution(f"s{n}"), judgments=(judgment("p0", 1.0, 1.0, 1.0),) * 2)
        for n in range(3)
    ]
    html, numbers = reported(tmp_path, items)
    assert numbers["all"]["complete"]["value"] is None
    page = Page(html)
    assert page.row("all voters")[2] == "undefined: all votes say right"
    assert "kappa undefined (all votes say right) of 2 voters on 9 steps" in capsys.readouterr().out


def test_nobody_voted(tmp_path: Path) -> None:
    html, numbers = reported(tmp_path, [Annotation(solution=solution("s"), judgments=())])
    assert (numbers["unlabelled"], numbers["all"]["voters"]) == (3, 0)
    assert Page(html).row("all voters")[2] == "undefined: fewer than two voters"


# Which solutions are shown


def chosen(items: list[Annotation], number: int, seed: int = 0) -> tuple[list[str], list[str]]:
    choice = Choice(number, seed)
    for item in items:
        choice.offer(item)
    contested, drawn = choice.made()
    return [item.id for item in contested], [item.id for item in drawn]


def contested_file(number: int, contested: int) -> list[Annotation]:
    """The first `contested` solutions have more and more dissent: on 1, 2, … steps."""
    items = []
    for index in range(number):
        other = [0.0] * (index + 1 if index < contested else 0)
        cast = (
            judgment("p0", *[1.0] * 30),
            judgment("p1", *other, *[1.0] * (30 - len(other))),
        )
        items.append(Annotation(solution=solution(f"s{index}", steps=30), judgments=cast))
    return items


def test_half_of_the_examples_are_contested_and_half_are_random() -> None:
    items = contested_file(100, 10)
    contested, drawn = chosen(items, 8)
    assert contested == ["s9", "s8", "s7", "s6"]
    assert len(drawn) == 4
    assert not set(drawn) & set(contested)
    assert chosen(items, 7)[0] == contested
    assert len(chosen(items, 7)[1]) == 3
    assert chosen(items[::-1], 8) == (contested, drawn)  # whatever the order
    assert chosen(items, 8, seed=1)[1] != drawn
    assert chosen(items, 0) == ([], [])


def test_where_few_are_contested_more_are_random() -> None:
    contested, drawn = chosen(contested_file(100, 1), 8)
    assert (contested, len(drawn)) == (["s0"], 7)
    contested, drawn = chosen(contested_file(5, 5), 8)
    assert sorted(contested + drawn) == [f"s{index}" for index in range(5)]


def test_random_examples_are_drawn_evenly() -> None:
    counts = dict.fromkeys((f"s{index}" for index in range(10)), 0)
    items = contested_file(10, 0)
    for seed in range(300):
        for name in chosen(items, 3, seed)[1]:
            counts[name] += 1
    # 90 each on average, with a standard deviation of 8.
    assert all(58 < count < 122 for count in counts.values())


def test_an_example_shows_the_voters_that_it_has() -> None:
    item = small()[0]
    named = names([key for other in small() for key, _ in identified(other.judgments)])
    assert [said.voter for said in view(item, named).said] == ["p0", "p1", "p2", "arithmetic"]


# Mistakes


def test_an_empty_file_is_an_error_in_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "none.jsonl").write_text("\n")
    out = tmp_path / "report"
    arguments = ["report", "annotate", f"annotations={tmp_path / 'none.jsonl'}", f"out={out}"]
    assert main(arguments) == 2
    error = f"prm report annotate: {tmp_path / 'none.jsonl'}: no annotations in this file\n"
    assert capsys.readouterr().err == error
    assert not out.exists()


def test_files_and_folders_that_will_not_do(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "a.jsonl", small())
    with pytest.raises(RecordError, match="no such file"):
        stage.run(Config(out=str(tmp_path / "out"), annotations=str(tmp_path / "b.jsonl")))
    with pytest.raises(ConfigError, match="cannot be written"):
        stage.run(
            Config(out=str(tmp_path / "a.jsonl" / "x"), annotations=str(tmp_path / "a.jsonl"))
        )
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "run.json").write_text("{}")
    (tmp_path / "bench" / "report.html").write_text("of benchmarks")
    with pytest.raises(RunConflictError, match="holds the run of a stage; set another `out`"):
        stage.run(Config(out=str(tmp_path / "bench"), annotations=str(tmp_path / "a.jsonl")))
    assert (tmp_path / "bench" / "report.html").read_text() == "of benchmarks"
    with pytest.raises(ValueError, match="examples is -1"):
        Config(out="o", annotations="a", examples=-1)


@pytest.mark.parametrize("name", ["agreement.json", "report.html"])
def test_a_file_that_no_report_left_is_not_overwritten(tmp_path: Path, name: str) -> None:
    jsonl.write(tmp_path / "a.jsonl", small())
    config = Config(out=str(tmp_path / "out"), annotations=str(tmp_path / "a.jsonl"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(RunConflictError, match=f"holds {name}, which no such report left; set an"):
        stage.run(config)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "out" / name).unlink()
    stage.run(config)
    whole = (tmp_path / "out" / "report.html").read_bytes()
    (tmp_path / "out" / "agreement.json").write_text("old")
    stage.run(config)  # its own may be made anew
    assert (tmp_path / "out" / "report.html").read_bytes() == whole
    assert (tmp_path / "out" / "agreement.json").read_text() != "old"

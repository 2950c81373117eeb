"""`prm report verify`: the page shows the numbers of what `prm verify` left, records as text."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from page import Page

from prm import jsonl
from prm.cli import main
from prm.errors import ConfigError, RecordError, RunConflictError
from prm.records import (
    Annotation,
    Correction,
    Evidence,
    Judgment,
    LabelledSolution,
    Rejection,
    Solution,
)
from prm.run import Counts, Run
from verify import stage as verify_stage
from verify.decision import CHECKS, NO_VOTE, Rules
from verify.report import stage
from verify.report.examples import Draw, Record
from verify.report.flow import flow
from verify.report.numbers import SEVERAL, measure, question
from verify.report.stage import Config
from verify.votes import Voting

EVIL = "<script>alert(1)</script>&amp;\"'"
TURNED = "evil\u202egnorw\u202c \u2067x\u2069\u200f"
SHOWN = "evil‹U+202E›gnorw‹U+202C› ‹U+2067›x‹U+2069›‹U+200F›"

EQUATION, ORDER, MET = "false_equation_called_right", "not_monotone", "met_result_called_wrong"
RULES = Rules(low_agreement="down_weight")
ALL_RIGHT, AGREEMENT = "all_right_but_answer_wrong", "low_agreement"


def solution(name: str, steps: int, **values: str) -> Solution:
    texts = tuple(f"step {index} of {name}" for index in range(steps))
    return Solution(**({"id": name, "problem": f"problem {name}", "steps": texts} | values))


def evidence(*failed: str, unknown: tuple[str, ...] = ()) -> tuple[Evidence, ...]:
    """The outcome is right unless it failed; every check of the default rules ran."""
    words = {"pass": "is as it should be", "fail": "is not", "unknown": "cannot be told"}
    said = []
    for check in ("outcome", *CHECKS):
        if check == "reference_never_met":  # off by default
            continue
        verdict = "fail" if check in failed else "unknown" if check in unknown else "pass"
        said.append(Evidence(check=check, verdict=verdict, reason=f"{check} {words[verdict]}"))
    return tuple(said)


def kept(name: str, *labels: float, weight: float = 1.0, **values) -> LabelledSolution:
    values = {"solution": solution(name, len(labels)), "evidence": evidence()} | values
    return LabelledSolution(labels=labels, weight=weight, **values)


def change(rule: str, step: int, old: float, new: float) -> Correction:
    return Correction(rule=rule, step=step, old=old, new=new)


def rejected(name: str, rule: str, *votes: tuple[float | None, ...], **values) -> Rejection:
    judgments = tuple(
        Judgment(judge="judge", strategy=f"p{index}", verdicts=verdicts)
        for index, verdicts in enumerate(votes)
    )
    item = Annotation(solution=solution(name, len(votes[0])), judgments=judgments)
    return Rejection(annotation=item, rule=rule, reason=f"{rule}, so no", **values)


def small() -> tuple[list[LabelledSolution], list[Rejection]]:
    """Two kept as they were, one of them lighter; two corrected, one of them by two rules and
    lighter; two rejected."""
    labelled = [
        kept("plain", 1.0, 0.9, 0.25, 0.0, evidence=evidence("outcome", unknown=(MET,))),
        kept("light", 1.0, 0.5, weight=0.5, evidence=evidence(AGREEMENT)),
        kept(
            "mended",
            1.0,
            0.0,
            evidence=evidence(EQUATION),
            corrections=(change(EQUATION, 1, 0.75, 0.0),),
        ),
        kept(
            "twice",
            0.0,
            0.3,
            1.0,
            weight=0.25,
            evidence=evidence(ORDER, EQUATION, MET, AGREEMENT),
            corrections=(
                change(ORDER, 1, 0.7, 0.3),
                change(ORDER, 0, 0.9, 0.6),
                change(EQUATION, 0, 0.6, 0.0),
            ),
        ),
    ]
    refused = [
        rejected(
            "refused",
            ALL_RIGHT,
            (1.0, 1.0, 0.0),
            (1.0, 0.0, 0.0),
            evidence=evidence("outcome", ORDER, ALL_RIGHT),
            corrections=(change(ORDER, 2, 0.0, 0.6),),
        ),
        rejected("mute", NO_VOTE, (1.0, None), evidence=evidence()[:1]),
    ]
    return labelled, refused


def left(folder: Path, labelled: list[LabelledSolution], refused: list[Rejection], **rules) -> Path:
    """A folder as `prm verify` leaves it, but with these records."""
    config = verify_stage.Config(
        out=str(folder), annotations=str(folder / "a.jsonl"), rules=replace(RULES, **rules)
    )
    counts = Counts(
        read=len(labelled) + len(refused), written=len(labelled), rejected={"all": len(refused)}
    )
    with Run(folder, "verify", config, {"annotations": "c0ffee" * 10}) as run:
        jsonl.write(run.path("labelled.jsonl"), labelled)
        jsonl.write(run.path("rejected.jsonl"), refused)
        run.finish(counts, ["labelled.jsonl", "rejected.jsonl"])
    return folder


def reported(folder: Path, out: str = "report", **values: int) -> tuple[str, dict]:
    """The page and the numbers."""
    stage.run(Config(out=str(folder.parent / out), run=str(folder), **values))
    numbers = json.loads((folder.parent / out / "verification.json").read_text())
    return (folder.parent / out / "report.html").read_text(), numbers


# Numbers


def test_the_numbers_are_those_of_the_records(tmp_path: Path, capsys) -> None:
    _, found = reported(left(tmp_path / "run", *small()))
    assert [found[name] for name in ("solutions", "kept", "corrected", "lighter", "rejected")] == [
        6,
        4,
        2,
        2,
        2,
    ]
    assert [tuple(stream.values()) for stream in found["streams"]] == [
        ("kept unchanged", "", 2, 1, 1),
        ("kept corrected", EQUATION, 1, 1, 0),
        ("kept corrected", SEVERAL, 1, 0, 1),
        ("rejected", ALL_RIGHT, 1, 0, 0),
        ("rejected", NO_VOTE, 1, 0, 0),
    ]
    checks = {check.pop("name"): check for check in found["checks"]}
    assert list(checks) == ["outcome", *CHECKS]
    assert checks[ORDER] == {
        "asks": question(ORDER),
        "action": "correct",
        "passed": 3,
        "failed": 2,
        "unknown": 0,
        "share_failed": 0.4,
        "labels": 2,
        "kept": 1,
        "lighter": 1,
    }
    assert checks[EQUATION] | {"asks": "", "share_failed": 0.4} == {
        "asks": "",
        "action": "correct",
        "passed": 3,
        "failed": 2,
        "unknown": 0,
        "share_failed": 0.4,
        "labels": 2,
        "kept": 2,
        "lighter": 1,
    }
    assert (checks[MET]["passed"], checks[MET]["failed"], checks[MET]["unknown"]) == (3, 1, 1)
    assert checks["reference_never_met"]["action"] == "skip"
    assert checks["reference_never_met"]["share_failed"] is None
    # As voted: 1 .9 .25 0 | 1 .5 | 1 .75 | .9 .7 1 | 1 .5 0 (means of votes) | 1 and no vote.
    assert found["before"] == {
        "steps": 15,
        "unlabelled": 1,
        "wrong": 3,
        "tenths": [2, 0, 1, 0, 0, 2, 0, 2, 0, 8],
    }
    # As kept: 1 .9 .25 0 | 1 .5 | 1 0 | 0 .3 1.
    assert found["after"] == {
        "steps": 11,
        "unlabelled": 0,
        "wrong": 5,
        "tenths": [3, 0, 1, 1, 0, 1, 0, 0, 0, 5],
    }
    assert found["weights"] == {"1": 2, "0.5": 1, "0.25": 1}
    assert list(found["weights"]) == ["1", "0.5", "0.25"]
    assert [tuple(item.values()) for item in found["examples"]] == [
        ("corrected", ORDER, 1, 1),
        ("corrected", EQUATION, 2, 2),
        ("down-weighted", MET, 1, 1),
        ("down-weighted", AGREEMENT, 2, 2),
        ("rejected", ALL_RIGHT, 1, 1),
        ("rejected", NO_VOTE, 1, 1),
    ]
    assert capsys.readouterr().out == (
        "report verify: kept 4 of 6 (2 corrected, 2 lighter), rejected 2 → "
        f"{tmp_path / 'report' / 'report.html'}\n"
    )


def test_the_page_shows_the_numbers(tmp_path: Path) -> None:
    html, found = reported(left(tmp_path / "run", *small()))
    page = Page(html)
    for stream in found["streams"]:
        row = page.row(stream["fate"], stream["rule"])
        assert row[2:4] == [str(stream["solutions"]), f"{100 * stream['solutions'] / 6:.1f}"]
        weights = [str(stream["full"]), str(stream["lighter"])]
        assert row[4:] == (["·", "·"] if stream["fate"] == "rejected" else weights)
    for check in found["checks"]:
        first = f"{check['name']} {check['asks']}"
        action = check["action"].replace("_", "-")
        if action == "skip":
            assert page.row(first, action)[2:] == ["not run"]
            continue
        share = "–" if check["share_failed"] is None else f"{100 * check['share_failed']:.1f}"
        assert page.row(first, action)[2:] == [
            *(str(check[name]) for name in ("passed", "failed", "unknown")),
            share,
            "",
            *(str(check[name]) for name in ("labels", "kept", "lighter")),
        ]
    before, after = found["before"], found["after"]
    for tenth in range(10):
        assert page.row(f"{tenth / 10:.1f}–{(tenth + 1) / 10:.1f}")[1:] == [
            str(before["tenths"][tenth]),
            f"{100 * before['tenths'][tenth] / 15:.1f}",
            str(after["tenths"][tenth]),
            f"{100 * after['tenths'][tenth] / 11:.1f}",
        ]
    assert page.row("wrong, below 0.5")[1:] == ["3", "20.0", "5", "45.5"]
    assert page.row("0.25")[1:3] == ["1", "25.0"]
    text = " ".join(page.text.split())
    assert "20.0 → 45.5 % of steps wrong, as voted and as kept" in text
    assert "Steps without a vote, and so without a label: 1." in text
    assert f"Corrected, {EQUATION} 2 of 2" in text


def test_an_example_shows_labels_evidence_and_both_answers(tmp_path: Path) -> None:
    labelled, refused = small()
    told = solution("mended", 2, answer="12", reference="6 + 6 = 12")
    told = Solution(**(vars(told) | {"steps": ("6 + 6 = 13", "The answer is 13.")}))
    labelled[2] = LabelledSolution(**(vars(labelled[2]) | {"solution": told}))
    page = Page(reported(left(tmp_path / "run", labelled, refused))[0])
    text = " ".join(page.text.split())
    assert "True answer: 12; answer of the solution: 13 (found by: answer phrase)" in text
    assert "6 + 6 = 12" in text
    assert page.row("0", "6 + 6 = 13")[2] == "1.00"
    assert page.row("1", "The answer is 13.")[2] == "0.75 → 0.00"
    assert "of plain" not in text  # no rule did anything to it
    for record in (*labelled[1:], *refused):
        for item in record.evidence:
            assert f"{item.verdict} {item.check}: {item.reason}" in text
    assert f"{ORDER} is not (changed the label of step 1, 0)" in text
    assert f"{EQUATION} is not (changed the label of step 0)" in text
    twice = [row for row in page.rows if row[1:2] == ["step 0 of twice"]]
    assert {" ".join(row[2].split()) for row in twice} == {"0.90 → 0.60 → 0.00"}
    # What is rejected has the labels of its votes.
    assert [page.row(str(index), f"step {index} of refused")[2] for index in range(3)] == [
        "1.00",
        "0.50",
        "0.00 → 0.60",
    ]
    assert page.row("1", "step 1 of mute")[2] == "–"
    assert f"{ALL_RIGHT}, so no" in text


def test_hard_labels_and_weights_of_the_run_count_for_rejected_solutions() -> None:
    item = rejected("r", NO_VOTE, (1.0, 0.4, None), (0.0, 1.0, None))
    soft = measure([item], RULES, Voting()).before
    assert soft.tenths == [0, 0, 0, 0, 0, 1, 0, 1, 0, 0]
    hard = measure([item], RULES, Voting(labels="hard", weights={"p1": 3.0})).before
    assert (hard.tenths[0], hard.tenths[9], hard.unlabelled) == (1, 1, 1)


def test_a_check_that_only_writes_down_has_examples_too(tmp_path: Path) -> None:
    labelled, refused = small()
    found = reported(left(tmp_path / "run", labelled, refused, low_agreement="keep"))[1]
    kinds = {(item["kind"], item["rule"]): item["solutions"] for item in found["examples"]}
    assert kinds["noted", AGREEMENT] == 2
    assert ("down-weighted", AGREEMENT) not in kinds


def test_every_check_asks_a_question() -> None:
    for name in ("outcome", *CHECKS):
        assert re.fullmatch(r"[A-Z][^?]+\?", question(name)), name
    assert question(NO_VOTE) == question("Sequence") == ""


# The drawing


def test_the_flow_loses_nobody_on_its_way() -> None:
    labelled, refused = small()
    drawn = flow(measure([*labelled, *refused], RULES, Voting()))
    reached, gone = defaultdict(int), defaultdict(int)
    for band in drawn.bands:
        start, end = band.name.split(" to ")
        gone[start] += band.solutions
        reached[end] += band.solutions
    columns = defaultdict(list)
    for bar in drawn.bars:
        columns[bar.x].append(bar)
    first, middle, last = (columns[x] for x in sorted(columns))
    for column in (first, middle, last):
        assert sum(bar.solutions for bar in column) == 6
        for above, below in itertools.pairwise(column):
            assert above.y + above.height < below.y
        assert column[0].y >= 0
        assert column[-1].y + column[-1].height <= drawn.height
        # All bars have the same scale.
        assert sum(bar.height for bar in column) == pytest.approx(first[0].height)
    assert all(gone[bar.name] == bar.solutions for bar in [*first, *middle])
    assert all(reached[bar.name] == bar.solutions for bar in [*middle, *last])


def test_bands_cover_the_bars_without_overlap() -> None:
    labelled, refused = small()
    drawn = flow(measure([*labelled, *refused], RULES, Voting()))
    leaving, entering = defaultdict(list), defaultdict(list)
    for band in drawn.bands:
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d", band.path)]
        leaving[numbers[0]].append((numbers[1], numbers[-1]))
        entering[numbers[6]].append((numbers[7], numbers[8]))
    assert (len(leaving), len(entering)) == (2, 2)
    for bar in drawn.bars:
        for stretches in (leaving[bar.x + drawn.bar], entering[bar.x]):
            inside = sorted(item for item in stretches if bar.y - 1 < item[0] < bar.y + bar.height)
            for above, below in itertools.pairwise(inside):
                assert below[0] == pytest.approx(above[1], abs=0.2)
            if inside:
                assert inside[0][0] == pytest.approx(bar.y, abs=0.2)
                assert inside[-1][1] == pytest.approx(bar.y + bar.height, abs=0.2)


def test_a_single_solution_among_many_can_be_seen() -> None:
    records = [kept(f"k{index}", 1.0) for index in range(20_000)]
    drawn = flow(measure([*records, rejected("r", ALL_RIGHT, (1.0,))], RULES, Voting()))
    assert min(bar.height for bar in drawn.bars) == 2.0
    assert {bar.name for bar in drawn.bars} >= {ALL_RIGHT, "rejected", "full weight"}
    assert "down-weighted" not in {bar.name for bar in drawn.bars}


# The page as a file


def test_the_page_stands_alone(tmp_path: Path) -> None:
    html, _ = reported(left(tmp_path / "run", *small()))
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "use", "image"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name == "src" or name.startswith("on")]
    links = [value for name, value in page.attributes if name == "href"]
    anchors = [f"#{value}" for name, value in page.attributes if name == "id"]
    assert links == anchors
    assert "url(" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_every_drawing_says_what_it_shows_and_has_a_table(tmp_path: Path) -> None:
    page = Page(reported(left(tmp_path / "run", *small()))[0])
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert page.tags.count("svg") == 3
    assert len([label for label in labels if "the table below has the numbers" in label]) == 3


def test_whatever_a_record_holds_is_text(tmp_path: Path) -> None:
    hostile = Solution(
        id=EVIL + TURNED,
        problem=EVIL + TURNED,
        steps=(EVIL, TURNED, "null\x00 bell\x07"),
        answer=EVIL + TURNED,
        reference=EVIL + TURNED,
        generator=EVIL + TURNED,
    )
    boxed = Solution(**(vars(hostile) | {"id": "boxed", "steps": (rf"\boxed{{{EVIL}{TURNED}}}",)}))
    said = Evidence(check=EVIL + TURNED, verdict="fail", reason=f"{EVIL}{TURNED} {{{{ 7 * 7 }}}}")
    labelled = LabelledSolution(
        solution=boxed,
        labels=(0.0,),
        evidence=(*evidence(), said),
        corrections=(change(EVIL + TURNED, 0, 1.0, 0.0),),
    )
    item = Annotation(
        solution=hostile,
        judgments=(Judgment(judge=EVIL, strategy=TURNED, verdicts=(1.0, 1.0, 0.3)),),
    )
    refused = Rejection(
        annotation=item, rule=EVIL + TURNED, reason=EVIL + TURNED, evidence=evidence()
    )
    html, _ = reported(left(tmp_path / "run", [labelled], [refused]))
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert not re.search("[\x00\x07\u200f\u202a-\u202e\u2066-\u2069]", html)
    assert page.text.count(EVIL) >= 15
    assert page.text.count(SHOWN) >= 15
    assert f"{EVIL}{SHOWN} {{{{ 7 * 7 }}}}" in page.text
    assert "null‹U+0000› bell‹U+0007›" in page.text
    assert f"answer of the solution: {EVIL}{SHOWN} (found by: boxed)" in page.text


def test_the_same_files_give_the_same_bytes_in_place_of_the_old_ones(tmp_path: Path) -> None:
    folder = left(tmp_path / "run", *small())
    first, _ = reported(folder)
    assert reported(folder)[0] == first
    labelled, _ = small()
    fewer = left(tmp_path / "fewer", labelled[:2], [])
    assert reported(fewer)[0] != first


def test_the_report_of_a_real_run_counts_as_the_run_did(tmp_path: Path, capsys) -> None:
    def cast(*verdicts: tuple[float, ...]) -> tuple[Judgment, ...]:
        return tuple(
            Judgment(judge="j", strategy=f"p{n}", verdicts=item) for n, item in enumerate(verdicts)
        )

    right = {"problem": "What is 2 + 3?", "answer": "5", "reference": "2 + 3 = 5"}
    good, bad = ("2 + 3 = 5", "The answer is 5."), ("2 + 3 = 6", "The answer is 6.")
    items = [
        Annotation(solution=Solution(id="good", steps=good, **right), judgments=cast((1.0, 1.0))),
        Annotation(solution=Solution(id="false", steps=bad, **right), judgments=cast((1.0, 0.0))),
        Annotation(
            solution=Solution(id="odd", steps=good, **right), judgments=cast((1.0, 0.0), (1.0, 1.0))
        ),
        Annotation(
            solution=Solution(id="lost", steps=("No idea.", "It is 7."), answer="5", problem="?"),
            judgments=cast((1.0, 1.0)),
        ),
    ]
    jsonl.write(tmp_path / "a.jsonl", items)
    run, out = tmp_path / "run", tmp_path / "report"
    lighter = "rules.low_agreement=down_weight"
    assert main(["verify", f"out={run}", f"annotations={tmp_path / 'a.jsonl'}", lighter]) == 0
    capsys.readouterr()
    assert main(["report", "verify", f"run={run}", f"out={out}"]) == 0
    assert capsys.readouterr().out.startswith(
        "report verify: kept 3 of 4 (1 corrected, 1 lighter), rejected 1 → "
    )
    found = json.loads((out / "verification.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    for check in found["checks"]:
        if check["action"] != "skip":
            names = ("action", "passed", "failed", "unknown", "labels")
            assert {name: check[name] for name in names} == summary["checks"][check["name"]]
    assert found["sha256"] == json.loads((run / "run.json").read_text())["inputs"]["annotations"]


def test_nothing_was_rejected(tmp_path: Path) -> None:
    html, found = reported(left(tmp_path / "run", small()[0], []))
    assert (found["solutions"], found["rejected"]) == (4, 0)
    assert "rejected" not in {stream["fate"] for stream in found["streams"]}
    assert "rejected, 0.0 %" in " ".join(Page(html).text.split())


def test_everything_was_rejected(tmp_path: Path) -> None:
    mute = rejected("mute", NO_VOTE, (None, None), evidence=evidence()[:1])
    html, found = reported(left(tmp_path / "run", [], [mute]))
    assert (found["kept"], found["before"]["steps"], found["before"]["unlabelled"]) == (0, 0, 2)
    page = Page(html)
    assert page.row("nothing was kept") == ["nothing was kept"]
    assert page.row("wrong, below 0.5")[1:] == ["0", "–", "0", "–"]


# Which solutions are shown


def drawn(records: list[Record], number: int, seed: int = 0) -> dict[tuple[str, str], list[str]]:
    draw = Draw(number, seed, RULES)
    for record in records:
        draw.offer(record)
    return {group: [record.id for record in chosen] for group, chosen in draw.made()}


def light(number: int) -> list[Record]:
    """All lighter for one reason, and every second one corrected as well."""
    return [
        kept(
            f"s{index}",
            1.0,
            weight=0.5,
            evidence=evidence(AGREEMENT, ORDER),
            corrections=(change(ORDER, 0, 0.4, 1.0),) if index % 2 else (),
        )
        for index in range(number)
    ]


def test_examples_are_drawn_evenly() -> None:
    counts = dict.fromkeys((f"s{index}" for index in range(10)), 0)
    items = light(10)
    for seed in range(300):
        chosen = drawn(items, 3, seed)["down-weighted", AGREEMENT]
        assert len(set(chosen)) == 3
        for name in chosen:
            counts[name] += 1
    # 90 each on average, with a standard deviation of 8.
    assert all(58 < count < 122 for count in counts.values())


def test_examples_do_not_depend_on_the_order_of_the_file() -> None:
    items = light(40)
    chosen = drawn(items, 5)
    assert drawn(items[::-1], 5) == chosen
    assert drawn(items, 5, seed=1) != chosen
    assert drawn(items, 2) == {group: names[:2] for group, names in chosen.items()}


def test_each_rule_has_examples_of_its_own() -> None:
    chosen = drawn(light(40), 5)
    assert list(chosen) == [("corrected", ORDER), ("down-weighted", AGREEMENT)]
    assert all(int(name[1:]) % 2 for name in chosen["corrected", ORDER])
    assert chosen["corrected", ORDER] != chosen["down-weighted", AGREEMENT]


def test_without_examples_the_numbers_stay(tmp_path: Path) -> None:
    folder = left(tmp_path / "run", *small())
    html, found = reported(folder, examples=0)
    assert [item["shown"] for item in found["examples"]] == [0] * 6
    assert [item["solutions"] for item in found["examples"]] == [1, 2, 1, 2, 1, 1]
    assert "step 0 of" not in html


# Mistakes


def test_folders_without_a_run_are_an_error_in_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text('{"stage": "ver')
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "run.json").write_text('{"stage": "verify", "outputs": []}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "run.json").write_text("[1]")
    labelled, _ = small()
    config = verify_stage.Config(out="o", annotations="a")
    with Run(tmp_path / "other", "annotate", config) as run:
        run.finish(Counts(read=0, written=0), [])
    with Run(tmp_path / "begun", "verify", config, {"annotations": "x"}) as run:
        jsonl.write(run.path("labelled.jsonl.partial"), labelled)
    advice = "set `run` to a folder that `prm verify` left"
    for name, problem in {
        "none": f"no such folder; {advice}",
        "empty": f"no run.json in this folder; {advice}",
        "other": f"holds a run of 'annotate'; {advice}",
        "begun": "not finished; run the same `prm verify` again first",
    }.items():
        out = tmp_path / "report"
        assert main(["report", "verify", f"out={out}", f"run={tmp_path / name}"]) == 2
        assert capsys.readouterr().err == f"prm report verify: {tmp_path / name}: {problem}\n"
        assert not out.exists()
    for name in ("torn", "bare", "list"):
        with pytest.raises(ConfigError, match=r"run\.json: not a run record"):
            stage.run(Config(out=str(tmp_path / "report"), run=str(tmp_path / name)))


def test_a_file_that_is_missing_torn_or_short_is_refused(tmp_path: Path) -> None:
    labelled, refused = small()
    folder = left(tmp_path / "run", labelled, refused)
    config = Config(out=str(tmp_path / "report"), run=str(folder))
    jsonl.write(folder / "rejected.jsonl", refused[:1])
    with pytest.raises(RecordError, match=r"rejected.jsonl: 1 records, but the run wrote 2"):
        stage.run(config)
    (folder / "rejected.jsonl").unlink()
    with pytest.raises(RecordError, match=r"rejected.jsonl: no such file"):
        stage.run(config)
    with open(folder / "labelled.jsonl", "a") as file:
        file.write('{"solution": ')
    with pytest.raises(RecordError, match=r"labelled.jsonl:5: torn"):
        stage.run(config)
    assert not (tmp_path / "report" / "report.html").exists()


def test_a_run_without_solutions_has_no_report(tmp_path: Path) -> None:
    folder = left(tmp_path / "run", [], [])
    with pytest.raises(RecordError, match="run: no solutions in this run"):
        stage.run(Config(out=str(tmp_path / "report"), run=str(folder)))


def test_a_correction_by_nobody_is_refused(tmp_path: Path) -> None:
    odd = kept("odd", 0.0, evidence=(), corrections=(change(ORDER, 0, 1.0, 0.0),))
    with pytest.raises(RecordError, match=f"'odd': '{ORDER}' corrects a label"):
        reported(left(tmp_path / "run", [odd], []))


def test_the_folder_of_a_run_is_not_written_into(tmp_path: Path) -> None:
    folder = left(tmp_path / "run", *small())
    with pytest.raises(RunConflictError, match="holds the run of a stage; set another `out`"):
        stage.run(Config(out=str(folder), run=str(folder)))
    assert not (folder / "report.html").exists()
    with pytest.raises(ValueError, match="examples is -1"):
        Config(out="o", run="r", examples=-1)

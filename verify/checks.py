"""Checks of labels against what is known backwards from the reference answer.

Each check is a pure function. It says pass, fail or unknown, and why; where it can tell better
labels than those that failed, it says these too. Whether anything comes of it is decided by the
rules (`verify.decision`). Steps are counted from 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prm.records import Evidence, Judgment, Solution, first_error
from verify.answers import extract_answer
from verify.arithmetic import check_arithmetic
from verify.checker_pool import Comparison
from verify.quantities import MAX_CHARS, numbers
from verify.support import support
from verify.values import check_values, met_results
from verify.votes import Voting, labels_of

CUT = 0.5
"""A label below it says that the step is wrong."""

Verdict = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        verdict: what it says of the labels.
        reason: why, in words.
        better: step → the label that it should have; empty where the check cannot tell.
    """

    verdict: Verdict
    reason: str
    better: Mapping[int, float] = field(default_factory=dict)

    def evidence(self, check: str) -> Evidence:
        """The record of it, under the check's name."""
        return Evidence(check=check, verdict=self.verdict, reason=self.reason)


def outcome(comparison: Comparison | None, claimed: bool | None) -> Finding:
    """Does the final answer equal the reference answer?

    Args:
        comparison: of the two, or None where there is no reference answer.
        claimed: what the source says, where it says anything. It counts where the comparison
            cannot tell; where the two differ, the outcome is unknown.
    """
    if comparison is None or comparison.verdict == "unknown":
        reason = "no reference answer"
        if comparison is not None:
            reason = f"{comparison.rule}: {comparison.reason}"
        if claimed is None:
            return Finding("unknown", reason)
        word = "right" if claimed else "wrong"
        return Finding("pass" if claimed else "fail", f"the source says {word} ({reason})")
    right = comparison.verdict == "equal"
    reason = f"{comparison.rule}: {comparison.reason}"
    if claimed is not None and claimed != right:
        word = "right" if claimed else "wrong"
        return Finding("unknown", f"the source says {word}, but {reason}")
    return Finding("pass" if right else "fail", reason)


def all_right_but_answer_wrong(labels: Sequence[float], ending: Finding) -> Finding:
    """Is every step labelled right although the final answer is wrong?

    Some step must be wrong, the last one at the least: it states the answer.
    """
    if ending.verdict == "unknown":
        return Finding("unknown", "the outcome is unknown")
    if ending.verdict == "fail" and first_error(labels, CUT) == -1:
        lowest = f"the answer is wrong, yet the lowest label is {min(labels):.2f}"
        return Finding("fail", lowest, {len(labels) - 1: 0.0})
    return Finding("pass", "labels and outcome agree")


def wrong_step_but_answer_right(labels: Sequence[float], ending: Finding) -> Finding:
    """Is a step labelled wrong although the final answer is right?

    Such a solution may have taken a wrong turn back, or two errors may cancel: less certain
    than the reverse.
    """
    if ending.verdict == "unknown":
        return Finding("unknown", "the outcome is unknown")
    first = first_error(labels, CUT)
    if ending.verdict == "pass" and first != -1:
        reason = f"the answer is right, yet step {first} is labelled {labels[first]:.2f}"
        return Finding("fail", reason, dict.fromkeys(_wrong(labels), 1.0))
    return Finding("pass", "labels and outcome agree")


def not_monotone(
    labels: Sequence[float],
    judgments: Sequence[Judgment],
    promised: Collection[str],
    voting: Voting,
) -> Finding:
    """Does a judgment call a step right that comes after one it calls wrong?

    Only strategies that promise otherwise are held to it: a step after the first error may well
    be right by itself.

    Args:
        labels: what all votes came to.
        judgments: the votes.
        promised: strategies under which all steps after an error are wrong.
        voting: how votes become labels.
    """
    held = [item for item in judgments if item.strategy in promised]
    if not held:
        return Finding("unknown", "no voter promises that all is wrong after an error")
    broken = [item for item in held if _falling(item) != item.verdicts]
    if not broken:
        return Finding("pass", "nothing is right after an error")
    kept = [item for item in judgments if item not in broken]
    mended = [Judgment(judge=i.judge, strategy=i.strategy, verdicts=_falling(i)) for i in broken]
    better = labels_of([*kept, *mended], len(labels), voting).labels
    return Finding(
        "fail",
        f"{broken[0].judge} under {broken[0].strategy} calls a step right after a wrong one",
        {
            index: new
            for index, (old, new) in enumerate(zip(labels, better, strict=True))
            if new is not None and new != old
        },
    )


def false_equation_called_right(labels: Sequence[float], steps: Sequence[str]) -> Finding:
    """Is a step labelled right that states a false equation, or that uses the value of one?"""
    verdicts = check_arithmetic(steps)
    if all(verdict.verdict is None for verdict in verdicts):
        return Finding("unknown", "no step states an equation")
    missed = [i for i, item in enumerate(verdicts) if item.verdict == 0.0 and labels[i] >= CUT]
    if missed:
        first = missed[0]
        reason = f"step {first} is labelled {labels[first]:.2f}: {verdicts[first].reason}"
        return Finding("fail", reason, dict.fromkeys(missed, 0.0))
    return Finding("pass", "no equation of a step labelled right is false")


def departure_called_right(labels: Sequence[float], solution: Solution, ending: Finding) -> Finding:
    """Does a solution with a wrong answer leave the worked reference before its first step
    labelled wrong? See `verify.values`."""
    if solution.reference is None:
        return Finding("unknown", "there is no worked reference")
    if ending.verdict != "fail":
        return Finding(
            "unknown", "only a wrong answer tells that leaving the reference is an error"
        )
    verdicts = check_values(solution.steps, solution.problem, solution.reference, "different")
    if verdicts[0].verdict is None:
        return Finding("unknown", verdicts[0].reason)
    left = next(index for index, item in enumerate(verdicts) if item.verdict == 0.0)
    labelled = first_error(labels, CUT)
    if labelled == -1 or labelled > left:
        later = range(left, len(labels))
        return Finding(
            "fail",
            f"step {left} is labelled {labels[left]:.2f}: {verdicts[left].reason}",
            {index: 0.0 for index in later if labels[index] >= CUT},
        )
    return Finding("pass", f"labelled wrong from step {labelled}, leaves the reference at {left}")


def met_result_called_wrong(labels: Sequence[float], solution: Solution) -> Finding:
    """Does the first step labelled wrong work out results of the reference, and no others?"""
    if solution.reference is None:
        return Finding("unknown", "there is no worked reference")
    if max(map(len, [solution.reference, *solution.steps])) > MAX_CHARS:
        return Finding("unknown", f"a text is longer than {MAX_CHARS} characters")
    first = first_error(labels, CUT)
    if first == -1:
        return Finding("pass", "no step is labelled wrong")
    met, _ = met_results(solution.steps, solution.reference)
    if met[first] and check_arithmetic(solution.steps)[first].verdict != 0.0:
        values = ", ".join(str(float(value)) for value in sorted(met[first])[:3])
        reason = f"step {first} is labelled {labels[first]:.2f}, and works out {values} as the "
        return Finding("fail", f"{reason}reference does", {first: 1.0})
    return Finding("pass", f"step {first} works out nothing that the reference does")


def reference_never_met(solution: Solution, ending: Finding) -> Finding:
    """Is the answer right although no result on the reference's way to it is met?

    Another way may be sound, and a right answer may be a guess.
    """
    if solution.reference is None:
        return Finding("unknown", "there is no worked reference")
    if ending.verdict != "pass":
        return Finding("unknown", "the answer is not known to be right")
    if max(map(len, [solution.reference, *solution.steps])) > MAX_CHARS:
        return Finding("unknown", f"a text is longer than {MAX_CHARS} characters")
    met, results = met_results(solution.steps, solution.reference)
    on_the_way = results - set(numbers(solution.answer or "")[-1:])
    if not on_the_way:
        return Finding("unknown", "the reference has no results on its way")
    stated = {value for step in solution.steps for value in numbers(step)}
    count = len(on_the_way & (stated | set().union(*met)))
    verdict: Verdict = "pass" if count else "fail"
    return Finding(verdict, f"meets {count} of {len(on_the_way)} results of the reference")


def answer_rests_elsewhere(labels: Sequence[float], solution: Solution, ending: Finding) -> Finding:
    """Starting from the answer: which steps does it rest on, and is there a wrong one among them?

    A right answer rests on right steps, so one labelled wrong among them is a contradiction; a
    wrong turn that the answer does not rest on is none. A wrong answer rests on a wrong step: where
    all steps labelled wrong lie elsewhere, the labels miss the one that matters.
    """
    if ending.verdict == "unknown":
        return Finding("unknown", "the outcome is unknown")
    if max(map(len, [solution.problem, *solution.steps])) > MAX_CHARS:
        return Finding("unknown", f"a text is longer than {MAX_CHARS} characters")
    stated = numbers(extract_answer(solution.steps).text or "", words=False)
    way = support(solution.steps, stated[-1], set(numbers(solution.problem))) if stated else None
    if way is None:
        return Finding("unknown", "no equation comes out at the final answer")
    wrong = _wrong(labels)
    shared = [index for index in wrong if index in way.steps]
    shown = ", ".join(map(str, way.steps))
    if ending.verdict == "pass":
        if shared:
            reason = f"the right answer rests on step {shared[0]}, labelled {labels[shared[0]]:.2f}"
            return Finding("fail", f"{reason} (on {shown})", dict.fromkeys(shared, 1.0))
        return Finding("pass", f"the right answer rests on steps labelled right: {shown}")
    if shared or way.silent.intersection(wrong):
        return Finding("pass", f"the wrong answer rests on steps {shown}")
    reason = f"the wrong answer rests on steps {shown}, and none of these is labelled wrong"
    return Finding("fail", reason, {way.steps[-1]: 0.0})


def low_agreement(agreement: Sequence[float], margin: float) -> Finding:
    """Does the majority of the votes on some step fall short of a margin?"""
    lowest = min(range(len(agreement)), key=agreement.__getitem__)
    verdict: Verdict = "fail" if agreement[lowest] < margin else "pass"
    return Finding(verdict, f"on step {lowest} {agreement[lowest]:.2f} of the votes agree")


def backward_judge_disagrees(
    labels: Sequence[float], judgments: Sequence[Judgment], asked: Collection[str]
) -> Finding:
    """Does a judge who was asked backwards name another first error than the labels?

    Args:
        labels: what the votes came to.
        judgments: the votes.
        asked: strategies that ask for the first step from which the reference answer can no
            longer be reached; see `annotate.judge`.
    """
    said = [
        first_error([verdict for verdict in item.verdicts if verdict is not None], CUT)
        for item in judgments
        if item.strategy in asked and None not in item.verdicts
    ]
    if not said:
        return Finding("unknown", "no judge was asked backwards")
    first = first_error(labels, CUT)
    other = next((step for step in said if step != first), first)
    if other != first:
        return Finding("fail", f"asked backwards: {_named(other)}; the labels: {_named(first)}")
    return Finding("pass", f"asked backwards: {_named(first)}, as the labels have it")


def _named(step: int) -> str:
    return "no step is wrong" if step == -1 else f"wrong from step {step}"


def _wrong(labels: Sequence[float]) -> list[int]:
    return [index for index, label in enumerate(labels) if label < CUT]


def _falling(judgment: Judgment) -> tuple[float | None, ...]:
    """Its verdicts, none of them above an earlier one that calls a step wrong."""
    lowest, falling = 1.0, []
    for verdict in judgment.verdicts:
        if verdict is not None:
            verdict = min(verdict, lowest)
            lowest = verdict if verdict < CUT else lowest
        falling.append(verdict)
    return tuple(falling)

"""How well rules find the step boundaries of ProcessBench and PRMBench.

    python benchmarks/split_quality.py [--data FOLDER] [--min-chars 1] [--max-chars 1500] [--show 0]

The steps of each solution are joined and separated again by `annotate.pieces.split_steps`: joined
by blank lines, by line ends, by line ends but for a blank line before the last, and by spaces.
Boundaries are compared by their place among the characters that are no white space, over all texts
together. `pieces` is how many of the true ones a model could choose (`how: boundary`), which bounds
its recall.

FOLDER holds `processbench/gsm8k.json`, `processbench/math.json` and `prmbench/subset394.jsonl`
(the environment variable PRM_DATA; else `../shared/data` beside the repository). `--show` prints
so many wrong and missed boundaries of each kind. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from annotate.pieces import RulesConfig, candidates, split_steps  # noqa: E402 - needs the path
from prm import jsonl  # noqa: E402
from prm.sources import Source, solutions  # noqa: E402

SETTINGS = {
    "blank": ("\n\n", "\n\n"),
    "line": ("\n", "\n"),
    "mixed": ("\n", "\n\n"),
    "space": (" ", " "),
}
"""What stands between steps, and what before the last."""
Steps = Sequence[str]


@dataclass
class Score:
    """Boundaries of many texts, found against true ones."""

    found_true: int = 0
    found: int = 0
    true: int = 0
    possible: int = 0
    exact: int = 0
    texts: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """The figures; a share of nothing counts as 1."""
        precision = self.found_true / self.found if self.found else 1.0
        recall = self.found_true / self.true if self.true else 1.0
        whole = precision + recall
        return {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / whole if whole else 0.0,
            "exact": self.exact / self.texts if self.texts else 1.0,
            "pieces": self.possible / self.true if self.true else 1.0,
        }


def boundaries(steps: Steps) -> set[int]:
    """The places of the inner boundaries, in characters that are no white space."""
    places, total = set(), 0
    for step in steps[:-1]:
        total += len("".join(step.split()))
        places.add(total)
    return places


def measure(texts: Iterable[Steps], setting: str, rules: RulesConfig) -> Score:
    """Join the steps of each text and separate them again."""
    score = Score()
    between, last = SETTINGS[setting]
    for steps in texts:
        text = last.join([between.join(steps[:-1]), *steps[-1:]] if len(steps) > 1 else steps)
        true, found = boundaries(steps), boundaries(split_steps(text, rules))
        possible = boundaries([text[begin:end] for begin, end in candidates(text)])
        score.found_true += len(found & true)
        score.found += len(found)
        score.true += len(true)
        score.possible += len(possible & true)
        score.exact += found == true
        score.texts += 1
        score.wrong += _wrong(text, true, found)
    return score


def _wrong(text: str, true: set[int], found: set[int]) -> Iterable[tuple[str, str]]:
    """Each wrong boundary with its kind: `extra` or `missed`, and what stands after it."""
    if true == found:
        return
    places = [place for place, letter in enumerate(text) if not letter.isspace()]
    for name, wrong in (("extra", found - true), ("missed", true - found)):
        for at in sorted(wrong):
            before, after = text[: places[at]].rstrip(), text[places[at] :]
            yield f"{name}, {_kind(before, after)}", f"{before[-50:]!r} | {after[:50]!r}"


def _kind(before: str, after: str) -> str:
    """What is special about a boundary; the first that fits."""
    line = before.rpartition("\n")[2]
    if after[:1] in "-*•" and after[1:2] in " *":
        return "before a list item or bold type"
    if after[:1] == "#" or line.startswith("#"):
        return "at a heading"
    if after[:1].isdigit():
        return "before a number"
    if before.endswith(":"):
        return "after a colon"
    if before.endswith((r"\]", "$$", "}")):
        return "after a display formula"
    if after.startswith(("\\", "$")):
        return "before a formula"
    if before[-1] not in ".!?":
        return "after words without a full stop"
    return "between sentences"


def texts_of(data: Path) -> dict[str, list[Steps]]:
    """The data sets: each solution's steps, blank ones left out; the same steps count once."""
    sets: dict[str, list[Steps]] = {}
    for name in ("gsm8k", "math"):
        source = Source(format="processbench", path=str(data / f"processbench/{name}.json"))
        sets[f"processbench {name}"] = [solution.steps for solution in solutions(source)]
    rows = jsonl.read_rows(data / "prmbench/subset394.jsonl")
    sets["prmbench"] = [row["original_process"] for _, row in rows]
    return {
        name: list(dict.fromkeys(tuple(filter(str.strip, steps)) for steps in found))
        for name, found in sets.items()
    }


def data_folder() -> Path:
    """Where the data sets are, if nothing else is said."""
    return Path(os.environ.get("PRM_DATA", ROOT.parent / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--min-chars", type=int, default=RulesConfig.min_chars)
    parser.add_argument("--max-chars", type=int, default=RulesConfig.max_chars)
    parser.add_argument("--show", type=int, default=0)
    arguments = parser.parse_args()
    rules = RulesConfig(arguments.min_chars, arguments.max_chars)
    table: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':20}{'joined by':10}{'texts':>7}{'precision':>11}{'recall':>8}{'F1':>8}", end="")
    print(f"{'exact':>8}{'pieces':>8}")
    for name, texts in texts_of(arguments.data).items():
        for setting in SETTINGS:
            score = measure(texts, setting, rules)
            row = table.setdefault(name, {})[setting] = score.row()
            print(f"{name:20}{setting:10}{score.texts:7}{row['precision']:11.4f}", end="")
            print("".join(f"{row[key]:8.4f}" for key in ("recall", "f1", "exact", "pieces")))
            if arguments.show:
                _show(score, arguments.show)
    print(json.dumps(table))


def _show(score: Score, count: int) -> None:
    examples = random.Random(0).sample(score.wrong, len(score.wrong))
    for kind, number in Counter(kind for kind, _ in score.wrong).most_common():
        print(f"    {number:5} {kind}")
        for text in [text for found, text in examples if found == kind][:count]:
            print(f"          {text}")


if __name__ == "__main__":
    main()

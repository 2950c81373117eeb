"""Step separation: word for word, no formula cut, linear time on any text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.pieces import candidates, split_steps
from annotate.split import Config, run, split
from prm import jsonl
from prm.records import Solution
from prm.sources import Source

CONFIG = Config(out="out", source=Source(path="in.jsonl"))
PIECES = [
    "So x = 1.",
    "Then",
    " Dr. Who",
    "\n",
    "\n\n",
    " \n \t\n",
    "\r\n",
    "\u2028",
    "\u00a0",
    "\u3000",
    " ",
    "$$",
    "$x$",
    r"\[",
    r"\]",
    "```",
    r"\begin{align}",
    r"\end{align}",
    r"\begin{a}",
    r"\end{a}",
    r"\end{",
    "x = 1",
    "# Step 2",
    "1. First",
    "é",
    "\x00",
    "\x1c",
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=25).map("".join)


def squeezed(text: str) -> str:
    return "".join(text.split())


@settings(deadline=None)
@given(texts.filter(lambda text: text.strip() != ""))
def test_candidates_are_pieces_with_white_space_between(text: str) -> None:
    spans = candidates(text)
    pieces = [text[begin:end] for begin, end in spans]
    assert all(piece and piece == piece.strip() for piece in pieces)
    assert squeezed("".join(pieces)) == squeezed(text)
    # A step cut by rules ends where a candidate ends.
    assert len(pieces) >= len(split_steps(text))
    assert {squeezed("".join(pieces[: n + 1])) for n in range(len(pieces))} >= {
        squeezed("".join(split_steps(text)[: n + 1])) for n in range(len(split_steps(text)))
    }


@settings(deadline=None)
@given(texts.filter(lambda text: text.strip() != ""))
def test_word_for_word(text: str) -> None:
    steps = split_steps(text)
    assert squeezed("".join(steps)) == squeezed(text)
    assert all(step and step == step.strip() for step in steps)
    position = 0
    for step in steps:  # and each step stands in the text as it is
        position = text.index(step, position) + len(step)


BLOCKS = [
    "\\[\na\n\nb. Then\n\\]",
    "$$\n\nx\n\n$$",
    "```\ncode\n\nmore. Code\n```",
    "\\begin{align*}\na &= b\n\n\\\\ c\n\\end{align*}",
    "\\begin{cases} a\n\\begin{b}\n\nc\\end{b}\n\\end{cases}",
]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    st.lists(
        st.sampled_from(["\n\n", "\n", " ", "\nSo we get\n\n", " It is 3. Then ", "\n\nThus:\n"]),
        min_size=5,
        max_size=5,
    ),
)
def test_blocks_are_never_cut(blocks: list[str], between: list[str]) -> None:
    text = (
        "Start"
        + "".join(gap + block for gap, block in zip(between, blocks, strict=False))
        + between[-1]
        + "End"
    )
    steps = split_steps(text)
    for block in blocks:
        assert any(block in step for step in steps)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("One.", ["One."]),
        ("One.\n\nTwo.\n \n\nThree. Four.\nFive.", ["One.", "Two.", "Three. Four.\nFive."]),
        ("One.\nTwo.\r\nThree.", ["One.", "Two.", "Three."]),
        ("It is so. Then 3 eggs. Next?  Yes", ["It is so.", "Then 3 eggs.", "Next?", "Yes"]),
        ("He has 3.5 eggs, i.e. few.", ["He has 3.5 eggs, i.e. few."]),
        ("Dr. Who sees Mr. Fox vs. Mrs. Owl.", ["Dr. Who sees Mr. Fox vs. Mrs. Owl."]),
        ("It is 18. So 18. It ends.", ["It is 18.", "So 18.", "It ends."]),
        ("1. Add them. So 3.", ["1. Add them.", "So 3."]),
        ("Is it so? 12. Add them", ["Is it so? 12. Add them"]),
        ("We get\n\n$$x = 1$$\n\nso x is 1.", ["We get\n\n$$x = 1$$", "so x is 1."]),
        ("Open \\[ a\n\nb", ["Open \\[ a", "b"]),  # never closed: protects nothing
        ("\\begin{a} x\n\ny \\end{b}", ["\\begin{a} x", "y \\end{b}"]),
        ("$$ a $$$\n\nb", ["$$ a $$$", "b"]),
    ],
)
def test_examples(text: str, steps: list[str]) -> None:
    assert list(split_steps(text)) == steps


@pytest.mark.parametrize("text", ["", " \n\t", "\u00a0\u2028"])
def test_blank_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the text is blank"):
        split_steps(text)


SIZE = 200_000
HOSTILE = {
    "newlines": "a" + "\n" * SIZE + "a",
    "blank lines": "a" + "\n " * (SIZE // 2) + "a",
    "spaces": "a." + " " * SIZE + "a",
    "sentences": "It is. " * (SIZE // 7),
    "titles": "Dr. " * (SIZE // 4),
    "returns": "a" + "\r\n" * (SIZE // 2) + "a",
    "backticks": "`" * SIZE,
    "dollars": "$" * (SIZE + 1),
    "openings": "\\[" * (SIZE // 2),
    "formulas": "\\[\\]\n\n" * (SIZE // 6),
    "environments": "".join(f"\\begin{{a{index}}}" for index in range(SIZE // 14)),
    "one-letter environments": "".join(
        f"\\begin{{{chr(0x4E00 + index)}}}" for index in range(18_000)
    ),
    "ends": "\\end{a}" * (SIZE // 7) + "\\begin{a}" * (SIZE // 9),
    "lines": "x = 1\n" * (SIZE // 6),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_take_linear_time(name: str) -> None:
    began = time.process_time()
    steps = split_steps(HOSTILE[name])
    # Quadratic work on this size takes a minute at best; linear work tenths of a second.
    assert time.process_time() - began < 10
    assert squeezed("".join(steps)) == squeezed(HOSTILE[name])


def test_work_grows_with_the_text_and_not_its_square() -> None:
    def seconds(size: int) -> float:
        text = "".join(f"\\begin{{{chr(0x4E00 + index)}}}" for index in range(size))
        began = time.process_time()
        split_steps(text * 8)
        return time.process_time() - began

    seconds(100)
    # Eight times the text: about 8 times the work when linear, 64 times when quadratic.
    assert seconds(16_000) < 30 * max(seconds(2_000), 0.005)


def test_only_whole_texts_are_split() -> None:
    one = Solution(id="a", problem="p", steps=("One.\n\nTwo.",), metadata={"x": 1})
    many = Solution(id="b", problem="p", steps=("One.\n\nTwo.", "Three."))
    first, second = split([one, many], CONFIG, None)
    assert first.steps == ("One.", "Two.")
    assert first.metadata == {"x": 1, "split": "rules"}
    assert second is many


def test_stage(tmp_path: Path) -> None:
    items = [
        Solution(id=str(index), problem="p", steps=(f"It is {index}.\nEnd.",)) for index in range(3)
    ]
    jsonl.write(tmp_path / "in.jsonl", items)
    config = Config(out=str(tmp_path / "out"), source=Source(path=str(tmp_path / "in.jsonl")))
    assert str(run(config)) == "in 3, out 3, rejected 0, failed 0"
    found = list(jsonl.read(tmp_path / "out" / "solutions.jsonl", Solution))
    assert [item.id for item in found] == ["0", "1", "2"]
    assert all(re.fullmatch(r"It is \d\.", item.steps[0]) for item in found)
    before = (tmp_path / "out" / "solutions.jsonl").stat().st_mtime_ns
    assert run(config).written == 3
    assert (tmp_path / "out" / "solutions.jsonl").stat().st_mtime_ns == before

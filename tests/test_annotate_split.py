"""Step separation: word for word, no formula cut, linear time on any text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.boundary import STARTS
from annotate.pieces import RulesConfig, candidates, split_steps
from annotate.rewrite import START
from annotate.split import BOUNDARY, REWRITE, RULES, Config, run, split
from prm import config as configuration
from prm import jsonl
from prm.engines import EngineConfig, Request
from prm.engines.fake import ScriptedEngine
from prm.errors import ConfigError
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
    "Wait, no.",
    "Hmm.",
    "Step 3:",
    "**Case 1**",
    "- a",
    "<think>",
    "</think>",
    "<|im_end|>",
    r"\(a. B\)",
    r"\(",
    "。",
    "...",
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=25).map("".join)


def squeezed(text: str) -> str:
    return "".join(text.split())


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


lengths = st.tuples(st.integers(1, 40), st.integers(0, 60)).map(
    lambda drawn: RulesConfig(min_chars=drawn[0], max_chars=sum(drawn))
)


@given(texts.filter(lambda text: text.strip() != ""), st.none() | lengths)
def test_word_for_word(text: str, rules: RulesConfig | None) -> None:
    steps = split_steps(text, rules)
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
    "\\(a.\nThen b\\)",
    "\\begin{cases} a\n\\begin{b}\n\nc\\end{b}\n\\end{cases}",
]


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


def step_texts(text: str, min_chars: int = 1, max_chars: int = 1500) -> list[str]:
    return list(split_steps(text, RulesConfig(min_chars, max_chars)))


@pytest.mark.parametrize(
    "announced",
    ["Step 2: add.", "**Step 2**: add.", "### Step 2\nAdd.", "2. Then add.", "2) Then add."],
)
def test_what_announces_a_step_begins_one_within_a_paragraph(announced: str) -> None:
    assert step_texts(f"First we look.\n{announced}\n\nEnd.") == [
        "First we look.",
        announced,
        "End.",
    ]


@pytest.mark.parametrize(
    "switch",
    ["Wait, 3 is odd.", "But wait! No.", "Hmm, odd.", "Alternatively, add.", "Let me check: 4."],
)
def test_a_thought_switch_begins_a_step_within_a_line(switch: str) -> None:
    assert step_texts(f"So it is 4. {switch} We go on.\n\nEnd.") == [
        "So it is 4.",
        f"{switch} We go on.",
        "End.",
    ]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        # Bullets, rows of tables and what a colon leads to belong to the line above.
        ("We have:\nx is 1.\n- a\n- b\nSo 2.", ["We have:\nx is 1.\n- a\n- b", "So 2."]),
        ("Rows\n| a | b |\n| 1 | 2 |\nSo 2.", ["Rows\n| a | b |\n| 1 | 2 |", "So 2."]),
        ("- Add.\n- Take.", ["- Add.", "- Take."]),  # but something has to be cut
        # Equations in a list are one step.
        (
            "We get\n1. \\(a=1\\)\n2. \\(b=2\\)\n\nEnd.",
            ["We get\n1. \\(a=1\\)\n2. \\(b=2\\)", "End."],
        ),
        # Headings join what they name; several in a row that are numbered are steps.
        ("# Answer\n\n29", ["# Answer\n\n29"]),
        ("**Eggs**\n\nAdd.\n\nEnd.", ["**Eggs**\n\nAdd.", "End."]),
        ("## Step 1: Add\n\n## Step 2: Take", ["## Step 1: Add", "## Step 2: Take"]),
        # Many lines and one blank line: lines.
        ("A b.\nC d.\nE f.\nG h.\n\nI j.", ["A b.", "C d.", "E f.", "G h.", "I j."]),
        # What has no word joins, whatever the minimum.
        ("One.\n\n---\n\nTwo.", ["One.\n\n---", "Two."]),
        ("***\n\nOne.", ["***\n\nOne."]),
        # The number of an item stays with its words; a sentence may end in a formula.
        (
            "We see.\n1. Add\n2. Take $x$. So $x$ is 3.",
            ["We see.", "1. Add", "2. Take $x$. So $x$ is 3."],
        ),
        ("Take $x=2$. Then \\[y\\] So 3.", ["Take $x=2$.", "Then \\[y\\]", "So 3."]),
        ("He pays $5. She pays $3. Who is it?", ["He pays $5.", "She pays $3.", "Who is it?"]),
        (
            "\\(5! \\times 3! \\cdot A. B\\) is it. So 3.",
            ["\\(5! \\times 3! \\cdot A. B\\) is it.", "So 3."],
        ),
        # A formula that is never closed protects nothing, nor does a line break in one open any.
        ("Open \\[ a\n\nb \\[c\\]\n\nd", ["Open \\[ a", "b \\[c\\]", "d"]),
        ("\\[ a \\\\[2pt]\n\nb \\]\n\nc", ["\\[ a \\\\[2pt]\n\nb \\]", "c"]),
        ("先算。再算。得 3。", ["先算。", "再算。", "得 3。"]),
    ],
)
def test_rules_by_example(text: str, steps: list[str]) -> None:
    assert step_texts(text) == steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (
            "<think>\n\nAdd.\n\nTake.\n\n</think>\n\n3",
            ["<think>\n\nAdd.", "Take.\n\n</think>", "3"],
        ),
        (
            "<think>Add.</think>\nThe answer is 3.\n\nEnd.",
            ["<think>Add.</think>", "The answer is 3.", "End."],
        ),
        ("<think>\n\n</think>\n\nIt is 3.\n\nEnd.", ["<think>\n\n</think>\n\nIt is 3.", "End."]),
        ("<think>", ["<think>"]),
        ("So 3.\n\n<answer>\n3\n</answer>", ["So 3.", "<answer>\n3\n</answer>"]),
        ("Tell.<|im_end|>\n\n<|im_start|>user\nNo", ["Tell.<|im_end|>", "<|im_start|>user\nNo"]),
    ],
)
def test_tags_stay_and_are_no_steps_of_their_own(text: str, steps: list[str]) -> None:
    assert step_texts(text) == steps
    assert not {"<think>", "</think>"} & {text[a:b] for a, b in candidates(text)} - {text}


def test_short_steps_join_a_neighbour() -> None:
    text = "So.\n\nWe add 3 and 4.\n\nYes.\n\nHmm.\n\nIs it 8 or so?\n\nNo."
    assert step_texts(text, min_chars=1) == text.split("\n\n")
    assert step_texts(text, min_chars=5) == [
        "So.\n\nWe add 3 and 4.\n\nYes.",  # the first one joins what follows
        "Hmm.\n\nIs it 8 or so?\n\nNo.",  # so does a thought switch
    ]
    assert step_texts("A.\n\nB.", min_chars=100) == ["A.\n\nB."]


def test_long_steps_are_cut_at_lines_and_then_at_sentences() -> None:
    line = "We add 3 to it. Then it is 7."
    paragraph = f"{line}\n- {line}\n{line}"
    text = f"{paragraph}\n\nEnd."
    assert step_texts(text) == [paragraph, "End."]
    assert step_texts(text, max_chars=80) == [f"{line}\n- {line}", line, "End."]
    assert step_texts(text, max_chars=40) == [line, f"- {line}", line, "End."]
    assert len(step_texts(text, max_chars=20)) == 7
    formula = "\\[" + "x. Y\n\n" * 20 + "\\]"
    assert step_texts(f"{formula}\n\nEnd.", max_chars=20) == [formula, "End."]


@given(texts.filter(lambda text: text.strip() != ""), st.integers(1, 40))
def test_what_is_longer_than_the_maximum_has_no_place_to_cut(text: str, longest: int) -> None:
    for step in split_steps(text, RulesConfig(max_chars=longest)):
        pieces = [step[begin:end] for begin, end in candidates(step)]
        joins = any(re.match(r"[#*\d]|(?i:step|case)|\W*$", piece) for piece in pieces)
        assert len(step) <= longest or len(pieces) == 1 or joins


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
    "inline openings": "\\(" * (SIZE // 2),
    "amounts": "$a $" * (SIZE // 4),
    "tags": "<think>\n" * (SIZE // 8),
    "closing tags": "</think>\n" * (SIZE // 9),
    "line breaks": "\\[ " + "\\\\[2pt] " * (SIZE // 8) + "\\]",
    "headings": "# A\n\n" * (SIZE // 5),
    "rules": "---\n\n" * (SIZE // 5),
    "bullets": "- a\n" * (SIZE // 4),
    "thoughts": "Wait. " * (SIZE // 6),
    "full stops": ". " * (SIZE // 2),
    "Chinese full stops": "。" + " " * SIZE + "”",
    "a sound": "H" + "m" * SIZE,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_take_linear_time(name: str) -> None:
    began = time.process_time()
    steps = split_steps(HOSTILE[name])
    # Quadratic work on this size takes a minute at best; linear work tenths of a second.
    assert time.process_time() - began < 10
    assert squeezed("".join(steps)) == squeezed(HOSTILE[name])


LONG_THOUGHT = (
    "<think>\nOkay, so $x$ is 3. Wait, \\(y\\) is 4.\n\nLet me check:\n\\[ x + y = 7. \\]\n- one\n"
    "- two\n1. Then we add.\n\n**Step 2:** Is it so? Hmm, $5 and $6.\n\n---\n\n</think>\n\n"
)


@pytest.mark.parametrize(
    "write",
    [
        lambda size: "".join(f"\\begin{{{chr(0x4E00 + index)}}}" for index in range(size)) * 8,
        lambda size: LONG_THOUGHT * (size // 20),
    ],
    ids=["environments", "long thoughts"],
)
def test_work_grows_with_the_text_and_not_its_square(write: Callable[[int], str]) -> None:
    def seconds(size: int) -> float:
        text = write(size)
        began = time.process_time()
        split_steps(text)
        return time.process_time() - began

    seconds(100)
    # Eight times the text: about 8 times the work when linear, 64 times when quadratic.
    assert seconds(16_000) < 30 * max(seconds(2_000), 0.005)


def test_ten_thousand_steps() -> None:
    text = "\n\n".join(f"Step {number}: add {number}." for number in range(10_000))
    assert len(split_steps(text)) == 10_000


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


TEXT = "Look at it.\nIt is two.\n\nSo we  get four.\n\nEnd."
WORDS = 60
"""More than a prompt about `TEXT` has of the text, fewer than the prompts have."""


def scripted(reply: Callable[[Request], str], context: int | None = None) -> ScriptedEngine:
    return ScriptedEngine(reply, context=context, constrains=False)


def as_json(steps: list[str]) -> str:
    numbered = {f"Step {number}": step for number, step in enumerate(steps, start=1)}
    return json.dumps(numbered).removeprefix(START)


@pytest.mark.parametrize(
    ("how", "answer", "prefill"),
    [
        (BOUNDARY, "[1,3]", STARTS),
        (REWRITE, as_json(["Look at it. It is two.", "So we get four. End."]), START),
    ],
)
def test_a_solution_says_how_it_was_split(how: str, answer: str, prefill: str) -> None:
    config = Config(out="out", source=Source(path="in.jsonl"), engine=EngineConfig("m"), how=how)
    engine = scripted(lambda request: answer)
    (found,) = split([Solution(id="a", problem="p", steps=(TEXT,))], config, engine)
    assert found.steps == ("Look at it.\nIt is two.", "So we  get four.\n\nEnd.")
    assert found.metadata == {"split": how}
    assert [request.prefill for request in engine.requests] == [prefill]


@pytest.mark.parametrize("how", [BOUNDARY, REWRITE])
@pytest.mark.parametrize("context", [None, WORDS])
def test_a_text_beyond_the_context_is_cut_by_rules_and_says_how_long_it_was(
    how: str, context: int | None
) -> None:
    engine_config = EngineConfig("m", max_model_len=context)
    config = Config(
        out="out", source=Source(path="in.jsonl"), engine=engine_config, how=how, retries=3
    )
    engine = scripted(lambda request: "", context=WORDS)
    (found,) = split([Solution(id="a", problem="p", steps=(TEXT,))], config, engine)
    assert found.steps == split_steps(TEXT)
    room = "a context of 60" if context else "the model's context"
    assert re.fullmatch(
        rf"the prompt is too long: \d{{3}} tokens for {room}", found.metadata.pop("split_error")
    )
    assert found.metadata == {"split": RULES}
    assert engine.calls == 1  # the same prompt again would be no shorter


@pytest.mark.parametrize("how", [BOUNDARY, REWRITE])
def test_an_answer_that_never_ends_is_cut_off_and_the_rules_cut(how: str) -> None:
    config = Config(out="out", source=Source(path="in.jsonl"), how=BOUNDARY, retries=0)
    config.how = how  # type: ignore[assignment]
    engine = scripted(lambda request: "and " * 10_000)
    (found,) = split([Solution(id="a", problem="p", steps=(TEXT,))], config, engine)
    (request,) = engine.requests
    assert f"cut off: at {request.max_tokens:,} tokens" in found.metadata["split_error"]
    assert found.steps == split_steps(TEXT)


def test_rules_keep_to_the_lengths_of_the_configuration() -> None:
    rules = RulesConfig(min_chars=5, max_chars=20)
    config = Config(out="out", source=Source(path="in.jsonl"), rules=rules)
    (found,) = split([Solution(id="a", problem="p", steps=(TEXT,))], config, None)
    assert found.steps == ("Look at it.", "It is two.", "So we  get four.\n\nEnd.")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["how=rewrite"], "how is 'rewrite', which needs a model"),
        (["how=rules", "engine.model=m"], "how is 'rules', which asks no model"),
        (["how=words"], "key 'how': Invalid value 'words'"),
        (["rules.min_chars=0"], r"rules: min_chars is 0 \(from 1\)"),
        (["rules.min_chars=9", "rules.max_chars=8"], "max_chars is 8"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        configuration.load(Config, None, ["out=o", "source.path=i", *overrides])


def test_failures_are_counted_without_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"Look at it.\n\nSo we get {'four ' * count}." for count in (1, 500, 900)]
    items = [Solution(id=str(n), problem="p", steps=(text,)) for n, text in enumerate(texts)]
    jsonl.write(tmp_path / "in.jsonl", items)
    engine = scripted(lambda request: "[1,2]", context=500)
    monkeypatch.setattr("annotate.split.load", lambda config: engine)
    config = Config(
        out=str(tmp_path / "out"),
        source=Source(path=str(tmp_path / "in.jsonl")),
        engine=EngineConfig("m"),
    )
    assert run(config).failed == {"the prompt is too long": 2}

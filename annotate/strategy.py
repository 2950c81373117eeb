"""Prompt strategies: how a judge is asked, as data in `prompts/`, one folder per set.

A set holds `common.toml` and one file per strategy. Placeholders `{{name}}` are filled in one
pass, so braces, LaTeX and whatever else stands in a solution reach the judge as they are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from annotate.verdicts import Form
from prm.engines import Message
from prm.errors import ConfigError
from prm.records import Solution

_PROMPTS = Path(__file__).parent / "prompts"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_OTHERS = ("common", "split", "rewrite")
"""Files of a prompt set that are no strategies."""
_KEYS = {"reasoning", "needs_reference", "needs_answer", "answer", "user", "tail"}
"""Of a strategy's file."""
_VALUES = {"fence", "question", "reference", "steps", "count"}


Layout = Literal["paper", "shared"]


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way to ask, as its prompt set has it.

    Attributes:
        name: its file's name.
        reasoning: whether the judge reasons before it answers.
        needs_reference: whether it is of no use without a worked reference solution.
        needs_answer: whether it is of no use without a reference of any kind, worked or only the
            final answer.
        answer: what the judge answers with; see `annotate.verdicts`.
        system, user: the messages, with placeholders.
        step: how one step of the student is laid out.
        answer_only, no_reference: what stands as the reference where there is no worked one.
    """

    name: str
    reasoning: bool
    needs_reference: bool
    needs_answer: bool
    answer: Form
    system: str
    user: str
    step: str
    answer_only: str
    no_reference: str

    def lacks(self, solution: Solution) -> str | None:
        """Why it is of no use for a solution; None where it is."""
        if self.needs_reference and solution.reference is None:
            return "the strategy needs a reference solution, and there is none"
        if self.needs_answer and solution.reference is None and solution.answer is None:
            return "the strategy needs a reference answer, and there is none"
        return None


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How a prompt set asks for step separation: `split.toml`.

    Attributes:
        system, user: the messages, with placeholders.
        piece: how one piece of the text is laid out.
    """

    system: str
    user: str
    piece: str


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """How a prompt set asks for a text to be written again, in steps: `rewrite.toml`.

    Attributes:
        system, user: the messages, with placeholders.
    """

    system: str
    user: str


def prompt_folder(prompts: str) -> Path:
    """The folder of a prompt set.

    Raises:
        ConfigError: there is none; names the sets there are.
    """
    for folder in (_PROMPTS / prompts, Path(prompts)):
        if (folder / "common.toml").is_file():
            return folder
    known = ", ".join(sorted(path.parent.name for path in _PROMPTS.glob("*/common.toml")))
    raise ConfigError(f"prompts {prompts!r}: no such prompt set; known: {known}, or a folder")


def load_strategy(name: str, prompts: str = "default", layout: Layout = "paper") -> Strategy:
    """Read a strategy from a prompt set.

    A strategy's file has its whole user message under `user` (layout `paper`), and under `tail`
    what follows the set's `shared` beginning (layout `shared`).

    Raises:
        ConfigError: no such set or strategy, or a file that is not as it should be.
    """
    folder = prompt_folder(prompts)
    path = folder / f"{name}.toml"
    if name in _OTHERS or not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.toml") if file.stem not in _OTHERS)
        raise ConfigError(f"strategy {name!r}: not in {folder}; known: {', '.join(known)}")
    common = _read_toml(folder / "common.toml")
    own = _read_toml(path)
    if unknown := sorted(own.keys() - _KEYS):
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    answer = own.get("answer", "verdicts")
    if answer not in get_args(Form):
        raise ConfigError(f"{path}: answer is {answer!r}; known: {', '.join(get_args(Form))}")
    try:
        parts = [own["user"]] if layout == "paper" else [common["shared"], own["tail"]]
        strategy = Strategy(
            name=name,
            reasoning=own["reasoning"],
            needs_reference=own.get("needs_reference", False),
            needs_answer=own.get("needs_answer", False),
            answer=answer,
            system=common["system"],
            user="".join(_fill(part, common, keep=_VALUES) for part in parts),
            step=common["step"],
            answer_only=common["answer_only"],
            no_reference=common["no_reference"],
        )
        _check_placeholders(strategy)
    except KeyError as error:
        raise ConfigError(
            f"{path}: {error.args[0]!r} is neither a key here nor in common.toml"
        ) from None
    return strategy


def load_splitting(prompts: str = "default") -> Splitting:
    """Read how a prompt set asks for step separation.

    Raises:
        ConfigError: no such set, or a file that is not as it should be.
    """
    path = prompt_folder(prompts) / "split.toml"
    own = _read_toml(path)
    try:
        splitting = Splitting(system=own["system"], user=own["user"], piece=own["piece"])
        _fill(splitting.system, {})
        _fill(splitting.user, {"fence": "", "pieces": "", "count": ""})
        _fill(splitting.piece, {"fence": "", "number": "", "piece": ""})
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]!r} is neither a key nor a value here") from None
    return splitting


def load_rewriting(prompts: str = "default") -> Rewriting:
    """Read how a prompt set asks for a text to be written again, in steps.

    Raises:
        ConfigError: no such set, or a file that is not as it should be.
    """
    path = prompt_folder(prompts) / "rewrite.toml"
    own = _read_toml(path)
    try:
        rewriting = Rewriting(system=own["system"], user=own["user"])
        _fill(rewriting.system, {})
        _fill(rewriting.user, {"fence": "", "text": ""})
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]!r} is neither a key nor a value here") from None
    return rewriting


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _check_placeholders(strategy: Strategy) -> None:
    values = dict.fromkeys(_VALUES, "")
    _fill(strategy.system, {})
    _fill(strategy.user, values)
    _fill(strategy.step, {"fence": "", "number": "", "step": ""})
    _fill(strategy.answer_only, {"answer": ""})


def _fill(template: str, values: Mapping[str, str], keep: Iterable[str] = ()) -> str:
    """Replace `{{name}}` in one pass: what a value contains is never looked at again."""
    kept = set(keep)
    return _PLACEHOLDER.sub(
        lambda match: match[0] if match[1] in kept else values[match[1]], template
    )


def render(strategy: Strategy, solution: Solution) -> tuple[Message, ...]:
    """The messages that ask a judge about a solution.

    Everything that is not ours stands behind markers that start with a run of tildes longer
    than any in it, so no text can close its own fence.
    """
    if solution.reference is not None:
        reference = solution.reference
    elif solution.answer is not None:
        reference = _fill(strategy.answer_only, {"answer": solution.answer})
    else:
        reference = strategy.no_reference
    fence = _fence([solution.problem, reference, *solution.steps])
    steps = "\n".join(
        _fill(strategy.step, {"fence": fence, "number": str(number), "step": step})
        for number, step in enumerate(solution.steps, start=1)
    )
    user = _fill(
        strategy.user,
        {
            "fence": fence,
            "question": solution.problem,
            "reference": reference,
            "steps": steps,
            "count": str(len(solution.steps)),
        },
    )
    return (
        Message(role="system", content=strategy.system),
        Message(role="user", content=user),
    )


def render_pieces(splitting: Splitting, pieces: Sequence[str]) -> tuple[Message, ...]:
    """The messages that ask which pieces of a text begin a step."""
    fence = _fence(pieces)
    laid_out = "\n".join(
        _fill(splitting.piece, {"fence": fence, "number": str(number), "piece": piece})
        for number, piece in enumerate(pieces, start=1)
    )
    values = {"fence": fence, "pieces": laid_out, "count": str(len(pieces))}
    return (
        Message(role="system", content=splitting.system),
        Message(role="user", content=_fill(splitting.user, values)),
    )


def render_text(rewriting: Rewriting, text: str) -> tuple[Message, ...]:
    """The messages that ask for a text to be written again, in steps."""
    values = {"fence": _fence([text]), "text": text}
    return (
        Message(role="system", content=rewriting.system),
        Message(role="user", content=_fill(rewriting.user, values)),
    )


def _fence(contents: Iterable[str]) -> str:
    runs = (len(run) for run in re.findall("~+", "\n".join(contents)))
    return "~" * max(8, 1 + max(runs, default=0))

"""The scores of prefixes, with what each cost.

A search scores the same beginnings again and again, each time a step longer. On transformers what
was read before is kept (`prm.scorers.prefix`), on vLLM it is in the prefix cache; any other scorer
reads every prefix from its start.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from prm.errors import RecordError
from prm.records import Failure, Problem, Solution, StepScores
from prm.render import Branch, Branched, Rendered
from prm.scorers import ModelScorer
from prm.scorers.base import Draft, Scored, flowing
from prm.search.budget import Budget, shared_out
from prm.search.tree import Path, Scores

if TYPE_CHECKING:
    from prm.scorers.prefix import PrefixScorer
    from prm.scorers.vllm import VLLMScorer


class PathScorer(Protocol):
    """Whatever scores paths."""

    def score(self, paths: Sequence[Path]) -> list[tuple[Scores, Budget]]:
        """The scores of each path's steps, or why there are none; and what they cost."""
        ...

    def keep(self, prefixes: Iterable[tuple[Problem, tuple[str, ...]]]) -> None:
        """Forget all but these beginnings."""
        ...


def path_scorer(scorer: ModelScorer) -> PathScorer:
    """The way to score paths that computes least with a scorer."""
    from prm.scorers.prefix import PrefixScorer, can_reuse

    if can_reuse(scorer):
        return Reusing(PrefixScorer(scorer))
    if "prm.scorers.vllm" in sys.modules:  # else no scorer is one of it
        from prm.scorers.vllm import VLLMScorer

        if isinstance(scorer, VLLMScorer):
            return Newest(scorer)
    return Rescoring(scorer)


class Reusing:
    """Scores what is new of each path, with a scorer that remembers what it read.

    Args:
        scorer: it.
    """

    def __init__(self, scorer: PrefixScorer) -> None:
        self._scorer = scorer

    def score(self, paths: Sequence[Path]) -> list[tuple[Scores, Budget]]:
        """See `PathScorer.score`."""
        found = self._scorer.score(list(map(_draft, paths)), [not path.end for path in paths])
        return [(_scores(one.result), Budget(read=one.computed, whole=one.whole)) for one in found]

    def keep(self, prefixes: Iterable[tuple[Problem, tuple[str, ...]]]) -> None:
        """See `PathScorer.keep`."""
        self._scorer.keep({(problem.problem, steps) for problem, steps in prefixes})


class Newest:
    """Scores the newest step of each path on vLLM, which has what came before in its cache.

    Earlier scores are the path's own, where the rendering of the path so far is a beginning of the
    new one; where it is not, and where several steps are new, the whole is scored.

    Args:
        scorer: it.
    """

    def __init__(self, scorer: VLLMScorer) -> None:
        self._scorer = scorer
        self._whole = Rescoring(scorer)

    def score(self, paths: Sequence[Path]) -> list[tuple[Scores, Budget]]:
        """See `PathScorer.score`."""
        found: list[tuple[Scores, Budget] | None] = [None] * len(paths)
        newest: dict[int, Branched] = {}
        wholes: list[int] = []
        for index, path in enumerate(paths):
            try:
                item = self._newest(path)
            except RecordError as error:
                found[index] = str(error), Budget()
                continue
            if item is None:
                wholes.append(index)
            else:
                newest[index] = item
        read = self._scorer.flow.run(map(self._scorer.reading, newest.values()))
        for (index, item), (values, tokens) in zip(newest.items(), read, strict=True):
            scores = values if isinstance(values, str) else (*paths[index].scores, *values)
            if not isinstance(scores, str) and not math.isfinite(scores[-1]):
                scores = f"the model gave {scores[-1]} for step {len(scores) - 1}"
            found[index] = scores, Budget(read=tokens, whole=item.longest)
        if wholes:
            rest = self._whole.score([paths[index] for index in wholes])
            for index, one in zip(wholes, rest, strict=True):
                found[index] = one
        return [one for one in found if one is not None]

    def keep(self, prefixes: Iterable[tuple[Problem, tuple[str, ...]]]) -> None:
        """See `PathScorer.keep`: vLLM forgets what was not used for long."""

    def _newest(self, path: Path) -> Branched | None:
        """A sequence that ends where the newest step is read; None where the whole must be."""
        steps, render = path.steps, self._scorer.format.render
        if len(path.scores) != len(steps) - 1:
            return None
        item = render(path.problem.problem, steps, None)
        if isinstance(item, Branched):
            sequence = Branched(item.trunk, item.branches[-1:])
        else:
            *ends, last = item.step_ends
            if ends:
                earlier = render(path.problem.problem, steps[:-1], None)
                read = ends[-1] + 1
                if (
                    not isinstance(earlier, Rendered)
                    or earlier.step_ends != ends
                    or earlier.input_ids[:read] != item.input_ids[:read]
                ):
                    return None
            sequence = Branched(item.input_ids[:last], [Branch(last, [item.input_ids[last]])])
        if sequence.longest > self._scorer.context:
            raise RecordError(
                f"{sequence.longest} tokens, more than max_length {self._scorer.context}; nothing "
                "is cut",
                field="steps",
            )
        return sequence


class Rescoring:
    """Scores every path from its start, as far as the scorer itself remembers nothing.

    Where what was computed is known of a batch alone, it is shared out by the paths' lengths.

    Args:
        scorer: any that runs a model.
    """

    def __init__(self, scorer: ModelScorer) -> None:
        self._scorer = scorer

    def score(self, paths: Sequence[Path]) -> list[tuple[Scores, Budget]]:
        """See `PathScorer.score`."""
        drafts = list(map(_draft, paths))
        lengths = list(map(self._length, drafts))
        rendered = hasattr(self._scorer, "format")
        return [
            (_scores(item), Budget(read=read, whole=max(read, length if rendered else 0)))
            for (item, read), length in zip(self._scored(drafts, lengths), lengths, strict=True)
        ]

    def _scored(self, drafts: Sequence[Solution], lengths: Sequence[int]) -> list[Scored]:
        if (scorer := flowing(self._scorer)) is not None:  # others may be under way
            return scorer.flow.run(map(scorer.course, drafts))
        before = self._scorer.tokens
        results = self._scorer.score_each(drafts)
        shares = shared_out(self._scorer.tokens - before, lengths)
        return list(zip(results, shares, strict=True))

    def keep(self, prefixes: Iterable[tuple[Problem, tuple[str, ...]]]) -> None:
        """See `PathScorer.keep`: nothing is remembered here."""

    def _length(self, solution: Solution) -> int:
        """Tokens of a rendering; characters where a family has none, or cannot make this one."""
        from prm.scorers.prefix import tokens_read

        try:
            form = self._scorer.format  # type: ignore[attr-defined]  # not of every scorer
            return tokens_read(form.render(solution.problem, solution.steps, None))
        except (AttributeError, RecordError):
            return len(solution.problem) + sum(map(len, solution.steps))


def _draft(path: Path) -> Solution:
    """What the reward model sees: never the reference, for which the search is."""
    return Draft(id=path.problem.id, problem=path.problem.problem, steps=path.steps)


def _scores(item: StepScores | Failure) -> Scores:
    return item.reason if isinstance(item, Failure) else item.scores

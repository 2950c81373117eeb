"""What `annotate.agreement` finds in an annotated file."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.estimates import Estimate, Share


@dataclass(frozen=True)
class Voter:
    """What one voter did.

    Attributes:
        name: short and its own among the voters.
        model_free: whether it is a rule.
        judge, strategy, sample: who it is; samples count from 1.
        coverage: steps with a verdict, of all steps in the file.
        wrong: votes for wrong, of its votes.
        unusable: answers that could not be used, of those asked for.
        reasons: of these; numbers that differ from answer to answer are left out.
        not_asked: answers that sequential voting did not ask for.
        usage: tokens, by kind.
    """

    name: str
    model_free: bool
    judge: str
    strategy: str
    sample: int
    coverage: Share
    wrong: Share
    unusable: Share
    reasons: dict[str, int]
    not_asked: int
    usage: dict[str, int]


@dataclass(frozen=True)
class Pair:
    """Two voters, over the steps on which both voted."""

    first: str
    second: str
    agreement: Share
    kappa: Estimate


@dataclass(frozen=True)
class Jury:
    """A set of voters together.

    Attributes:
        voters: how many there are.
        complete: Fleiss' kappa over the steps on which all of them voted.
        varying: Fleiss' kappa over the steps on which at least two of them voted.
        dissent, agreement: see `annotate.estimates`; over the same steps as `varying`.
        splits: `right:wrong` → how many steps split the voters so; all steps, those with no
            vote too.
    """

    voters: int
    complete: Estimate
    varying: Estimate
    dissent: Share
    agreement: Estimate
    splits: dict[str, int]


@dataclass(frozen=True)
class Class:
    """Steps of one kind: from how many solutions, and how many of them with dissent."""

    name: str
    solutions: int
    dissent: Share


@dataclass(frozen=True)
class Generator:
    """What the voters say of one policy; a step is wrong where its label lies below one half.

    Attributes:
        wrong: wrong steps, of those with a label.
        erroneous: solutions with a wrong step, of those whose every step has a label.
        first_errors: number of the first wrong step, from 1, in classes → solutions.
        median_first_error: of the erroneous ones; the lower of two.
    """

    name: str
    solutions: int
    steps: int
    wrong: Share
    erroneous: Share
    first_errors: dict[str, int]
    median_first_error: int | None


@dataclass(frozen=True)
class Agreement:
    """All there is to say of an annotated file.

    Attributes:
        solutions, steps: how many.
        voters, pairs: each voter, each two of them.
        all, llm: the voters together; those that are language models together.
        by_position: steps by tenths of their solution; a step counts where its middle lies.
        by_length: steps by the number of steps of their solution.
        labels: steps by tenths of their label, the mean verdict; all strategies weigh the same.
        unlabelled: steps without a verdict.
        generators: each policy, by name.
        unusable: answers of language models that could not be used, of those asked for.
        not_asked: answers that sequential voting did not ask for.
        tokens: prompts and answers together.
    """

    solutions: int
    steps: int
    voters: list[Voter]
    pairs: list[Pair]
    all: Jury
    llm: Jury
    by_position: list[Class]
    by_length: list[Class]
    labels: list[int]
    unlabelled: int
    generators: list[Generator]
    unusable: Share
    not_asked: int
    tokens: int

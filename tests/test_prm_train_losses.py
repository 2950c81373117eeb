"""Losses against hand calculations, and what must not change them: cuts, order, layout, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prm import config as configuration
from prm.errors import ConfigError
from prm.train.losses import IGNORE, LossConfig, StepLoss, by_solution
from prm.zoo.aurora import _readout, raw_scores

KINDS = ("squared_error", "binary_cross_entropy", "two_class", "ranking")
NAN, INF = float("nan"), float("inf")

one_solution = st.lists(
    st.tuples(
        st.floats(-6, 6, width=32),  # score
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, IGNORE]),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=5,
)
solutions = st.lists(one_solution, min_size=1, max_size=5)


def batch(rows, *, outputs: int, packed: bool = False, noise: float = 0.0) -> tuple:
    """Logits, labels, weights and groups of solutions, each step after a token that is none.

    Args:
        rows: per solution, per step: score, label, weight.
        outputs: of the head; of two outputs the difference is the score.
        packed: all solutions in one row, else one row each, padded.
        noise: the logits of tokens that end no step.
    """
    groups = [[-1, number] * len(row) for number, row in enumerate(rows)]
    cells = [[cell for step in row for cell in ((noise, IGNORE, 0.0), step)] for row in rows]
    if packed:
        groups, cells = ([[cell for row in rows for cell in row]] for rows in (groups, cells))
    width = max(map(len, cells))
    padded = [row + [(noise, IGNORE, 0.0)] * (width - len(row)) for row in cells]
    numbers = torch.tensor([row + [-1] * (width - len(row)) for row in groups])
    scores, labels, weights = torch.tensor(padded).unbind(-1)
    logits = scores[..., None]
    if outputs == 2:
        logits = torch.stack([scores * 0.25, scores * 1.25], -1)
    return logits.clone(), labels, weights, numbers


def loss_of(kind: str, rows, count: int | None = None, **layout) -> float:
    config = LossConfig(kind=kind)
    return StepLoss(config)(*batch(rows, outputs=config.labels, **layout), count).item()


# ── by hand ──────────────────────────────────────────────────────────────────────────────────


def test_squared_error_by_hand():
    rows = [[(0.5, 1.0, 1.0), (0.9, 0.7, 1.0)], [(0.0, 0.25, 0.5), (1.0, 0.0, 0.5)]]
    # Σ w (r − r̂)² = .25 + .04 + ½ (.0625 + 1) = .82125, over twice the four labelled steps.
    assert loss_of("squared_error", rows) == pytest.approx(0.82125 / 8)
    # Over accumulated batches the trainer counts: here ten steps.
    assert loss_of("squared_error", rows, 10) == pytest.approx(0.82125 / 20)
    assert loss_of("squared_error", rows, torch.tensor(10)) == pytest.approx(0.0410625)


def test_binary_cross_entropy_by_hand():
    # σ(ln 3) = ¾ and σ(−ln 4) = ⅕. A hard label: −ln ¾. A soft one of .3 at weight ½:
    # ½ (−.3 ln ⅕ − .7 ln ⅘).
    rows = [[(math.log(3), 1.0, 1.0), (-math.log(4), 0.3, 0.5)]]
    hard = 0.28768207
    soft = 0.5 * (0.3 * 1.60943791 + 0.7 * 0.22314355)
    assert loss_of("binary_cross_entropy", rows) == pytest.approx((hard + soft) / 2, abs=1e-6)


def test_two_class_by_hand():
    # Outputs ln 1 and ln 3: the softmax is (¼, ¾). Outputs ln 8 and ln 2: (⅘, ⅕).
    logits = torch.tensor([[[math.log(1), math.log(3)], [math.log(8), math.log(2)]]])
    labels, weights = torch.tensor([[1.0, 0.3]]), torch.tensor([[1.0, 0.5]])
    loss = StepLoss(LossConfig(kind="two_class"))(logits, labels, weights, torch.zeros(1, 2).long())
    hard = -math.log(3 / 4)
    soft = 0.5 * (0.3 * -math.log(1 / 5) + 0.7 * -math.log(4 / 5))
    assert loss.item() == pytest.approx((hard + soft) / 2, abs=1e-6)


def test_two_class_gradients_are_those_of_a_softmax():
    logits = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, 0.7, 0.3]])
    ones, groups = torch.ones(1, 4), torch.zeros(1, 4).long()
    StepLoss(LossConfig(kind="two_class"))(logits, labels, ones, groups).backward()
    # The gradient of a cross entropy: (softmax − target) / N.
    expected = (logits.detach().softmax(-1) - torch.stack([1 - labels, labels], -1)) / 4
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_ranking_by_hand():
    # e^score is 2 and 3 for the right steps, 1 and 5 for the wrong ones; e^ζ = e^4 = 54.598….
    lift = math.exp(4.0)
    rows = [
        [
            (math.log(2), 1.0, 1.0),
            (math.log(1), 0.25, 1.0),
            (math.log(3), 0.5, 0.5),  # right from a half on
            (math.log(5), 0.0, 0.5),
        ]
    ]
    against = 1 * lift + 5 * lift
    start = -math.log(1 / (1 + against)) * 0.75  # its weight: that of the wrong steps on average
    first = -math.log(2 / (1 + 2 + against))
    second = -math.log(3 / (1 + 2 + 3 + against)) * 0.5
    # The mean over three comparisons, times four steps, over N = 4.
    expected = (start + first + second) / 3
    assert loss_of("ranking", rows) == pytest.approx(expected, rel=1e-5)
    # Beside a solution of one right step: −ln 2/(1 + 2), with no wrong step to compare with.
    alone = -math.log(2 / 3)
    both = (4 * expected + 1 * alone) / 5
    assert loss_of("ranking", [*rows, [(math.log(2), 1.0, 1.0)]]) == pytest.approx(both, rel=1e-5)


def literal_ranking(rows, scores: torch.Tensor, margin: float) -> torch.Tensor:
    """The definition written out, step by step, over N; `scores` are those of all steps in turn."""
    total, place = torch.tensor(0.0), 0
    count = sum(label != IGNORE for row in rows for _, label, _ in row)
    for row in rows:
        steps = [(scores[place + i], label, w) for i, (_, label, w) in enumerate(row)]
        place += len(row)
        labelled = [step for step in steps if step[1] != IGNORE]
        part = [step for step in labelled if step[2] > 0]
        wrong = [(s, w) for s, label, w in part if label < 0.5]
        against = sum((torch.exp(s + margin) for s, _ in wrong), torch.tensor(0.0))
        reached, terms = torch.tensor(1.0), []  # the start's score is 0
        if wrong:
            weight = sum(w for _, w in wrong) / len(wrong)
            terms.append(-weight * torch.log(1 / (1 + against)))
        for s, label, w in part:
            if label >= 0.5:
                reached = reached + torch.exp(s)
                terms.append(-w * torch.log(torch.exp(s) / (reached + against)))
        if terms:
            total = total + len(labelled) * sum(terms) / len(terms)
    return total / max(count, 1)


@given(solutions)
def test_ranking_and_its_gradient_are_those_of_the_definition(rows):
    logits, *rest = batch(rows, outputs=1, packed=True)
    logits.requires_grad_()
    loss = StepLoss(LossConfig(kind="ranking"))(logits, *rest)
    loss.backward()
    scores = torch.tensor([s for row in rows for s, _, _ in row], requires_grad=True)
    expected = literal_ranking(rows, scores, 4.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    if expected.requires_grad:
        expected.backward()
    wanted = torch.zeros_like(scores) if scores.grad is None else scores.grad
    assert torch.allclose(logits.grad[0, 1::2, 0], wanted, rtol=1e-3, atol=1e-4)


def test_ranking_takes_its_margin_from_the_configuration():
    rows = [[(0.5, 1.0, 1.0), (-0.5, 0.0, 1.0)]]
    for margin in (0.0, 2.0):
        against = math.exp(-0.5 + margin)
        start = math.log(1 + against)
        right = math.log(1 + math.exp(0.5) + against) - 0.5
        loss = StepLoss(LossConfig(kind="ranking", margin=margin))(*batch(rows, outputs=1))
        assert loss.item() == pytest.approx((start + right) / 2, rel=1e-5)


def test_ranking_falls_as_right_steps_rise_in_order_and_wrong_ones_fall():
    def loss(*scores: float) -> float:
        labels = (1.0, 1.0, 0.0)
        return loss_of("ranking", [[(s, r, 1.0) for s, r in zip(scores, labels, strict=True)]])

    assert loss(1.0, 2.0, -3.0) < loss(2.0, 1.0, -3.0) < loss(2.0, 1.0, 0.0) < loss(-3.0, 1.0, 2.0)


def test_a_step_of_weight_zero_takes_no_part_in_a_ranking():
    tie = (5.0, 0.5, 0.0)
    rest = [(1.0, 1.0, 1.0), (-1.0, 0.0, 1.0)]
    without = loss_of("ranking", [rest])
    assert loss_of("ranking", [[rest[0], tie, rest[1]]]) == pytest.approx(without, rel=1e-6)
    assert loss_of("ranking", [[tie]]) == 0.0


def test_scores_far_apart_give_a_finite_ranking_and_gradient():
    logits, *rest = batch([[(90.0, 0.0, 1.0), (-90.0, 1.0, 1.0), (90.0, 1.0, 1.0)]], outputs=1)
    logits.requires_grad_()
    loss = StepLoss(LossConfig(kind="ranking"))(logits, *rest)
    loss.backward()
    # Start: 94. First right step: 94 + 90. Second: 94 − 90, and e⁻⁴ of that step itself.
    expected = (94 + 184 + 4 + math.log1p(math.exp(-4))) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_labels_costs_nothing(kind):
    config = LossConfig(kind=kind)
    logits, labels, weights, groups = batch([[(2.0, IGNORE, 1.0)]], outputs=config.labels)
    logits.requires_grad_()
    for count in (None, torch.tensor(0), torch.tensor(7)):
        loss = StepLoss(config)(logits, labels, weights, groups, count)
        assert loss.item() == 0.0
        loss.backward()  # every process must take part in the backward pass
        assert not logits.grad.any()


# ── what changes nothing ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@given(solutions, st.integers(0, 5))
def test_cutting_a_batch_in_two_changes_nothing(kind, rows, cut):
    count = sum(label != IGNORE for row in rows for _, label, _ in row)
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    summed = sum(loss_of(kind, part, count) for part in parts)
    assert summed == pytest.approx(loss_of(kind, rows, count), rel=1e-5, abs=1e-6)
    if count:
        assert summed == pytest.approx(loss_of(kind, rows), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(solutions, st.randoms())
def test_the_order_of_solutions_changes_nothing(kind, rows, random):
    shuffled = random.sample(rows, len(rows))
    assert loss_of(kind, shuffled) == pytest.approx(loss_of(kind, rows), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@given(solutions)
def test_padded_and_packed_batches_cost_the_same(kind, rows):
    assert loss_of(kind, rows, packed=True) == loss_of(kind, rows, packed=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [1e38, INF, -INF, NAN])
def test_noise_between_step_ends_leaks_nowhere(kind, noise):
    rows = [[(0.5, 1.0, 1.0), (0.9, IGNORE, 1.0)], [(-0.5, 0.3, 0.5)]]
    config = LossConfig(kind=kind)

    def run(noise: float) -> tuple[float, torch.Tensor]:
        logits, labels, weights, groups = batch(rows, outputs=config.labels, noise=noise)
        logits[0, 3] = noise  # a step end that the loss ignores
        logits.requires_grad_()
        loss = StepLoss(config)(logits, labels, weights, groups)
        loss.backward()
        assert logits.grad is not None
        assert not logits.grad[labels == IGNORE].any()
        return loss.item(), logits.grad

    loss, gradient = run(noise)
    quiet, expected = run(0.0)
    assert loss == quiet > 0
    assert torch.equal(gradient, expected)
    assert gradient.any()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_outputs_are_computed_in_float32(kind):
    # 0.7 is .69921875 in bfloat16, and −3.3 is −3.296875: the loss is that of these numbers.
    rows = [[(0.7, 1.0, 1.0), (-3.3, 0.3, 1.0)]]
    exact = [[(0.69921875, 1.0, 1.0), (-3.296875, 0.3, 1.0)]]
    config = LossConfig(kind=kind)
    logits, *rest = batch(rows, outputs=config.labels)
    if config.labels == 2:
        logits = torch.stack([torch.zeros(1, 4), logits[..., 1] / 1.25], -1)
    loss = StepLoss(config)(logits.bfloat16(), *rest)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(loss_of(kind, exact), rel=1e-6)
    # The difference of two outputs, too, is taken in float32: in bfloat16 100.5 − 0.004 is 100.5.
    if config.labels == 2:
        pair = torch.tensor([[[0.00390625, 100.5]]]).bfloat16()
        loss = StepLoss(config)(pair, *(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1)))
        assert loss.item() == pytest.approx(100.49609375, rel=1e-7)


@pytest.mark.parametrize("kind", ["squared_error", "binary_cross_entropy", "two_class"])
def test_a_soft_label_is_never_rounded(kind):
    """Where the gradient vanishes there lies the label: at 0.7, not at 0 or 1."""
    config = LossConfig(kind=kind)
    score = 0.7 if kind == "squared_error" else math.log(0.7 / 0.3)
    logits, *rest = batch([[(score, 0.7, 1.0)]], outputs=config.labels)
    logits.requires_grad_()
    StepLoss(config)(logits, *rest).backward()
    assert logits.grad.abs().max() < 1e-6


# ── the table of solutions ───────────────────────────────────────────────────────────────────


def test_by_solution_by_hand():
    row, column, shape = by_solution(torch.tensor([7, 7, 2, 7, 2]))
    assert (row.tolist(), column.tolist(), shape) == ([1, 1, 0, 1, 0], [0, 1, 0, 2, 1], (2, 3))
    assert by_solution(torch.tensor([], dtype=torch.long))[2] == (0, 0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_every_step_has_its_place(groups):
    row, column, shape = by_solution(torch.tensor(groups))
    places = list(zip(row.tolist(), column.tolist(), strict=True))
    seen: dict[int, int] = {}
    for group, place in zip(groups, places, strict=True):
        assert place == (sorted(set(groups)).index(group), seen.get(group, 0))
        seen[group] = seen.get(group, 0) + 1
    assert shape == (len(seen), max(seen.values()))


# ── configuration ────────────────────────────────────────────────────────────────────────────


def test_two_classes_need_two_outputs():
    assert [LossConfig(kind=kind).labels for kind in KINDS] == [1, 1, 2, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_checkpoint_reads_what_the_loss_trained(kind):
    config = LossConfig(kind=kind)
    outputs = torch.tensor([[-0.5, 0.25][-config.labels :], [0.0, math.log(3)][-config.labels :]])
    said = StepLoss(config).scores(raw_scores(outputs))
    assert torch.equal(said, _readout(kind, config.labels).scores(outputs))
    if kind == "squared_error":
        assert said.tolist() == pytest.approx([0.25, math.log(3)])
        assert config.meaning.startswith("raw score")
    else:
        assert said[1].item() == pytest.approx(0.75)
        assert config.meaning.startswith("sigmoid of")


def test_scores_are_probabilities_where_they_are_no_order():
    scores = torch.tensor([-0.5, 0.25, 1.5])
    said = {kind: StepLoss(LossConfig(kind=kind)).probabilities(scores) for kind in KINDS}
    assert said.pop("ranking") is None
    assert all(values.tolist() == [0.0, 0.25, 1.0] for values in said.values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"last_step_weight": 0.0}, "last_step_weight is 0.0"),
        ({"last_step_weight": INF}, "last_step_weight is inf"),
        ({"last_step_weight": NAN}, "last_step_weight is nan"),
        ({"margin": -1.0}, "margin is -1.0"),
        ({"margin": NAN}, "margin is nan"),
        ({"steps": "last", "after_first_error": "ignore"}, "take one of them"),
    ],
)
def test_losses_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**keys)


@dataclass
class Config:
    """A stage's configuration that holds a loss."""

    loss: LossConfig = field(default_factory=LossConfig)


def test_a_loss_comes_from_the_command_line():
    loaded = configuration.load(Config, None, ["loss.kind=ranking", "loss.margin=2"])
    assert loaded.loss == LossConfig(kind="ranking", margin=2.0)


@pytest.mark.parametrize("override", ["loss.kind=hinge", "loss.marg=1", "loss.margin=-1"])
def test_a_loss_that_the_command_line_cannot_know_is_refused(override):
    with pytest.raises(ConfigError, match=override.split("=")[0].split(".")[1]):
        configuration.load(Config, None, [override])

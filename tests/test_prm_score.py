"""Scores of our own checkpoints: complete, the same in any company, or refused with a reason."""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sums
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, AutoTokenizer

from prm import jsonl
from prm import score as score_stage
from prm.config import load as load_config
from prm.errors import CheckpointError, ConfigError, RecordError, RunConflictError
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.scorers import ScorerConfig, score, score_all
from prm.scorers import load as load_scorer
from prm.scorers.base import Batching, token_batches
from prm.scorers.transformers import TransformersScorer
from prm.sources import Source
from prm.zoo import aurora


@pytest.fixture(scope="module")
def scorer(tiny_prm):
    return load_scorer(ScorerConfig(str(tiny_prm)))


@pytest.fixture(scope="module")
def solutions():
    """Solutions of one to nine steps, so that a batch needs padding."""
    rng = random.Random(3)
    items = []
    for index, entry in enumerate(sums.labelled(30, seed=5)):
        steps = [f"{rng.randint(1, 99)} + 1 = {rng.randint(1, 99)}" for _ in range(index % 9 + 1)]
        items.append(
            Solution(
                id=entry.id,
                problem=entry.solution.problem,
                steps=tuple(steps),
                answer=entry.solution.answer,
                reference=entry.solution.reference,
            )
        )
    return items


def one(steps: tuple[str, ...], id: str = "1", **keys) -> Solution:
    return Solution(id=id, problem="What is 2 + 3?", steps=steps, **keys)


TOO_LONG = one(("1 2 3 4 5 6 7 8 9 " * 30,), id="too long")


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
@example([], 10)
@example([7, 7, 7], 14)
def test_token_batches_hold_everything_within_the_budget(lengths, budget):
    groups = list(token_batches(lengths, Batching(budget, pads=True)))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        width = max(lengths[index] for index in group)
        assert len(group) == 1 or width * len(group) <= budget
    # No two neighbouring groups would have fitted into one.
    for left, right in itertools.pairwise(groups):
        assert max(lengths[index] for index in left) * (len(left) + 1) > budget
        assert max(lengths[i] for i in right) <= min(lengths[i] for i in left)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_packed_batches_hold_as_many_tokens_as_they_may(lengths, budget):
    groups = list(token_batches(lengths, Batching(budget, pads=False)))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    held = [sum(lengths[index] for index in group) for group in groups]
    for group, tokens in zip(groups, held, strict=True):
        assert len(group) == 1 or tokens <= budget
    for tokens, following in zip(held, groups[1:], strict=False):
        assert tokens + lengths[following[0]] > budget


def test_as_many_finite_scores_as_steps(scorer, solutions):
    results = scorer.score_each(solutions)
    assert [result.id for result in results] == [item.id for item in solutions]
    assert [len(result.scores) for result in results] == [len(item.steps) for item in solutions]
    assert len({value for result in results for value in result.scores}) > 100  # no constant
    assert {result.model for result in results} == {"run"}  # the run folder's name, not `model`
    assert scorer.score_each([]) == []


def test_batch_size_and_order_change_nothing(tiny_prm, scorer, solutions):
    alone = [scorer.score_each([item])[0].scores for item in solutions]
    order = random.Random(0).sample(range(len(solutions)), len(solutions))
    for budget in (1, 600, 100_000):
        other = load_scorer(ScorerConfig(str(tiny_prm), batch_tokens=budget))
        shuffled = other.score_each([solutions[index] for index in order])
        for place, index in enumerate(order):
            assert shuffled[place].id == solutions[index].id
            assert shuffled[place].scores == pytest.approx(alone[index], abs=1e-5)


def test_on_a_cpu_a_batch_is_one_row_without_padding(scorer, solutions):
    read = []
    handle = scorer.backbone.register_forward_pre_hook(
        lambda module, args, keys: read.append(keys["input_ids"].shape), with_kwargs=True
    )
    before = scorer.tokens
    scorer.score_each(solutions)
    handle.remove()
    assert {rows for rows, _ in read} == {1}
    assert sum(width for _, width in read) == scorer.tokens - before
    assert len(read) < len(solutions) / 4
    # Outside of it the model takes padded batches as ever.
    assert scorer.backbone.config._attn_implementation == "sdpa"


def test_threads_that_share_a_scorer_get_the_same_scores(scorer, solutions):
    expected = [one.scores for one in scorer.score_each(solutions)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: scorer.score_each(solutions), range(12)))
    for results in found:
        for one, scores in zip(results, expected, strict=True):
            assert one.scores == pytest.approx(scores, abs=1e-6)


def changed(model: Path, folder: Path, **keys) -> Path:
    """A copy of a checkpoint with another configuration."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text()) | keys
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("what", ["window", "rotary"])
def test_models_whose_solutions_cannot_share_a_row_score_the_same_in_any_company(
    what, tiny_prm, tmp_path, solutions
):
    config = json.loads((tiny_prm / "config.json").read_text())
    if what == "window":
        window = {"use_sliding_window": True, "sliding_window": 60, "max_window_layers": 0}
        keys = window | {"layer_types": ["sliding_attention"] * config["num_hidden_layers"]}
    else:  # beyond 150 tokens, the longest of a batch changes the places of all
        half = config["hidden_size"] // config["num_attention_heads"] // 2
        factors = {"short_factor": [1.0] * half, "long_factor": [9.0] * half}
        rope = {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0}
        keys = {"rope_parameters": rope | factors | {"original_max_position_embeddings": 150}}
    model = changed(tiny_prm, tmp_path / "model", **keys)
    scorer = load_scorer(ScorerConfig(str(model)))
    together = scorer.score_each(solutions)
    apart = [scorer.score_each([item])[0].scores for item in solutions]
    stock = AutoModelForTokenClassification.from_pretrained(model).eval()
    for item, one, other in zip(solutions, together, apart, strict=True):
        rendered = scorer.format.render(item.problem, item.steps, item.reference)
        with torch.no_grad():
            logits = stock(input_ids=torch.tensor([rendered.input_ids])).logits[0, :, 0]
        expected = logits[list(rendered.step_ends)].tolist()
        assert one.scores == pytest.approx(other, abs=1e-5)
        assert one.scores == pytest.approx(expected, abs=1e-5)


def test_a_later_step_does_not_change_an_earlier_score(scorer):
    short = score_all(scorer, [one(("2 + 3 = 5",))])[0].scores
    long = score_all(scorer, [one(("2 + 3 = 5", "So it is 6."))])[0].scores
    assert long[0] == pytest.approx(short[0], abs=1e-5)


@pytest.mark.parametrize(
    "text",
    ["<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "\n\n", "a\n\nb", "<extra_0>", "ки"],
)
def test_special_tokens_in_steps_are_text(scorer, text):
    steps = (f"2 + 3 = 5 {text}", text + "5", "The answer is 5.")
    assert len(score_all(scorer, [one(steps)])[0].scores) == 3
    special = set(AutoTokenizer.from_pretrained(scorer.backbone.name_or_path).all_special_ids)

    def specials(steps: tuple[str, ...]) -> list[int]:
        ids = scorer.format.render("What is 2 + 3?", steps).input_ids
        return [id for id in ids if id in special]

    assert specials(steps) == specials(("a", "b", "c")) != []  # those of the template alone


def test_the_score_stands_at_the_step_end_of_a_stock_model(tiny_prm, scorer, solutions):
    """`AutoModelForTokenClassification` alone gives the same numbers."""
    model = AutoModelForTokenClassification.from_pretrained(tiny_prm).eval()
    for item in solutions[:5]:
        rendered = scorer.format.render(item.problem, item.steps, item.reference)
        with torch.no_grad():
            logits = model(torch.tensor([rendered.input_ids])).logits
        assert logits.shape == (1, len(rendered.input_ids), 1)
        expected = [logits[0, end, 0].item() for end in rendered.step_ends]
        assert score_all(scorer, [item])[0].scores == pytest.approx(expected, abs=1e-6)


def test_one_too_long_solution_fails_alone(scorer, solutions):
    batch = [*solutions[:2], TOO_LONG, solutions[2]]
    results = scorer.score_each(batch)
    assert isinstance(results[2], Failure)
    assert results[2].id == "too long"
    assert "more than max_length 256" in results[2].reason
    others = scorer.score_each(solutions[:3])
    assert [results[0], results[1], results[3]] == others
    with pytest.raises(RecordError, match=r"solution 'too long': .*max_length 256"):
        score_all(scorer, batch)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_a_failure(tiny_prm, value):
    broken = load_scorer(ScorerConfig(str(tiny_prm)))
    with torch.no_grad():
        broken.head[0].bias.fill_(value)
    [result] = broken.score_each([one(("2 + 3 = 5", "5"))])
    assert isinstance(result, Failure)
    assert result.reason == f"the model gave {value} for step 0; try dtype=float32"
    with pytest.raises(RecordError, match="solution '1': the model gave"):
        score_all(broken, [one(("5",))])


def test_reference_kinds_differ(tiny_prm):
    full = one(("2 + 3 = 5",), answer="5", reference="2 + 3 = 5, so five.")
    bare = one(("2 + 3 = 5",))

    def scored(kind, item):
        return score_all(load_scorer(ScorerConfig(str(tiny_prm), reference=kind)), [item])[0]

    kinds = {kind: scored(kind, full).scores for kind in ("worked", "answer", "none")}
    assert len(set(kinds.values())) == 3
    assert scored("declared", full).scores == kinds["worked"]  # as this checkpoint was trained
    assert scored("worked", bare).scores == kinds["none"]
    answered = one(("2 + 3 = 5",), answer="5")
    assert scored("worked", answered).scores == kinds["answer"]


def test_bfloat16_stays_close(tiny_prm, scorer, solutions):
    """Eight bits of mantissa: within 0.05 on scores of about 0 to 1, and not the same."""
    half = load_scorer(ScorerConfig(str(tiny_prm), dtype="bfloat16"))
    exact = [value for row in scorer.score_each(solutions) for value in row.scores]
    rough = [value for row in half.score_each(solutions) for value in row.scores]
    assert rough == pytest.approx(exact, abs=0.05)
    assert rough != exact


# ── checkpoints that are not what they should be ─────────────────────────────────────────────


@pytest.fixture
def copy(tiny_prm, tmp_path):
    return Path(shutil.copytree(tiny_prm, tmp_path / "copy"))


def refused(folder: Path) -> str:
    """The one line with which loading a folder is refused."""
    with pytest.raises(CheckpointError) as caught:
        load_scorer(ScorerConfig(str(folder)))
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_a_folder_without_declaration(copy):
    (copy / "prm.json").unlink()
    assert "nothing says which family this checkpoint is of; set `family`" in refused(copy)


def test_a_folder_that_is_not_there(tmp_path):
    message = refused(tmp_path / "nowhere")
    assert "no such model folder; give a folder (the `model` folder that `prm train`" in message


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_tokenizer_files(copy, name):
    (copy / name).unlink()
    message = refused(copy)
    assert "tokenizer files are missing" in message
    assert name in message


def test_more_tokens_than_the_model_has_positions(copy):
    declared = json.loads((copy / "prm.json").read_text())
    declared["render"]["max_length"] = 257
    (copy / "prm.json").write_text(json.dumps(declared))
    message = refused(copy)
    assert "max_length 257 is more than the model's 256 positions" in message


def test_another_schema_version(copy):
    declared = json.loads((copy / "prm.json").read_text())
    (copy / "prm.json").write_text(json.dumps(declared | {"schema_version": 2}))
    assert "schema version 2, this is 1" in refused(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"temperature": 1}, "unknown field"), ({"reference": "some"}, "reference"), ({}, "torn")],
)
def test_a_declaration_that_is_not_understood(copy, change, message):
    text = json.dumps(json.loads((copy / "prm.json").read_text()) | change)
    (copy / "prm.json").write_text(text if change else text[:50])
    assert message in refused(copy)


def widen(folder: Path, labels: int) -> AutoModelForTokenClassification:
    """Give a checkpoint a head of `labels` outputs, its weights drawn at random."""
    config = AutoModelForTokenClassification.from_pretrained(folder).config
    config.num_labels = labels
    model = AutoModelForTokenClassification.from_config(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "loss", ["squared_error", "binary_cross_entropy", "two_class", "ranking", "of another kind"]
)
def test_the_declared_loss_says_how_outputs_are_read(copy, solutions, loss, outputs):
    model = widen(copy, outputs)
    declared = json.loads((copy / "prm.json").read_text())
    (copy / "prm.json").write_text(json.dumps(declared | {"loss": loss}))
    scorer = load_scorer(ScorerConfig(str(copy)))
    for item in solutions[:3]:
        rendered = scorer.format.render(item.problem, item.steps, item.reference)
        with torch.no_grad():
            logits = model(torch.tensor([rendered.input_ids])).logits[0, rendered.step_ends]
        raw = [row[-1].item() - (row[0].item() if outputs == 2 else 0.0) for row in logits]
        assert max(map(abs, raw)) > 1e-3
        logit = loss in ("binary_cross_entropy", "two_class", "ranking")
        expected = [1 / (1 + math.exp(-value)) for value in raw] if logit else raw
        assert score_all(scorer, [item])[0].scores == pytest.approx(expected, abs=1e-6)


def test_three_outputs_are_refused(copy):
    widen(copy, 3)
    assert "3 labels; this family has one or two" in refused(copy)


def test_missing_weights_are_never_drawn_at_random(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "no head 'score' of one or two layers in the weights (score.bias)" in refused(copy)


def test_torn_weights(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "incomplete" in refused(copy)


def test_no_weights_at_all(copy):
    (copy / "model.safetensors").unlink()
    assert "no weights in it (no *.safetensors)" in refused(copy)


def test_devices_and_dtypes_that_do_not_exist(tiny_prm):
    with pytest.raises(ConfigError, match="'banana' is no torch device"):
        load_scorer(ScorerConfig(str(tiny_prm), device="banana"))
    with pytest.raises(ConfigError, match="'float99' is no torch dtype"):
        load_scorer(ScorerConfig(str(tiny_prm), dtype="float99"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(tiny_prm):
    with pytest.raises(ConfigError, match="'cuda': this torch has no CUDA device; use auto or cpu"):
        load_scorer(ScorerConfig(str(tiny_prm), device="cuda"))


@pytest.mark.parametrize("value", [0, -1])
def test_a_batch_of_no_tokens_is_refused(value):
    overrides = ["out=x", "source.path=x", "scorer.model=x", f"scorer.batch_tokens={value}"]
    with pytest.raises(ConfigError, match=f"batch_tokens is {value}; it must be at least 1"):
        load_config(score_stage.Config, None, overrides)


@pytest.mark.parametrize(
    ("key", "value"), [("batch_tokens", 0), ("max_length", -1), ("reference", "bogus")]
)
def test_a_scorer_refuses_what_it_cannot_be(key, value):
    with pytest.raises(ConfigError, match=rf"{key} is '?{value}"):
        ScorerConfig("x", **{key: value})


class Counting:
    """A scorer of its own: a step's score is its length."""

    name = "counting"

    def score_each(self, batch):
        return [
            StepScores(
                solution_id=item.id,
                steps_digest=steps_digest(item),
                model=self.name,
                scores=tuple(float(len(step)) for step in item.steps),
            )
            for item in batch
        ]


@pytest.mark.parametrize(
    ("problem", "steps", "reference", "message"),
    [
        ("q", [1, 2], None, "field 'steps.0': a text is needed, not int"),
        ("q", ["a", None], None, "field 'steps.1': a text is needed, not NoneType"),
        ("q", "2 + 3 = 5", None, "field 'steps': a list of texts is needed, .*; not str"),
        ("q", iter("ab"), None, "field 'steps': a list of texts is needed"),
        ("q", None, None, "field 'steps': a list of texts is needed, .*; not NoneType"),
        ("q", ["a\ud800"], None, "field 'steps.0': .* at character 1 is half a surrogate pair"),
        ("q", ["a"], 5, "field 'reference': a text is needed, not int"),
        (None, ["a"], None, "field 'problem': a text is needed, not NoneType"),
        ("q", [], None, "field 'steps': no steps to score"),
    ],
)
def test_arguments_that_are_no_texts_are_refused(problem, steps, reference, message):
    with pytest.raises(RecordError, match=message) as caught:
        score(Counting(), problem, steps, reference)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # printable


@pytest.mark.parametrize("steps", [["ab", "", "\n"], ("ab", "", "\n")])
def test_any_texts_get_a_score_each(steps):
    assert score(Counting(), "", steps, "5") == [2.0, 0.0, 1.0]


def test_declarations_survive_writing(tmp_path, tiny_prm):
    declared = aurora.read_declaration(tiny_prm)
    aurora.write_declaration(tmp_path, declared)
    assert aurora.read_declaration(tmp_path) == declared


# ── the stage ────────────────────────────────────────────────────────────────────────────────


def config(out: Path, source: Path, model: Path, chunk: int = 4) -> score_stage.Config:
    return score_stage.Config(
        out=str(out),
        source=Source(path=str(source)),
        scorer=ScorerConfig(str(model)),
        chunk=chunk,
    )


@pytest.fixture
def source(tmp_path, solutions):
    jsonl.write(tmp_path / "solutions.jsonl", [*solutions[:9], TOO_LONG, *solutions[9:12]])
    return tmp_path / "solutions.jsonl"


def test_counts_add_up(tmp_path, source, tiny_prm, solutions):
    counts = score_stage.run(config(tmp_path / "run", source, tiny_prm))
    assert (counts.read, counts.written, counts.rejected) == (13, 12, {"cannot be scored": 1})
    scores = list(jsonl.read(tmp_path / "run" / "scores.jsonl", StepScores))
    assert [item.id for item in scores] == [item.id for item in solutions[:12]]
    assert [item.steps_digest for item in scores] == [steps_digest(i) for i in solutions[:12]]
    [failure] = jsonl.read(tmp_path / "run" / "failures.jsonl", Failure)
    assert failure.id == "too long"
    assert not list((tmp_path / "run").glob("*.partial"))
    # Again: nothing to do. Another chunk size is no other run; another dtype is.
    before = (tmp_path / "run" / "scores.jsonl").stat().st_mtime_ns
    again = config(tmp_path / "run", source, tiny_prm, chunk=1)
    assert score_stage.run(again) == counts
    assert (tmp_path / "run" / "scores.jsonl").stat().st_mtime_ns == before
    again.scorer.dtype = "bfloat16"
    with pytest.raises(RunConflictError, match=r"scorer\.dtype was \"auto\""):
        score_stage.run(again)


@pytest.mark.parametrize("killed_after", [0, 4, 7])
def test_a_killed_run_resumes(tmp_path, source, tiny_prm, killed_after, monkeypatch):
    run = tmp_path / "run"
    score_stage.run(config(run, source, tiny_prm))
    whole = (run / "scores.jsonl").read_bytes()
    record = json.loads((run / "run.json").read_text())
    del record["outputs"], record["counts"]
    (run / "run.json").write_text(json.dumps(record))
    lines = whole.splitlines(keepends=True)
    torn = b"".join(lines[:killed_after]) + lines[killed_after][:20]
    (run / "scores.jsonl").unlink()
    (run / "scores.jsonl.partial").write_bytes(torn)
    (run / "failures.jsonl").rename(run / "failures.jsonl.partial")

    scored = []
    score_each = TransformersScorer.score_each

    def watched(self, batch):
        scored.extend(item.id for item in batch)
        return score_each(self, batch)

    monkeypatch.setattr(TransformersScorer, "score_each", watched)
    counts = score_stage.run(config(run, source, tiny_prm))
    assert (counts.read, counts.written, counts.rejected) == (13, 12, {"cannot be scored": 1})
    assert len(scored) == 12 - killed_after  # nothing is scored twice
    expected = [json.loads(line) for line in lines]
    resumed = [json.loads(line) for line in (run / "scores.jsonl").read_bytes().splitlines()]
    assert [row["solution_id"] for row in resumed] == [row["solution_id"] for row in expected]
    for mine, theirs in zip(resumed, expected, strict=True):
        assert mine["scores"] == pytest.approx(theirs["scores"], abs=1e-5)


def test_a_changed_input_or_model_is_another_run(tmp_path, source, tiny_prm, copy):
    score_stage.run(config(tmp_path / "run", source, copy))
    declared = json.loads((copy / "prm.json").read_text())
    (copy / "prm.json").write_text(json.dumps(declared))  # the same, but for white space
    with pytest.raises(RunConflictError, match=r"inputs\.model"):
        score_stage.run(config(tmp_path / "run", source, copy))


def test_a_missing_model_folder(tmp_path, source):
    with pytest.raises(CheckpointError, match="nowhere: no such model folder; give a folder"):
        score_stage.run(config(tmp_path / "run", source, tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()


def test_a_file_without_solutions_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "none.jsonl").write_text("\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "prm.json").write_text("{}")  # it could not be loaded
    with pytest.raises(RecordError, match=r"none\.jsonl: no solutions in this source"):
        score_stage.run(config(tmp_path / "run", tmp_path / "none.jsonl", tmp_path / "model"))
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.jsonl.partial", "failures.jsonl"])
def test_scores_of_no_run_are_not_taken_for_this_one_s(tmp_path, source, copy, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine\n")
    with pytest.raises(RunConflictError, match=f"holds {name}, which no run left"):
        score_stage.run(config(tmp_path / "run", source, copy))
    assert (tmp_path / "run" / name).read_text() == "mine\n"
    assert not (tmp_path / "run" / "run.json").exists()

"""Training data: solutions on disk, leak check and split, rendering, targets, what is set aside."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sums
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from prm.errors import CheckpointError, RecordError
from prm.records import LabelledSolution, Solution
from prm.render import NO_REFERENCE, Rendered, Renderer, RenderSettings
from prm.train.data import (
    NO_LOSS,
    TOO_LONG,
    SolutionFile,
    StepDataset,
    fit_tokenizer,
    separate_leaks,
    split,
)
from prm.train.losses import IGNORE, LossConfig
from prm.train.scratch import make_tokenizer

REFERENCE = "We add 1 to 1, which is one after 1, and the numeral that comes one after 1 is 2."


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    items = sums.labelled(8)
    return make_tokenizer((step for item in items for step in item.solution.steps), 320)


@pytest.fixture(scope="module")
def renderer(tokenizer: Any) -> Renderer:
    return Renderer(tokenizer, RenderSettings(max_length=256))


def item(
    id: str,
    problem: str = "1 + 1?",
    steps: Iterable[str] = ("2",),
    labels: Iterable[float] = (1.0,),
    reference: str | None = REFERENCE,
    answer: str | None = None,
    **keys: Any,
) -> LabelledSolution:
    solution = Solution(
        id=id, problem=problem, steps=tuple(steps), reference=reference, answer=answer
    )
    return LabelledSolution(solution=solution, labels=tuple(labels), **keys)


def dataset(
    renderer: Any, items: Any, drop: float = 0.0, loss: LossConfig | None = None, **keys: Any
) -> StepDataset:
    defaults: dict[str, Any] = {"reference": "worked", "seed": 0, "loss": loss or LossConfig()}
    return StepDataset(items, renderer, reference_drop=drop, **(defaults | keys))


def ids(items: Iterable[LabelledSolution]) -> list[str]:
    return [item.id for item in items]


# Solutions on disk


def test_a_solution_file_is_the_list_that_was_written(tmp_path: Path) -> None:
    items = [
        item("a", steps=("é\u2028ß", "two\nlines"), labels=(0.7, 0.0)),
        *sums.labelled(20),
        item("z", answer="\U0001f600", agreement=(0.75,)),
    ]
    file = SolutionFile(sums.write(tmp_path / "data.jsonl", items))
    assert len(file) == 22
    assert list(file) == items
    assert [file[index] for index in range(22)] == items
    assert (file[-1], file[-22]) == (items[-1], items[0])
    assert list(file[3:9:2]) == items[3:9:2]
    assert list(file.select([5, 0, 5])) == [items[5], items[0], items[5]]
    assert list(file.select([5, 0]).select([1])) == [items[0]]
    with pytest.raises(IndexError):
        file[22]


def test_a_solution_file_travels_to_other_processes(tmp_path: Path) -> None:
    items = sums.labelled(50)
    file: Any = SolutionFile(sums.write(tmp_path / "data.jsonl", items))
    assert list(pickle.loads(pickle.dumps(file.select([4, 2])))) == [items[4], items[2]]
    loader: Any = torch.utils.data.DataLoader(file, num_workers=2, collate_fn=list, batch_size=3)
    assert [entry for batch in loader for entry in batch] == items


def test_a_solution_file_holds_no_texts(tmp_path: Path) -> None:
    path = sums.write(tmp_path / "data.jsonl", sums.labelled(3000))
    list(SolutionFile(path))  # fills the decoder's own cache of short texts
    tracemalloc.start()
    file = SolutionFile(path)
    train, held_out = split(file, 0.3, seed=0)
    steps = sum(len(entry.labels) for entry in train) + sum(len(entry.labels) for entry in held_out)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert steps == 9000
    assert path.stat().st_size > 1_000_000
    assert held < 300_000  # as objects they would take some ten million
    assert peak < 500_000


def test_solution_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.jsonl: cannot be read \(No such file"):
        SolutionFile(tmp_path / "none.jsonl")
    path = sums.write(tmp_path / "data.jsonl", sums.labelled(3))
    file = SolutionFile(path)
    path.write_text("\n" + path.read_text())  # changed behind its back
    with pytest.raises(RecordError, match=r"data\.jsonl: .*invalid JSON"):
        file[1]
    path.write_text("")
    with pytest.raises(RecordError, match=r"data\.jsonl: .*invalid JSON"):
        file[1]
    assert list(SolutionFile(path)) == []
    path.unlink()  # as the main process does when it refuses to train
    with pytest.raises(RecordError, match=r"data\.jsonl: cannot be read \(No such file"):
        file[1]


# Leaks and split


def test_leaks_are_found_through_case_punctuation_and_spaces() -> None:
    items = [item("a", "What is  2+2?"), item("b", "What is 2 + 3?"), item("c", "WHAT is “2 2”")]
    clean, leaked = separate_leaks(items, ["what is 2 + 2", "something else"])
    assert ids(leaked) == ["a", "c"]
    assert ids(clean) == ["b"]


def test_leaks_against_every_benchmark_text() -> None:
    items = sums.labelled(30)
    texts = [entry.solution.problem.upper() for entry in items[::3]]
    clean, leaked = separate_leaks(items, iter(["nothing", *texts, "else"]))
    assert ids(leaked) == ids(items[::3])
    assert len(clean) == 20


def test_what_the_leak_check_does_not_catch() -> None:
    [entry] = sums.labelled(1)
    text = entry.solution.problem
    for other in (f"{text} Show your work.", text.replace("what is", "find"), f"{text}0"):
        assert separate_leaks([entry], [other]) == ([entry], [])


PROBLEMS = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(PROBLEMS, PROBLEMS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_split_is_disjoint_by_problem_and_stable(
    first: list[int], more: list[int], held_out: float, seed: int
) -> None:
    def made(numbers: list[int], prefix: str) -> list[LabelledSolution]:
        return [item(f"{prefix}{n}", f"Problem {k}{'?' * (n % 2)}") for n, k in enumerate(numbers)]

    items = made(first, "a")
    train, rest = split(items, held_out, seed)
    assert sorted([*train, *rest], key=lambda x: x.id) == sorted(items, key=lambda x: x.id)
    keys = [{entry.solution.problem.strip("?") for entry in side} for side in (train, rest)]
    assert not keys[0] & keys[1]
    # Adding data moves nothing.
    larger_train, larger_rest = split([*made(more, "b"), *items], held_out, seed)
    assert [entry for entry in larger_train if entry.id.startswith("a")] == train
    assert [entry for entry in larger_rest if entry.id.startswith("a")] == rest


def test_split_holds_out_about_its_share() -> None:
    items = [item(str(index), f"Problem {index}") for index in range(2000)]
    rest = split(items, 0.1, seed=0)[1]
    assert 150 < len(rest) < 250
    assert split(items, 0.1, seed=1)[1] != rest


def test_a_file_is_divided_as_a_list_is(tmp_path: Path) -> None:
    items = sums.labelled(60)
    file = SolutionFile(sums.write(tmp_path / "data.jsonl", items))
    texts = [entry.solution.problem for entry in items[10:15]]
    for found, expected in (
        (separate_leaks(file, texts), separate_leaks(items, texts)),
        (split(file, 0.3, 1), split(items, 0.3, 1)),
    ):
        assert all(isinstance(part, SolutionFile) for part in found)
        assert [list(part) for part in found] == list(expected)
        assert all(expected)


# Examples


def test_an_example_golden(tokenizer: Any) -> None:
    plain = Renderer(tokenizer, RenderSettings(system="", step_end="\n", takes_reference=False))
    entry = item("1", steps=("so 2", "2 it is"), labels=(0.7, 0.0), weight=0.5)
    data = dataset(plain, [entry], reference="none")
    expected = plain.render("1 + 1?", ("so 2", "2 it is"))
    assert data[0] == {
        "input_ids": expected.input_ids,
        "step_ends": expected.step_ends,
        "labels": [0.7, 0.0],
        "weights": [0.5, 0.5],
    }
    assert data.lengths == [len(expected.input_ids)]
    assert data.solution(0) == entry


def test_the_ignored_label_is_no_label() -> None:
    assert IGNORE == -100.0  # what the trainer counts by
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        item("1", labels=(IGNORE,))


def test_the_loss_decides_labels_and_weights(renderer: Renderer) -> None:
    entry = item(
        "1",
        steps=("a", "b", "c"),
        labels=(0.9, 0.2, 0.6),
        weight=0.5,
        agreement=(1.0, 0.75, 0.5),
    )
    for loss, labels, weights in (
        (LossConfig(), [0.9, 0.2, 0.6], [0.5, 0.5, 0.5]),
        (LossConfig(after_first_error="ignore"), [0.9, 0.2, IGNORE], [0.5, 0.5, 0.5]),
        (LossConfig(steps="last", last_step_weight=2), [IGNORE, IGNORE, 0.6], [0.5, 0.5, 1.0]),
        (LossConfig(agreement="weigh"), [0.9, 0.2, 0.6], [0.5, 0.25, 0.0]),
    ):
        example = dataset(renderer, [entry], loss=loss)[0]
        assert (example["labels"], example["weights"]) == (labels, weights)
        assert len(example["step_ends"]) == 3


def kept(data: StepDataset, epoch: int) -> list[bool]:
    """Which items show their reference in an epoch: those that differ from the form without."""
    data.epoch = epoch
    without = data.without_references()
    return [data[index]["input_ids"] != without[index]["input_ids"] for index in range(len(data))]


def test_reference_drop_of_zero_and_one(renderer: Renderer, tokenizer: Any) -> None:
    items = [item(f"{index}") for index in range(20)]
    data = dataset(renderer, items, 0.0)
    assert all(kept(data, 0))
    for always in (dataset(renderer, items, 1.0), data.without_references()):
        text = tokenizer.decode(always[0]["input_ids"])
        assert "There is no reference answer" in text
        assert REFERENCE not in text
    assert REFERENCE in tokenizer.decode(data[0]["input_ids"])


def test_reference_drop_depends_on_seed_epoch_and_id_alone(renderer: Renderer) -> None:
    items = [item(f"{index}") for index in range(100)]
    data = dataset(renderer, items, 0.5)
    first = kept(data, 0)
    assert 30 < sum(first) < 70
    assert kept(data, 1) != first
    assert kept(dataset(renderer, items, 0.5, seed=1), 0) != first
    assert kept(dataset(renderer, items[::-1], 0.5), 0) == first[::-1]


def test_examples_from_disk_equal_those_from_memory(renderer: Renderer, tmp_path: Path) -> None:
    items = [*sums.labelled(12), item("long", steps=["12345 " * 100])]
    file = SolutionFile(sums.write(tmp_path / "data.jsonl", items))
    ours, theirs = (dataset(renderer, found, 0.5, too_long="drop") for found in (file, items))
    assert [ours[index] for index in range(len(ours))] == [theirs[i] for i in range(len(theirs))]
    assert (ours.lengths, ours.rejected) == (theirs.lengths, theirs.rejected)
    loader: Any = torch.utils.data.DataLoader(ours, num_workers=2, collate_fn=list, batch_size=5)
    assert [example for batch in loader for example in batch] == [ours[i] for i in range(12)]


@pytest.mark.parametrize("answer", ["2", "2 " * 60])
def test_lengths_are_those_of_the_longer_form(renderer: Renderer, answer: str) -> None:
    entry = item("1", reference=None, answer=answer)
    data = dataset(renderer, [entry], 0.0)
    forms = [len(data[0]["input_ids"]), len(data.without_references()[0]["input_ids"])]
    assert (forms[0] > forms[1]) == (len(answer) > len(NO_REFERENCE))
    assert data.lengths == [max(forms)]


# What cannot be trained on


def test_a_solution_that_is_too_long_is_refused_by_name(renderer: Renderer) -> None:
    long = item("long one", steps=["12345 " * 100])
    with pytest.raises(
        RecordError, match=r"'long one'.*more than max_length 256.*`too_long: drop` sets such"
    ):
        dataset(renderer, [item("1"), long], 0.0)


def test_solutions_that_are_too_long_are_set_aside_on_request(renderer: Renderer) -> None:
    long = [item(name, steps=["12345 " * 100]) for name in ("x", "y")]
    items = [long[0], item("a"), long[1], item("b", steps=("2", "so 2"), labels=(1, 0))]
    data = dataset(renderer, items, 0.0, too_long="drop")
    assert [(entry.id, entry.reason) for entry in data.rejected] == [
        ("x", TOO_LONG),
        ("y", TOO_LONG),
    ]
    assert ids(data.solutions()) == ["a", "b"]
    assert [len(data[index]["labels"]) for index in range(len(data))] == [1, 2]
    assert data.lengths == [len(data[0]["input_ids"]), len(data[1]["input_ids"])]
    with pytest.raises(IndexError):
        data[2]


@pytest.mark.parametrize(("reference", "answer"), [(REFERENCE, None), (None, "2")])
def test_the_longer_form_alone_decides(
    tokenizer: Any, reference: str | None, answer: str | None
) -> None:
    """With a worked reference that is the form that shows it; with a short answer the other."""
    entry = item("1", reference=reference, answer=answer)
    wide = Renderer(tokenizer, RenderSettings(max_length=10_000))
    [length] = dataset(wide, [entry], 0.5).lengths
    other = len(wide.render("1 + 1?", ["2"], answer if answer else None).input_ids)
    assert other < length
    assert len(dataset(Renderer(tokenizer, RenderSettings(max_length=length)), [entry], 0.99)) == 1
    with pytest.raises(RecordError, match=f"{length} tokens, more than max_length {length - 1}"):
        dataset(Renderer(tokenizer, RenderSettings(max_length=length - 1)), [entry], 0.99)


def test_a_solution_without_any_loss_is_set_aside(renderer: Renderer) -> None:
    items = [
        item("tie", steps=("a", "b"), labels=(0.5, 0.5), agreement=(0.5, 0.5)),
        item("half", steps=("a", "b"), labels=(0.5, 1.0), agreement=(0.5, 0.9)),
    ]
    data = dataset(renderer, items, loss=LossConfig(agreement="weigh"))
    assert [(entry.id, entry.reason) for entry in data.rejected] == [("tie", NO_LOSS)]
    assert ids(data.solutions()) == ["half"]
    assert dataset(renderer, items).rejected == []


def test_every_step_left_out_is_set_aside(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = sums.labelled(4)
    monkeypatch.setattr(
        "prm.train.data.targets",
        lambda item, loss: (
            [IGNORE] * 3 if item.id == "sum-2" else list(item.labels),
            [1.0] * 3,
        ),
    )
    data = dataset(renderer, items)
    assert [(entry.id, entry.reason) for entry in data.rejected] == [("sum-2", NO_LOSS)]
    assert len(data) == 3


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (([float("nan"), 1.0, 0.0], [1.0] * 3), "the label of step 0 is nan; it must lie in"),
        (([1.0, 1.01, 0.0], [1.0] * 3), r"the label of step 1 is 1\.01"),
        (([1.0, 1.0, -1.0], [1.0] * 3), r"the label of step 2 is -1\.0"),
        (([1.0, 1.0, 0.0], [1.0, float("nan"), 1.0]), "the weight of step 1 is nan"),
        (([1.0, 1.0, 0.0], [1.0, 1.0, float("inf")]), "the weight of step 2 is inf"),
        (([1.0, 1.0, 0.0], [-0.1, 1.0, 1.0]), r"the weight of step 0 is -0\.1"),
        (([1.0, 1.0], [1.0, 1.0, 1.0]), "2 labels and 3 weights for 3 steps"),
        (([1.0, 1.0, 0.0], [1.0, 1.0]), "3 labels and 2 weights for 3 steps"),
        (([1.0, 1.0, 0.0, 0.0], [1.0] * 4), "4 labels and 4 weights for 3 steps"),
    ],
)
@pytest.mark.parametrize("too_long", ["refuse", "drop"])
def test_targets_that_no_loss_can_take(
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[list[float], list[float]],
    message: str,
    too_long: str,
) -> None:
    monkeypatch.setattr("prm.train.data.targets", lambda item, loss: found)
    with pytest.raises(RecordError, match=rf"solution 'sum-0': {message}"):
        dataset(renderer, sums.labelled(1), too_long=too_long)


def test_weights_by_agreement_that_is_not_there(renderer: Renderer) -> None:
    with pytest.raises(RecordError, match="'1' has no agreement values"):
        dataset(renderer, [item("1")], loss=LossConfig(agreement="weigh"), too_long="drop")


def shifted(by: int) -> Any:
    return lambda found: Rendered(found.input_ids, [end + by for end in found.step_ends])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shifted(-1), "step 0 does not end in its step end"),
        (shifted(1), "step 0 does not end in its step end"),
        (lambda found: Rendered(found.input_ids, found.step_ends[:-1]), "2 step ends for 3 steps"),
        (lambda found: Rendered(found.input_ids, [*found.step_ends, 5]), "4 step ends for 3 steps"),
        (
            lambda found: Rendered(found.input_ids, [found.step_ends[0]] * 3),
            "step 1 does not end in its step end",
        ),
        (
            lambda found: Rendered(found.input_ids, found.step_ends[::-1]),
            "step 1 does not end in its step end",
        ),
        (
            lambda found: Rendered(found.input_ids[:-1], found.step_ends),
            "step 2 does not end in its step end",
        ),
    ],
)
@pytest.mark.parametrize("too_long", ["refuse", "drop"])
def test_labels_away_from_step_ends_are_refused(
    renderer: Renderer, change: Any, message: str, too_long: str
) -> None:
    faulty = SimpleNamespace(
        step_end_ids=renderer.step_end_ids,
        render=lambda *arguments: change(renderer.render(*arguments)),
    )
    with pytest.raises(CheckpointError, match=f"solution 'sum-0': {message}"):
        dataset(faulty, sums.labelled(1), too_long=too_long)


def test_step_ends_of_several_tokens_and_empty_steps_are_right(tokenizer: Any) -> None:
    wordy = Renderer(tokenizer, RenderSettings(step_end=" (end of step)\n", max_length=400))
    assert len(wordy.step_end_ids) > 3
    steps = ("(end of step)", " (end of step)\n", "2")
    assert len(dataset(wordy, [item("1", steps=steps, labels=(1, 1, 1))])) == 1


# Tokenizers


def test_a_tokenizer_with_a_padding_token_is_left_alone() -> None:
    tokenizer = tiny.make_tokenizer()
    fit_tokenizer(tokenizer, len(tokenizer))
    assert tokenizer.pad_token == "<|endoftext|>"


def test_a_tokenizer_without_a_padding_token_pads_with_its_end_token() -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.pad_token = None
    fit_tokenizer(tokenizer, len(tokenizer))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id is not None


def test_a_tokenizer_without_padding_and_end_token_is_refused() -> None:
    tokenizer = tiny.make_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    with pytest.raises(CheckpointError, match="neither a padding nor an end token; set pad_token"):
        fit_tokenizer(tokenizer, len(tokenizer))


def test_a_vocabulary_that_the_model_does_not_know_is_refused() -> None:
    tokenizer = tiny.make_tokenizer()
    known = len(tokenizer)
    fit_tokenizer(tokenizer, known + 100)  # models often have rows to spare
    tokenizer.add_tokens(["<one more>"])
    with pytest.raises(
        CheckpointError, match=rf"has {known + 1} token ids, the model's vocabulary {known};"
    ):
        fit_tokenizer(tokenizer, known)

"""The transformers engine reads nothing twice, and what it writes is what it wrote without that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from prm import engines
from prm.engines import EngineConfig, Message, Request
from prm.engines import transformers as library
from prm.engines.beginnings import Beginnings, usable

torch.set_num_threads(1)

STOPS = ("a", "e", "i", "o", "s", "1", " ")
"""Which random models soon write one of."""


def ask(prefill: str = "", text: str = "Add 2 and 3.", **settings: Any) -> Request:
    keys = {"max_tokens": 24, "stop": STOPS, "continues": True, "temperature": 1.0, "seed": 5}
    messages = (Message(role="user", content=text),)
    return Request(messages=messages, prefill=prefill, **(keys | settings))


def load(model: Path, reuse: bool = True) -> Any:
    engine: Any = engines.load(EngineConfig(str(model), kind="transformers", dtype="float32"))
    if not reuse:
        engine._beginnings = None
    return engine


@pytest.fixture(scope="module")
def reusing(causal_lm: Path) -> Any:
    return load(causal_lm)


@pytest.fixture(scope="module")
def plain(causal_lm: Path) -> Any:
    return load(causal_lm, reuse=False)


@contextmanager
def counted(engine: Any) -> Iterator[list[int]]:
    """How many tokens, padding included, every forward reads."""
    read: list[int] = []
    handle = engine._model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: read.append(args[0].numel())
    )
    yield read
    handle.remove()


def told(answers: Any) -> list[list[tuple[str, str | None, int, int]]]:
    return [
        [(a.text, a.stopped_at, a.prompt_tokens, a.completion_tokens) for a in own]
        for own in answers
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_steps_grow_as_they_grew(reusing: Any, plain: Any, temperature: float) -> None:
    count = 3 if temperature else 1
    texts = ["Add 2 and 3.", "What is 7 times 8, when all is said and done? Count.", "x"]
    live = [(text, "") for text in texts]
    cached = 0
    for _ in range(5):
        requests = [ask(prefill, text, n=count, temperature=temperature) for text, prefill in live]
        found, expected = reusing.generate(requests), plain.generate(requests)
        assert told(found) == told(expected)
        cached += sum(own[0].cached_tokens for own in found)
        assert all(a.cached_tokens == own[0].cached_tokens for own in found for a in own)
        live = [
            (text, prefill + answer.text + answer.stopped_at)
            for (text, prefill), own in zip(live, found, strict=True)
            for answer in own[:2]
            if answer.stopped_at
        ]
        assert live
    assert cached > 100


def test_a_new_step_costs_its_own_tokens(causal_lm: Path, plain: Any) -> None:
    reusing = load(causal_lm)
    prefill, text = "", "A question that none has asked before. " * 8
    for number in range(6):
        request = ask(prefill, text)
        with counted(reusing) as read:
            ((answer,),) = reusing.generate([request])
        own = answer.prompt_tokens - answer.cached_tokens
        assert sum(read) == own + answer.completion_tokens - 1
        if number:  # the last token was not read, and a word may be tokenised anew at the seam
            assert 1 <= own <= 8
        else:
            assert own == answer.prompt_tokens > 60
        with counted(plain) as whole:
            plain.generate([request])
        assert sum(whole) == answer.prompt_tokens + answer.completion_tokens - 1
        prefill += answer.text + answer.stopped_at


def test_a_prompt_is_read_once_for_all_its_samples(causal_lm: Path, plain: Any) -> None:
    reusing = load(causal_lm)
    request = ask(text="Once for all. " * 9, n=6, stop=(), max_tokens=5, continues=False)
    with counted(reusing) as read:
        found = reusing.generate([request])
    assert told(found) == told(plain.generate([request]))
    (own,) = found
    assert read[0] == own[0].prompt_tokens - 1
    assert read[1:] == [6] * max(answer.completion_tokens for answer in own)
    assert {answer.cached_tokens for answer in own} == {0}


def test_new_prompts_are_read_without_padding(causal_lm: Path, plain: Any) -> None:
    reusing = load(causal_lm)
    texts = ["Short.", "Rather long, as prompts go. " * 9, "Short."]
    requests = [ask(text=text, temperature=0.0, continues=False) for text in texts]
    with counted(reusing) as read:
        found = reusing.generate(requests)
    assert told(found) == told(plain.generate(requests))
    short, long, _ = (own[0].prompt_tokens for own in found)
    assert read[0] == short - 1 + long - 1  # the third is the first
    assert set(read[1:]) == {3}


def test_what_nobody_goes_on_from_is_not_kept(causal_lm: Path) -> None:
    engine = load(causal_lm)
    engine.generate([ask(continues=False), ask(n=3, continues=False), ask(stop=(), max_tokens=3)])
    assert engine._beginnings._kept == []
    engine.generate([ask()])
    (kept,) = engine._beginnings._kept
    ((answer,),) = engine.generate([ask()])
    assert answer.cached_tokens == answer.prompt_tokens - 1
    assert len(engine._beginnings._kept) == 1
    # Its own numbers, not a view of the batch's.
    assert all(keys.untyped_storage().nbytes() == keys.nbytes for keys, _ in kept.layers)


def test_groups_know_nothing_of_each_other(causal_lm: Path) -> None:
    engine = load(causal_lm)
    found = [engine.generate([ask(group=group)])[0][0] for group in "aab"]
    assert told([found[:1]]) == told([found[1:2]]) == told([found[2:]])
    assert [answer.cached_tokens > 0 for answer in found] == [False, True, False]


def test_what_was_of_no_use_for_longest_is_forgotten_first(causal_lm: Path) -> None:
    engine = load(causal_lm)
    ((first,),) = engine.generate([ask(text="The first one.")])
    length = len(engine._beginnings._kept[0].ids)
    engine._beginnings._most = 3 * length
    for text in ("Number two here.", "The first one.", "Number three.", "The fourth one."):
        engine.generate([ask(text=text)])
        assert sum(len(one.ids) for one in engine._beginnings._kept) <= 3 * length
    ((again,),) = engine.generate([ask(text="The first one.")])
    assert told([[again]]) == told([[first]])
    ((second,),) = engine.generate([ask(text="Number two here.")])
    assert second.cached_tokens < second.prompt_tokens - 5  # the template alone


def test_prompts_beyond_one_batch(
    reusing: Any, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ask(text="word " * (3 * number), n=3) for number in range(1, 8)]
    expected = told(plain.generate(requests))
    monkeypatch.setattr(reusing._beginnings, "_most", 120)
    monkeypatch.setattr(library, "BATCH_TOKENS", 300)
    assert told(reusing.generate(requests)) == expected


def test_a_prompt_longer_than_the_context_is_data_among_others(reusing: Any, plain: Any) -> None:
    requests = [ask(text="word " * 5000, n=2), ask(n=2)]
    found = reusing.generate(requests)
    assert told(found) == told(plain.generate(requests))
    assert {answer.finish_reason for answer in found[0]} == {engines.TOO_LONG}


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.integers(0, 6), st.booleans()), min_size=1, max_size=6
    )
)
def test_any_beginnings_read_as_from_the_start(
    reusing: Any, rows: list[tuple[int, int, bool]]
) -> None:
    model = reusing._model
    beginnings = Beginnings(model, 0, 1000)
    draw = torch.Generator().manual_seed(len(rows))
    base = torch.randint(3, 300, (20,), generator=draw).tolist()
    sequences = []
    for length, other, keep in rows:
        tail = torch.randint(3, 300, (other,), generator=draw).tolist()
        sequences.append([*base[:length], *tail])
        if keep:
            (own,) = beginnings.read([("a", base[:length])])
            beginnings.keep("a", base[:length], own.layers)
    asked = [("ab"[index % 2], ids) for index, ids in enumerate(sequences)]
    for (group, ids), one in zip(asked, beginnings.read(asked), strict=True):
        assert (one.group, one.ids.tolist()) == (group, ids)
        assert group == "a" or one.found == 0
        with torch.inference_mode():
            cache = model(input_ids=torch.tensor([ids])).past_key_values
        for (keys, values), layer in zip(one.layers, cache.layers, strict=True):
            torch.testing.assert_close(keys, layer.keys[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(values, layer.values[0], atol=1e-5, rtol=1e-5)


SIZE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(**SIZE), True),
        (MistralConfig(**SIZE, sliding_window=8), False),
        (LlamaConfig(**SIZE, rope_parameters={"rope_type": "dynamic", "factor": 2.0}), False),
    ],
)
def test_models_without_a_plain_cache_read_everything(config: Any, expected: bool) -> None:
    assert usable(AutoModelForCausalLM.from_config(config).eval()) is expected


def test_a_model_that_cannot_reuse_writes_all_the_same(causal_lm: Path, tmp_path: Path) -> None:
    shutil.copytree(causal_lm, tmp_path / "model")
    config = json.loads((causal_lm / "config.json").read_text())
    sliding = ["sliding_attention"] * config["num_hidden_layers"]
    config |= {"use_sliding_window": True, "sliding_window": 16, "layer_types": sliding}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    engine = load(tmp_path / "model")
    assert engine._beginnings is None
    found = [engine.generate([ask(n=count)])[0] for count in (2, 1)]
    assert told([found[0][:1]]) == told([found[1]])
    assert {answer.cached_tokens for own in found for answer in own} == {0}

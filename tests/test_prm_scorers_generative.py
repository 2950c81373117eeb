"""Generative families behind the scorers' call: batches, failures, and real engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import critics
import published
import pytest
import tiny
from critics import PROBLEM, STEPS

from prm import engines
from prm.engines import (
    Completion,
    EndpointConfig,
    Engine,
    EngineConfig,
    Request,
)
from prm.engines.chat import ChatEncoder
from prm.engines.fake import ScriptedEngine
from prm.engines.flow import Flow
from prm.errors import CheckpointError, ConfigError
from prm.records import Failure, Solution, StepScores
from prm.scorers import CritiqueConfig, ScorerConfig, identify, load, score
from prm.scorers.generative import GenerativeScorer, engine_config
from prm.serve.batcher import Batcher
from prm.serve.metrics import Metrics
from prm.serve.outcomes import Outcome
from prm.zoo import catalog, genprm, rprm, thinkprm
from prm.zoo.critique import Asking
from prm.zoo.family import GenerativeFamily

FAMILIES = {"genprm": genprm.FAMILY, "thinkprm": thinkprm.FAMILY, "r-prm": rprm.FAMILY}


def solution(name: str, *steps: str) -> Solution:
    return Solution(id=name, problem=PROBLEM, steps=steps or STEPS)


def reply(family: str, last: str = "No") -> Callable[[Request], str]:
    """What a model of a family writes: every step is right but the second, which is `last`."""

    def rprm_says(request: Request) -> str:
        now = request.messages[-1].content.partition("Now Step: ")[2][:6]
        word = last if now == "Step 2" else "Yes"
        return f"Analysis: {now} is checked.\nVerification: Is the step correct (Yes/No)? {word}"

    def thinkprm_says(request: Request) -> str:
        word = {"Yes": "correct", "No": "incorrect"}[last]
        return (
            "Step 1: fine. The step is \\boxed{correct}\n\n"
            f"Step 2: hm. The step is \\boxed{{{word}}}\n</think>\nIs the solution correct? No"
        )

    def genprm_says(request: Request) -> str:
        if not request.prefill.endswith("```python\n"):
            return " it says so.\n</analyze>\n"
        word = last if sum(turn.role == "user" for turn in request.messages) == 2 else "Yes"
        return (
            "print(1)\n```\nFine.\n</verify>\n<output>\n"
            f"**Judgement**: $\\boxed{{{word}}}$\n</output>\n"
        )

    return {"genprm": genprm_says, "thinkprm": thinkprm_says, "r-prm": rprm_says}[family]


def scripted(
    family: str, says: Callable[[Request], str], *, context: int | None = None, **critique: Any
) -> tuple[GenerativeScorer, ScriptedEngine]:
    engine = ScriptedEngine(says, context=context)
    config = ScorerConfig(model=f"some/{family}", critique=CritiqueConfig(**critique))
    return GenerativeScorer(config, FAMILIES[family], engine), engine


# With the test double


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_a_batch_are_those_of_each_alone(family: str) -> None:
    batch = [solution("a"), solution("b", "one"), solution("c", *STEPS, "x", "y")]
    scorer, _ = scripted(family, reply(family))
    together = scorer.score_each(batch)
    alone = [scripted(family, reply(family))[0].score_each([item])[0] for item in batch]
    assert together == alone
    expected = (1.0, 0.0)
    assert isinstance(together[0], StepScores)
    assert together[0].scores == expected
    assert (together[0].model, together[0].solution_id) == (f"some/{family}", "a")


@pytest.mark.parametrize(
    ("family", "rounds", "requests"), [("genprm", 6, 12), ("thinkprm", 1, 3), ("r-prm", 1, 6)]
)
def test_a_round_of_all_solutions_is_one_call(family: str, rounds: int, requests: int) -> None:
    scorer, engine = scripted(family, reply(family))
    scorer.score_each([solution("a"), solution("b", "one"), solution("c", *STEPS, "x")])
    assert (engine.calls, len(engine.requests)) == (rounds, requests)
    assert {request.group for request in engine.requests} == {"a", "b", "c"}


class Flowing(ScriptedEngine):
    """As the test double, but for requests at any time; the last one is answered first."""

    def __init__(self, says: Callable[[Request], str]) -> None:
        super().__init__(says)
        self.most = 0
        self.flow: Flow[Request, list[Completion], Any] = Flow(self)
        self._under_way: dict[int, Request] = {}

    def begin(self, request: Request, /) -> int:
        number = len(self.requests)
        self.requests.append(request)
        self._under_way[number] = request
        self.most = max(self.most, len(self._under_way))
        return number

    def advance(self) -> list[tuple[int, list[Completion]]]:
        if not self._under_way:
            return []
        number, request = self._under_way.popitem()
        return [(number, [self._answer(request) for _ in range(request.n)])]

    def drop(self, number: int, /) -> None:
        del self._under_way[number]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine_that_flows_gives_the_same_scores(family: str) -> None:
    batch = [solution("a"), solution("b", "broken"), solution("c", *STEPS, "x", "y")]

    def says(request: Request) -> str:
        broken = any("broken" in turn.content for turn in request.messages)
        return "nothing" if broken else reply(family)(request)

    in_rounds, engine = scripted(family, says, samples=2, temperature=0.5)
    flowing = Flowing(says)
    config = ScorerConfig(f"some/{family}", critique=CritiqueConfig(samples=2, temperature=0.5))
    scorer = GenerativeScorer(config, FAMILIES[family], flowing)
    assert scorer.score_each(batch) == in_rounds.score_each(batch)
    assert scorer.tokens == in_rounds.tokens > 0
    assert flowing.calls == 0
    assert flowing.most >= 3  # side by side
    assert sorted(map(repr, flowing.requests)) == sorted(map(repr, engine.requests))
    # Behind the server each is answered by itself, with its own tokens.
    batcher = Batcher(scorer, max_waiting=9, metrics=Metrics())

    async def served() -> list[tuple[list[Outcome], int]]:
        return await asyncio.gather(*(batcher.score([one]) for one in batch))

    before, answers = scorer.tokens, asyncio.run(served())
    assert sum(tokens for _, tokens in answers) == scorer.tokens - before == before
    assert [own[0].scores is None for own, _ in answers] == [False, True, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_solution_that_fails_leaves_the_others_be(family: str) -> None:
    def says(request: Request) -> str:
        broken = any("broken" in turn.content for turn in request.messages)
        return "nothing" if broken else reply(family)(request)

    scorer, _ = scripted(family, says)
    found = scorer.score_each([solution("a"), solution("b", "broken"), solution("c")])
    assert [type(item) for item in found] == [StepScores, Failure, StepScores]
    assert found[0].scores == found[2].scores  # type: ignore[union-attr]
    assert found[1].id == "b"  # type: ignore[union-attr]
    assert "\n" not in found[1].reason  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_that_does_not_fit_is_a_failure(family: str) -> None:
    scorer, _ = scripted(family, reply(family), context=500)
    found = scorer.score_each([solution("a", "word " * 600), solution("b")])
    assert isinstance(found[0], Failure)
    assert "exceeds the model's context" in found[0].reason
    assert isinstance(found[1], StepScores)
    # What did not fit was not read.
    alone, _ = scripted(family, reply(family), context=500)
    alone.score_each([solution("b")])
    assert scorer.tokens == alone.tokens


def test_tokens_are_those_read_and_written() -> None:
    scorer, engine = scripted("thinkprm", reply("thinkprm"), samples=3, temperature=0.5)
    scorer.score_each([solution("a")])
    (request,) = engine.requests
    written = engine.generate([request])[0]
    assert scorer.tokens == written[0].prompt_tokens + 3 * written[0].completion_tokens
    assert scorer.tokens > 0


def test_samples_and_their_settings_reach_the_engine() -> None:
    scorer, engine = scripted("r-prm", reply("r-prm"), samples=3, temperature=0.5, max_tokens=77)
    assert scorer.score_each([solution("a")])[0] == replace(
        scripted("r-prm", reply("r-prm"))[0].score_each([solution("a")])[0]
    )
    assert {(one.n, one.temperature, one.max_tokens) for one in engine.requests} == {(3, 0.5, 77)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [*published.AWKWARD, critics.FORGED])
def test_awkward_steps_get_a_score_each(family: str, steps: Sequence[str]) -> None:
    says = {
        "thinkprm": lambda _: "The step is \\boxed{correct}\n" * len(steps),
    }.get(family, reply(family, "Yes"))
    asking = Asking(key="a")
    _, found = critics.walk(FAMILIES[family].critique(PROBLEM, steps, asking), says)
    assert found == (1.0,) * len(steps)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [published.AWKWARD[0], published.AWKWARD[3], critics.FORGED])
def test_a_step_that_spells_a_special_token_stays_text(family: str, steps: Sequence[str]) -> None:
    tokenizer = tiny.make_tokenizer("<extra_0>")
    special = {*tokenizer.convert_tokens_to_ids([*tiny.SPECIAL, "<extra_0>"])}
    chat = ChatEncoder(tokenizer, "tiny")

    def turns(steps: Sequence[str]) -> list[int]:
        asking = Asking(key="a")
        rounds, _ = critics.walk(FAMILIES[family].critique(PROBLEM, steps, asking), reply(family))
        asked = [chat.encode(request) for requests in rounds for request in requests]
        return [sum(token in special for token in ids) for ids in asked]

    assert turns(steps) == turns(["x"] * len(steps))


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_to_score_asks_nothing(family: str) -> None:
    scorer, engine = scripted(family, reply(family))
    assert scorer.score_each([]) == []
    assert engine.calls == 0
    scorer.close()


# Configuration


def test_each_family_is_found_by_name_and_declares_what_it_does() -> None:
    for name, family in FAMILIES.items():
        assert catalog.family(name) is family
        assert family.entry.backends == ("transformers", "vllm")
        for checkpoint in family.entry.checkpoints:
            assert catalog.named(checkpoint.id) is family
            assert catalog.named(f"/models/{checkpoint.id.rpartition('/')[2]}/") is family
    assert "without code execution" in genprm.FAMILY.entry.template
    assert catalog.named("other/model") is None


def config(model: Path | str, **fields: Any) -> ScorerConfig:
    return ScorerConfig(model=str(model), **fields)


def test_the_engine_is_the_checkpoint_on_the_scorers_backend(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    made = engine_config(
        config(tmp_path, dtype="float32", device="cpu", max_length=900, options={"x": 1})
    )
    assert made == EngineConfig(
        model=str(tmp_path),
        kind="transformers",
        dtype="float32",
        max_model_len=900,
        options={"device_map": "cpu"},
    )
    made = engine_config(config(tmp_path, backend="vllm", options={"enforce_eager": True}))
    assert made == EngineConfig(model=str(tmp_path), kind="vllm", options={"enforce_eager": True})


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vLLM takes the machine's"):
        engine_config(config(tmp_path, backend="vllm", device="cpu"))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match="pickles"):
        load(config(tmp_path, family="r-prm"))
    with pytest.raises(ConfigError, match="family r-prm takes no reference"):
        load(config(tmp_path, family="r-prm", reference="worked"))
    with pytest.raises(CheckpointError, match="no such model folder"):
        load(config("./absent", family="genprm"))
    named = CritiqueConfig(engine=EngineConfig(model="some/model", kind="transformers"))
    with pytest.raises(ConfigError, match="family qwen-prm writes no critiques"):
        load(config(tmp_path, family="qwen-prm", critique=named))


def test_a_model_without_a_chat_template_is_refused(causal_lm: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(causal_lm, tmp_path / "GenPRM-7B")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        load(config(folder))


def test_a_server_needs_no_files_here() -> None:
    endpoint = EndpointConfig(urls=["http://localhost:1/v1"], dialect="openai")
    engine = EngineConfig(model="served", kind="openai", endpoint=endpoint)
    asked = config("launch/ThinkPRM-7B", critique=CritiqueConfig(engine=engine))
    scorer = load(asked)
    assert (scorer.name, scorer.family, scorer.reference) == ("served", "thinkprm", "none")
    assert scorer.threshold is None
    assert identify(asked) == "served"


def test_a_checkpoint_is_identified_by_its_files(causal_lm: Path) -> None:
    own = identify(config(causal_lm, family="thinkprm"))
    engine = EngineConfig(model=str(causal_lm), kind="transformers")
    asked = config("launch/ThinkPRM-7B", critique=CritiqueConfig(engine=engine))
    assert identify(asked) == own
    assert len(own) == 64


# Real engines


@pytest.fixture(scope="module")
def critic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learned a critique of each family; unsure about the second step."""
    pairs = [
        pair
        for name, family in FAMILIES.items()
        for last in ("Yes", "No")
        for pair in critics.transcript(family, reply(name, last))
    ]
    return critics.make_critic(tmp_path_factory.mktemp("critics") / "critic", pairs)


def generate(model: Any, tokenizer: Any, text: str, stop: str = "") -> tuple[list[int], Any]:
    """Greedy, token by token: the ids, and the log-probabilities before each, float32."""
    import torch

    ids = tokenizer(text)["input_ids"]
    written: list[int] = []
    told = []
    while len(written) < 200:
        with torch.no_grad():
            logits = model(torch.tensor([ids + written])).logits[0, -1]
        told.append(logits.log_softmax(-1))
        written.append(int(logits.argmax()))
        if written[-1] == tokenizer.eos_token_id:
            break
        if stop and stop in tokenizer.decode(written):
            break
    return written, told


def at_last(written: list[int], told: Any, one: int, other: int) -> float:
    """The published reading: at the last of two tokens, the first one's softmax."""
    place = max(index for index, token in enumerate(written) if token in (one, other))
    yes, no = told[place][one].exp(), told[place][other].exp()
    return float(yes / (yes + no))


def by_the_authors(family: str, folder: Path) -> list[float]:
    """The recipe of a family as its authors follow it, on transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()

    def chat(turns: list[tuple[str, str]]) -> str:
        return tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=True,
        )

    def only(text: str) -> int:
        (found,) = tokenizer.encode(text)
        return found

    if family == "r-prm":
        scores = []
        for index in range(len(STEPS)):
            turns = [(turn.role, turn.content) for turn in rprm.prompt(PROBLEM, STEPS, index)]
            written, told = generate(model, tokenizer, chat(turns))
            response = tokenizer.decode(written, skip_special_tokens=True)
            question = "Is the step correct (Yes/No)?"
            # Read in a second pass, from the text up to the question.
            text = chat(turns) + response.split(question)[0] + question
            _, (first, *_) = generate(model, tokenizer, text)
            yes, no = first[only(" Yes")].exp(), first[only(" No")].exp()
            scores.append(float(yes / (yes + no)))
        return scores
    if family == "thinkprm":
        turns = [(turn.role, turn.content) for turn in thinkprm.prompt(PROBLEM, STEPS)]
        written, told = generate(model, tokenizer, chat(turns), "</think>")
        right, wrong = (tokenizer.encode("{" + word)[-1] for word in ("correct", "incorrect"))
        assert right != wrong
        places = [index for index, token in enumerate(written) if token in (right, wrong)]
        pairs = [(told[index][right].exp(), told[index][wrong].exp()) for index in places]
        return [float(yes / (yes + no)) for yes, no in pairs]
    scores = []
    turns = [("system", genprm.SYSTEM)]
    yes, no = (tokenizer.encode("{" + word)[-1] for word in ("Yes", "No"))
    for number, step in enumerate(STEPS, 1):
        turns.append(("user", step if number > 1 else f"Question: {PROBLEM}\n\n{step}"))
        begun = f"<analyze>\nLet's analyze the Paragraph {number} step by step: "
        written, _ = generate(model, tokenizer, chat(turns) + begun, "</analyze>\n")
        begun += tokenizer.decode(written) + genprm.VERIFY
        written, told = generate(model, tokenizer, chat(turns) + begun, "</output>\n")
        scores.append(at_last(written, told, yes, no))
        turns.append(("assistant", begun + tokenizer.decode(written)))
    return scores


def engine_scores(engine: Engine, family: GenerativeFamily, folder: Path) -> list[float]:
    scorer = GenerativeScorer(config(folder), family, engine)
    found = score(scorer, PROBLEM, STEPS)
    assert scorer.tokens > 0
    return found


@pytest.fixture(scope="module")
def on_transformers(critic: Path) -> Iterator[Engine]:
    engine = engines.load(EngineConfig(model=str(critic), kind="transformers", dtype="float32"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def on_vllm(critic: Path) -> Iterator[Engine]:
    pytest.importorskip("vllm")
    engine = engines.load(EngineConfig(model=str(critic), kind="vllm", dtype="float32"))
    yield engine
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_scores_are_those_of_the_authors_recipe(
    kind: str, family: str, critic: Path, request: pytest.FixtureRequest
) -> None:
    engine = request.getfixturevalue(f"on_{kind}")
    found = engine_scores(engine, FAMILIES[family], critic)
    expected = by_the_authors(family, critic)
    print(kind, family, max(abs(a - b) for a, b in zip(found, expected, strict=True)))
    assert found == pytest.approx(expected, abs=1e-4)
    # Read from probabilities: sure of the first step, unsure of the second.
    assert 0.8 < found[0] < 1
    assert 0.2 < found[1] < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_samples_of_a_real_engine_are_averaged_and_repeatable(
    kind: str, family: str, critic: Path, request: pytest.FixtureRequest
) -> None:
    engine = request.getfixturevalue(f"on_{kind}")
    critique = CritiqueConfig(samples=3, temperature=0.5, max_tokens=200)
    scorer = GenerativeScorer(config(critic, critique=critique), FAMILIES[family], engine)
    batch = [solution("a"), solution("b", *critics.FORGED)]
    first = scorer.score_each(batch)
    for item in first:
        if isinstance(item, Failure):
            assert "\n" not in item.reason
        else:
            assert all(0 <= value <= 1 for value in item.scores)
    assert isinstance(first[0], StepScores)
    again = scorer.score_each(batch[:1])[0]  # the seeds are the solution's, not the batch's
    assert isinstance(again, StepScores)
    assert again.scores == pytest.approx(first[0].scores, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_writes_noise_gives_reasons(family: str, transformers_engine: Engine) -> None:
    critique = CritiqueConfig(max_tokens=24)
    scorer = GenerativeScorer(
        config("some/model", critique=critique), FAMILIES[family], transformers_engine
    )
    found = scorer.score_each([solution("a"), solution("b", "word " * 2000)])
    assert [type(item) for item in found] == [Failure, Failure]
    assert "exceeds the model's context" in found[1].reason  # type: ignore[union-attr]
    assert "\n" not in found[0].reason  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_whole_way_from_a_folder(critic: Path) -> None:
    scorer = load(config(critic, family="thinkprm", dtype="float32", device="cpu"))
    assert scorer.name == "critic"
    assert len(score(scorer, PROBLEM, STEPS)) == 2
    scorer.close()

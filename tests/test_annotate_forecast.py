"""What `--dry-run` says a run will ask and cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import annotate.sample
import annotate.stage
from annotate.forecast import LOOKED_AT, Row, scaled, shared, spread
from annotate.judge import JudgeSettings
from annotate.sample import PolicyConfig, PromptConfig
from annotate.stage import Config, JudgeConfig
from prm import jsonl
from prm.cli import main
from prm.engines import EngineConfig, Prices, Request
from prm.engines.fake import ScriptedEngine
from prm.records import Problem, Solution
from prm.sources import Place, Source

JUDGE = "examples/micro/models/judge"
STEPS = ("First 2 + 3 = 5.", "The answer is 5.")


def config(
    folder: Path, engine: EngineConfig, steps: tuple[str, ...] = STEPS, **judge: object
) -> Config:
    solution = Solution(id="0", problem="What is 2 + 3?", steps=steps, answer="5")
    path = folder / "solutions.jsonl"
    jsonl.write(path, [replace(solution, id=str(i)) for i in range(3)])
    voter = JudgeConfig(engine=engine, **judge)
    return Config(out=str(folder / "out"), source=Source(path=str(path)), rules=[], judges=[voter])


def test_requests_and_tokens_are_those_that_a_run_then_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = JudgeSettings(max_tokens=50)
    engine = EngineConfig(model=JUDGE, prices=Prices(input=2.0, output=10.0, cached=1.0))
    asked = config(tmp_path, engine, strategies=["p0", "p1"], settings=settings)
    rows = annotate.stage.forecast(asked).rows
    assert [row.requests for row in rows] == [6, 3]  # p0 reasons first
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return "[1,1]" if request.regex else "\n".join(STEPS)

    monkeypatch.setattr(annotate.stage, "load", lambda _: ScriptedEngine(reply))
    annotate.stage.run(asked)
    from transformers import AutoTokenizer

    from prm.engines.chat import ChatEncoder

    encoder = ChatEncoder(AutoTokenizer.from_pretrained(JUDGE), JUDGE)
    assert sum(row.prompt for row in rows) == sum(len(encoder.encode(r)) for r in seen)
    for row in rows:
        assert 0 < row.cached < row.prompt
        assert row.expected <= row.most
        cost = (row.prompt - row.cached) * 2 + row.cached * 1 + row.expected * 10
        assert row.cost == pytest.approx(cost / 1e6)


def test_backward_is_forecast_by_its_number_and_only_where_there_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = JudgeSettings(max_tokens=50)
    asked = config(tmp_path, EngineConfig(model=JUDGE), strategies=["backward"], settings=settings)
    path = Path(asked.source.path)
    known = list(jsonl.read(path, Solution))
    jsonl.write(path, [replace(known[0], answer=None), *known[1:]])
    (row,) = annotate.stage.forecast(asked).rows
    assert row.requests == 2 * 2
    assert row.most == 2 * (50 + 1)  # one digit

    engine = ScriptedEngine(lambda request: "0" if request.regex else "\n".join(STEPS))
    monkeypatch.setattr(annotate.stage, "load", lambda _: engine)
    asked.judges[0].max_errors = 0.5
    annotate.stage.run(asked)
    from transformers import AutoTokenizer

    from prm.engines.chat import ChatEncoder

    encoder = ChatEncoder(AutoTokenizer.from_pretrained(JUDGE), JUDGE)
    assert row.prompt == sum(len(encoder.encode(request)) for request in engine.requests)


def test_the_shared_layout_promises_more_from_the_cache(tmp_path: Path) -> None:
    engine = EngineConfig(model=JUDGE)
    computed = {}
    for layout in ("paper", "shared"):
        settings = JudgeSettings(layout=layout)
        asked = config(tmp_path, engine, steps=STEPS * 20, settings=settings)
        total = annotate.stage.forecast(asked).total
        computed[layout] = total.prompt - total.cached
    assert computed["shared"] < 0.7 * computed["paper"]


def test_nothing_is_cached_by_transformers_and_unknown_models_are_counted_by_characters(
    tmp_path: Path,
) -> None:
    engine = EngineConfig(model="/no/such/model", kind="transformers")
    found = annotate.stage.forecast(config(tmp_path, engine, strategies=["p1"]))
    assert found.rows[0].cached == 0
    assert found.rows[0].cost is None
    assert "3.5 characters a token" in str(found)


def test_policies_are_forecast_by_prompt(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    jsonl.write(path, [Problem(id=str(i), problem="What is 2 + 3?") for i in range(5)])
    policy = PolicyConfig(
        name="m",
        engine=EngineConfig(model=JUDGE),
        prompts=[PromptConfig("bare"), PromptConfig("steps", "Be kind.", "{problem} Think.")],
        samples=4,
        max_tokens=100,
    )
    bare, steps = annotate.sample.forecast(
        annotate.sample.Config(out="x", problems=Place(path=str(path)), policies=[policy])
    ).rows
    assert (bare.name, steps.name) == ("m-bare", "m-steps")
    assert bare.requests == steps.requests == 5
    assert bare.prompt < steps.prompt
    assert bare.most == 5 * 4 * 100


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, EngineConfig(model=JUDGE)).source.path
    judges = f"judges=[{{engine: {{model: {JUDGE}}}}}]"
    assert main(["annotate", f"source.path={path}", "out=x", "rules=[]", judges, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "cacheable" in said
    assert "3 solutions" in said
    assert not (tmp_path / "x").exists()
    # Overrides may stand on either side of the option.
    assert main(["annotate", f"source.path={path}", "--dry-run", "out=x", "rules=[]", judges]) == 0
    assert capsys.readouterr().out == said
    assert main(["verify", "annotations=x", "out=x", "--dry-run"]) == 2
    assert "no --dry-run" in capsys.readouterr().err


@given(st.lists(st.integers(0, 2), min_size=1), st.lists(st.integers(0, 2), min_size=1))
def test_a_shared_beginning_leaves_the_last_token_to_be_read(a: list[int], b: list[int]) -> None:
    found = shared(a, b)
    assert a[:found] == b[:found]
    assert found < len(b)
    assert found == len(b) - 1 or found == len(a) or a[found] != b[found]


@pytest.mark.parametrize("total", [0, 1, 199, 200, 201, 399, 100_000])
def test_no_more_records_are_looked_at_than_it_says(total: int) -> None:
    found = spread(range(total), total)
    assert len(found) <= LOOKED_AT
    assert len(found) > min(total, LOOKED_AT) / 2 or total == 0


def test_rows_scale_to_all_records() -> None:
    row = Row(name="p0", requests=2, prompt=10, cached=4, expected=6, most=8)
    engine = EngineConfig(model="m", prices=Prices(input=1.0, output=1.0))
    assert scaled(row, 1.5, engine) == Row(
        name="p0", requests=3, prompt=15, cached=6, expected=9, most=12, cost=24 / 1e6
    )

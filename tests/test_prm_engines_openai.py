"""The engine for OpenAI-compatible servers: what it sends, what it reads, how it bears faults."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import endpoint
import pytest
from endpoint import FAULTS, Fault, Server, refusal, reply, serving
from hypothesis import given
from hypothesis import strategies as st
from vllm_served import vllm_serve

from annotate.verdicts import soft_verdicts
from prm import config, engines
from prm.config import identity
from prm.engines import TOO_LONG, EndpointConfig, Engine, EngineConfig, Message, Request
from prm.engines import endpoint as http
from prm.engines.dialects import Portable
from prm.engines.flow import asking
from prm.errors import CheckpointError, ConfigError, EngineError

JUDGE = Path(__file__).parents[1] / "examples" / "micro" / "models" / "judge"
VERDICTS = r"\[[01](,[01]){2}\]"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without much of a pause; the key comes from tests alone."""
    monkeypatch.setattr(http, "_pause", http.wait_random_exponential(multiplier=0.001, max=0.01))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def engine(*servers: Server, options: dict[str, Any] | None = None, **settings: Any) -> Engine:
    return engines.load(
        EngineConfig(
            model="judge",
            kind="openai",
            endpoint=EndpointConfig(urls=[server.url for server in servers], **settings),
            options=options or {},
        )
    )


def ask(content: str = "Is 1 + 1 = 2?", **settings: Any) -> Request:
    settings = {"max_tokens": 16} | settings
    return Request(messages=(Message(role="user", content=content),), **settings)


def bodies(server: Server) -> list[dict[str, Any]]:
    return [seen.body for seen in server.requests]


# The configuration


def test_configuration_fills_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(
        "model: my-model\nkind: openai\n"
        "endpoint: {urls: ['http://a:8000', 'https://b/v1'], timeout: 5}\noptions: {top_k: 5}\n"
    )
    loaded = config.load(EngineConfig, path, ["endpoint.dialect=openai"])
    assert loaded.endpoint == EndpointConfig(
        urls=["http://a:8000", "https://b/v1"], timeout=5.0, dialect="openai"
    )
    assert loaded.name == "my-model"


def test_what_decides_nothing_that_is_written_may_change() -> None:
    endpoint = EndpointConfig(urls=["http://a"])
    other = EndpointConfig(
        urls=["http://b"], key_env="KEY", concurrency=2, timeout=1.0, retries=0, dialect="vllm"
    )
    assert identity(endpoint) == identity(other) == {"dialect": "vllm", "tokenizer": None}


URL = "endpoint.urls=[http://a]"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "needs endpoint.urls"),
        (["kind=vllm", URL], "endpoint is of use to kind openai alone"),
        (["endpoint.urls=[]"], "urls is empty"),
        (["endpoint.urls=[localhost:8000]"], "'localhost:8000' is no url"),
        (["endpoint.urls=['http://:8000/v1']"], "is no url"),
        (["endpoint.urls=['http://me:word@a/v1']"], "holds more than an address"),
        ([URL, "endpoint.concurrency=0"], "concurrency starts at 1"),
        ([URL, "endpoint.timeout=0"], "timeout is above 0"),
        ([URL, "endpoint.retries=-1"], "retries at 0"),
        ([URL, "endpoint.dialect=openai", "endpoint.tokenizer=a"], "for dialect vllm alone"),
        ([URL, "dtype=half"], "the server's to choose"),
        ([URL, "options.endpoint=1"], "options holds endpoint"),
    ],
)
def test_a_wrong_configuration_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.load(EngineConfig, None, ["model=m", "kind=openai", *overrides])


def test_options_do_not_decide_what_is_asked(server: Server) -> None:
    with pytest.raises(EngineError, match="options holds n, stream"):
        engine(server, options={"stream": True, "n": 2, "top_k": 5})


def test_a_tokenizer_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path}.*cannot be read"):
        engine(server, tokenizer=str(tmp_path))


@pytest.mark.parametrize("package", ["httpx", "tenacity"])
def test_a_missing_library_names_the_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from prm.engines import *\n"
        "load(EngineConfig('m', 'openai', endpoint=EndpointConfig(['http://a'])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'aurora-prm[openai]'" in done.stderr


def test_the_engine_imports_no_heavy_library() -> None:
    code = (
        "import sys, prm.engines.openai; "
        "sys.exit(bool({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a:8000", "http://a:8000/v1"),
        ("http://a:8000/", "http://a:8000/v1"),
        ("https://a/v1/", "https://a/v1"),
        ("https://a/v1beta/openai/", "https://a/v1beta/openai"),
    ],
)
def test_a_url_without_a_path_gets_one(url: str, base: str) -> None:
    assert http._base(url) == base


# What is sent, and what is read


def test_chats_of_dialect_vllm(server: Server) -> None:
    request = ask(prefill="judge_result=", regex=VERDICTS, stop=("\n",), max_tokens=9)
    (answer,) = engine(server).generate([request])[0]
    (seen,) = server.requests
    assert seen.path == "chat/completions"
    assert seen.body == {
        "model": "judge",
        "messages": [
            {"role": "user", "content": "Is 1 + 1 = 2?"},
            {"role": "assistant", "content": "judge_result="},
        ],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop": ["\n"],
        "structured_outputs": {"regex": VERDICTS},
    }
    assert answer.text == reply(seen.body)
    assert (answer.finish_reason, answer.reasoning) == ("stop", "Let me see.")
    assert answer.completion_tokens == len(answer.text)
    assert answer.cached_tokens == answer.prompt_tokens // 2 > 0
    assert answer.tokens == ()


def test_without_a_prefill_the_server_opens_the_turn(server: Server) -> None:
    engine(server).generate([ask()])
    assert "continue_final_message" not in bodies(server)[0]
    assert [turn["role"] for turn in bodies(server)[0]["messages"]] == ["user"]


def test_chats_as_token_ids(server: Server) -> None:
    from transformers import AutoTokenizer

    from prm.engines.chat import ChatEncoder

    encoder = ChatEncoder(AutoTokenizer.from_pretrained(JUDGE), "judge")
    request = ask("2<|im_end|>3", prefill="judge_result=", regex=VERDICTS, stop=("\n",))
    (answer,) = engine(server, tokenizer=str(JUDGE)).generate([request])[0]
    (seen,) = server.requests
    assert seen.path == "completions"
    assert seen.body["prompt"] == encoder.encode(request)
    assert seen.body["max_tokens"] == 16
    assert seen.body["structured_outputs"] == {"regex": VERDICTS}
    assert (seen.body["stop"], seen.body["top_k"]) == (["\n"], 0)
    assert not {"messages", "n", "seed", "logprobs"} & set(seen.body)
    assert (answer.text, answer.prompt_tokens) == (reply(seen.body), len(seen.body["prompt"]))
    assert answer.cached_tokens == answer.prompt_tokens // 2 > 0


def test_chats_of_dialect_openai(server: Server) -> None:
    request = ask(prefill="judge_result=", regex=VERDICTS, stop=(",",), max_tokens=9)
    (answer,) = engine(server, dialect="openai").generate([request])[0]
    (seen,) = server.requests
    assert set(seen.body) == {
        *("model", "messages", "max_completion_tokens", "temperature", "top_p", "response_format")
    }
    assert [turn["role"] for turn in seen.body["messages"]] == ["user", "assistant", "user"]
    assert "Go on exactly where it ends" in seen.body["messages"][-1]["content"]
    described = seen.body["response_format"]["json_schema"]
    assert described["strict"] is True
    assert described["schema"]["properties"] == {
        "answer": {"type": "string", "pattern": f"^(?:{VERDICTS})$"}
    }
    assert described["schema"]["additionalProperties"] is False
    assert seen.body["max_completion_tokens"] > 9
    whole = json.loads(reply(seen.body))["answer"]
    assert answer.text == whole[: whole.index(",")] != whole


def test_dialect_openai_without_a_regex_sends_stop_strings(server: Server) -> None:
    (answer,) = engine(server, dialect="openai").generate([ask(stop=("\n",))])[0]
    assert bodies(server)[0]["stop"] == ["\n"]
    assert "response_format" not in bodies(server)[0]
    assert answer.text == reply(bodies(server)[0])


def test_an_answer_that_ignores_the_schema_stays_as_it_is(server: Server) -> None:
    said = {"content": "[1,0,1]", "role": "assistant"}
    found = {
        "choices": [{"message": said, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 5},
    }
    server.plan = endpoint.first(Fault(text=json.dumps(found)))
    (answer,) = engine(server, dialect="openai").generate([ask(regex=VERDICTS)])[0]
    assert (answer.text, answer.finish_reason) == ("[1,0,1]", "stop")


@given(st.text(), st.sampled_from(["", " ", "\n  "]), st.booleans())
def test_any_text_comes_out_of_its_json(text: str, space: str, ascii_only: bool) -> None:
    quoted = json.dumps(text, ensure_ascii=ascii_only)
    content = f'{space}{{{space}"answer":{space}{quoted}{space}}}'
    tokens = [{"token": char, "logprob": -1.0, "top_logprobs": []} for char in content]
    found = {
        "choices": [
            {
                "message": {"content": content},
                "finish_reason": "stop",
                "logprobs": {"content": tokens},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": len(content)},
    }
    answer = Portable().read(ask(regex=".*", alternatives=1), found)
    assert answer.text == text
    assert "".join(token.text for token in answer.tokens) == quoted


@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_alternatives_of_chats(server: Server, dialect: str) -> None:
    request = ask(regex=VERDICTS, alternatives=5)
    (answer,) = engine(server, dialect=dialect).generate([request])[0]
    assert (bodies(server)[0]["logprobs"], bodies(server)[0]["top_logprobs"]) == (True, 5)
    assert answer.text in "".join(token.text for token in answer.tokens)
    told = {token.text: token.alternatives for token in answer.tokens}
    assert told[","] == {",": -0.25, "other": -1.5}
    assert "{" not in told


def test_alternatives_told_by_ids_become_texts(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(JUDGE)

    def names(text: str) -> list[str]:
        return [f"token_id:{number}" for number in [*tokenizer(text)["input_ids"], end]]

    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with serving(Server(names=names)) as server:
        request = ask(regex=VERDICTS, alternatives=3)
        (answer,) = engine(server, tokenizer=str(JUDGE)).generate([request])[0]
    assert bodies(server)[0]["logprobs"] == 3
    assert bodies(server)[0]["return_tokens_as_token_ids"] is True
    assert "".join(token.text for token in answer.tokens) == answer.text
    first = answer.tokens[0]
    assert first.alternatives == {first.text: -0.25, "other": -1.5}


def test_completions_are_asked_for_one_by_one_each_with_its_seed(server: Server) -> None:
    request = ask(n=3, temperature=0.5, seed=7)
    asking = engine(server)
    answers = asking.generate([request, replace(request, seed=None)])
    seeds = [body.get("seed") for body in bodies(server)]
    assert sorted(seeds, key=str) == [7, 8, 9, None, None, None]
    by_seed = {body.get("seed"): reply(body) for body in bodies(server)}
    assert [one.text for one in answers[0]] == [by_seed[seed] for seed in (7, 8, 9)]
    asking.generate([ask(seed=7)])
    assert "seed" not in bodies(server)[-1]


def test_options_are_fields_and_null_leaves_one_out(server: Server) -> None:
    options = {"temperature": None, "reasoning_effort": "none", "top_k": 5}
    engine(server, options=options).generate([ask()])
    (body,) = bodies(server)
    assert "temperature" not in body
    assert (body["reasoning_effort"], body["top_k"]) == ("none", 5)


def test_other_names_and_other_ends_of_answers(server: Server) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}

    def fault(message: dict[str, Any], reason: str | None) -> Fault:
        choice = {"message": message, "finish_reason": reason}
        return Fault(text=json.dumps({"choices": [choice], "usage": usage}))

    server.plan = endpoint.first(
        fault({"content": "a", "reasoning_content": "b"}, "length"),
        fault({"content": None, "refusal": "I cannot"}, "stop"),
        fault({"content": "a"}, None),
        fault({"content": "a"}, "abort"),
    )
    asking = engine(server)
    answers = [asking.generate([ask()])[0][0] for _ in range(4)]
    assert [(one.text, one.finish_reason, one.reasoning) for one in answers[:3]] == [
        ("a", "length", "b"),
        ("", "refusal", ""),
        ("a", "unknown", ""),
    ]
    assert answers[0].cached_tokens == 0
    assert len(server.requests) == 5  # what a server broke off is asked for again
    assert answers[3].text == reply(bodies(server)[-1])


# Order, places, limits


def test_answers_come_in_the_order_of_the_requests(server: Server) -> None:
    server.plan = lambda number, body: Fault(delay=0.005 * (number * 7 % 11))
    requests = [ask(str(number)) for number in range(60)]
    answers = engine(server, concurrency=30).generate(requests)
    by_content = {body["messages"][0]["content"]: reply(body) for body in bodies(server)}
    assert [own[0].text for own in answers] == [by_content[str(number)] for number in range(60)]


def test_no_more_requests_are_under_way_than_allowed() -> None:
    with serving(Server(delay=0.1)) as server:
        engine(server, concurrency=5).generate([ask(n=4, temperature=1.0) for _ in range(10)])
    assert len(server.requests) == 40
    assert server.most_at_once == 5


def test_requests_of_a_group_go_to_one_server() -> None:
    with serving(Server()) as one, serving(Server()) as other:
        requests = [
            ask(f"{group} {number}", group=f"g{group}")
            for group in range(20)
            for number in range(3)
        ]
        engine(one, other).generate(requests)
        alone = [ask(str(number)) for number in range(20)]
        engine(one, other).generate([*alone, *alone])
    seen = [[body["messages"][0]["content"] for body in bodies(server)] for server in (one, other)]
    groups = [{text.split()[0] for text in texts if " " in text} for texts in seen]
    assert all(groups)
    assert not groups[0] & groups[1]
    single = [[text for text in texts if " " not in text] for texts in seen]
    assert all(single)
    assert not set(single[0]) & set(single[1])
    assert sorted([*single[0], *single[1]]) == sorted([str(number) for number in range(20)] * 2)


def test_it_works_where_an_event_loop_runs(server: Server) -> None:
    async def within() -> str:
        return engine(server).generate([ask()])[0][0].text

    assert asyncio.run(within()) == reply(bodies(server)[0])


def test_one_engine_answers_again_and_again(server: Server) -> None:
    asking = engine(server)
    first = asking.generate([ask()])
    assert asking.generate([ask()]) == first
    assert asking.generate([]) == []
    asking.close()


def test_a_request_sets_out_while_others_are_under_way(server: Server) -> None:
    server.plan = lambda number, body: Fault(delay=1.5 if number == 0 else 0.0)
    flowing: Any = engine(server)
    first = flowing.flow.begin(asking(ask("slow", n=2, temperature=1.0)))
    assert flowing.flow.advance() == []
    second = flowing.flow.begin(asking(ask("quick")))
    order: list[int] = []
    while len(order) < 2:
        order += flowing.flow.advance()
    assert order == [second, first]
    assert [len(flowing.flow.collect(number)) for number in (first, second)] == [2, 1]
    flowing.close()
    assert flowing.generate([ask()])[0][0].text  # on connections of its own


def test_a_dead_server_ends_what_flows() -> None:
    flowing: Any = engines.load(
        EngineConfig(
            model="judge",
            kind="openai",
            endpoint=EndpointConfig(urls=["http://127.0.0.1:9/v1"], retries=1),
        )
    )
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9"):
        flowing.flow.run([asking(ask()), asking(ask())])
    flowing.close()


# Faults


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_outlived(server: Server, kind: str) -> None:
    server.plan = endpoint.first(FAULTS[kind], FAULTS[kind])
    asking = engine(server, concurrency=1)
    (answer,) = asking.generate([ask()])[0]
    assert answer.text == reply(bodies(server)[-1])
    assert len(server.requests) == (1 if kind == "slow" else 3)
    assert bodies(server) == [bodies(server)[0]] * len(server.requests)


def test_an_answer_that_takes_too_long_is_not_waited_for(server: Server) -> None:
    server.plan = endpoint.first(Fault(delay=60.0))
    began = time.monotonic()
    (answer,) = engine(server, timeout=1.0).generate([ask()])[0]
    assert 1.0 <= time.monotonic() - began < 50.0
    assert answer.text == reply(bodies(server)[0])


def test_many_faults_change_nothing_that_is_answered(server: Server) -> None:
    requests = [ask(str(number)) for number in range(100)]
    asking = engine(server)
    whole = asking.generate(requests)
    server.plan = endpoint.faults(1, 0.3)
    assert asking.generate(requests) == whole
    assert len(server.requests) > 220


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept(server: Server, form: str) -> None:
    def plan(number: int, body: dict[str, Any]) -> Fault | None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        asked = {"retry-after": "1" if form == "seconds" else soon}
        return None if number else Fault(429, "slow down", asked)

    server.plan = plan
    engine(server).generate([ask()])
    first, second = server.requests
    assert second.at - first.at > 0.99  # a date has whole seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *[("3", 3.0), ("0.5", 0.5), ("-2", 0.0), ("9999", 120.0), ("inf", 120.0)],
        *[("nan", None), ("soon", None), ("Fri, 01 Jan 2010 00:00:00 GMT", 0.0)],
        ("Fri, 01 Jan 2100 00:00:00 -0000", 120.0),
    ],
)
def test_any_retry_after_makes_a_reasonable_pause(value: str, seconds: float | None) -> None:
    response = http.httpx.Response(429, headers={"retry-after": value})
    assert http.retry_after(response) == seconds


def test_a_failing_server_is_left_for_the_next() -> None:
    with serving(Server(lambda *_: FAULTS["server error"])) as bad, serving(Server()) as good:
        answers = engine(bad, good).generate([ask(str(number)) for number in range(8)])
        assert all(own[0].text for own in answers)
        assert len(good.requests) == 8
        assert len(bad.requests) % 3 == 0
        assert len(bad.requests) > 0


def test_a_dead_server_is_one_clear_error_and_soon() -> None:
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))  # nobody listens
        dead = Server()
        dead.url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        began = time.monotonic()
        with pytest.raises(EngineError) as caught:
            engine(dead, retries=3).generate([ask(str(number)) for number in range(500)])
        assert time.monotonic() - began < 30
    said = str(caught.value)
    assert said.startswith(f"{dead.url}: cannot be reached")
    assert said.endswith("after 4 attempts; run the same command again to resume")
    assert "\n" not in said


def test_the_last_problem_is_told(server: Server) -> None:
    server.plan = lambda number, body: Fault(503, f"model is loading\n{'x' * 1000}")
    with pytest.raises(EngineError, match=r"503: model is loading x+…, after 3 attempts") as caught:
        engine(server, retries=2).generate([ask()])
    assert len(str(caught.value)) < 500
    assert len(server.requests) == 3


# What is no fault of the server


@pytest.mark.parametrize(
    ("tokens", "status", "message", "code"),
    [
        (
            *(901, 400),
            "This model's maximum context length is 512 tokens. However, your prompt contains at "
            "least 901 input tokens, which exceeds this limit even without any output tokens.",
            None,
        ),
        (0, 400, "max_tokens must be at least 1, got 0.", None),
        (
            *(9001, 400),
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9001 tokens. Please reduce the length of the messages.",
            "context_length_exceeded",
        ),
        (0, 400, "Your input exceeds the limit.", "context_length_exceeded"),
        (0, 413, "Payload too large", None),
    ],
)
def test_a_prompt_that_is_too_long_is_data(
    server: Server, tokens: int, status: int, message: str, code: str | None
) -> None:
    server.plan = endpoint.first(refusal(status, message, code))
    asking = engine(server, concurrency=1)
    (long,), (short,) = asking.generate([ask("long"), ask("short")])
    assert (long.text, long.finish_reason) == ("", TOO_LONG)
    assert (long.prompt_tokens, long.completion_tokens) == (tokens, 0)
    assert short.text == reply(bodies(server)[-1])
    assert len(server.requests) == 2


def test_token_ids_that_are_too_many_are_counted_here(server: Server) -> None:
    server.plan = endpoint.first(refusal(400, "max_tokens must be at least 1, got 0."))
    (answer,) = engine(server, tokenizer=str(JUDGE)).generate([ask()])[0]
    assert answer.finish_reason == TOO_LONG
    assert answer.prompt_tokens == len(bodies(server)[0]["prompt"])


@pytest.mark.parametrize(
    ("message", "room"),
    [
        ("max_tokens=900 cannot be greater than max_model_len=512. Please request fewer.", 512),
        (
            "This model's maximum context length is 512 tokens. However, you requested 1300 tokens "
            "(400 in the messages, 900 in the completion).",
            112,
        ),
        (
            "'max_tokens' is too large: 900. This model's maximum context length is 512 tokens and "
            "your request has 500 input tokens (900 > 512 - 500).",
            12,
        ),
    ],
)
def test_an_answer_that_would_not_fit_is_asked_for_shorter(
    server: Server, message: str, room: int
) -> None:
    server.plan = endpoint.first(refusal(400, message))
    (answer,) = engine(server).generate([ask(max_tokens=900)])[0]
    assert [body["max_completion_tokens"] for body in bodies(server)] == [900, room]
    assert answer.text == reply(bodies(server)[1])


def test_a_server_that_never_finds_room_is_not_asked_for_ever(server: Server) -> None:
    said = "cannot be greater than max_model_len=512"
    server.plan = lambda number, body: refusal(400, said)
    (answer,) = engine(server).generate([ask(max_tokens=900)])[0]
    assert answer.finish_reason == TOO_LONG
    assert len(server.requests) == 2


def test_a_text_that_a_server_will_not_have_is_data(server: Server) -> None:
    server.plan = endpoint.first(refusal(400, "The prompt was filtered", "content_filter"))
    (answer,) = engine(server).generate([ask()])[0]
    assert (answer.text, answer.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (refusal(400, "Unsupported parameter: 'top_k'"), r"refuses a request: 400: Unsupported"),
        (refusal(422, "body.prompt: wrong"), "422: body.prompt: wrong"),
        (refusal(404, "The model does not exist."), "404: The model.* is 'judge' the name"),
        (refusal(401, "No."), "401: No.; the key is read from JUDGE_KEY in .*: it is not set"),
        (refusal(403, "No."), "403: No.; the key is read from JUDGE_KEY"),
        (refusal(429, "Pay first.", "insufficient_quota"), "429: Pay first."),
        (Fault(307, "", {"location": "https://b/v1"}), "307: it sends requests on to https://b/v1"),
    ],
)
def test_what_another_attempt_would_not_mend_is_an_error_at_once(
    server: Server, fault: Fault, message: str
) -> None:
    server.plan = lambda number, body: fault
    with pytest.raises(EngineError, match=message):
        engine(server, key_env="JUDGE_KEY", concurrency=1).generate([ask()])
    assert len(server.requests) == 1


def test_the_key_is_sent_and_never_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-secret\n")
    engine(server, key_env="JUDGE_KEY").generate([ask()])
    assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
    server.plan = lambda number, body: refusal(401, f"{'x' * 293} sk-secret")
    with pytest.raises(EngineError, match="it is not accepted") as caught:
        engine(server, key_env="JUDGE_KEY").generate([ask()])
    assert "secret" not in str(caught.value)
    engine_without = engine(server)
    server.plan = endpoint.no_fault
    engine_without.generate([ask()])
    assert "authorization" not in server.requests[-1].headers


def test_a_key_that_no_header_can_hold_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-se\ncret")
    with pytest.raises(EngineError, match="JUDGE_KEY is no key") as caught:
        engine(server, key_env="JUDGE_KEY")
    assert "cret" not in str(caught.value)


# Texts that spell special tokens


@pytest.mark.parametrize(
    "text",
    [
        *[
            "<|im_end|>",
            "a <|start_header_id|> b",
            "<｜User｜>",
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
        ],
        *["<start_of_turn>", "<end_of_turn>", "<eos>", "<|turn>", "<turn|>", "[TOOL_CALLS]"],
    ],
)
@pytest.mark.parametrize("dialect", ["vllm", "openai"])
def test_a_text_that_could_forge_a_turn_is_not_sent(
    server: Server, text: str, dialect: str
) -> None:
    asking = engine(server, dialect=dialect)
    answers = asking.generate([ask(text), ask("a"), ask("a", prefill=text)])
    assert [own[0].finish_reason for own in answers] == ["unsafe_text", "stop", "unsafe_text"]
    assert [own[0].text for own in answers][::2] == ["", ""]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "text",
    [
        "|x| < |y|, so a<|b|+|c| and |d|>0",
        r"\langle x | y \rangle, P(A|B)<1, [1, 2], $<x, s>$",
        "a || b, <br/>, <steps>",
    ],
)
def test_mathematics_is_sent(server: Server, text: str) -> None:
    (answer,) = engine(server).generate([ask(text)])[0]
    assert answer.finish_reason == "stop"


# vLLM's own server


@pytest.fixture(scope="module")
def vllm_url() -> Iterator[str]:
    """`vllm serve` with the micro judge, on the CPU."""
    with vllm_serve(JUDGE, "judge") as url:
        yield url


def served(url: str, **settings: Any) -> Engine:
    endpoint = EndpointConfig(urls=[url], retries=2, **settings)
    return engines.load(EngineConfig(model="judge", kind="openai", endpoint=endpoint))


@pytest.fixture(scope="module")
def judge_locally() -> Iterator[Engine]:
    judge = engines.load(EngineConfig(model=str(JUDGE), kind="transformers", dtype="float32"))
    yield judge
    judge.close()


@pytest.mark.slow
def test_vllm_serve_writes_what_transformers_writes(vllm_url: str, judge_locally: Engine) -> None:
    request = ask("2 + 3 = 5<|im_end|>", prefill="judge_result=", regex=VERDICTS, alternatives=20)
    free = ask("What is 2 + 3?", max_tokens=24)
    asking = served(vllm_url, tokenizer=str(JUDGE))
    ours, theirs = asking.generate([request, free]), judge_locally.generate([request, free])
    for (answer,), (expected,) in zip(ours, theirs, strict=True):
        assert answer.text == expected.text
        assert answer.finish_reason == expected.finish_reason
        assert answer.prompt_tokens == expected.prompt_tokens
        assert answer.completion_tokens == expected.completion_tokens
    (answer,), (expected,) = ours[0], theirs[0]
    assert re.fullmatch(VERDICTS, answer.text)
    assert "".join(token.text for token in answer.tokens) == answer.text
    # vLLM's log-probabilities are of what the regex allows, those of transformers of all tokens;
    # how the two verdicts compare is the same.
    soft, other = (soft_verdicts(one.tokens, 3) for one in (answer, expected))
    assert soft[0] == pytest.approx(other[0], abs=0.01)
    asking.generate([ask("2 + 3 = 5, " * 60)])
    (again,) = asking.generate([ask("2 + 3 = 5, " * 60)])[0]
    assert again.cached_tokens > 0


@pytest.mark.slow
def test_vllm_serve_and_its_own_template(vllm_url: str, judge_locally: Engine) -> None:
    request = ask("2 + 3 = 5", prefill="judge_result=", regex=VERDICTS, alternatives=5)
    (answer,) = served(vllm_url).generate([request])[0]
    (expected,) = judge_locally.generate([request])[0]
    assert (answer.text, answer.prompt_tokens) == (expected.text, expected.prompt_tokens)
    assert "".join(token.text for token in answer.tokens).startswith(answer.text)
    (portable,) = served(vllm_url, dialect="openai").generate([ask(regex=VERDICTS)])[0]
    assert portable.text.lstrip().startswith("{")  # this judge has not learnt to write JSON


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", [None, str(JUDGE)])
def test_vllm_serve_and_the_end_of_the_context(vllm_url: str, tokenizer: str | None) -> None:
    asking = served(vllm_url, tokenizer=tokenizer)
    long, free, sampled = asking.generate(
        [
            ask("2 + 3 = 5, " * 2000),
            ask("What is 2 + 3?", max_tokens=100_000),
            ask("What is 2 + 3?", temperature=1.0, seed=7, n=2),
        ]
    )
    assert (long[0].text, long[0].finish_reason) == ("", TOO_LONG)
    assert long[0].prompt_tokens > 0
    assert free[0].finish_reason in ("stop", "length")
    assert free[0].completion_tokens > 0
    assert sampled == asking.generate([ask("What is 2 + 3?", temperature=1.0, seed=7, n=2)])[0]

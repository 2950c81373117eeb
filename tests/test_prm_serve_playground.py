"""The playground: what the page gives away, and what it does in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from browser import CHROMIUM, Tab, browse
from endpoint import Fault, Server, no_fault, serving
from fastapi.testclient import TestClient
from served import serve

from annotate.pieces import split_steps
from prm.aggregation import AGGREGATIONS, aggregate
from prm.records import Failure, Solution, StepScores, steps_digest
from prm.serve import playground
from prm.serve.app import make_app
from prm.serve.desk import Desk
from prm.serve.schemas import Limits

ROOT = Path(__file__).parents[1]
KEY = "sk-playground"
HOSTILE = (
    "<img src=x onerror=\"window.broken = 'image'\"></textarea>",
    "</script><script>window.broken = 'script'</script> $problem &lt;b&gt; {{ 7 * 7 }}",
    "'\"><svg/onload=window.broken='svg'> <style>body { display: none }</style>",
    "right \u202eot tfel\u202c, and a bell \x07",
)
SEEN = HOSTILE[3].replace("\u202e", "‹U+202E›").replace("\u202c", "‹U+202C›")
SEEN = SEEN.replace("\x07", "‹U+0007›")


class SpokenScorer:
    """Scores a step by the number that it begins with; cannot score what begins with none."""

    name = "spoken-name"

    def score_each(self, batch: Sequence[Solution]) -> list[StepScores | Failure]:
        return [self._score(solution) for solution in batch]

    def _score(self, solution: Solution) -> StepScores | Failure:
        try:
            scores = tuple(float(step.split()[0]) for step in solution.steps)
        except ValueError:
            return Failure(id=solution.id, reason="a step <b>without</b> a number")
        digest = steps_digest(solution)
        return StepScores(
            solution_id=solution.id, steps_digest=digest, model=self.name, scores=scores
        )


# What it gives away


def test_the_page_needs_no_key_and_tells_nothing() -> None:
    desk = Desk(SpokenScorer(), Limits(max_items=77))
    client = TestClient(make_app(desk, "secret-key"))
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert 'data-key="yes" data-policy="no"' in answer.text
    for secret in ("secret-key", "spoken-name", "77"):
        assert secret not in answer.text
    loading = TestClient(make_app(Desk(None, Limits()), "another"))
    assert loading.get("/").text == answer.text  # nothing but those two words differs
    unlocked = TestClient(make_app(desk)).get("/").text
    assert unlocked == answer.text.replace('data-key="yes"', 'data-key="no"')
    for path in ("/docs", "/openapi.json", "/metrics", "/playground", "/index.html"):
        assert client.get(path).status_code == 401
    assert client.post("/", json={}).status_code == 405


def test_the_browser_is_told_to_run_the_page_alone() -> None:
    text, headers = playground.page(policy=True, keyed=True)
    rules = dict(
        rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; ") if " " in rule
    )
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    for name in ("frame-ancestors", "base-uri", "form-action", "trusted-types"):
        assert rules[name] == "'none'"
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "Storage", "cookie"):
        assert word not in text
    # No style attribute, no handler in the markup: the policy would drop them without a word.
    assert re.findall(r"\s(?:style|on\w+)=\"", text) == []
    # No address but of the picture's language.
    assert re.findall(r"https?://[^'\s]*", text) == ["http://www.w3.org/2000/svg"]


def test_the_files_are_part_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = settings["tool"]["setuptools"]["package-data"]["prm"]
    for kind in ("html", "css", "js"):
        name = f"serve/playground.{kind}"
        assert (ROOT / "prm" / name).is_file()
        assert any(fnmatch(name, glob) for glob in globs), name


@pytest.mark.parametrize("dark", [False, True])
def test_what_is_written_on_a_colour_can_be_read(dark: bool) -> None:
    style = (ROOT / "prm/serve/playground.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[0]))
    if dark:
        colours |= dict(re.findall(r"--(\w+): (#\w+)", blocks[1]))

    def light(name: str) -> float:
        code = colours[name][1:]
        code = code if len(code) == 6 else "".join(2 * sign for sign in code)
        parts = [int(code[index : index + 2], 16) / 255 for index in (0, 2, 4)]
        red, green, blue = [v / 12.92 if v < 0.04 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one: str, other: str) -> float:
        low, high = sorted((light(one), light(other)))
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "raised", "low", "mid", "high"):
        assert contrast("ink", ground) >= 4.5, ground
    for name in ("soft", "accent", "bad"):
        assert contrast(name, "paper") >= 4.5, name
    assert contrast("bad", "raised") >= 4.5
    assert contrast("on", "accent") >= 4.5
    for ground in ("low", "mid", "high"):
        assert contrast("bar", ground) >= 3, ground


# docs/serving.md


def shape(value: Any) -> Any:
    """The names and kinds in an answer; of a list those of its first element."""
    if isinstance(value, dict):
        return {name: shape(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [shape(inside) for inside in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.slow
def test_what_the_documents_show_is_what_comes(url: str) -> None:
    text = (ROOT / "docs" / "serving.md").read_text()
    shown = re.findall(
        r"^```sh\ncurl (?:--no-buffer )?\"?\$PRM(\S+?)\"? --json '(.*?)'\n```\n\n```\w+\n(.*?)^```",
        text,
        re.DOTALL | re.MULTILINE,
    )
    assert len(shown) == text.count("--json") == 6
    for path, body, answer in shown:
        found = httpx.post(
            f"{url}{path}",
            json=json.loads(body),
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=60,
        )
        if path.endswith("/search"):
            events = [dict(re.findall(r"^(\w+): (.*)$", one, re.M)) for one in (answer, found.text)]
            assert events[0]["event"] == events[1]["event"] == "result"
            was, now = (set(json.loads(one["data"])) for one in events)
            assert was == now
        else:
            assert shape(json.loads(answer)) == shape(found.json()), path
        assert found.status_code == (422 if "stepz" in body else 200)


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browse(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(scope="module")
def writer() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture(scope="module")
def url(tiny_prm: Path, writer: Server) -> Iterator[str]:
    """A real server with a key and a policy."""
    policy = ["policy.model=writer", f"policy.endpoint.urls=[{writer.url}]"]
    with serve(tiny_prm, *policy, "limits.max_candidates=8", key=KEY) as url:
        yield url


@contextmanager
def threaded(desk: Desk, key: str | None = None) -> Iterator[str]:
    """The application behind a real socket, in this process, for scores and states made to order;
    yields its address."""
    config = uvicorn.Config(make_app(desk, key), port=0, log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = running.force_exit = True
        thread.join()


@pytest.fixture(scope="module")
def spoken() -> Iterator[str]:
    """A server without key and policy, whose scores are what the steps say."""
    with threaded(Desk(SpokenScorer(), Limits())) as url:
        yield url


def begin(tab: Tab, url: str, *, key: str | None = KEY) -> None:
    tab.window(1400)
    tab.open(url + "/")
    tab.wait("ready")
    if key is not None:
        tab.value("at('key').focus()")
        tab.type(key)


def fill(tab: Tab, problem: str, candidates: Sequence[str], reference: str = "") -> None:
    """Put texts into the fields, with as many candidates as there are, as a reader does."""
    while tab.value("areas().length") < len(candidates):
        tab.value("at('add').click()")
    while tab.value("areas().length") > len(candidates):
        tab.value("document.querySelector('.candidate button').click()")
    fields = [("#problem", problem), ("#reference", reference)]
    fields += [(f"#candidate-{number}", text) for number, text in enumerate(candidates, 1)]
    for selector, text in fields:
        tab.value(f"document.querySelector('{selector}').select()")
        tab.type(text) if text else tab.value(f"document.querySelector('{selector}').value = ''")


def submit(tab: Tab, form: str = "own") -> None:
    tab.value(f"document.querySelector('#{form} button.main').click()")
    tab.wait("underWay === null")


def cards(tab: Tab) -> list[dict[str, Any]]:
    """What a reader sees of the ranking."""
    found: list[dict[str, Any]] = tab.value(
        """[...document.querySelectorAll("#ranking > li")].map(card => ({
          title: card.querySelector("h3").firstChild.textContent,
          reward: card.querySelector(".reward")?.title,
          told: card.querySelector(".reward")?.textContent,
          chosen: card.className === "chosen" && card.querySelector(".mark")?.textContent,
          failed: card.querySelector(".failed")?.textContent,
          scores: [...card.querySelectorAll(".score")].map(score => score.title),
          shown: [...card.querySelectorAll(".score")].map(score => score.textContent),
          colours: [...card.querySelectorAll(".score")]
            .map(score => getComputedStyle(score).backgroundColor),
          steps: [...card.querySelectorAll(".steps .text")].map(text => text.textContent),
        }))"""
    )
    return found


def error(tab: Tab) -> str:
    return str(tab.value("at('error').hidden ? '' : at('error').textContent"))


def rank_by(tab: Tab, method: str) -> None:
    tab.value(f"document.querySelector('[name=aggregation][value={method}]').click()")


def warmth(colour: str) -> float:
    """Above 0 for orange, below for blue; of a computed colour in OKLab."""
    lab = re.fullmatch(r"oklab\((\S+) (\S+) (\S+)\)", colour)
    assert lab is not None, colour
    return float(lab[3])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
class TestInABrowser:
    """Against a real server; one browser for all."""

    def test_an_example_is_a_click_away(self, browser: Tab, url: str) -> None:
        begin(browser, url)
        browser.value("at('example').click()")
        right, wrong, long = browser.value("areas().map(area => area.value)")
        assert right.endswith("The answer is 4.")
        assert wrong.endswith("The answer is 12.")
        assert long.endswith("The answer is 4.")
        assert len(long) > 2 * len(right)
        assert "How many bags" in browser.value("at('problem').value")

    def test_candidates_are_ranked_as_the_server_does(self, browser: Tab, url: str) -> None:
        question = "What is 2 + 3?"
        texts = [
            "2 + 3 = 5.\n\nThe answer is 5.",
            "Two and three.\n\n2 + 3 = 6.\n\nThe answer is 6.",
            "Count from 2: 3, 4, 5.\n\nWait.\n\nSo 2 + 3 = 5.\n\nThe answer is 5.",
        ]
        begin(browser, url)
        fill(browser, question, texts)
        submit(browser)
        items = [{"question": question, "steps": text.split("\n\n")} for text in texts]
        headers = {"Authorization": f"Bearer {KEY}"}
        posted = len(browser.asked)
        for method in AGGREGATIONS:
            body = {"items": items, "aggregation": method}
            answer = httpx.post(f"{url}/v1/prm/score", json=body, headers=headers, timeout=60)
            results = answer.json()["results"]
            order = sorted(range(3), key=lambda place: -results[place]["reward"])
            rank_by(browser, method)
            found = cards(browser)
            assert [card["title"] for card in found] == [
                f"{rank}. Candidate {place + 1}" for rank, place in enumerate(order, 1)
            ]
            assert [card["chosen"] for card in found] == ["chosen", False, False]
            for card, place in zip(found, order, strict=True):
                assert card["steps"] == items[place]["steps"]
                scores = [float(score) for score in card["scores"]]
                # Batches differ, and with them the last digits.
                assert scores == pytest.approx(results[place]["scores"], abs=1e-5)
                assert float(card["reward"]) == aggregate(scores, method)
                assert card["told"].startswith(f"{method} ")
        assert len(browser.asked) == posted  # another aggregation asks nobody
        said = browser.value("at('said').textContent")
        tokens = answer.headers["X-PRM-Tokens"]
        steps = sum(len(item["steps"]) for item in items)
        assert f"3 candidates · {steps} scored steps · {tokens} tokens read · " in said
        assert re.search(r" · \d+\.\d\d s · chosen by mean: Candidate \d$", said)
        assert browser.problems == []
        assert all(asked.startswith(url + "/") for asked in browser.asked)
        assert {asked.removeprefix(url) for asked in browser.asked} == {
            "/",
            "/ready",
            "/v1/prm/score",
        }

    def test_rewards_are_those_of_prm_aggregation(self, browser: Tab, spoken: str) -> None:
        begin(browser, spoken, key=None)
        chance = random.Random(5)
        kinds = (
            lambda: chance.random(),
            lambda: chance.gauss(0, 3),
            lambda: chance.choice([0.0, 1.0, 0.1, 0.2, 0.3, -0.1, 0.5]),
            lambda: chance.choice([-1, 1]) * 10.0 ** chance.uniform(-30, 30),
            lambda: chance.choice([1e16, -1e16, 1.0, 5e-324, 2.2250738585072014e-308, -5e-324]),
        )
        lists = [
            [chance.choice(kinds)() if mixed else kind() for _ in range(chance.randint(1, 40))]
            for mixed in (False, True)
            for kind in kinds
            for _ in range(60)
        ]
        script = f"""{json.dumps(lists)}.map(scores => Object.fromEntries(
            Object.entries(AGGREGATE).map(([name, of]) => [name, of(scores)])))"""
        for scores, found in zip(lists, browser.value(script), strict=True):
            assert found == {method: aggregate(scores, method) for method in AGGREGATIONS}, scores
        candidates = [{"scores": scores} if number % 7 else {"scores": None}
                      for number, scores in enumerate(lists)]  # fmt: skip
        candidates += candidates[:50]  # equal rewards keep their order
        for method in AGGREGATIONS:
            places = browser.value(
                f"ranking({json.dumps(candidates)}, '{method}').map(own => own.place)"
            )
            rewards = [
                -float("inf") if one["scores"] is None else aggregate(one["scores"], method)
                for one in candidates
            ]
            assert places == sorted(range(len(candidates)), key=lambda own: -rewards[own])

    def test_colours_follow_scores_and_survive_raw_ones(self, browser: Tab, spoken: str) -> None:
        begin(browser, spoken, key=None)
        assert browser.value("getComputedStyle(at('key-part')).display") == "none"
        assert browser.value("getComputedStyle(at('ask')).display") == "none"
        fill(browser, "Count.", ["0.02 a\n\n0.98 b\n\n0.5 c", "0.3 a\n\n\n0.7 b"])
        submit(browser)
        first, second = sorted(cards(browser), key=lambda card: card["title"][3:])
        assert first["shown"] == ["0.020", "0.980", "0.500"]
        assert second["shown"] == ["0.300", "0.700"]
        low, high, middle, lowish, highish = (
            warmth(colour) for colour in first["colours"] + second["colours"]
        )
        assert low > lowish > middle > highish > high
        assert low > 0 > high
        assert browser.value("at('scale-note').textContent") == ""
        assert browser.value("[at('least').textContent, at('greatest').textContent]") == [
            "0.000",
            "1.000",
        ]
        fill(browser, "Count.", ["-2.5 a\n\n7.25 b", "2.375 a\n\n-0.0001 b"])
        submit(browser)
        assert "lie outside [0, 1]" in browser.value("at('scale-note').textContent")
        assert browser.value("[at('least').textContent, at('greatest').textContent]") == [
            "-2.500",
            "7.250",
        ]
        shares = browser.value(
            "[...document.querySelectorAll('.score')].map(s => s.style.getPropertyValue('--place'))"
        )
        assert [float(share[:-1]) for share in shares] == pytest.approx(
            [50, 25.64, 0, 100], abs=0.1
        )
        assert browser.problems == []

    def test_texts_stay_texts(self, browser: Tab, spoken: str, url: str) -> None:
        begin(browser, spoken, key=None)
        steps = [f"0.5 {text}" for text in HOSTILE]
        # A key press brings no control character, so the fields are set.
        fill(browser, "x", ["x", "y"], reference="r")
        browser.value(f"at('problem').value = {json.dumps(HOSTILE[0] + HOSTILE[1])}")
        texts = ["\n\n".join(steps), "\n\n".join(HOSTILE[:3])]
        browser.value(f"areas().forEach((area, at) => area.value = {json.dumps(texts)}[at])")
        before = browser.value("document.querySelectorAll('*').length")
        submit(browser)
        scored, failed = cards(browser)
        assert scored["steps"] == [*steps[:3], f"0.5 {SEEN}"]
        assert failed["steps"] == list(HOSTILE[:3])
        assert failed["failed"] == "not scored: a step <b>without</b> a number"
        assert failed["title"] == "Candidate 2"
        after = browser.value("document.querySelectorAll('*').length")
        assert after - before < 60
        names = "[...new Set([...at('ranking').querySelectorAll('*')].map(e => e.tagName))].sort()"
        assert browser.value(names) == ["H3", "LI", "OL", "P", "SPAN"]
        assert browser.value("document.images.length + document.scripts.length") == 1
        assert browser.value("typeof window.broken") == "undefined"
        # And in an error's words, which quote the request.
        browser.value("at('problem').value = '\\ud800<img src=x onerror=broken>'")
        submit(browser)
        assert "surrogate" in error(browser)
        assert browser.value("document.images.length") == 0
        assert browser.problems == [failed_with(422)]

    def test_the_browser_would_refuse_more(self, browser: Tab, spoken: str) -> None:
        begin(browser, spoken, key=None)
        attempts = {
            "markup": "document.body.innerHTML = '<b>x</b>'",
            "elsewhere": "return fetch('http://127.0.0.1:9/')",
            "a handler": "new Image().setAttribute('onerror', 'window.broken = 1')",
        }
        for what, script in attempts.items():
            failed = browser.value(
                f"(async () => {{ try {{ await (async () => {{ {script} }})() }}"
                " catch (error) { return error.name } })()"
            )
            assert failed == "TypeError", what
        browser.value(
            "{ const made = document.createElement('script'); made.append('window.broken = 1');"
            " document.body.append(made); const image = new Image(); image.src = '/ready';"
            " document.body.append(image) }"
        )
        time.sleep(0.3)
        assert browser.value("typeof window.broken") == "undefined"
        assert len(browser.problems) >= 3

    def test_errors_are_what_the_server_says(self, browser: Tab, url: str) -> None:
        begin(browser, url)
        fill(browser, "What is 2 + 3?", ["2 + 3 = 5", " \n\n "])
        headers = {"Authorization": f"Bearer {KEY}"}
        for mode in ("blank", "split"):
            browser.value(f"document.querySelector('[name=steps][value={mode}]').click()")
            submit(browser)
            items = [
                {"question": "What is 2 + 3?", "text": text} for text in ("2 + 3 = 5", " \n\n ")
            ]
            told = httpx.post(f"{url}/v1/prm/score", json={"items": items}, headers=headers)
            said = told.json()["error"]
            assert error(browser) == (
                f"Error 422 in {said['where']} (candidate 2): {said['message']}"
            )
            assert browser.value("document.activeElement.id") == "candidate-2"
            assert browser.value("areas().map(area => area.getAttribute('aria-invalid'))") == [
                None,
                "true",
            ]
            assert browser.value("at('results').hidden")
        # What one solution cannot have harms no other, and stands last.
        fill(browser, "What is 2 + 3?", ["2 + 3 = 5 " * 300, "2 + 3 = 5", "2 + 3 = 6"])
        submit(browser)
        assert error(browser) == ""
        assert browser.value("document.querySelectorAll('[aria-invalid]').length") == 0
        *ranked, last = cards(browser)
        assert len(ranked) == 2
        assert last["title"] == "Candidate 1"
        assert last["failed"].startswith("not scored: ")
        assert "reward" not in last
        assert last["scores"] == []
        assert browser.problems == [failed_with(422)] * 2

    def test_no_answer_is_told_and_waited_for(self, browser: Tab, spoken: str) -> None:
        desk = Desk(SpokenScorer(), Limits())
        with threaded(desk) as url:
            begin(browser, url, key=None)
        fill(browser, "Count.", ["0.5 a"])
        submit(browser)
        assert error(browser) == "Error: no answer; does the server run?"
        browser.wait("at('state').textContent === 'no answer from the server'")
        assert browser.value("document.querySelector('#own button.main').disabled")

    def test_the_key_stays_in_the_field(self, browser: Tab, url: str) -> None:
        begin(browser, url, key="wrong")
        fill(browser, "What is 2 + 3?", ["2 + 3 = 5"])
        submit(browser)
        assert error(browser) == (
            "Error 401 in header Authorization: no valid key; send `Authorization: Bearer KEY`"
        )
        assert browser.value("document.activeElement.id") == "key"
        browser.value("at('key').value = 'schlüssel'")
        submit(browser)
        assert error(browser) == "Error: the key holds a character that no header can carry"
        browser.value("at('key').select()")
        browser.type(KEY)
        submit(browser)
        assert len(cards(browser)) == 1
        kept = browser.value(
            "JSON.stringify([location.href, document.cookie, {...localStorage},"
            " {...sessionStorage}, document.documentElement.outerHTML, history.state])"
        )
        assert KEY not in kept
        assert browser.value("indexedDB.databases().then(found => found.length)") == 0
        assert browser.value("caches.keys().then(found => found.length)") == 0
        assert not any(KEY in asked for asked in browser.asked)
        browser.call("Page.reload")
        time.sleep(0.2)
        browser.wait("document.readyState === 'complete' && ready")
        assert browser.value("at('key').value") == ""

    def test_it_waits_for_the_model(self, browser: Tab) -> None:
        desk, loaded = Desk(None, Limits()), threading.Event()

        def load() -> SpokenScorer:
            loaded.wait(60)
            return SpokenScorer()

        desk.batcher.load(load)
        with threaded(desk) as url:
            browser.open(url + "/")
            browser.wait("at('state').textContent === 'not ready: loading'")
            assert browser.value("document.querySelector('#own button.main').disabled")
            fill(browser, "Count.", ["0.5 a"])
            browser.value("at('own').requestSubmit()")
            assert f"{url}/v1/prm/score" not in browser.asked
            loaded.set()
            browser.wait("at('state').textContent === 'ready'")
            submit(browser)
            assert [card["shown"] for card in cards(browser)] == [["0.500"]]
            desk.batcher.drain()
            desk.batcher.give_up()
            submit(browser)
            assert error(browser).startswith("Error 503: the server ends")
            browser.wait("at('state').textContent === 'not ready: draining'")

    def test_it_is_used_by_keyboard_alone(self, browser: Tab, spoken: str) -> None:
        begin(browser, spoken, key=None)
        visited = []
        for _ in range(8):
            browser.press("Tab")
            visited.append(
                browser.value("document.activeElement.id || document.activeElement.ariaLabel"
                              " || document.activeElement.value")
            )  # fmt: skip
        assert visited == [
            "example",
            "problem",
            "reference",
            "blank",
            "Remove candidate 1",
            "candidate-1",
            "Remove candidate 2",
            "candidate-2",
        ]
        browser.type("0.25 a")
        browser.press("Tab")  # to `add`
        browser.press(" ")
        assert browser.value("document.activeElement.id") == "candidate-3"
        browser.type("0.75 a")
        browser.value("at('problem').focus()")
        browser.type("Count.")
        browser.value("document.querySelector('[aria-label=\"Remove candidate 1\"]').focus()")
        browser.press("Enter")
        assert browser.value("document.activeElement.id") == "candidate-1"  # which was the second
        browser.press("Enter", control=True)
        browser.wait("document.querySelectorAll('#ranking > li').length === 2")
        assert [card["title"] for card in cards(browser)] == ["1. Candidate 2", "2. Candidate 1"]
        browser.value("document.querySelector('[name=aggregation]').focus()")
        browser.press("ArrowRight")
        browser.wait("document.querySelector('.reward').textContent.startsWith('product')")
        assert browser.problems == []

    def test_every_field_has_a_name(self, browser: Tab, url: str) -> None:
        begin(browser, url)
        nameless = browser.value(
            "[...document.querySelectorAll('input, textarea')].filter(field =>"
            " ![...field.labels].some(label => label.textContent.trim())).map(field => field.id)"
        )
        assert nameless == []
        buttons = "[...document.querySelectorAll('button')].map(b => b.textContent.trim())"
        assert all(browser.value(buttons))

    @pytest.mark.parametrize("width", [400, 1400])
    def test_it_fits(self, browser: Tab, spoken: str, width: int) -> None:
        begin(browser, spoken, key=None)
        browser.window(width)
        fill(browser, "P" * 500, ["0.5 " + "w" * 900, "0.25 a\n\n0.5 \\frac{1}{2}" + "x+" * 300])
        submit(browser)
        assert browser.value("document.documentElement.scrollWidth") <= width
        outside = browser.value(
            "[...document.querySelectorAll('body *')].filter(e =>"
            f" e.getBoundingClientRect().right > {width} + 1).map(e => e.tagName + e.className)"
        )
        assert outside == []
        columns = browser.value(
            "[...document.querySelectorAll('main > section')]"
            ".map(part => part.getBoundingClientRect().left)"
        )
        assert (columns[0] == columns[1]) is (width == 400)

    def test_the_rules_separate_the_steps(self, browser: Tab, url: str) -> None:
        begin(browser, url)
        text = "First, 2 + 3 = 5. Then 5 + 1 = 6. Step 3: the answer is 6."
        fill(browser, "What is 2 + 3 + 1?", [text])
        submit(browser)
        assert cards(browser)[0]["steps"] == [text]
        browser.value("document.querySelector('[name=steps][value=split]').click()")
        submit(browser)
        (card,) = cards(browser)
        assert card["steps"] == list(split_steps(text))
        assert len(card["scores"]) == len(card["steps"]) > 1

    def test_the_policy_is_asked(self, browser: Tab, url: str, writer: Server) -> None:
        answers = [
            said("2 + 3 = 5.\n\nThe answer is 5."),
            said("2 + 3 = 6.\n\nThe answer is 6."),
            said("2 + 3", reason="length"),
            said('<img src=x onerror="window.broken = 1">\n\nThe answer is <b>5</b>.'),
        ]
        writer.plan = lambda number, body: answers[number % len(answers)]
        begin(browser, url)
        fill(browser, "What is 2 + 3?", ["left alone"])
        browser.value("at('tokens').value = '64'")
        count = len(writer.requests)
        submit(browser, "ask")
        assert error(browser) == ""
        asked = [seen.body for seen in writer.requests[count:]]
        assert len(asked) == 4
        for body in asked:
            assert body["messages"] == [{"role": "user", "content": "What is 2 + 3?"}]
            assert body["temperature"] == 0.8
            assert 64 in (body.get("max_tokens"), body.get("max_completion_tokens"))
        *ranked, cut = cards(browser)
        assert len(ranked) == 3
        assert "cut" in cut["failed"] or "length" in cut["failed"]
        assert cut["steps"] == ["2 + 3"]
        rewards = [min(map(float, card["scores"])) for card in ranked]
        assert rewards == sorted(rewards, reverse=True)
        hostile = [card for card in ranked if "<img" in card["steps"][0]]
        assert len(hostile) == 1
        assert browser.value("typeof window.broken") == "undefined"
        assert browser.value("document.images.length") == 0
        finals = "[...document.querySelectorAll('h3 .note')].map(note => note.textContent)"
        assert "final answer 6" in browser.value(finals)
        told = browser.value("at('said').textContent")
        assert re.match(r"writer read 28 and wrote 20 tokens · \S+ read \d+ · [\d.]+ s · ", told)
        assert browser.problems == []

    def test_a_policy_that_fails_is_told_of(self, browser: Tab, url: str, writer: Server) -> None:
        writer.plan = lambda number, body: said("cut", reason="length")
        begin(browser, url)
        fill(browser, "What is 2 + 3?", ["left alone"])
        submit(browser, "ask")
        assert error(browser).startswith("Error 502 in policy: none of 4 candidates can be chosen")
        browser.value("at('count').value = '99'")
        submit(browser, "ask")
        assert error(browser) == "Error 422 in best_of_n.n: 99 candidates, more than 8"

    def test_what_takes_too_long_is_stopped(self, browser: Tab, url: str, writer: Server) -> None:
        writer.plan = lambda number, body: Fault(delay=30)
        begin(browser, url)
        fill(browser, "What is 2 + 3?", ["left alone"])
        came = writer.after(4)
        browser.value("document.querySelector('#ask button.main').click()")
        assert came.wait(30)
        assert browser.value("document.querySelector('#own button.main').disabled")
        browser.value("at('stop').click()")
        browser.wait("underWay === null")
        writer.plan = no_fault
        assert browser.value("at('said').textContent") == "stopped"
        assert error(browser) == ""
        assert browser.value("at('stop').hidden")
        headers = {"Authorization": f"Bearer {KEY}"}
        until = time.monotonic() + 20
        while True:  # the server has noticed, and lets the policy go
            metrics = httpx.get(f"{url}/metrics", headers=headers).text
            if 'prm_policy_requests_total{outcome="left"} 4.0' in metrics:
                break
            assert time.monotonic() < until, metrics
            time.sleep(0.1)


def failed_with(status: int) -> str:
    """What Chromium writes on the console for an answer that is an error."""
    phrase = HTTPStatus(status).phrase
    return f"Failed to load resource: the server responded with a status of {status} ({phrase})"


def said(text: str, reason: str = "stop") -> Fault:
    """An answer that a policy's server gives."""
    choice = {"finish_reason": reason, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 7, "completion_tokens": 5}
    return Fault(text=json.dumps({"choices": [choice], "usage": usage}))

"""The server beside the scorer that it runs: what HTTP, batching and 64 clients cost, and whether
every score is the right one.

    python benchmarks/serving.py [--items 10000] [--clients 64] [--threads 1] [--backend vllm]

A reward model with random weights is made here, and `prm serve` runs it as a process of its own.
So many clients send solutions of unlike lengths, one a request, each its next as soon as it has an
answer; the same solutions are scored in this process by one call of the same scorer. The two sides
work in turns, a tenth of the solutions at a time, so that what else a machine does falls on both.

- `ratio`: seconds offline divided by seconds served; to be reached: 0.85. `cpu_ratio`: the same of
  the two processes' own CPU seconds, which others on the machine do not touch.
- `lost`, `wrong`: answers that did not come, or that differ by more than 1e-5; to be reached: none.
- `p50_ms`, `p95_ms`, `p99_ms`: from a request to its answer, with all other clients at work.
- `rss_growth_mb`: the server's memory after the last tenth less that after the second.
- `rerank`: 64 candidates of one question in one request, beside the same 64 scored offline.

Scorer and server have `--threads` each; the clients need a core of their own. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CONTEXT = 4096
ROUNDS = 10
WARM = 256
TOLERANCE = 1e-5

Item = dict[str, Any]


def make_model(folder: Path, hidden: int, layers: int) -> None:
    """A checkpoint of the kind that `prm train` leaves, with random weights."""
    from prm.render import RenderSettings
    from prm.train import scratch
    from prm.zoo.aurora import Declaration, write_declaration

    tokenizer = scratch.make_tokenizer(
        [" ".join(sentence(random.Random(1)) for _ in range(99))], 512
    )
    size = scratch.ScratchConfig(
        vocab_size=512,
        hidden_size=hidden,
        layers=layers,
        heads=max(1, hidden // 32),
        intermediate_size=3 * hidden,
    )
    model = scratch.make_model(size, tokenizer, context=CONTEXT, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    declared = Declaration(
        render=RenderSettings(max_length=CONTEXT),
        reference="answer",
        reference_drop=0.0,
        loss="mse",
        base="scratch",
    )
    write_declaration(folder, declared)


def sentence(rng: random.Random) -> str:
    """One line of a solution."""
    first, second = rng.randrange(1000), rng.randrange(1000)
    return f"Adding {first} and {second} gives {first + second}, which we need below."


def make_items(count: int, seed: int) -> Iterator[Item]:
    """Solutions of 1 to 40 steps, short ones oftener, of 1 to 3 lines each."""
    rng = random.Random(seed)
    for number in range(count):
        steps = min(40, max(1, round(math.exp(rng.gauss(1.4, 0.8)))))
        yield {
            "id": str(number),
            "question": f"What is {sentence(rng)}",
            "steps": [
                " ".join(sentence(rng) for _ in range(rng.randint(1, 3))) for _ in range(steps)
            ],
        }


@contextlib.contextmanager
def serving(model: Path, chosen: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """A server, as its address and its process."""
    command = [sys.executable, "-m", "prm", "serve", f"scorer.model={model}", "port=0"]
    command += [f"scorer.backend={chosen.backend}", f"scorer.device={device(chosen)}"]
    command += [f"scorer.batch_tokens={chosen.batch_tokens or 'null'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads)}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield line.split(" at ")[1].split()[0], process.pid
    finally:
        process.terminate()
        process.wait(90)
        process.stdout.close()


def device(chosen: argparse.Namespace) -> str:
    """Where the model runs; vLLM takes the machine's."""
    return "cpu" if chosen.backend == "transformers" else "auto"


async def send(url: str, items: list[Item], clients: int) -> tuple[float, list[Any], list[float]]:
    """Seconds of all, and for each item its result (None where none came) and its seconds."""
    results: list[Any] = [None] * len(items)
    waits: list[float] = [0.0] * len(items)
    left = iter(range(len(items)))

    async def client(http: httpx.AsyncClient) -> None:
        for index in left:
            began = time.perf_counter()
            try:
                answer = await http.post("/v1/prm/score", json={"items": [items[index]]})
                if answer.is_success:
                    results[index] = answer.json()["results"][0]
            except httpx.HTTPError:
                pass  # without a result it counts as lost
            waits[index] = time.perf_counter() - began

    async with contextlib.AsyncExitStack() as stack:
        # Before the clock runs: each loads the certificates that it would trust, for 20 ms.
        https = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=600))
            for _ in range(clients)
        ]
        began = time.perf_counter()
        await asyncio.gather(*map(client, https))
        return time.perf_counter() - began, results, waits


def memory(process: int) -> float:
    """What a process holds, in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def worked(process: int) -> float:
    """The CPU seconds that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run both sides; returns what the last line holds."""
    import torch

    from prm.scorers import ScorerConfig, load

    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        make_model(model, chosen.hidden, chosen.layers)
        config = ScorerConfig(
            str(model),
            backend=chosen.backend,
            device=device(chosen),
            batch_tokens=chosen.batch_tokens,
        )
        scorer = load(config)
        with serving(model, chosen) as (url, process):
            asyncio.run(send(url, list(make_items(WARM, 1)), chosen.clients))
            offline(scorer, list(make_items(WARM, 1)))
            found = both_sides(chosen, scorer, url, process)
            found["rerank"] = rerank(scorer, url)
    return found


def both_sides(chosen: argparse.Namespace, scorer: Any, url: str, process: int) -> dict[str, Any]:
    """The solutions, in turns."""
    items = list(make_items(chosen.items, 0))
    part = -(-len(items) // ROUNDS)
    before = scorer.tokens
    alone = served = largest = own = theirs = 0.0
    lost = wrong = 0
    waits: list[float] = []
    held: list[float] = []
    for start in range(0, len(items), part):
        block = items[start : start + part]
        own -= time.process_time()
        seconds, expected = offline(scorer, block)
        own += time.process_time()
        alone += seconds
        theirs -= worked(process)
        spent, results, times = asyncio.run(send(url, block, chosen.clients))
        theirs += worked(process)
        served += spent
        waits += times
        held.append(memory(process))
        for want, result in zip(expected, results, strict=True):
            if result is None or result["scores"] is None:
                lost += 1
                continue
            pairs = zip(want, result["scores"], strict=True)
            delta = max(abs(one - other) for one, other in pairs)
            largest = max(largest, delta)
            wrong += delta > TOLERANCE
        print(
            f"{start + len(block):6} offline {seconds:.1f} s, served {spent:.1f} s, "
            f"{held[-1]:.0f} MB",
            flush=True,
        )
    cuts = statistics.quantiles(waits, n=100)
    return {
        "items": len(items),
        "clients": chosen.clients,
        "threads": chosen.threads,
        "tokens": scorer.tokens - before,
        "lost": lost,
        "wrong": wrong,
        "max_delta": largest,
        "offline_seconds": round(alone, 2),
        "served_seconds": round(served, 2),
        "ratio": round(alone / served, 3),
        # vLLM computes in processes of its own, on either side.
        "cpu_ratio": round(own / theirs, 3) if chosen.backend == "transformers" else None,
        "items_per_second": round(len(items) / served, 1),
        "p50_ms": round(1000 * cuts[49]),
        "p95_ms": round(1000 * cuts[94]),
        "p99_ms": round(1000 * cuts[98]),
        "rss_mb": round(held[-1]),
        "rss_growth_mb": round(held[-1] - held[min(1, len(held) - 1)], 1),
    }


def offline(scorer: Any, items: list[Item]) -> tuple[float, list[tuple[float, ...]]]:
    """Seconds of one call, and the scores."""
    from prm.records import Solution
    from prm.scorers import score_all

    batch = [
        Solution(id=item["id"], problem=item["question"], steps=tuple(item["steps"]))
        for item in items
    ]
    began = time.perf_counter()
    found = score_all(scorer, batch)
    return time.perf_counter() - began, [result.scores for result in found]


def rerank(scorer: Any, url: str) -> dict[str, Any]:
    """64 candidates of one question, five times on each side."""
    candidates = list(make_items(64, 2))
    question = candidates[0]["question"]
    for item in candidates:
        item["question"] = question
    documents = [{"steps": item["steps"]} for item in candidates]
    alone, served = [], []
    wrong = 0
    for _ in range(5):
        seconds, expected = offline(scorer, candidates)
        alone.append(seconds)
        began = time.perf_counter()
        body = {"query": question, "documents": documents}
        answer = httpx.post(f"{url}/v1/rerank", json=body, timeout=600).json()
        served.append(time.perf_counter() - began)
        rewards = [result["relevance_score"] for result in answer["results"]]
        wrong += rewards != sorted(rewards, reverse=True)
        for result in answer["results"]:
            reward = min(expected[result["index"]])
            wrong += abs(result["relevance_score"] - reward) > TOLERANCE
    return {
        "offline_ms": round(1000 * statistics.median(alone)),
        "served_ms": round(1000 * statistics.median(served)),
        "wrong": wrong,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The server beside the scorer that it runs.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1, help="of the scorer, on each side")
    parser.add_argument("--backend", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--batch-tokens", type=int, help="of one forward; else the scorer's own")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()

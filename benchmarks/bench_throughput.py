"""Tokens a second of `prm bench` beside a loop of one solution at a time, on ProcessBench.

    python benchmarks/bench_throughput.py --data FOLDER [--solutions N]

Three random models of about 20 million weights, made here, float32, on the CPU, over ProcessBench's
gsm8k and math cases (1,400):

- `tokens`: a causal language model with a vocabulary of 32,000, whose score is a softmax over two
  tokens (family math-shepherd). The loop is what its model card publishes: the logits of the whole
  vocabulary at every place, of which two are read.
- `dialogue`: the same of a chat in which the assistant answers each step (family rlhflow). The
  loop is the published one: a forward over the chat so far for every step.
- `labels`: a token classifier (ours). The loop is the stock class, one solution at a time: on a CPU
  it leaves little to gain, for a single solution keeps all cores busy.

`prm bench` runs as a user starts it, with everything it does (items, scores made durable, metrics,
intervals, report); what counts is the time it takes to load and to score, and, beside it, that of
the whole command. The scores of loop and bench are compared. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import published  # noqa: E402 - needs the path above
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForTokenClassification,
)

from prm import cli, jsonl  # noqa: E402
from prm.records import Solution  # noqa: E402
from prm.render import RenderSettings  # noqa: E402
from prm.scorers import ScorerConfig, load  # noqa: E402
from prm.sources import Source, solutions  # noqa: E402
from prm.train.scratch import make_tokenizer  # noqa: E402
from prm.zoo.aurora import Declaration, write_declaration  # noqa: E402
from universalbench.results import Cost, ItemScores  # noqa: E402

FILES = ("gsm8k", "math")
FAMILIES = {"tokens": "math-shepherd", "dialogue": "rlhflow", "labels": "aurora"}
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
"""With `--tiny`, which says nothing of speed: whether the script works."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="prm bench beside one solution at a time.")
    parser.add_argument("--data", type=Path, required=True, help="the folder of public data")
    parser.add_argument("--solutions", type=int, help="of each subset; all where not given")
    parser.add_argument("--kinds", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = cut(chosen.data / "processbench", Path(scratch), chosen.solutions)
        items = [
            item
            for name in FILES
            for item in solutions(Source(format="processbench", path=str(data[name])))
        ]
        texts = [text for item in items for text in (item.problem, *item.steps)]
        for kind in chosen.kinds:
            folder = Path(scratch) / kind
            make(folder, kind, texts, TINY if chosen.tiny else {})
            found |= compare(kind, folder, items, data, Path(scratch) / f"bench-{kind}")
    print(json.dumps(found))


def cut(source: Path, folder: Path, most: int | None) -> dict[str, Path]:
    """The data files, of each the first `most` solutions."""
    paths = {}
    for name in FILES:
        rows = json.loads((source / f"{name}.json").read_text(encoding="utf-8"))
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps(rows[:most]), encoding="utf-8")
    return paths


def make(folder: Path, kind: str, texts: list[str], smaller: dict[str, int]) -> None:
    """A random checkpoint with a tokenizer that has learnt from the texts."""
    size = {
        "intermediate_size": 1024,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.05,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(0)
    tokens = {"vocab_size": 32_000, "hidden_size": 256, "num_hidden_layers": 4}
    if kind == "tokens":
        # Often enough that the family's tags become tokens beside so many texts.
        tokenizer = published.mistral_tokenizer([*texts, *["a ки + - b"] * len(texts)], 4096)
        model: Any = MistralForCausalLM(MistralConfig(**(size | tokens | smaller)))
    elif kind == "dialogue":
        tokenizer = published.llama3_tokenizer(texts, 4096)
        model = LlamaForCausalLM(LlamaConfig(**(size | tokens | smaller)))
    else:
        tokenizer = make_tokenizer(texts, 4096)
        labels = {"vocab_size": 4096, "hidden_size": 384, "num_hidden_layers": 11}
        config = Qwen2Config(**(size | labels | smaller), num_labels=1)
        model = Qwen2ForTokenClassification(config)
        folder.mkdir()
        declare(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{kind}: {model.num_parameters() / 1e6:.1f}M weights", flush=True)


def declare(folder: Path) -> None:
    """What `prm train` would have declared of the classifier."""
    settings = RenderSettings(system="", max_length=8192, takes_reference=False)
    declaration = Declaration(
        render=settings, reference="none", reference_drop=1.0, loss="squared_error", base="random"
    )
    write_declaration(folder, declaration)


def compare(
    kind: str, folder: Path, items: list[Solution], data: dict[str, Path], out: Path
) -> dict[str, Any]:
    """Both sides' times, and how far their scores lie apart."""
    family = FAMILIES[kind]
    form = load(ScorerConfig(str(folder), family=family)).format  # type: ignore[attr-defined]
    rendered = [form.render(item.problem, item.steps) for item in items]
    tokens = sum(len(one.input_ids) for one in rendered)

    began = time.perf_counter()
    tasks = ", ".join(
        f"{{name: {name}, kind: processbench, source: {{format: processbench, path: {path}}}}}"
        for name, path in data.items()
    )
    predictor = (
        f"{{name: model, checkpoint: {{model: {folder}, family: {family}}}, threshold: gsm8k}}"
    )
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["bench", f"out={out}", f"tasks=[{tasks}]", f"predictors=[{predictor}]"])
    assert code == 0
    whole = time.perf_counter() - began
    scoring = sum(cost.seconds for cost in jsonl.read(out / "costs.jsonl", Cost))
    ours = {
        (row.task, row.solution_id): row.scores
        for row in jsonl.read(out / "scores.jsonl", ItemScores)
    }

    loop = one_at_a_time(kind, folder, form)
    began = time.perf_counter()
    theirs = [loop(one) for one in rendered]
    alone = time.perf_counter() - began

    flat = [value for row in ours.values() for value in row or ()]
    delta = max(abs(a - b) for a, b in zip(flat, (v for row in theirs for v in row), strict=True))
    print(
        f"{kind}: {len(items)} solutions, {tokens:,} tokens; prm bench {tokens / scoring:,.0f} "
        f"tokens/s while scoring, {tokens / whole:,.0f} in all ({whole:.0f} s); one at a "
        f"time {tokens / alone:,.0f}; scores differ by at most {delta:.1e}",
        flush=True,
    )
    return {
        f"{kind}_ratio": round(alone / scoring, 2),
        f"{kind}_ratio_whole_command": round(alone / whole, 2),
        f"{kind}_max_delta": float(f"{delta:.2g}"),
        f"{kind}_tokens": tokens,
    }


def one_at_a_time(kind: str, folder: Path, form: Any) -> Callable[[Any], list[float]]:
    """A loop's body as published: the stock class, one sequence, all places."""
    if kind != "labels":
        language_model = AutoModelForCausalLM.from_pretrained(folder).eval()
        wrong, right = form.readout.tokens

        def of_chat(rendered: Any) -> list[float]:
            scores = []
            for end in rendered.step_ends:
                chat = torch.tensor([rendered.input_ids[: end + 3]])  # the answer and its end
                with torch.no_grad():
                    logits = language_model(chat).logits[:, end, [right, wrong]]
                scores.append(float(logits.softmax(dim=-1)[0, 0]))
            return scores

        def of_tokens(rendered: Any) -> list[float]:
            with torch.no_grad():
                logits = language_model(torch.tensor([rendered.input_ids])).logits
                pair = logits[:, :, [right, wrong]].softmax(dim=-1)[0, :, 0]
            return [float(pair[end]) for end in rendered.step_ends]

        return of_chat if kind == "dialogue" else of_tokens
    classifier = Qwen2ForTokenClassification.from_pretrained(folder).eval()

    def of_labels(rendered: Any) -> list[float]:
        with torch.no_grad():
            logits = classifier(torch.tensor([rendered.input_ids])).logits[0, :, 0]
        return [float(logits[end]) for end in rendered.step_ends]

    return of_labels


if __name__ == "__main__":
    main()

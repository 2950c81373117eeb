"""What the `shared` prompt layout saves beside the `paper` one, on real vLLM.

    python benchmarks/prompt_sharing.py [--data FOLDER] [--solutions 48] [--options '{...}']

The same ProcessBench solutions are judged under the same four strategies in both layouts, each by a
fresh engine with prefix caching: a random model of Qwen2's architecture, made here, since only the
prompts matter. Counted are the tokens whose prefill was computed (those of all prompts less those
found in the cache) and the wall time of generation. Reasoning is cut short (`--reasoning` tokens):
what is written costs both layouts the same.

The last line is one JSON object; both ratios are `shared` divided by `paper`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from annotate.judge import JudgeSettings, judge  # noqa: E402 - needs the path above
from prm.engines import EngineConfig, load  # noqa: E402
from prm.engines.meter import Meter  # noqa: E402
from prm.records import Solution  # noqa: E402
from prm.sources import Source, solutions  # noqa: E402
from prm.train.scratch import make_tokenizer  # noqa: E402

STRATEGIES = ("p0", "p1", "p2", "p3")
VOCABULARY = 4096


def make_judge(folder: Path, items: list[Solution]) -> str:
    """A random Qwen2 model whose tokenizer was trained on these solutions."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    texts = [item.problem + "\n" + "\n".join(item.steps) for item in items]
    prompts = [path.read_text() for path in (ROOT / "annotate/prompts/default").glob("*.toml")]
    tokenizer = make_tokenizer([*texts, *prompts * 50], VOCABULARY)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=16384,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def measure(
    model: str, items: list[Solution], layout: Any, reasoning: int, options: dict[str, Any]
) -> dict[str, float]:
    """Judge all solutions in one layout with a fresh engine."""
    config = EngineConfig(model=model, kind="vllm", dtype="float32", options=options)
    meter = Meter(load(config))
    settings = JudgeSettings(max_tokens=reasoning, layout=layout)
    began = time.monotonic()
    cast = list(judge(items, meter, STRATEGIES, settings=settings, retries=0, chunk=16))
    seconds = time.monotonic() - began
    meter.close()
    lists = [judgment for own in cast for judgment in own if judgment.strategy in ("p1", "p3")]
    assert all(judgment.error is None for judgment in lists), "a constrained list went wrong"
    return {
        "prompt_tokens": meter.prompt_tokens,
        "computed_tokens": meter.prompt_tokens - meter.cached_tokens,
        "written_tokens": meter.completion_tokens,
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Prefill of both prompt layouts on vLLM.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds processbench/")
    parser.add_argument("--solutions", type=int, default=48)
    parser.add_argument("--reasoning", type=int, default=16, help="most tokens of reasoning")
    parser.add_argument("--options", type=json.loads, default={"enable_prefix_caching": True})
    chosen = parser.parse_args()
    source = Source(format="processbench", path=str(chosen.data / "processbench/math.json"))
    items = list(solutions(source))[: chosen.solutions]
    with tempfile.TemporaryDirectory() as folder:
        model = make_judge(Path(folder), items)
        found = {
            layout: measure(model, items, layout, chosen.reasoning, chosen.options)
            for layout in ("paper", "shared")
        }
    for layout, figures in found.items():
        print(layout, figures)
    paper, shared = found["paper"], found["shared"]
    ratios = {
        "prefill_ratio": round(shared["computed_tokens"] / paper["computed_tokens"], 3),
        "time_ratio": round(shared["seconds"] / paper["seconds"], 3),
        "solutions": len(items),
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()

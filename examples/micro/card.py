"""The model cards of the micro models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from examples.micro.lessons import STRATEGIES
from examples.micro.policies import POLICIES, TEMPERATURE
from prm import jsonl

_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: {{ task }}
tags: [micro, process-reward-model]
---

# {{ title }}

A Qwen2 model of {{ size }} with a byte-level tokenizer of 620 tokens, in
which a digit is a token. It knows nothing but the micro world of `examples/micro`: short word
problems on whole numbers from 2 to 99. It stands in for a large model where neither a GPU nor a
download is at hand, on the same code path.

{{ text }}

| held-out problems | |
|---|---|
{% for name, value in rows -%}
| {{ name }} | {{ value }} |
{% endfor %}
Brackets are 95 % bootstrap intervals. `python examples/micro/train.py --out runs/micro` trains it
from nothing and measures it; data, lessons and courses are in that folder. The weights are in
bfloat16; load them as float32 for the figures above.
"""
_POLICY = """A policy: it solves problems, with errors of its own. It is the model after {age}
steps of the solving course; its user turn is `{template}`. The figures are of one solution a
problem, sampled at temperature {temperature}."""
_JUDGE = """The judge: it goes through a solution under the strategies p0 to p3 of
`examples/micro/prompts`, with or without a reference, and says where steps begin. It learnt from
planted errors and from what the policies wrote about train problems, with exact labels, and with a
linear probe on the last token of each step that was thrown away. The figures are of greedy answers
about the policies' own solutions."""
_BASE = """The base for reward models: the oldest policy, after a course in which it solved problems
in the words that a reward model is asked in, half of them beside a reference, with three layers on
top. From texts with errors and without labels (planted ones, and what the policies wrote about
train problems) these layers learnt to tell at each number how likely the solver held it, and how
likely the least likely one so far was (`examples/micro/surprise.py`). It has no head, for words or
for scores: what policies get wrong and judges say of it is for a reward model to learn."""
_TASK = {False: "text-generation", True: "feature-extraction"}
_SIZE = {
    False: "1M parameters (4 layers, width 128)",
    True: "1.6M parameters (7 layers, width 128)",
}


def write_card(folder: Path, name: str, figures: dict[str, Any], ages: dict[str, int]) -> None:
    """Write `README.md` for one of the micro models.

    Args:
        folder: the model's.
        name: a policy's, `judge` or `base`.
        figures: what `measure` found.
        ages: the step of the solving course whose model each policy is.
    """
    rows: list[tuple[str, str]] = []
    if name == "judge":
        text = _JUDGE
        for key in (*STRATEGIES, "ensemble"):
            rows.append((f"F1 of wrong steps, {key}", _percent(figures["judge"][key], "f1")))
        rows.append(("texts cut as the world cuts them", f"{figures['split']['exact']:.1%}"))
    elif name == "base":
        text = _BASE
        rows.append(("not measured by itself", "see the demo"))
    else:
        policy = next(policy for policy in POLICIES if policy.name == name)
        template = policy.template.replace("\n", " ⏎ ")
        text = _POLICY.format(age=ages[name], template=template, temperature=TEMPERATURE)
        row = figures["policies"][name]
        rows.append(("right answers (pass@1)", _percent(row, "pass_at_1")))
        rows.append(("… in wordings known from training", f"{row['train']:.1%}"))
        rows.append(("… in held-out wordings", f"{row['held_out']:.1%}"))
        rows.append(("wrong steps", f"{row['wrong_steps']:.1%}"))
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    card = template.from_string(_CARD).render(
        title=f"Micro model: {name}",
        size=_SIZE[name == "base"],
        task=_TASK[name == "base"],
        text=text,
        rows=rows,
    )
    jsonl.write_text(folder / "README.md", card)


def _percent(row: dict[str, float], key: str) -> str:
    return f"{row[key]:.1%} [{row['low']:.1%}, {row['high']:.1%}]"

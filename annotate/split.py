"""`prm split`: one text into steps, by a language model or by rules; its words stay as they are.

A model says which pieces of a text begin a step (`annotate.boundary`), or writes the text again
in steps (`annotate.rewrite`). Where its answers are of no use, and where no model is named, rules
cut (`annotate.pieces`). Each solution's metadata say how it was split, and why a model did not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from annotate.boundary import split_texts
from annotate.pieces import RulesConfig, split_steps
from annotate.rewrite import rewrite_texts
from annotate.strategy import prompt_folder
from prm import jsonl
from prm.config import MAY_CHANGE
from prm.engines import Engine, EngineConfig, load
from prm.engines.meter import Meter
from prm.progress import bar
from prm.records import Solution
from prm.run import Counts, Run, fingerprint
from prm.sources import Source, identify, solutions

BOUNDARY, REWRITE, RULES = "boundary", "rewrite", "rules"
"""How a solution was split, in its metadata under `split`; where a model failed, `split_error` says
why, with the numbers after a colon."""


OUTPUTS = ("solutions.jsonl",)


@dataclass
class Config:
    """`prm split`.

    Attributes:
        out: the run folder; gets `solutions.jsonl`.
        source: solutions, as `prm sample` leaves them. Those of several steps stay as they are.
        engine: the model that says where steps begin; None leaves it to the rules.
        how: what the model is asked for. `boundary`: the numbers of the pieces that begin a step;
            `rewrite`: the text again, as JSON, taken only where it is the text word for word.
            `rules` asks no model.
        rules: how long a step may be where rules cut.
        prompts: the prompt set: a folder's path, or the name of one in `annotate/prompts`.
        seed: of the retries, which sample.
        retries: how often an unusable answer is asked for again before the rules cut.
        chunk: solutions between two durable writes.
    """

    out: str
    source: Source
    engine: EngineConfig | None = None
    how: Literal["boundary", "rewrite", "rules"] = "boundary"
    rules: RulesConfig = field(default_factory=RulesConfig)
    prompts: str = "default"
    seed: int = 0
    retries: int = 1
    chunk: int = field(default=256, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.retries < 0:
            raise ValueError("chunk starts at 1, retries at 0")
        if self.how == RULES and self.engine is not None:
            raise ValueError("how is 'rules', which asks no model; unset engine, or set how")
        if self.how == REWRITE and self.engine is None:
            raise ValueError("how is 'rewrite', which needs a model; set engine, or how to 'rules'")


def split(items: Sequence[Solution], config: Config, engine: Engine | None) -> Iterator[Solution]:
    """Split solutions that are one text; those that have several steps stay as they are."""
    whole = [item for item in items if len(item.steps) == 1]
    texts = [item.steps[0] for item in whole]
    found: Sequence[tuple[str, ...] | str] = [""] * len(texts)
    if engine is not None:
        ask = rewrite_texts if config.how == REWRITE else split_texts
        found = ask(
            texts,
            engine,
            prompts=config.prompts,
            seed=config.seed,
            retries=config.retries,
            context=config.engine.max_model_len if config.engine else None,
        )
    results = iter(found)
    for item in items:
        if len(item.steps) > 1:
            yield item
            continue
        result = next(results)
        if isinstance(result, str):
            how = {"split": RULES} | ({"split_error": result} if result else {})
            steps = split_steps(item.steps[0], config.rules)
            yield replace(item, steps=steps, metadata=item.metadata | how)
        else:
            yield replace(item, steps=result, metadata=item.metadata | {"split": config.how})


def run(config: Config) -> Counts:
    """Split a file of solutions; resumes where an earlier attempt stopped."""
    inputs = {"source": identify(config.source)}
    if config.engine is not None:
        inputs["prompts"] = fingerprint(prompt_folder(config.prompts))
    with Run(config.out, "split", config, inputs, OUTPUTS) as folder:
        if folder.counts is not None:
            return folder.counts
        total = sum(1 for _ in solutions(config.source))
        with jsonl.Writer(folder.path("solutions.jsonl"), Solution) as out:
            meter = None
            if config.engine is not None and len(out.finished) < total:
                meter = Meter(load(config.engine), config.engine.prices)
            try:
                _split_rest(config, total, out, meter)
            finally:
                if meter is not None:
                    meter.close()
            out.commit()
        errors = Counter(  # without the numbers, which would make each a reason of its own
            item.metadata["split_error"].split(":")[0]
            for item in jsonl.read(out.path, Solution)
            if "split_error" in item.metadata
        )
        counts = Counts(read=total, written=total, failed=dict(errors))
        return folder.finish(counts, OUTPUTS)


def _split_rest(config: Config, total: int, out: jsonl.Writer, meter: Meter | None) -> None:
    """Split what an earlier attempt left."""
    done = set(out.finished)
    todo = (item for item in solutions(config.source) if item.id not in done)
    with bar("split", total, done=len(done)) as shown:
        while chunk := list(islice(todo, config.chunk)):
            out.write(split(chunk, config, meter))
            shown.update(len(chunk))
            if meter is not None:
                shown.set_postfix_str(meter.note(), refresh=False)

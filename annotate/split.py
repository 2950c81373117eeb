"""`prm split`: one text into steps, by a language model or by rules; its words stay as they are.

A model says which pieces of a text begin a step (`annotate.boundary`); where its answers are of
no use, and where no model is named, rules cut (`annotate.pieces`). Each solution's metadata say
how it was split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from annotate.boundary import split_texts
from annotate.pieces import split_steps
from annotate.strategy import prompt_folder
from prm import jsonl
from prm.config import MAY_CHANGE
from prm.engines import Engine, EngineConfig, load
from prm.progress import track
from prm.records import Solution
from prm.run import Counts, Run, fingerprint
from prm.sources import Source, identify, solutions

BOUNDARY, RULES = "boundary", "rules"
"""How a solution was split, in its metadata under `split`."""


@dataclass
class Config:
    """`prm split`.

    Attributes:
        out: the run folder; gets `solutions.jsonl`.
        source: solutions, as `prm sample` leaves them. Those of several steps stay as they are.
        engine: the model that says where steps begin; None leaves it to the rules.
        prompts: the prompt set: a folder's path, or the name of one in `annotate/prompts`.
        seed: of the retries, which sample.
        retries: how often an unusable answer is asked for again before the rules cut.
        chunk: solutions between two durable writes.
    """

    out: str
    source: Source
    engine: EngineConfig | None = None
    prompts: str = "default"
    seed: int = 0
    retries: int = 1
    chunk: int = field(default=256, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.retries < 0:
            raise ValueError("chunk starts at 1, retries at 0")


def split(items: Sequence[Solution], config: Config, engine: Engine | None) -> Iterator[Solution]:
    """Split solutions that are one text; those that have several steps stay as they are."""
    whole = [item for item in items if len(item.steps) == 1]
    texts = [item.steps[0] for item in whole]
    found: Sequence[tuple[str, ...] | str] = [""] * len(texts)
    if engine is not None:
        found = split_texts(
            texts, engine, prompts=config.prompts, seed=config.seed, retries=config.retries
        )
    results = iter(found)
    for item in items:
        if len(item.steps) > 1:
            yield item
            continue
        result = next(results)
        if isinstance(result, str):
            how = {"split": RULES} | ({"split_error": result} if result else {})
            yield replace(item, steps=split_steps(item.steps[0]), metadata=item.metadata | how)
        else:
            yield replace(item, steps=result, metadata=item.metadata | {"split": BOUNDARY})


def run(config: Config) -> Counts:
    """Split a file of solutions; resumes where an earlier attempt stopped."""
    inputs = {"source": identify(config.source)}
    if config.engine is not None:
        inputs["prompts"] = fingerprint(prompt_folder(config.prompts))
    with Run(config.out, "split", config, inputs) as folder:
        if folder.counts is not None:
            return folder.counts
        items = list(solutions(config.source))
        with jsonl.Writer(folder.path("solutions.jsonl"), Solution) as out:
            done = set(out.finished)
            remaining = [item for item in items if item.id not in done]
            engine = load(config.engine) if config.engine and remaining else None
            try:
                todo = iter(track(remaining, "split"))
                while chunk := list(islice(todo, config.chunk)):
                    out.write(split(chunk, config, engine))
            finally:
                if engine is not None:
                    engine.close()
            out.commit()
        written = list(jsonl.read(out.path, Solution))
        errors = Counter(
            item.metadata["split_error"] for item in written if "split_error" in item.metadata
        )
        counts = Counts(read=len(items), written=len(written), failed=dict(errors))
        return folder.finish(counts, ["solutions.jsonl"])

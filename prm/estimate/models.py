"""How large a model is: from its configuration where that is at hand, else from its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prm.errors import ConfigError
from prm.estimate.hardware import HALF, Hardware, Model, guessed

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])(?!-A\d)", re.IGNORECASE)
"""`7B` in `Qwen2.5-7B-Instruct`; not in `8x7B` or `30B-A3B`, of which a token meets only a part."""


def model(name: str, hardware: Hardware, *, head: bool) -> Model:
    """The sizes of a model; nothing is fetched.

    Args:
        name: a folder or an id.
        hardware: may say how many parameters it has.
        head: whether it writes: then the head over the vocabulary counts.

    Raises:
        ConfigError: nothing says how large it is.
    """
    if name in hardware.parameters:
        return guessed(name, hardware.parameters[name], "declared")
    if (settings := _settings(name)) is not None:
        try:
            return _counted(name, settings, head)
        except (AttributeError, ValueError):
            pass  # a model that transformers has no code for
    size = _SIZE.search(name.rstrip("/").rpartition("/")[2])
    if size is None:
        raise ConfigError(
            f"{name}: neither a configuration at hand nor its name says how many parameters it "
            f"has; give them: 'hardware.parameters={{{name}: 7.0e9}}'"
        )
    parameters = float(size[1]) * (1e9 if size[2] in "Bb" else 1e6)
    return guessed(name, parameters, "by its name")


def scratch(vocabulary: int, hidden: int, layers: int, intermediate: int) -> Model:
    """A model that is made from nothing: linear layers of attention and of a gated MLP alone."""
    active = float(layers * (4 * hidden**2 + 3 * hidden * intermediate))
    return Model(
        name="from nothing",
        parameters=active + vocabulary * hidden,
        active=active,
        width=layers * hidden,
        cache=2 * HALF * layers * hidden,
        source="as configured",
    )


def _settings(name: str) -> Any:
    """The configuration in a folder, or of an id in the Hub's cache; None without one."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        local = Path(name, "config.json").is_file() or isinstance(
            try_to_load_from_cache(name, "config.json"), str
        )
    except HFValidationError:  # a folder that is not there yet
        local = False
    if not local:
        return None
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError):  # unreadable, or of a kind that needs code of its own
        return None


def _counted(name: str, settings: Any, head: bool) -> Model:
    """Counted on torch's `meta` device, which takes no memory."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from prm.train.memory import measure

    with torch.device("meta"):
        made = (AutoModelForCausalLM if head else AutoModel).from_config(settings)
    size = measure(made)
    tables = sum(m.weight.numel() for m in made.modules() if isinstance(m, torch.nn.Embedding))
    # A head that shares the table's weights multiplies with them all the same.
    tied = head and made.get_output_embeddings().weight is made.get_input_embeddings().weight
    return Model(
        name=name,
        parameters=size.parameters,
        active=size.parameters - (0 if tied else tables),
        width=size.layers * size.query,
        cache=2 * HALF * size.layers * size.key,
        source="by its configuration",
    )

"""`prm zoo convert`: a checkpoint's pickled weights become safetensors, once and on request.

A pickle can run code when it is opened, so scoring never opens one. Here torch's restricted
unpickler reads it, which builds tensors and plain containers and refuses everything else.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from prm.errors import CheckpointError, ConfigError

SUFFIXES = (".bin", ".pt", ".pth")


def convert(source: str, out: str) -> int:
    """Write a checkpoint's folder anew, with safetensors in the place of pickles.

    Args:
        source: the folder.
        out: another, which must not hold anything yet.

    Returns:
        how many tensors were written.

    Raises:
        CheckpointError: there are no pickles, or one holds more than tensors.
        ConfigError: `out` is in use.
    """
    folder, target = Path(source), Path(out)
    pickles = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    pickles = [path for path in pickles if path.name != "training_args.bin"]
    if not pickles:
        raise CheckpointError(f"{source}: no pickled weights in it (no {', '.join(SUFFIXES)})")
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"{out}: not empty; name a new folder")
    tensors: dict[str, Any] = {}
    for path in pickles:
        for name, tensor in _read(path).items():
            if name in tensors:
                raise CheckpointError(f"{path}: tensor {name!r} is in another file, too")
            tensors[name] = tensor
    from safetensors.torch import save_file

    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        told = path.suffix in (*SUFFIXES, ".py") or path.name.endswith(".bin.index.json")
        if path.is_file() and not told:
            shutil.copy2(path, target / path.name)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    _drop_remote_code(target / "config.json")
    return len(tensors)


def _read(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not plain tensors ({' '.join(str(error).split())[:160]})"
        ) from None
    if isinstance(found, dict) and set(found) == {"state_dict"}:
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(torch.is_tensor(item) for item in found.values()):
        raise CheckpointError(f"{path}: no table of tensors")
    # Tensors that share memory cannot stand in one safetensors file.
    return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def _drop_remote_code(path: Path) -> None:
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("auto_map", None)  # its modules were left behind
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")

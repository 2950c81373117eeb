"""A checkpoint's files to a tokenizer, a backbone and a head, without any code of its own.

Backbones are the stock classes of transformers; heads are small and built here from the names of
their tensors, which is all that the remote code of published PRMs adds. Only safetensors are read:
a pickle can run code when it is opened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prm.errors import CheckpointError
from prm.zoo.family import Head

if TYPE_CHECKING:
    import torch

PREFIXES: dict[Head, tuple[str, ...]] = {"score": ("score",), "value": ("v_head.summary", "v_head")}
"""Where a head's tensors lie in the weights; the first that is there counts."""

NEEDED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
"""What is fetched from the Hub: no code, no pickles."""


def locate(model: str, revision: str | None) -> Path:
    """The folder with a checkpoint's files; those of a Hub id are fetched.

    Raises:
        CheckpointError: there is no such folder, the Hub does not give the files, or they are no
            model but an adapter to one.
    """
    folder = _fetch(model, revision)
    if (folder / "adapter_config.json").is_file() and not any(folder.glob("model*.safetensors")):
        raise CheckpointError(
            f"{model}: a LoRA adapter; merge it into its base (PEFT's `merge_and_unload`), save "
            "that with the tokenizer and give the folder"
        )
    return folder


def _fetch(model: str, revision: str | None) -> Path:
    path = Path(model)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{model}: a file where a model folder is needed")
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        # Model ids of the hub read `owner/name`.
        raise CheckpointError(
            f"{model}: no such model folder; give a folder (the `model` folder that `prm train` "
            "left) or a Hugging Face model id"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=NEEDED))
    except (OSError, ValueError) as error:  # the Hub's own errors are both
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{model}: no such folder here, and the Hub does not give it ({reason})"
        ) from None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        CheckpointError: its files are missing or not understood.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0]}") from None
    # Where its files are missing, transformers makes a tokenizer without a vocabulary.
    vocabulary = sorted(set(tokenizer.vocab_files_names.values()))
    for names in (["tokenizer_config.json"], vocabulary):
        if names and not any((folder / name).is_file() for name in names):
            raise CheckpointError(
                f"{folder}: tokenizer files are missing (no {' or '.join(names)}); give the whole "
                "model folder"
            )
    return tokenizer


def load_backbone(folder: Path, *, dtype: str, device: str) -> Any:
    """The decoder of a checkpoint, from token ids to hidden states.

    Args:
        folder: its files.
        dtype: a torch dtype's name, or `auto` for that of the weights.
        device: a torch device.

    Raises:
        CheckpointError: transformers does not know the architecture, or weights are missing.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel
    from transformers.utils import logging

    require_safetensors(folder)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of every head, which is loaded elsewhere
    try:
        model, loading = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {str(error).splitlines()[0]}") from None
    finally:
        logging.set_verbosity(verbosity)
    if loading["missing_keys"]:  # transformers would draw them at random
        raise CheckpointError(f"{folder}: no weights for {min(loading['missing_keys'])}")
    return model.to(device).eval()


def load_head(
    folder: Path,
    head: Head,
    *,
    outputs: int,
    like: Any,
    tokens: tuple[int, int] | None = None,
) -> torch.nn.Module:
    """The head of a checkpoint, from hidden states `[..., hidden]` to `[..., outputs]`.

    A head is linear, or linear, ReLU, linear; which of the two its tensors' names say.

    Args:
        folder: its files.
        head: which tensors.
        outputs: how many outputs it must have.
        like: the backbone, whose device and type it takes; a `value` head stays in float32.
        tokens: the rows of the output embedding, for `tokens`; None: all.

    Raises:
        CheckpointError: the tensors are not there, or have another shape.
    """
    import torch

    tensors = _Tensors(folder)
    if head == "tokens":
        weight = _output_embedding(tensors, folder, tied=like.config.tie_word_embeddings)
        rows = weight if tokens is None else weight[list(tokens)]
        layers: list[torch.nn.Module] = [_linear(rows, None)]
    else:
        prefix = next((name for name in PREFIXES[head] if tensors.has(name)), PREFIXES[head][0])
        names = [name for name in tensors.names if name.startswith(f"{prefix}.")]
        if f"{prefix}.weight" in names:
            layers = [tensors.linear(prefix)]
        elif f"{prefix}.0.weight" in names and f"{prefix}.2.weight" in names:
            layers = [tensors.linear(f"{prefix}.0"), torch.nn.ReLU(), tensors.linear(f"{prefix}.2")]
        else:
            found = ", ".join(names) or "none of that name"
            raise CheckpointError(
                f"{folder}: no head {prefix!r} of one or two layers in the weights ({found})"
            )
    first, last = layers[0], layers[-1]
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)
    if last.out_features != outputs:
        raise CheckpointError(
            f"{folder}: the head has {last.out_features} outputs; this family has {outputs}"
        )
    if first.in_features != like.config.hidden_size:
        raise CheckpointError(
            f"{folder}: the head takes {first.in_features} numbers; hidden states have "
            f"{like.config.hidden_size}"
        )
    dtype = torch.float32 if head == "value" else like.dtype
    return torch.nn.Sequential(*layers).to(device=like.device, dtype=dtype).eval()


def require_safetensors(folder: Path) -> None:
    """Refuse a folder without safetensors, with what to do about pickles.

    Raises:
        CheckpointError: see above.
    """
    if any(folder.glob("*.safetensors")):
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise CheckpointError(
            f"{folder}: the weights are pickles, which can run code when opened; convert them once "
            f"with `prm zoo convert {folder} OUT`"
        )
    raise CheckpointError(f"{folder}: no weights in it (no *.safetensors)")


class _Tensors:
    """The tensors of a folder's safetensors, by name; each is read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index = folder / "model.safetensors.index.json"
        self._files: dict[str, Path] = {}
        if index.is_file():
            table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            self._files = {name: folder / file for name, file in table.items()}
        else:
            from safetensors import safe_open

            for path in sorted(folder.glob("*.safetensors")):
                with safe_open(path, framework="pt") as file:
                    self._files |= dict.fromkeys(file.keys(), path)

    @property
    def names(self) -> list[str]:
        """All, sorted."""
        return sorted(self._files)

    def has(self, prefix: str) -> bool:
        """Whether any lies under a prefix."""
        return any(name.startswith(f"{prefix}.") for name in self._files)

    def get(self, name: str) -> torch.Tensor:
        """One of them."""
        from safetensors import safe_open

        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def linear(self, name: str) -> torch.nn.Linear:
        """The layer `name.weight`, `name.bias`."""
        bias = f"{name}.bias"
        return _linear(self.get(f"{name}.weight"), self.get(bias) if bias in self._files else None)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    import torch

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.clone(), requires_grad=False)
    return layer


def _output_embedding(tensors: _Tensors, folder: Path, *, tied: bool) -> torch.Tensor:
    # Where input and output embeddings are tied, only one of them is stored; where they are not,
    # the input's would be other numbers.
    for name in ("lm_head.weight", *(["model.embed_tokens.weight"] if tied else [])):
        if name in tensors.names:
            return tensors.get(name)
    raise CheckpointError(
        f"{folder}: no output embedding in the weights (no lm_head.weight); if it is tied to the "
        "input's, set tie_word_embeddings to true in config.json, else choose another `family`"
    )

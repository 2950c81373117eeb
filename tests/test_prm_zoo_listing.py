"""`prm zoo`: every family is declared in full, and pickles become safetensors on request alone."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prm.cli import main
from prm.errors import CheckpointError, ConfigError
from prm.scorers import ScorerConfig, identify, load
from prm.zoo.catalog import FAMILIES, families, family
from prm.zoo.convert import convert
from prm.zoo.listing import describe


def test_the_overview_names_every_family_and_checkpoint(capsys):
    assert main(["zoo"]) == 0
    shown = capsys.readouterr().out
    for known in families():
        assert f"\n{known.entry.family} " in shown
        for checkpoint in known.entry.checkpoints:
            assert checkpoint.id in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("name", FAMILIES)
def test_an_entry_declares_everything(name, capsys):
    assert main(["zoo", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    entry = family(name).entry
    assert entry.family == name
    for value in (entry.architecture, entry.template, entry.positions, entry.readout, entry.source):
        assert value
        assert " ".join(value.split()) in shown
    assert all(item.context > 0 and item.licence for item in entry.checkpoints)


def test_no_checkpoint_belongs_to_two_families():
    ids = [item.id for known in families() for item in known.entry.checkpoints]
    assert len(set(ids)) == len(ids)


def test_wrong_words_are_refused(capsys):
    for words, message in (
        (["nope"], "no family 'nope'; there are aurora, "),
        (["convert", "x"], "convert takes a folder and a new one"),
        (["trl", "aurora"], "one family at a time; 2 were named"),
    ):
        assert main(["zoo", *words]) == 2
        assert message in capsys.readouterr().err


def test_looking_loads_no_heavy_library():
    code = (
        "import sys; from prm.zoo import listing; listing.overview(); "
        "print(*{'torch', 'transformers', 'vllm'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    folder = tmp_path / "pickled"
    folder.mkdir()
    weight = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": weight, "tied": weight}, folder / "pytorch_model-1.bin")
    torch.save({"state_dict": {"b": torch.ones(2).bfloat16()}}, folder / "pytorch_model-2.bin")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "x.Y"}, "n": 1}))
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_pickles_become_safetensors(pickled, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["zoo", "convert", str(pickled), str(out)]) == 0
    assert capsys.readouterr().out == f"3 tensors → {out}\n"
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    found = load_file(out / "model.safetensors")
    assert torch.equal(found["a"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(found["a"], found["tied"])
    assert found["b"].dtype == torch.bfloat16
    assert json.loads((out / "config.json").read_text()) == {"n": 1}


class Attack:
    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_a_pickle_that_runs_code_does_not(pickled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (pickled / "pytorch_model-2.bin").write_bytes(pickle.dumps({"b": Attack()}))
    with pytest.raises(CheckpointError, match="not plain tensors"):
        convert(str(pickled), str(tmp_path / "out"))
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted(pickled, tmp_path):
    with pytest.raises(ConfigError, match="not empty"):
        convert(str(pickled), str(pickled))
    torch.save({"a": torch.ones(1)}, pickled / "more.pt")
    with pytest.raises(CheckpointError, match="tensor 'a' is in another file, too"):
        convert(str(pickled), str(tmp_path / "out"))
    torch.save([1, 2], pickled / "more.pt")
    with pytest.raises(CheckpointError, match="no table of tensors"):
        convert(str(pickled), str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match="no pickled weights in it"):
        convert(str(tmp_path), str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-Math-PRM-7B", "qwen2.5-math-prm-7b"])
def test_a_checkpoint_names_its_family(name):
    assert describe(name) == describe("qwen-prm")


@pytest.mark.parametrize("name", ["qwen", "qwen-pmr"])
def test_a_name_that_is_nearly_a_family(name):
    with pytest.raises(ConfigError, match=rf"no family '{name}'; did you mean qwen-prm\?"):
        describe(name)


def test_our_own_threshold_is_declared():
    line = next(line for line in describe("aurora").splitlines() if line.startswith("threshold"))
    assert "as `prm.json` declares" in line


@pytest.mark.parametrize("family", ["rlhflow", "fover", "universal-prm", "genprm", "trl", "r-prm"])
def test_a_declared_checkpoint_is_of_no_other_family(tmp_path, family):
    (tmp_path / "prm.json").write_text("{}")
    for do in (load, identify):
        with pytest.raises(CheckpointError, match=f"family aurora, not {family}; leave `family` o"):
            do(ScorerConfig(str(tmp_path), family=family))
    assert identify(ScorerConfig(str(tmp_path), family="aurora"))

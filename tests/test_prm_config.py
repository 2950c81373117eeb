"""Configuration: what the schema does not know is refused, with the nearest key it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from prm import config
from prm.config import MAY_CHANGE
from prm.describe import describe
from prm.errors import ConfigError


@dataclass
class Engine:
    """An engine."""

    model: str
    kind: Literal["vllm", "transformers"] = "vllm"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settings:
    samples: int = 1
    speed: int = field(default=1, metadata=MAY_CHANGE)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; it starts at 1")


@dataclass
class Judge:
    engine: Engine
    settings: Settings = field(default_factory=Settings)


@dataclass
class Schema:
    """`prm example`.

    Attributes:
        out: the run folder.
    """

    out: str
    engine: Engine
    settings: Settings = field(default_factory=Settings)
    other: Engine | None = None
    judges: list[Judge] = field(default_factory=list)
    rules: list[Literal["arithmetic", "reference"]] = field(default_factory=list)
    share: float = 0.5
    flag: bool = False
    chunk: int = field(default=64, metadata=MAY_CHANGE)


GIVEN = ("out=o", "engine.model=m")


def load(*overrides: str) -> Schema:
    return config.load(Schema, None, [*GIVEN, *overrides])


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_file_and_overrides_in_layers(tmp_path: Path) -> None:
    path = file(
        tmp_path, "out: a\nengine: {model: m, kind: vllm}\njudges: [{engine: {model: j}}]\n"
    )
    loaded = config.load(Schema, path, ["engine.kind=transformers", "chunk=8", "chunk=9"])
    assert loaded == Schema(
        out="a",
        engine=Engine(model="m", kind="transformers"),
        judges=[Judge(engine=Engine(model="j"))],
        chunk=9,
    )
    assert type(loaded.judges[0].settings) is Settings
    assert config.from_dict(Schema, config.to_dict(loaded), "copy") == loaded


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("chnk=1", "unknown key 'chnk'; did you mean 'chunk'?"),
        ("engine.modle=m", "unknown key 'engine.modle'; did you mean 'engine.model'?"),
        ("zzz=1", "unknown key 'zzz'; known keys: out, engine, settings"),
        ("settings.zzz=1", "unknown key 'settings.zzz'; known keys: samples, speed"),
        ("other={model: m, knd: vllm}", "'other.knd'; did you mean 'other.kind'?"),
        ("judges=[{engin: {model: m}}]", "'judges[0].engin'; did you mean 'judges[0].engine'?"),
        (
            "judges=[{engine: {model: m}}, {engine: {model: m, optoins: {}}}]",
            "unknown key 'judges[1].engine.optoins'; did you mean 'judges[1].engine.options'?",
        ),
        ("judges=[{engine: {model: m}, settings: {sample: 2}}]", "'judges[0].settings.samples'?"),
        ("chunk=x", "key 'chunk': Value 'x' of type 'str' could not be converted to Integer"),
        ("chunk=1.5", "key 'chunk'"),
        ("chunk=true", "key 'chunk'"),
        ("chunk=null", "key 'chunk'"),
        ("share=high", "key 'share'"),
        ("flag=maybe", "key 'flag'"),
        ("out={a: 1}", "key 'out'"),
        ("engine=5", "'engine' needs keys of its own, not a value"),
        ("settings=null", "settings"),
        ("judges=[5]", "judges[0]"),
        ("judges={a: 1}", "'judges' is a list; give the whole list"),
        ("judges.0.engine.model=m", "'judges' is a list; give the whole list"),
        ("rules=arithmetic", "'rules' is a list; write [arithmetic]"),
        ("rules=${nope}", "Interpolation key 'nope' not found"),
        ("judges=5", "'judges' is a list; write [5]"),
        ("out=", "out is empty"),
        ("out=' '", "out is empty"),
        ("out=null", "out is empty"),
        (
            "judges=[{engine: {model: m}}, {engine: {model: m, kind: x}}]",
            "key 'judges[1].engine.kind': Invalid value 'x'",
        ),
        (
            "judges=[{engine: {model: m}}, {engine: {model: m}, settings: {samples: 0}}]",
            "judges[1].settings: samples is 0; it starts at 1",
        ),
        ("rules=[arithmetic, magic]", "key 'rules[1]': Invalid value 'magic', expected one of"),
        ("engine.kind=vlm", "key 'engine.kind': Invalid value 'vlm', expected one of ['vllm'"),
        ("judges=[{settings: {samples: 2}}]", "required key 'judges[0].engine' is not set"),
        ("settings.samples=0", "samples is 0; it starts at 1"),
        ("out=${nope}", "Interpolation key 'nope' not found"),
        ("out=[", "override 'out=['"),
    ],
)
def test_refused_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(override)
    assert message in str(caught.value)
    assert f"override {override!r}" in str(caught.value)
    if "required key" not in message:  # which no layer sets
        assert str(caught.value).startswith(f"override {override!r}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["out", "=5", " =5", ""])
def test_an_override_needs_key_and_value(override: str) -> None:
    with pytest.raises(ConfigError, match="is not an override; write key=value"):
        load(override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: a\nout: b\n", "duplicate key"),
        ("engine:\n  model: a\n  model: b\n", "duplicate key"),
        ("out: [\n", "not valid YAML"),
        ("- a\n", "must hold `key: value` lines"),
        ("just text\n", "unknown key 'just text'"),
        ("out: o\nengine: {model: m, knd: x}\n", "unknown key 'engine.knd'"),
        ("out: o\nengine: {model: m}\n3: x\n", "unknown key '3'"),
        ("out: ${x\nengine: {model: m}\n", "not valid YAML: no viable alternative"),
        ("", "required key 'engine', 'out' is not set"),
        ("out: o\n", "required key 'engine' is not set; set it in the file or as key=value"),
        ("out: o\nengine: {kind: vllm}\n", "required key 'engine.model' is not set"),
    ],
)
def test_refused_files(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(Schema, path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        config.load(Schema, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(Schema, tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(Schema, tmp_path / "binary.yaml")


def test_values_keep_what_follows_the_first_equals_sign() -> None:
    assert load("out=a=b").out == "a=b"
    assert load("engine.options.x={y: 1}").engine.options == {"x": {"y": 1}}
    assert load("other={model: m}").other == Engine(model="m")
    assert load("other={model: m}", "other=null").other is None


def test_interpolation(tmp_path: Path) -> None:
    path = file(tmp_path, "out: a\nengine: {model: '${out}/model'}\n")
    assert config.load(Schema, path, ["out=b"]).engine.model == "b/model"


def test_broken_interpolation_in_a_dict() -> None:
    with pytest.raises(ConfigError, match=r"^here: "):
        config.from_dict(Schema, {"out": "${x", "engine": {"model": "m"}}, "here")


def test_identity_leaves_out_what_may_change_at_every_depth() -> None:
    loaded = load("judges=[{engine: {model: j}}]")
    identity = config.identity(loaded)
    assert "chunk" in config.to_dict(loaded)
    assert "chunk" not in identity
    assert identity["settings"] == {"samples": 1}
    assert identity["judges"] == [
        {
            "engine": {"model": "j", "kind": "vllm", "options": {}},
            "settings": {"samples": 1},
        }
    ]
    faster = load("judges=[{engine: {model: j}, settings: {speed: 9}}]", "chunk=1")
    assert config.identity(faster) == identity
    assert config.identity(load("share=0.4")) != config.identity(load())


def test_describe_shows_documentation_defaults_and_inner_keys_of_required_parts() -> None:
    text = describe(Schema)
    assert text.startswith("`prm example`.\n\nAttributes:\n    out: the run folder.")
    assert "out: ???" in text
    assert "engine:  # Engine\n  model: ???  # text\n  kind: vllm  # vllm | transformers\n" in text
    assert "chunk: 64" in text


def test_describe_expands_lists_and_optional_parts() -> None:
    text = describe(Schema)
    assert text.count("Engine: An engine.") == 1  # though three keys hold one
    assert "Settings:" not in text  # it has no documentation
    lines = text.partition("Defaults (??? must be set):\n\n")[2].splitlines()
    start = lines.index("other: null  # Engine | null")
    assert lines[start:] == [
        "other: null  # Engine | null",
        "#   model: ???  # text",
        "#   kind: vllm  # vllm | transformers",
        "#   options: {}  # keys and values",
        "judges: []  # list of Judge, each:",
        "# - engine:  # Engine",
        "#     model: ???  # text",
        "#     kind: vllm  # vllm | transformers",
        "#     options: {}  # keys and values",
        "#   settings:  # Settings",
        "#     samples: 1  # integer",
        "#     speed: 1  # integer",
        "rules: []  # list of arithmetic | reference",
        "share: 0.5  # number",
        "flag: false  # true | false",
        "chunk: 64  # integer",
    ]


def test_described_items_are_yaml_once_the_comment_marks_are_gone() -> None:
    lines = describe(Schema).splitlines()
    start = lines.index("judges: []  # list of Judge, each:")
    shown = "judges:\n" + "\n".join(
        line.removeprefix("# ") for line in lines[start + 1 : start + 8]
    )
    loaded = OmegaConf.create(shown)
    assert loaded.judges[0].engine.kind == "vllm"
    assert loaded.judges[0].settings.samples == 1


def test_an_error_names_only_the_layers_that_cause_it(tmp_path: Path) -> None:
    path = file(tmp_path, "out: o\nengine: {model: m}\nsettings: {samples: 0}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(Schema, path, ["chunk=8"])
    assert str(caught.value) == f"{path}: settings: samples is 0; it starts at 1"
    with pytest.raises(ConfigError) as caught:
        config.load(Schema, path, ["chunk=8", "settings.samples=-1", "share=0.1"])
    assert str(caught.value).startswith("override 'settings.samples=-1': settings: samples is -1")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("out: o\nengine: {model: m}\n", encoding="utf-8-sig")
    assert config.load(Schema, path).out == "o"

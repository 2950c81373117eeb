"""`prm bench` killed at any moment, and the same command again: the same bytes, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import sums
from killing import ROOT, killed

from prm import jsonl
from prm.errors import RecordError
from prm.records import Annotation, Failure, Judgment
from prm.scorers import ScorerConfig
from prm.scorers.transformers import TransformersScorer
from prm.sources import Source
from universalbench import scoring, stage
from universalbench.predictors import PredictorConfig
from universalbench.results import Cost, ItemScores
from universalbench.tasks import TaskConfig


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return sums.write(tmp_path / "data.jsonl", sums.labelled(10))


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.jsonl"
    jsonl.write(
        path,
        [
            Annotation(
                solution=item.solution,
                judgments=(
                    Judgment(judge="j", strategy="p0", verdicts=(1.0, index / 10, None)),
                    Judgment(judge="j", strategy="p1", verdicts=(0.0, 1.0, 0.5)),
                ),
            )
            for index, item in enumerate(sums.labelled(10))
        ],
    )
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    """What a run leaves that must be the same bytes; of the results all but the costs."""
    found = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("run.json", "costs.jsonl", "results.json", "report.html")
        and not path.name.startswith(".")  # what a kill left of writing a file whole
    }
    text = json.loads((folder / "results.json").read_text())
    del text["costs"]
    return found | {"results.json": json.dumps(text).encode()}


def same_as_whole(folder: Path, points: Iterable[int]) -> None:
    whole = outputs(folder / "whole")
    assert set(whole) == {"items.jsonl", "scores.jsonl", "predictors.jsonl", "results.json"}
    for point in points:
        assert outputs(folder / str(point)) == whole, f"killed at {point}"
        names = {p.name for p in (folder / str(point)).iterdir() if not p.name.startswith(".")}
        assert names == {"run.json", *stage.OUTPUTS}  # and nothing else is left


# ── SIGKILL ──────────────────────────────────────────────────────────────────────────────────


def command(data: Path, annotations: Path) -> list[str]:
    """Two tasks and three predictors, of which two share their scores."""
    return [
        "bench",
        f"tasks=[{{name: all, kind: steps, source: {{path: {data}}}}}, "
        f"{{name: again, kind: steps, source: {{path: {data}}}}}]",
        f"predictors=[{{name: votes, annotations: {annotations}, threshold: all, "
        "threshold_split: 0.5}, {name: long, baseline: long_steps, threshold: all}, "
        "{name: too, baseline: long_steps, threshold: again}]",
        "chunk=6",
    ]


def test_killed_at_some_durable_writes(tmp_path: Path, data: Path, annotations: Path) -> None:
    points = (13, 30, 47)  # between costs and scores, in the second predictor, at the end
    tried = killed(tmp_path / "runs", ",".join(map(str, points)), *command(data, annotations))
    assert tried == len(points)
    same_as_whole(tmp_path / "runs", points)


@pytest.mark.slow
def test_killed_at_every_durable_write(tmp_path: Path, data: Path, annotations: Path) -> None:
    points = killed(tmp_path / "runs", "all", *command(data, annotations))
    # Two chunks a task, two tasks, two that score, a cost and a score of each, and more.
    assert points > 2 * 2 * 2 * 2 * 2
    same_as_whole(tmp_path / "runs", range(points))
    for point in range(points):
        costs = list(jsonl.read(tmp_path / "runs" / str(point) / "costs.jsonl", Cost))
        done = dict.fromkeys(("votes", "long"), 0)
        for cost in costs:
            done[cost.predictor] += cost.solutions
        # All the work is paid for, and what a kill undid is paid for again, at most one chunk.
        assert min(done.values()) == 20
        assert max(done.values()) in (20, 24, 26)


@pytest.mark.slow
def test_a_checkpoint_killed_while_it_scores(tmp_path: Path, data: Path, tiny_prm: Path) -> None:
    arguments = [
        "bench",
        f"tasks=[{{name: all, kind: steps, source: {{path: {data}}}}}]",
        f"predictors=[{{name: m, checkpoint: {{model: {tiny_prm}}}, threshold: declared}}]",
        "chunk=3",
    ]
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    code = [sys.executable, "-m", "prm", *arguments]
    subprocess.run([*code, f"out={whole}"], cwd=ROOT, check=True, capture_output=True)
    # Dies by SIGKILL in the midst of its third chunk.
    dying = (
        "import os, signal, sys\n"
        "from prm.scorers.transformers import TransformersScorer\n"
        "score, calls = TransformersScorer.score_each, []\n"
        "def dying(self, batch):\n"
        "    calls.append(0)\n"
        "    if len(calls) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return score(self, batch)\n"
        "TransformersScorer.score_each = dying\n"
        "from prm.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", dying, *arguments, f"out={torn}"], cwd=ROOT, capture_output=True
    )
    assert died.returncode == -9
    left = (torn / "scores.jsonl.partial").read_bytes()
    assert left.count(b"\n") == 6
    subprocess.run([*code, f"out={torn}"], cwd=ROOT, check=True, capture_output=True)
    assert outputs(torn) == outputs(whole)
    assert (torn / "scores.jsonl").read_bytes().startswith(left)


# ── in one process, where calls can be counted ───────────────────────────────────────────────


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], Callable[[int | None], None]]:
    """The sizes of the batches that a checkpoint is given, and a way to break off at one."""
    sizes: list[int] = []
    limit: list[int | None] = [None]
    score_each = TransformersScorer.score_each

    def counted(self, batch):
        if limit[0] is not None and len(sizes) >= limit[0]:
            raise KeyboardInterrupt
        sizes.append(len(batch))
        return score_each(self, batch)

    monkeypatch.setattr(TransformersScorer, "score_each", counted)

    def stop_at(number: int | None) -> None:
        sizes.clear()
        limit[0] = number

    return sizes, stop_at


def config(out: Path, data: Path, *predictors: PredictorConfig, chunk: int = 4) -> stage.Config:
    task = TaskConfig("all", "steps", Source(path=str(data)))
    return stage.Config(out=str(out), tasks=[task], predictors=list(predictors), chunk=chunk)


def test_what_is_scored_is_not_scored_again(tmp_path, data, tiny_prm, watched) -> None:
    sizes, stop_at = watched
    first = PredictorConfig("first", checkpoint=ScorerConfig(str(tiny_prm)))
    second = replace(first, name="second", checkpoint=ScorerConfig(str(tiny_prm), reference="none"))
    whole = config(tmp_path / "whole", data, first, second)
    stage.run(whole)
    assert sizes == [4, 4, 2] * 2

    torn = config(tmp_path / "torn", data, first, second)
    stop_at(4)
    with pytest.raises(KeyboardInterrupt):
        stage.run(torn)
    stop_at(None)
    stage.run(torn)
    assert sizes == [4, 2]  # the second's last two chunks
    assert outputs(tmp_path / "torn") == outputs(tmp_path / "whole")


def test_a_complete_predictor_is_not_loaded_again(
    tmp_path, data, tiny_prm, watched, monkeypatch
) -> None:
    _, stop_at = watched
    first = PredictorConfig("first", checkpoint=ScorerConfig(str(tiny_prm)), threshold="declared")
    second = PredictorConfig("second", checkpoint=ScorerConfig(str(tiny_prm), reference="none"))
    torn = config(tmp_path / "torn", data, first, second)
    stop_at(3)
    with pytest.raises(KeyboardInterrupt):
        stage.run(torn)
    loaded: list[str] = []
    predictor = scoring.Predictor
    monkeypatch.setattr(
        scoring, "Predictor", lambda entry: loaded.append(entry.name) or predictor(entry)
    )
    stop_at(None)
    stage.run(torn)
    assert loaded == ["second"]  # and the first's declared threshold is known all the same
    monkeypatch.undo()
    stage.run(config(tmp_path / "whole", data, first, second))
    assert outputs(tmp_path / "torn") == outputs(tmp_path / "whole")


@pytest.mark.parametrize("left", [1, 5, 6, 9])
def test_a_torn_chunk_is_scored_whole_and_written_once(
    tmp_path, data, tiny_prm, watched, left
) -> None:
    """Of a chunk that was half written the rest comes from the same batch as before."""
    sizes, stop_at = watched
    model = PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm)))
    stage.run(config(tmp_path / "whole", data, model))
    stop_at(2)
    torn = config(tmp_path / "torn", data, model)
    with pytest.raises(KeyboardInterrupt):
        stage.run(torn)
    lines = (tmp_path / "whole" / "scores.jsonl").read_bytes().splitlines(keepends=True)
    half = b"".join(lines[:left]) + lines[left][:20]
    (tmp_path / "torn" / "scores.jsonl.partial").write_bytes(half)
    stop_at(None)
    stage.run(torn)
    assert sizes == [4, 4, 2][left // 4 :]
    assert outputs(tmp_path / "torn") == outputs(tmp_path / "whole")


def test_costs_add_up_over_attempts(tmp_path, data, tiny_prm, watched) -> None:
    _, stop_at = watched
    model = PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm)))
    stage.run(config(tmp_path / "whole", data, model))
    torn = config(tmp_path / "torn", data, model)
    stop_at(2)
    with pytest.raises(KeyboardInterrupt):
        stage.run(torn)
    stop_at(None)
    stage.run(torn)
    whole, both = (
        json.loads((tmp_path / name / "results.json").read_text())["costs"]
        for name in ("whole", "torn")
    )
    assert [(cost["task"], cost["solutions"]) for cost in both] == [(None, 0), ("all", 10)]
    assert [cost["tokens"] for cost in both] == [cost["tokens"] for cost in whole]
    assert both[1]["tokens"] > 0
    pieces = list(jsonl.read(tmp_path / "torn" / "costs.jsonl", Cost))
    assert [piece.task for piece in pieces] == [None, "all", "all", None, "all"]  # loaded twice
    assert both[0]["seconds"] == pytest.approx(pieces[0].seconds + pieces[3].seconds, abs=1e-5)


def test_failures_are_kept_with_their_reason_and_refused_again(
    tmp_path, data, tiny_prm, monkeypatch
) -> None:
    calls: list[int] = []

    def failing(self, batch):
        calls.append(len(batch))
        return [Failure(id=item.id, reason="no room") for item in batch]

    monkeypatch.setattr(TransformersScorer, "score_each", failing)
    model = PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm)))
    for _ in range(2):  # the second time nothing is scored
        with pytest.raises(RecordError, match="cannot score 10 of 10 solutions; the first"):
            stage.run(config(tmp_path / "run", data, model))
    assert calls == [4, 4, 2]
    rows = list(jsonl.read(tmp_path / "run" / "scores.jsonl.partial", ItemScores))
    assert {(row.scores, row.reason) for row in rows} == {(None, "no room")}


def test_another_chunk_may_go_on(tmp_path, data, tiny_prm, watched) -> None:
    sizes, stop_at = watched
    model = PredictorConfig("m", checkpoint=ScorerConfig(str(tiny_prm)))
    stop_at(1)
    with pytest.raises(KeyboardInterrupt):
        stage.run(config(tmp_path / "run", data, model))
    stop_at(None)
    stage.run(config(tmp_path / "run", data, model, chunk=6))
    assert sizes == [6, 4]
    assert len(list(jsonl.read(tmp_path / "run" / "scores.jsonl", ItemScores))) == 10

"""Replicas on a Ray cluster: who answers what, and what becomes of it when one dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from echo import Echo, ask
from hypothesis import given
from hypothesis import strategies as st

from prm import config, engines, jsonl
from prm.engines import Completion, EngineConfig, ReplicasConfig
from prm.errors import CheckpointError, ConfigError, EngineError
from prm.records import Problem

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster

from prm.engines import ray as replicas
from prm.engines.ray import RayEngine, share_out

ROOT = Path(__file__).resolve().parents[1]

# Configuration


@pytest.mark.parametrize(
    "wrong",
    [
        ["replicas.count=0"],
        ["replicas.gpus=1"],
        ["replicas={count: 1, gpus: -1}"],
        ["replicas.count=2", "kind=openai", "endpoint.urls=[http://localhost:1/v1]"],
    ],
)
def test_a_wrong_configuration_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ConfigError):
        config.load(EngineConfig, None, ["model=a/b", *wrong])


def test_replicas_do_not_decide_what_is_written() -> None:
    one = EngineConfig(model="a/b")
    many = replace(one, replicas=ReplicasConfig(count=4, gpus=2))
    assert config.identity(many) == config.identity(one)
    assert many.name == one.name


def test_a_missing_library_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prm.engines.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"engine 'ray' .* pip install 'aurora-prm\[ray\]'"):
        engines.load(EngineConfig(model="a/b", replicas=ReplicasConfig(count=1)))


# Sharing out


requests = st.lists(st.sampled_from(["", "", "a", "b", "c", "d", "e"]), max_size=30).map(
    lambda groups: [ask(str(number), group) for number, group in enumerate(groups)]
)


@given(requests, st.sets(st.integers(0, 9), min_size=1).map(sorted))
def test_every_request_goes_to_one_replica_and_every_group_too(
    asked: list[engines.Request], living: list[int]
) -> None:
    shares = share_out(asked, range(len(asked)), living)
    assert sorted(index for share in shares.values() for index in share) == list(range(len(asked)))
    assert all(share == sorted(share) for share in shares.values())
    homes = {(asked[index].group, number) for number in living for index in shares[number]}
    for group, count in Counter(group for group, _ in homes).items():
        assert group == "" or count == 1


@given(requests, st.integers(2, 6))
def test_only_the_groups_of_a_lost_replica_move(asked: list[engines.Request], count: int) -> None:
    grouped = [index for index, request in enumerate(asked) if request.group]
    before = share_out(asked, grouped, range(count))
    after = share_out(asked, grouped, range(1, count))
    for number in range(1, count):
        assert set(before[number]) <= set(after[number])


@given(st.integers(0, 40), st.integers(1, 7))
def test_requests_without_a_group_are_spread_evenly(count: int, living: int) -> None:
    shares = share_out([ask("q")] * count, range(count), range(living))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1


def test_groups_are_spread_over_the_replicas() -> None:
    asked = [ask("q", f"solution {number}") for number in range(400)]
    sizes = [len(share) for share in share_out(asked, range(400), range(4)).values()]
    assert min(sizes) > 70  # 100 expected, with a standard deviation of 9


# On a cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        # For the actors, which import `echo`.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        patch.setenv("RAY_AUTH_MODE", "disabled")  # whatever this machine's own Ray does
        nodes = Cluster(initialize_head=True, head_node_args=node_of(1))
        nodes.add_node(**node_of(1))
        nodes.wait_for_nodes()
        yield nodes
        nodes.shutdown()


def node_of(cpus: int) -> dict[str, Any]:
    return {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": 80_000_000}


def configured(cluster: Cluster, *, count: int = 2, options: Any = None, **keys: Any) -> Any:
    return EngineConfig(
        model="some/model",
        options=options or {},
        replicas=ReplicasConfig(count=count, address=cluster.address, **keys),
    )


@pytest.fixture
def engine(cluster: Cluster, tmp_path: Path) -> Iterator[RayEngine]:
    """Two replicas of `Echo`, which note their loading in `tmp_path / "loads"`."""
    options = {"log": str(tmp_path / "loads")}
    made = RayEngine(configured(cluster, options=options, restarts=2), Echo)
    yield made
    made.close()


def loads(tmp_path: Path) -> int:
    return len((tmp_path / "loads").read_text().splitlines())


def parts(answers: list[list[Completion]]) -> list[tuple[str, str, str]]:
    """Node, process and question of each answer."""
    found = []
    for [completion] in answers:
        node, process, content = completion.text.split(" ", 2)
        found.append((node, process, content))
    return found


@pytest.mark.slow
def test_answers_keep_their_order_and_groups_their_replica(
    cluster: Cluster, engine: RayEngine, tmp_path: Path
) -> None:
    asked = [ask(f"q{number}", f"group {number % 7}" if number % 3 else "") for number in range(60)]
    first, second = parts(engine.generate(asked)), parts(engine.generate(asked[::-1]))[::-1]
    assert [content for _, _, content in first] == [
        request.messages[0].content for request in asked
    ]
    assert [content for _, _, content in second] == [content for _, _, content in first]
    assert {node for node, _, _ in first} == {node.node_id for node in cluster.list_all_nodes()}
    homes = {
        (request.group, process)
        for request, *answers in zip(asked, first, second, strict=True)
        for _, process, _ in answers
        if request.group
    }
    assert len(homes) == 7  # over both calls
    assert loads(tmp_path) == 2
    assert engine.generate([]) == []
    assert engine.name == "some/model"


@pytest.mark.slow
def test_a_replica_that_dies_is_replaced_and_its_requests_are_made_again(
    engine: RayEngine, tmp_path: Path
) -> None:
    asked = [ask(f"q{number}") for number in range(10)]
    asked[3] = ask(f"die once {tmp_path / 'mark'}")
    answers = parts(engine.generate(asked))
    assert [content for _, _, content in answers] == [item.messages[0].content for item in asked]
    until = time.monotonic() + 60
    while len({process for _, process, _ in parts(engine.generate(asked))}) < 2:
        assert time.monotonic() < until, "the dead replica does not come back"
    assert loads(tmp_path) == 3


@pytest.mark.slow
def test_requests_that_kill_every_replica_are_given_up(engine: RayEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="died 3 times over the same 1 requests") as caught:
        engine.generate([ask("q"), ask("die")])
    assert "run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert parts(engine.generate([ask("q")]))[0][2] == "q"  # some replica has restarts left


@pytest.mark.slow
def test_errors_arrive_as_they_were_raised(cluster: Cluster, engine: RayEngine) -> None:
    with pytest.raises(EngineError) as caught:
        engine.generate([ask("q"), ask("fail")])
    assert type(caught.value) is EngineError
    assert str(caught.value) == "the engine died; run the same command again to resume"
    with pytest.raises(ZeroDivisionError, match=r"echo\.py"):  # a bug keeps its traceback
        engine.generate([ask("bug")])
    engine.close()
    with pytest.raises(CheckpointError) as refused:
        RayEngine(configured(cluster, options={"broken": True}), Echo)
    assert type(refused.value) is CheckpointError
    assert str(refused.value) == "no weights in it; name another folder"
    with pytest.raises(CheckpointError, match="no such model folder"):
        engines.load(replace(configured(cluster), model="./none"))


@pytest.mark.slow
def test_a_replica_that_dies_while_it_loads_is_started_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    once = RayEngine(configured(cluster, options={"fragile": str(tmp_path / "mark")}), Echo)
    assert parts(once.generate([ask("q")]))[0][2] == "q"
    once.close()
    with pytest.raises(EngineError, match=r"all 2 replicas are lost .* run the same command"):
        RayEngine(configured(cluster, options={"fragile": ""}, restarts=1), Echo)


@pytest.mark.slow
def test_too_few_nodes_are_refused_and_busy_ones_waited_for(
    cluster: Cluster, engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=r"count is 3, but .* room for 2 with 0 GPUs and 1 CPUs"):
        RayEngine(configured(cluster, count=3), Echo)
    with pytest.raises(EngineError, match="room for 0 with 1 GPUs"):
        RayEngine(configured(cluster, gpus=1), Echo)
    with monkeypatch.context() as patch:
        patch.setattr(replicas, "PLACING", 3.0)
        with pytest.raises(EngineError, match="found room for 0 of 2 replicas"):
            RayEngine(configured(cluster), Echo)
    assert parts(engine.generate([ask("q")]))[0][2] == "q"  # whose Ray it shared
    engine.close()
    assert not ray.is_initialized()
    other = RayEngine(configured(cluster), Echo)  # the replicas' room is free again
    other.close()


@pytest.mark.slow
def test_a_cluster_that_cannot_be_joined_is_named() -> None:
    wanted = ReplicasConfig(count=1, address="127.0.0.1:1")
    with pytest.raises(EngineError, match=r"Ray cluster 127\.0\.0\.1:1 cannot be joined") as caught:
        RayEngine(EngineConfig(model="some/model", replicas=wanted), Echo)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_node_that_is_lost_amid_a_call_loses_no_answer(
    cluster: Cluster, engine: RayEngine, tmp_path: Path
) -> None:
    lost = next(node for node in cluster.list_all_nodes() if not node.head)
    mark = tmp_path / "mark"
    asked = [ask(f"linger {lost.node_id} {mark}", f"group {number}") for number in range(20)]
    try:
        answers = parts(amid(engine, asked, mark, lambda: cluster.remove_node(lost, False)))
    finally:
        cluster.add_node(**node_of(1))
    assert len(answers) == len(asked)
    assert {node for node, _, _ in answers} == {cluster.head_node.node_id}


@pytest.mark.slow
def test_without_any_replica_a_call_waits_for_a_node_but_not_forever(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = cluster.add_node(**node_of(2))  # the only one with room for the only replica
    engine = RayEngine(configured(cluster, count=1, cpus=2), Echo)
    try:
        mark = tmp_path / "mark"
        asked = [ask(f"linger {wide.node_id} {mark}")]

        def exchange() -> None:
            cluster.remove_node(wide, False)
            cluster.add_node(**node_of(2))

        [(node, _, _)] = parts(amid(engine, asked, mark, exchange))
        assert node != wide.node_id
        [last] = [item for item in cluster.list_all_nodes() if item.node_id == node]
        monkeypatch.setattr(replicas, "PLACING", 5.0)
        asked = [ask(f"linger {node} {mark}")]
        with pytest.raises(EngineError, match="found no room for new ones"):
            amid(engine, asked, mark, lambda: cluster.remove_node(last, False))
    finally:
        engine.close()


def amid(engine: RayEngine, asked: Any, mark: Path, act: Any) -> list[list[Completion]]:
    """Answers to requests of which one lingers; meanwhile something happens."""
    mark.unlink(missing_ok=True)
    with ThreadPoolExecutor() as threads:
        answers = threads.submit(engine.generate, asked)
        until = time.monotonic() + 60
        while not mark.exists():
            assert time.monotonic() < until, "no request lingers"
            time.sleep(0.1)
        act()
        return answers.result(300)


# As a part of a stage


@pytest.mark.slow
def test_a_stage_writes_the_same_with_replicas_and_says_no_more(tmp_path: Path) -> None:
    problems = [Problem(id=str(number), problem=f"What is {number} + 3?") for number in range(6)]
    jsonl.write(tmp_path / "problems.jsonl", problems)
    # A Ray of its own as anybody starts it, but for a token that it writes into the home folder.
    environment = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
    environment |= {"RAY_ADDRESS": "local", "HOME": str(tmp_path)}
    for name, more in (("one", ""), ("two", ", replicas: {count: 2}")):
        engine = "{kind: transformers, model: ./examples/micro/models/plain-weak" + more + "}"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "prm", "sample", f"out={tmp_path / name}"),
                f"problems.path={tmp_path / 'problems.jsonl'}",
                f"policies=[{{name: p, samples: 2, max_tokens: 16, engine: {engine}}}]",
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
    noise = [line for line in done.stderr.splitlines() if line and "sample p:" not in line]
    assert noise == []  # with replicas
    one, two = (tmp_path / name / "solutions.jsonl" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()

"""The Ray engine: replicas of another engine on the nodes of a cluster, behind one interface.

Each replica is an actor: its model stays loaded over all chunks of a stage, and the requests about
one solution share its prefix cache. Ray Data would give up the one or the other, or else take over
the order of the records and their durable writing, which are the stage's.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from prm.engines import load
from prm.engines.base import Completion, Engine, EngineConfig, ReplicasConfig, Request
from prm.errors import EngineError, PRMError

PLACING = 600.0
"""Seconds that Ray has to find room for the replicas."""

CLOSING = 10.0
"""Seconds that a replica has to free its model before it is killed."""

KNOCKING = 10.0
"""Seconds that a cluster's address has to answer."""

ANSWERING = 10.0
"""Seconds after which a replica that does not say that it is lost must be loading: Ray itself
says so of one that has no node after two."""


class RayEngine:
    """Sends every request to one of several replicas.

    A replica that dies, with its node or alone, is started again by Ray; meanwhile the others do
    its work. Requests can be made again at will: an answer depends on its request alone.

    Args:
        config: of the engine that each replica runs; its `replicas` says how many, and where.
        loader: starts that engine inside an actor.

    Raises:
        EngineError: there is no such cluster, it has no room, or whatever loading a replica's
            engine raises, as it was raised there.
    """

    def __init__(
        self, config: EngineConfig, loader: Callable[[EngineConfig], Engine] = load
    ) -> None:
        if config.replicas is None:
            raise ValueError("replicas is not set")
        self.name = config.name
        self._restarts = config.replicas.restarts
        self._replicas: list[_Replica] = []
        self._ours = _connect(config.replicas.address)
        try:
            self._start(config, config.replicas, loader)
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """See `Engine.generate`."""
        answers: dict[int, list[Completion]] = {}
        running: dict[Any, tuple[_Replica, list[int], int]] = {}

        def send(indexes: Iterable[int], tries: int) -> None:
            ready = self._ready()
            shares = share_out(requests, indexes, [item.number for item in ready])
            for replica in ready:
                if part := shares[replica.number]:
                    call = replica.actor.generate.remote([requests[index] for index in part])
                    running[call] = replica, part, tries

        send(range(len(requests)), 1)
        while running:
            [call], _ = ray.wait(list(running))
            replica, part, tries = running.pop(call)
            try:
                answers.update(zip(part, ray.get(call), strict=True))
            except RayTaskError as error:
                raise _raised_inside(error) from None
            except RayError as error:  # its process, its node, or its answer on the way
                if tries > self._restarts:
                    raise EngineError(
                        f"{self.name}: a replica died {tries} times over the same {len(part)} "
                        f"requests ({_short(error)}); run the same command again to resume"
                    ) from error
                replica.ask()
                send(part, tries + 1)
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """End the replicas; Ray too, if this engine started it."""
        if not ray.is_initialized():
            return
        closing = [item.actor.close.remote() for item in self._replicas]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSING)
        for item in self._replicas:
            ray.kill(item.actor)
        if self._ours:
            ray.shutdown()

    def _start(
        self, config: EngineConfig, wanted: ReplicasConfig, loader: Callable[[EngineConfig], Engine]
    ) -> None:
        _require_room(self.name, wanted)
        if Path(config.model).is_dir():  # an actor has a working directory of its own
            config = replace(config, model=str(Path(config.model).resolve()))
        actor: Any = ray.remote(_Worker).options(
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            max_restarts=wanted.restarts,
            max_task_retries=0,  # by Ray itself, which would wait for a node that may never come
            scheduling_strategy="SPREAD",
        )
        self._replicas = [
            _Replica(number, actor.remote(replace(config, replicas=None), loader))
            for number in range(wanted.count)
        ]
        placed = [item.actor.placed.remote() for item in self._replicas]
        _, waiting = ray.wait(placed, num_returns=len(placed), timeout=PLACING)
        if waiting:
            raise EngineError(
                f"{self.name}: Ray found room for {len(placed) - len(waiting)} of {len(placed)} "
                f"replicas within {PLACING / 60:.0f} minutes; wait until the cluster is free, or "
                "lower replicas.count"
            )
        ray.wait([item.loading for item in self._replicas], num_returns=wanted.count)
        for item in self._replicas:
            item.ready()
            if item.problem is not None:
                raise item.problem
        self._ready()  # one that died while it loaded joins when it is back

    def _ready(self) -> list[_Replica]:
        """The replicas that can work now; where there are none, waits until there is one."""
        deadline = time.monotonic() + PLACING
        while not (ready := [item for item in self._replicas if item.ready()]):
            coming = [item.loading for item in self._replicas if item.problem is None]
            if not coming:
                raise EngineError(
                    f"{self.name}: all {len(self._replicas)} replicas are lost for good "
                    f"({_short(self._replicas[0].problem)}); run the same command again to resume"
                )
            _, loading = ray.wait(coming, num_returns=len(coming), timeout=ANSWERING)
            if loading:
                deadline = time.monotonic() + PLACING
            elif time.monotonic() > deadline:
                raise EngineError(
                    f"{self.name}: all replicas died and Ray found no room for new ones within "
                    f"{PLACING / 60:.0f} minutes; run the same command again to resume"
                )
        return ready


class _Replica:
    """An actor, seen from here.

    Attributes:
        number: tells it from its kin.
        actor: Ray's handle.
        loading: its answer, still to come, to the question whether it is loaded.
        problem: why it will never work again.
    """

    def __init__(self, number: int, actor: Any) -> None:
        self.number = number
        self.actor = actor
        self.problem: Exception | None = None
        self._loaded = False
        self.ask()

    def ask(self) -> None:
        """Have it load its engine, unless it has one, and say so."""
        self._loaded = False
        self.loading = self.actor.load.remote()

    def ready(self) -> bool:
        """Whether it has said that it is loaded; where it got lost meanwhile, asks again."""
        if self._loaded or self.problem is not None or not ray.wait([self.loading], timeout=0)[0]:
            return self._loaded
        try:
            ray.get(self.loading)
            self._loaded = True
        except RayTaskError as error:
            self.problem = _raised_inside(error)
        except ActorDiedError as error:
            self.problem = EngineError(
                f"a replica cannot be started ({_short(error)}); look into Ray's logs, and whether "
                "RAY_AUTH_MODE is the same here as on the cluster"
            )
        except RayError:
            self.ask()
        return self._loaded


class _Worker:
    """What runs inside an actor. The engine is loaded apart from it: what its constructor raised
    would end the actor and arrive as Ray's own error."""

    def __init__(self, config: EngineConfig, loader: Callable[[EngineConfig], Engine]) -> None:
        self._config = config
        self._loader = loader
        self._engine: Engine | None = None

    def placed(self) -> None:
        """Answers once there is room for this actor."""

    def load(self) -> None:
        self._loaded()

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        return self._loaded().generate(requests)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _loaded(self) -> Engine:
        if self._engine is None:
            self._engine = self._loader(self._config)
        return self._engine


def share_out(
    requests: Sequence[Request], indexes: Iterable[int], replicas: Sequence[int]
) -> dict[int, list[int]]:
    """Divide requests among replicas.

    A group's replica is the one with the greatest hash of number and group: the same in every
    call, and where one is lost, only its own groups move. Requests without a group fill up where
    there is least to do.

    Args:
        requests: all of a call.
        indexes: those to divide.
        replicas: numbers of those that can work; at least one.

    Returns:
        Replica → indexes of its requests, in their order.
    """
    shares: dict[int, list[int]] = {number: [] for number in replicas}
    alone = []
    for index in indexes:
        group = requests[index].group
        if group:
            shares[max(replicas, key=lambda number: _weight(number, group))].append(index)
        else:
            alone.append(index)
    for index in alone:
        min(shares.values(), key=len).append(index)
    return {number: sorted(share) for number, share in shares.items()}


def _weight(number: int, group: str) -> bytes:
    return hashlib.sha256(f"{number}/{group}".encode()).digest()


def _connect(address: str | None) -> bool:
    """Join or start Ray; whether that was to do, and is to be undone."""
    if ray.is_initialized():
        return False
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises bare ones, too
        where = f"the Ray cluster {address}" if address else "Ray"
        raise EngineError(
            f"{where} cannot be joined or started ({_short(error)}); see replicas.address"
        ) from error
    return True


def _knock(address: str) -> None:
    """Refuse an address where nobody answers; Ray itself would try for ten minutes."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port is not None:  # not a word, such as `auto`
        socket.create_connection((parts.hostname, parts.port), timeout=KNOCKING).close()


def _require_room(name: str, wanted: ReplicasConfig) -> None:
    """Refuse what no node could ever take; Ray would wait for one in silence."""
    room = 0.0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            room += min(
                has.get(kind, 0.0) // each if each else math.inf
                for kind, each in (("GPU", wanted.gpus), ("CPU", wanted.cpus))
            )
    if room < wanted.count:
        raise EngineError(
            f"{name}: replicas.count is {wanted.count}, but the Ray cluster has room for {room:.0f}"
            f" with {wanted.gpus:g} GPUs and {wanted.cpus:g} CPUs each; lower them or add nodes"
        )


def _raised_inside(error: RayTaskError) -> Exception:
    """What an engine raised, if a user can mend it; of a bug all that Ray knows."""
    return error.cause if isinstance(error.cause, PRMError) else error


def _short(error: object) -> str:
    return " ".join(str(error).split())[:300]

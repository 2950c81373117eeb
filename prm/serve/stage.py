"""`prm serve`: a checkpoint behind HTTP, until a signal ends it."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from prm.errors import ConfigError
from prm.scorers import ModelScorer, ScorerConfig, load
from prm.serve.policy import PolicyEngine
from prm.serve.schemas import Limits


@dataclass
class Config:
    """`prm serve`.

    Attributes:
        scorer: the checkpoint.
        host: the address to listen on; the default is reachable from this machine alone.
        port: the port; 0 takes a free one, which the first line of output names.
        api_key_env: the environment variable that holds the key clients must show; None asks
            for no key.
        limits: how much one client may ask for.
        drain_s: seconds that requests have to end in once the server is told to; the process is
            gone ten seconds later at the latest.
        policy: the servers of a model that writes solutions, for routes that choose among its
            answers; without one they refuse. Whether the server is ready does not depend on it.
    """

    scorer: ScorerConfig
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_env: str | None = None
    limits: Limits = field(default_factory=Limits)
    drain_s: float = 60.0
    policy: PolicyEngine | None = None

    def __post_init__(self) -> None:
        if not self.drain_s > 0:
            raise ValueError(f"drain_s is {self.drain_s}; it must be above 0")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; it must lie between 0 and 65535")


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; what has been accepted is answered first (`drain_s`).

    Raises:
        ConfigError: a package is missing, the key or the policy is unusable, or the address is
            taken.
        CheckpointError: the model folder is not one of our checkpoints.
        EngineError: the engine cannot load the model, or died.
    """
    _require_packages()
    key = _key(config.api_key_env)
    # Before the model is loaded, which may take minutes, and in which `/health` is answered.
    with _bind(config.host, config.port) as listener:
        _serve(config, key, listener)


def _serve(config: Config, key: str | None, listener: socket.socket) -> None:
    from prm.serve import logs
    from prm.serve.app import make_app
    from prm.serve.desk import Desk
    from prm.serve.policy import Policy
    from prm.serve.process import serve

    logs.configure("prm.serve", "uvicorn")
    try:
        listener.listen()
    except OSError as error:
        raise _unusable(config.host, config.port, error) from None
    policy = None if config.policy is None else Policy(config.policy)
    desk = Desk(None, config.limits, policy=policy)

    def load_model() -> ModelScorer:
        scorer = load(config.scorer)
        if config.scorer.critique.engine is None:
            desk.count = _counter(config.scorer)
        asks = f"key from ${config.api_key_env}" if key else "no key"
        print(f"prm serve: {scorer.name} at {_url(listener)} ({asks})", flush=True)
        return scorer

    desk.batcher.load(load_model)
    serve(
        make_app(desk, key),
        desk.batcher,
        listener,
        drain=config.drain_s,
        patience=config.limits.max_seconds,
    )


def _counter(config: ScorerConfig) -> Callable[[str], int]:
    """How many tokens a text has for the model's own tokenizer."""
    from prm.render import token_ids
    from prm.zoo import weights

    tokenizer = weights.load_tokenizer(weights.locate(config.model, config.revision))
    return lambda text: len(token_ids(tokenizer, text, special=False))


def _require_packages() -> None:
    for package in ("fastapi", "fastapi_offline", "prometheus_client", "uvicorn"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise ConfigError(
                f"`prm serve` needs {package}: pip install 'aurora-prm[serve]'"
            ) from None


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        state = "not set" if key is None else "empty"
        raise ConfigError(
            f"api_key_env: the environment variable {variable!r} is {state}; put the key in it, "
            "or set api_key_env=null to serve without one"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"api_key_env: the key in {variable!r} holds a space, a line end or a character "
            "that no HTTP header can carry"
        )
    return key


def _bind(host: str, port: int) -> socket.socket:
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        # A server that has just ended leaves connections that would block its port a while.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _unusable(host, port, error) from None
    return listener


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen on {host}:{port} ({error.strerror}); set another `host` or `port`"
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""`prm serve`: a checkpoint behind HTTP, until a signal ends it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
from dataclasses import dataclass, field

from prm.errors import ConfigError
from prm.score import ScorerConfig, TransformersScorer
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
    """

    scorer: ScorerConfig
    host: str = "127.0.0.1"
    port: int = 8000
    api_key_env: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; it must lie between 0 and 65535")


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; requests that are being answered are finished first.

    Raises:
        ConfigError: a package is missing, the key is unusable, or the address is taken.
        CheckpointError: the model folder is not one of our checkpoints.
    """
    _require_packages()
    key = _key(config.api_key_env)
    # Before the model is loaded, which may take minutes; listening starts after.
    with _bind(config.host, config.port) as listener:
        _serve(config, key, listener)


def _serve(config: Config, key: str | None, listener: socket.socket) -> None:
    import uvicorn

    from prm.serve.app import make_app

    scorer = TransformersScorer(config.scorer)
    app = make_app(scorer, config.limits, key)
    # The access log would hold query strings, which are the client's text.
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    try:
        listener.listen()
    except OSError as error:
        raise _unusable(config.host, config.port, error) from None
    asks = f"key from ${config.api_key_env}" if key else "no key"
    print(f"prm serve: {scorer.name} at {_url(listener)} ({asks})", flush=True)
    # Having drained, uvicorn raises the signal again; an end on request is no failure.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _require_packages() -> None:
    for package in ("fastapi", "uvicorn"):
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

"""What the server counts, for Prometheus. No label holds anything that a client wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# Most scores lie between 0 and 1; raw ones may be anywhere.
_SCORES = (-10, -5, -2, -1, -0.5, 0, *(tenth / 10 for tenth in range(1, 11)), 2, 5, 10)


class Metrics:
    """One server's figures, in a registry of their own."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        asked = ("method", "route", "status")
        self._requests = Counter("prm_requests", "Requests answered.", asked, registry=own)
        about = "From a request's head to its answer's end."
        self._seconds = Histogram(
            "prm_request_seconds", about, ("route",), buckets=_SECONDS, registry=own
        )
        about = "Solutions that the scorer had at a time."
        self._batches = Histogram("prm_batch_items", about, buckets=_COUNTS, registry=own)
        about = "How long the scorer had them, or took for a part of a search."
        self._scoring = Histogram("prm_batch_seconds", about, buckets=_SECONDS, registry=own)
        about = "Tokens that the model read, padding left out."
        self._read = Counter("prm_tokens", about, registry=own)
        self._items = Counter("prm_items", "Solutions answered.", ("status",), registry=own)
        self._steps = Counter("prm_steps", "Steps that got a score.", registry=own)
        self._scores = Histogram("prm_score", "Step scores.", buckets=_SCORES, registry=own)
        about = "Completions asked of the policy; those of one call have one outcome."
        self._asked = Counter("prm_policy_requests", about, ("outcome",), registry=own)
        about = "Tokens that the policy read (prompt) and wrote (completion)."
        self._policy_tokens = Counter("prm_policy_tokens", about, ("kind",), registry=own)
        about = "Requests with solutions that wait."
        self._waiting = Gauge("prm_waiting_requests", about, registry=own)
        self._queue = Gauge("prm_waiting_items", "Solutions that wait.", registry=own)
        self._ready = Gauge("prm_ready", "1 where `/ready` says so.", registry=own)
        ProcessCollector(registry=own)

    def watch(self, requests: Callable[[], int], items: Callable[[], int]) -> None:
        """Say where the queue's lengths are to be had."""
        self._waiting.set_function(requests)
        self._queue.set_function(items)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, items: int, seconds: float) -> None:
        """Count a batch that was scored, or a solution beside which others were under way."""
        self._batches.observe(items)
        self._scoring.observe(seconds)

    def work(self, seconds: float) -> None:
        """Count a piece of work that had its turn alone."""
        self._scoring.observe(seconds)

    def tokens(self, read: int) -> None:
        """Count tokens that the model read."""
        self._read.inc(read)

    def outcome(self, scores: Iterable[float] | None) -> None:
        """Count a solution that was answered: its scores, or None."""
        self._items.labels("error" if scores is None else "ok").inc()
        for score in scores or ():
            self._steps.inc()
            self._scores.observe(score)

    def policy(self, outcome: str, asked: int, prompt: int, written: int) -> None:
        """Count a call of the policy: completions, and the tokens of those that came."""
        self._asked.labels(outcome).inc(asked)
        self._policy_tokens.labels("prompt").inc(prompt)
        self._policy_tokens.labels("completion").inc(written)

    def text(self, *, ready: bool) -> bytes:
        """All of it, as Prometheus reads it."""
        self._ready.set(ready)
        return generate_latest(self._registry)

"""A worker's figures for Prometheus, and whether it lives and is ready, over HTTP on loopback.

Owns the names of the metrics and the three pages: `/metrics`, `/healthz` (something keeps a worker alive
here) and `/readyz` (frames are enhanced now). Whoever runs the worker says how it is by `Health`, so that the
pages answer also while the worker hangs or is being replaced. Knows no sockets of frames and no processes.
"""

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from configs.document import WrongInputError
from inference.figures import ENGINE_BOUNDS_S, Figures

__all__ = ["Health", "serve_metrics"]

LOOPBACK = "127.0.0.1"
CLIENT_PATIENCE_S = 5.0
STOP_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is, for those who ask."""

    figures: Figures | None
    """What it said last; None while there is none that serves."""
    alive: bool
    """Whether something is here that serves, or that starts a worker again."""
    restarts: int
    reason: str
    """Why it is not ready, where it is not."""
    engine_limit_s: float
    """A frame that has been in the engine for longer means that it hangs."""

    def why_not_ready(self) -> str:
        """Return why no frame can be enhanced now; nothing when one can."""
        if self.figures is None or not self.figures.serving:
            return self.reason or "no worker serves"
        if self.figures.busy_s > self.engine_limit_s:
            return f"the engine has been at one frame for {self.figures.busy_s:.0f} s"
        return ""


class _WorkerCollector(Collector):
    """Turns the figures of the moment into metrics, at each scrape."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        health = self._health()
        yield GaugeMetricFamily(
            "sharpscope_worker_ready",
            "Whether frames are enhanced now.",
            value=not health.why_not_ready(),
        )
        yield CounterMetricFamily(
            "sharpscope_worker_restarts", "Workers started in place of a lost one.", value=health.restarts
        )
        if health.figures is not None:
            yield from _counters(health.figures)
            yield from _engine(health.figures)
            yield from _models(health.figures)


def _counters(figures: Figures) -> Iterator[Metric]:
    counters = {
        "received": ("Frames that were let in.", figures.received),
        "enhanced": ("Frames that were enhanced.", figures.enhanced),
        "dropped": ("Preview frames that a newer one superseded.", figures.dropped),
        "flagged": ("Enhanced frames with a flag (out of domain).", figures.flagged),
    }
    for name, (text, value) in counters.items():
        yield CounterMetricFamily(f"sharpscope_frames_{name}", text, value=value)
    failed = CounterMetricFamily(
        "sharpscope_frames_failed", "Frames that were not enhanced.", labels=["code"]
    )
    for code, count in sorted(figures.failed.items()):
        failed.add_metric([code], count)
    yield failed
    text = "Messages answered by a typed error."
    yield CounterMetricFamily("sharpscope_messages_refused", text, value=figures.refused)
    yield GaugeMetricFamily("sharpscope_frames_waiting", "Frames that wait now.", value=figures.waiting)
    yield GaugeMetricFamily("sharpscope_clients", "Clients that are connected now.", value=figures.clients)


def _engine(figures: Figures) -> Iterator[Metric]:
    text = "How long the engine has been at its present frame; 0 when it waits."
    yield GaugeMetricFamily("sharpscope_engine_busy_seconds", text, value=figures.busy_s)
    bounds = [*map(str, ENGINE_BOUNDS_S), "+Inf"]
    up_to = itertools.accumulate(figures.engine_frames)
    engine = HistogramMetricFamily("sharpscope_engine_seconds", "Time of a frame in the engine.")
    engine.add_metric([], list(zip(bounds, map(float, up_to), strict=True)), figures.engine_s)
    yield engine


def _models(figures: Figures) -> Iterator[Metric]:
    labels = ["name", "model_hash", "channel", "factor"]
    models = GaugeMetricFamily("sharpscope_model_info", "A model that is loaded; always 1.", labels=labels)
    for model in figures.models:
        models.add_metric([model.name, model.model_hash, model.channel or "", str(model.factor)], 1)
    yield models


class _Pages:
    """The WSGI application."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_WorkerCollector(health))
        self._metrics = make_wsgi_app(registry)

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environment.get("PATH_INFO")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environment, start)
            return answer
        health = self._health()
        if path == "/healthz":
            return _said(start, health.alive, "alive" if health.alive else health.reason)
        if path == "/readyz":
            problem = health.why_not_ready()
            return _said(start, not problem, problem or "ready")
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"see /metrics, /healthz and /readyz\n"]


def _said(start: Callable[..., Any], well: bool, text: str) -> Iterable[bytes]:
    status = "200 OK" if well else "503 Service Unavailable"
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # on Windows it would share a port that another program has


class _QuietHandler(WSGIRequestHandler):
    timeout = CLIENT_PATIENCE_S

    def log_message(self, *_words: object) -> None:
        """Say nothing of each scrape."""


@contextmanager
def serve_metrics(port: int, health: Callable[[], Health]) -> Iterator[int]:
    """Serve the three pages on loopback while the block runs; gives the port.

    Parameters
    ----------
    port
        0 takes a free one.
    health
        Says how the worker is; called in the server's threads.

    Raises
    ------
    WrongInputError
        When the port cannot be used.
    """
    try:
        server = make_server(
            LOOPBACK, port, _Pages(health), server_class=_Server, handler_class=_QuietHandler
        )
    except (OSError, OverflowError) as error:
        msg = f"port {port} cannot be used for --metrics ({error}); give another one"
        raise WrongInputError(msg) from error
    thread = threading.Thread(
        target=server.serve_forever, args=(STOP_POLL_S,), name="sharpscope-metrics", daemon=True
    )
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()

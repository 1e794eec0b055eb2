"""How `sharpscope serve` runs: a worker under a supervisor, or alone in this process.

Owns who does what in which process: the supervisor's serves the metrics and speaks to standard output, so
that both go on while a worker is replaced; the worker's loads the models. Knows no sockets and no torch.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from inference.figures import Figures, Observed, Observer
from inference.metrics import Health, serve_metrics
from inference.supervisor import Patience, SupervisedState, Supervisor
from sharpscope.console import say
from sharpscope.json_logs import WorkerName

__all__ = ["ServePlan", "serve_alone", "serve_as_child", "serve_supervised"]


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What a person asked `sharpscope serve` for."""

    models: tuple[Path, ...]
    bind: str
    keys: Path | None
    """Of the worker; needed beyond loopback."""
    device: str
    metrics_port: int | None
    """On loopback; None serves no metrics."""
    json_logs: bool
    engine_limit_s: float
    """A frame that is in the engine for longer means that it hangs."""


def serve_supervised(plan: ServePlan, on_ready: Callable[[str], None]) -> int:
    """Keep a worker alive in a process of its own; returns the exit code.

    Parameters
    ----------
    on_ready
        Called with the address, once, when clients can connect.
    """
    told: list[str] = []

    def ready(figures: Figures) -> None:
        if not told:
            told.append(figures.address)
            on_ready(figures.address)

    patience = Patience(engine_s=plan.engine_limit_s)
    supervisor = Supervisor(lambda address: _child_command(plan, address), patience, ready)

    def health() -> Health:
        return Health(
            figures=supervisor.latest,
            alive=supervisor.state is not SupervisedState.ENDED,
            restarts=supervisor.restarts,
            reason=f"the worker is {supervisor.state}; {supervisor.last_loss}".rstrip("; "),
            engine_limit_s=plan.engine_limit_s,
        )

    with _metrics(plan.metrics_port, health):
        return supervisor.run()


def _child_command(plan: ServePlan, address: str | None) -> Sequence[str]:
    """Return the command line of a worker; the whole plan but for what the supervisor does itself."""
    command = [sys.executable, "-m", "sharpscope", "serve", *map(str, plan.models)]
    command += ["--bind", address or plan.bind, "--device", plan.device, "--as-child"]
    command += [] if plan.keys is None else ["--keys", str(plan.keys)]
    return [*command, "--json-logs"] if plan.json_logs else command


def serve_as_child(plan: ServePlan) -> None:
    """Serve for the supervisor that started this process."""
    from inference.heartbeat import Heartbeat

    with Heartbeat() as heartbeat:
        _serve(plan, [heartbeat], lambda _address: None)


def serve_alone(plan: ServePlan, on_ready: Callable[[str], None]) -> None:
    """Serve in this process; nobody starts it again."""
    eye = _Eye()

    def health() -> Health:
        figures = None if eye.worker is None else eye.worker.figures()
        return Health(figures, True, 0, "the models are loaded", plan.engine_limit_s)

    with _metrics(plan.metrics_port, health):
        _serve(plan, [eye], on_ready)


class _Eye:
    """An observer that keeps the worker for those who ask later."""

    def __init__(self) -> None:
        self.worker: Observed | None = None

    def begin(self, worker: Observed) -> None:
        self.worker = worker

    def turn(self) -> None:
        """Nothing."""


def _serve(plan: ServePlan, observers: Sequence[Observer], on_ready: Callable[[str], None]) -> None:
    from inference.engine import Engine, load_engine
    from inference.keys import WorkerKeys
    from inference.model_watch import ModelWatch
    from inference.service import serve

    def load(path: Path) -> Engine:
        return load_engine(path, plan.device, streaming=True)  # type: ignore[arg-type] # checked there

    keys = None if plan.keys is None else WorkerKeys.read(plan.keys)
    watch = ModelWatch(plan.models, load)

    def ready(address: str) -> None:
        for engine in watch.engines:
            say(f"serving {engine.name} ({engine.model_hash[:12]}) on {engine.backend.description}")
        who = "" if keys is None else f" for {len(keys.client_files())} client(s) with keys"
        say(f"listening on {address}{who}; stop with Ctrl-C")
        on_ready(address)

    everyone = [*observers, WorkerName()]
    serve(watch.engines, plan.bind, on_ready=ready, watch=watch, keys=keys, observers=everyone)


def _metrics(port: int | None, health: Callable[[], Health]) -> AbstractContextManager[int]:
    return nullcontext(0) if port is None else serve_metrics(port, health)

"""What the way to the worker and back costs, with an engine that costs nothing.

    python bench/transport.py [--seconds 2] [--rounds 5] [--json] [--write bench/results/transport.md]

Frames of 1024 x 1024 uint16 go out one at a time, 1024 x 1024 float32 come back. Four ways, in turn, so that
all see the same machine: a bare ZeroMQ echo that answers with a buffer of as many bytes (the limit of any
service over this socket), the service over the socket, the service through shared memory, and a frame copied
into memory and a signal of one byte over ZeroMQ either way (the limit of the latter). Each peer is a process
of its own. Medians over the rounds.
"""

import argparse
import itertools
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from null_engine import ANSWER_BYTES, SIDE
from output import bench_parser, publish

from inference.client import ClientSettings, EnhancedFrame, Outcome, WorkerClient

ECHO_BOUND, SHARED_BOUND, P99_BOUND_MS = 0.8, 3.0, 3.0
WARM_UP_S = 0.3

ECHO = """
import sys, zmq
answer = bytes(int(sys.argv[1]))
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind("tcp://127.0.0.1:*")
print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
while True:
    client, header, _ = socket.recv_multipart(copy=False)
    socket.send_multipart([client, header, answer] if answer else [client, header, b""], copy=False)
"""
RoundTrip = Callable[[], object]


@contextmanager
def peer(*command: str) -> Iterator[str]:
    """Run a process and give the address that it prints."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def bare_echo(
    frame: np.ndarray, answer_bytes: int, copied_to: np.ndarray | None = None
) -> Iterator[RoundTrip]:
    """Give a round trip over two bare sockets."""
    with peer("-c", ECHO, str(answer_bytes)) as address, zmq.Context() as context:
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(address)
        header = b"h" * 400

        def round_trip() -> None:
            if copied_to is None:
                socket.send_multipart([header, frame.data.cast("B")], copy=False)
            else:
                copied_to[...] = frame
                socket.send_multipart([header, b""], copy=False)
            socket.recv_multipart(copy=False)

        yield round_trip
        socket.close()


@contextmanager
def service(frame: np.ndarray, *, share_memory: bool) -> Iterator[RoundTrip]:
    """Give a round trip from client to worker to client."""
    with peer(str(Path(__file__).with_name("null_engine.py"))) as address:
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        settings = ClientSettings(share_memory=share_memory)
        with WorkerClient(address, outcomes.put, settings=settings) as client:
            client.wait_ready(30)

            def round_trip() -> None:
                client.submit(frame, pixel_size_um=0.65, channel="FITC", owned=True)
                assert isinstance(outcomes.get(timeout=30), EnhancedFrame)

            yield round_trip


def timed(round_trip: RoundTrip, seconds: float) -> np.ndarray:
    """Return the time of each round trip, ms."""
    times: list[float] = []
    began = time.perf_counter()
    while (start := time.perf_counter()) - began < seconds + WARM_UP_S:
        round_trip()
        if start - began >= WARM_UP_S:
            times.append(1000 * (time.perf_counter() - start))
    return np.array(times)


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Measure the four ways in turn."""
    frame = np.random.default_rng(0).integers(0, 60000, (SIDE, SIDE), dtype=np.uint16)
    ways = {
        "echo": lambda: bare_echo(frame, ANSWER_BYTES),
        "socket": lambda: service(frame, share_memory=False),
        "shared": lambda: service(frame, share_memory=True),
        "signal": lambda: bare_echo(frame, 0, np.empty_like(frame)),
    }
    taken: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    with ExitStack() as stack:
        ready = {name: stack.enter_context(way()) for name, way in ways.items()}
        for _, name in itertools.product(range(rounds), ways):
            taken[name].append(timed(ready[name], seconds))
    figures: dict[str, Any] = {}
    for name, each in taken.items():
        figures[f"{name}_per_s"] = float(np.median([1000 / times.mean() for times in each]))
        figures[f"{name}_p99_ms"] = float(np.median([np.percentile(times, 99) for times in each]))
    pairs = {"socket_over_echo": ("socket", "echo"), "shared_over_socket": ("shared", "socket")}
    for ratio, (above, below) in pairs.items():
        of_rounds = [b.mean() / a.mean() for a, b in zip(taken[above], taken[below], strict=True)]
        figures[ratio] = float(np.median(of_rounds))
    return figures


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    names = {
        "echo": "bare ZeroMQ echo", "socket": "service over the socket", "shared": "service, shared memory",
        "signal": "copy into memory, bare signal and echo",
    }  # fmt: skip
    lines = ["| one frame at a time | round trips/s | p99 (ms) |", "|---|---|---|"]
    lines += [
        f"| {label} | {figures[f'{name}_per_s']:.0f} | {figures[f'{name}_p99_ms']:.2f} |"
        for name, label in names.items()
    ]
    echo, shared = figures["socket_over_echo"], figures["shared_over_socket"]
    slowest = max(figures["socket_p99_ms"], figures["shared_p99_ms"])
    lines += [
        "",
        "| | | bound | holds |",
        "|---|---|---|---|",
        _bounded("service over the socket / bare echo", echo, ECHO_BOUND, holds=echo >= ECHO_BOUND),
        _bounded("shared memory / socket", shared, SHARED_BOUND, holds=shared >= SHARED_BOUND),
        _bounded("p99 of the service (ms)", slowest, P99_BOUND_MS, holds=slowest < P99_BOUND_MS),
        "",
        f"{SIDE} x {SIDE} uint16 out, {ANSWER_BYTES / 2**20:g} MiB back; {os.cpu_count()} cores, "
        f"pyzmq {zmq.__version__}.",
    ]
    return "\n".join(lines)


def _bounded(label: str, figure: float, bound: float, *, holds: bool) -> str:
    return f"| {label} | {figure:.2f} | {bound:g} | {'yes' if holds else 'NO'} |"


def main(arguments: argparse.Namespace) -> None:
    """Run and print."""
    figures = measure(arguments.seconds, arguments.rounds)
    publish(arguments, "The way to the worker and back", table(figures), figures)


if __name__ == "__main__":
    parser = bench_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="a way and round")
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())

"""Whether a worker and its client keep their memory and their descriptors over a long time of use and misuse.

A supervised worker (an engine that only enlarges, so that what is measured is everything else) serves a
recording client, a preview client, clients that come and go, frames with deadlines that pass, nonsense and
frames that fail, for as long as is asked. Memory and descriptors of worker, supervisor and clients are read
ten times; the first tenth is warming up.

    python bench/soak.py --minutes 30 --write bench/results/soak.md
"""

import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq
from output import bench_parser, publish

from inference.client import Outcome, WorkerClient
from inference.heartbeat import Heartbeat
from inference.preprocess import Photometry
from inference.service import serve
from inference.supervisor import Supervisor

READINGS = 10
MEMORY_GROWTH_LIMIT = 0.05
"""From the end of warming up to the last reading."""
FRAME = np.random.default_rng(1).integers(0, 4096, (256, 256), dtype=np.uint16)
UNLUCKY = 65535


@dataclass(frozen=True)
class _Enlarged:
    image: Any
    pixel_size_um: float | None
    photometry: Photometry
    out_of_domain: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    shows_raw: bool = False


class _EnlargingEngine:
    """Takes two milliseconds; fails where the first pixel says so."""

    name, model_hash, factor, channel, under_way = "enlarging", "ab" * 32, 2, None, 1

    def begin(self, image: Any, **_facts: Any) -> Any:  # noqa: ANN401 - any array, any facts
        if image[0, 0] == UNLUCKY:
            raise ValueError("an unlucky frame")
        time.sleep(0.002)
        enlarged = image.astype(np.float32).repeat(2, 0).repeat(2, 1)
        return lambda: _Enlarged(enlarged, None, Photometry(0.0, 1.0))


class _Load:
    """The clients; each works in a thread of its own until the end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.ended: Counter[str] = Counter()
        self.submitted = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        works = (self._record, self._preview, self._come_and_go)
        self.threads = [threading.Thread(target=work) for work in works]
        for thread in self.threads:
            thread.start()

    def _count(self, outcome: Outcome) -> None:
        with self._lock:
            self.ended[type(outcome).__name__] += 1

    def _submit(self, client: WorkerClient, image: Any, **facts: Any) -> None:  # noqa: ANN401 - as submit has them
        client.submit(image, **facts)
        with self._lock:
            self.submitted += 1

    def _record(self) -> None:
        unlucky = FRAME.copy()
        unlucky[0, 0] = UNLUCKY
        with WorkerClient(self.address, self._count) as client:
            for number in itertools.count():
                if self.over.is_set():
                    break
                deadline_ms = 1.0 if number % 50 == 7 else None
                image = unlucky if number % 50 == 9 else FRAME
                self._submit(client, image, deadline_ms=deadline_ms, channel=f"c{number % 5}")
            client.drain(60)

    def _preview(self) -> None:
        with WorkerClient(self.address, self._count) as client:
            while not self.over.wait(0.01):
                self._submit(client, FRAME, delivery="preview")
            client.drain(60)

    def _come_and_go(self) -> None:
        while not self.over.wait(0.2):
            with WorkerClient(self.address, self._count) as client:
                client.wait_ready(10)
                self._submit(client, FRAME)
                self._submit(client, FRAME, delivery="preview")
            with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
                stranger.linger = 1000
                stranger.connect(self.address)
                stranger.send_multipart([b"nonsense", bytes(100_000), b"more"])


def _read(processes: dict[str, psutil.Process]) -> dict[str, tuple[float, int]]:
    """Return resident memory in MB and open descriptors of each process."""
    return {
        name: (
            process.memory_info().rss / 1e6,
            process.num_handles() if os.name == "nt" else process.num_fds(),
        )
        for name, process in processes.items()
    }


def soak(minutes: float) -> tuple[list[dict[str, tuple[float, int]]], _Load]:
    """Serve and ask for so long; returns the readings and what became of the frames."""
    command = [sys.executable, str(Path(__file__).resolve()), "--supervise"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        load = _Load(supervisor.stdout.readline().strip())
        worker = psutil.Process(supervisor.pid).children()[0]
        processes = {
            "worker": worker,
            "supervisor": psutil.Process(supervisor.pid),
            "clients": psutil.Process(),
        }
        readings = []
        try:
            for _ in range(READINGS):
                time.sleep(60 * minutes / READINGS)
                readings.append(_read(processes))
        finally:
            load.over.set()
            for thread in load.threads:
                thread.join()
            supervisor.terminate()
    return readings, load


def _table(readings: list[dict[str, tuple[float, int]]], load: _Load, minutes: float) -> tuple[str, bool]:
    names = list(readings[0])
    lines = [
        "| minute | " + " | ".join(f"{name} MB | {name} descriptors" for name in names) + " |",
        "|" + "---|" * (1 + 2 * len(names)),
    ]
    for number, reading in enumerate(readings, start=1):
        cells = " | ".join(f"{reading[name][0]:.1f} | {reading[name][1]}" for name in names)
        lines.append(f"| {number * minutes / READINGS:.1f} | {cells} |")
    flat = True
    lines.append("")
    for name in names:
        (first_mb, first), (last_mb, last) = readings[0][name], readings[-1][name]
        growth = last_mb / first_mb - 1
        flat = flat and growth <= MEMORY_GROWTH_LIMIT
        lines.append(f"{name}: memory {growth:+.1%}, descriptors {last - first:+d} from the first reading.")
    ended = ", ".join(f"{count} {name}" for name, count in sorted(load.ended.items()))
    lines.append(f"{load.submitted} frames submitted, {sum(load.ended.values())} ended: {ended}.")
    whole = sum(load.ended.values()) == load.submitted and load.ended["EnhancedFrame"] > load.submitted / 2
    return "\n".join(lines), flat and whole


def main() -> int:
    """Run the bench."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--serve", help="be the worker, at this address")
    parser.add_argument("--supervise", action="store_true", help="be the supervisor")
    arguments = parser.parse_args()
    if arguments.serve:
        logging.disable()  # a traceback for each unlucky frame
        with Heartbeat() as heartbeat:
            serve([_EnlargingEngine()], arguments.serve, observers=[heartbeat])
        return 0
    if arguments.supervise:
        me = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        return Supervisor(
            lambda address: [*me, address or "tcp://127.0.0.1:*"],
            on_ready=lambda figures: print(figures.address, flush=True),
        ).run()
    readings, load = soak(arguments.minutes)
    text, well = _table(readings, load, arguments.minutes)
    publish(
        arguments, f"Soak of {arguments.minutes:g} minutes", text, {"flat": well, "frames": load.submitted}
    )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

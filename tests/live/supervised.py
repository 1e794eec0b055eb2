"""A supervisor of `faulty_worker.py` as a process, which prints the address and id of each worker."""

import logging
import sys
from pathlib import Path

from inference.supervisor import Patience, Supervisor

WORKER = Path(__file__).with_name("faulty_worker.py")
PATIENCE = Patience(start_s=60, silence_s=3.0, engine_s=2.5)


def command(address):
    bind, *rest = sys.argv[1:5]
    return [sys.executable, str(WORKER), address or bind, *rest]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    supervisor = Supervisor(
        command, PATIENCE, lambda figures: print(figures.address, figures.worker, flush=True)
    )
    sys.exit(supervisor.run())

"""A supervised worker whose engine has the fault that a frame's first pixel names.

`python faulty_worker.py BIND MARKS ENGINE_SECONDS START`: with a folder MARKS each fault is met once, however
often the worker is started; where START is "fails" none ever serves.
"""

import ctypes
import importlib.util
import logging
import os
import sys
import time
from pathlib import Path

from inference.heartbeat import Heartbeat
from inference.service import serve

HANG, SPIN, HOLD_GIL, SEGFAULT, DEVICE, UNLUCKY, LEAVE, SPIN_A_WHILE, HOLD_GIL_A_WHILE = range(60001, 60010)


def _fake_worker():
    spec = importlib.util.spec_from_file_location("fake_worker", Path(__file__).with_name("fake_worker.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hold_gil_ms(milliseconds):
    """Sleep in C without letting go of the GIL."""
    if sys.platform == "win32":
        ctypes.PyDLL("kernel32").Sleep(milliseconds)
    else:
        ctypes.PyDLL(None).usleep(1000 * milliseconds)


class FaultyEngine(_fake_worker().NearestEngine):
    """Enlarges a frame, unless its first pixel names a fault; fails once only where a mark file is given."""

    def __init__(self, seconds=0.0, mark=None):
        super().__init__(seconds)
        self.mark = mark

    def enhance(self, image, **facts):
        fault = int(image[0, 0])
        if fault > 60000 and self._first_time(fault):
            self._fail(fault)
        return super().enhance(image, **facts)

    def _first_time(self, fault):
        if self.mark is None:
            return True
        mark = self.mark / str(fault)
        if mark.exists():
            return False
        mark.touch()
        return True

    def _fail(self, fault):
        match fault:
            case _ if fault == HANG:
                time.sleep(1e6)
            case _ if fault == SPIN:
                while True:
                    pass
            case _ if fault == HOLD_GIL:
                sum(range(10**15))  # one call into C that never lets go of the GIL
            case _ if fault == SEGFAULT:
                ctypes.string_at(0)
            case _ if fault == DEVICE:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case _ if fault == UNLUCKY:
                raise RuntimeError("unlucky")
            case _ if fault == LEAVE:
                os._exit(3)
            case _ if fault == SPIN_A_WHILE:
                until = time.monotonic() + 1.0
                while time.monotonic() < until:
                    pass
            case _ if fault == HOLD_GIL_A_WHILE:
                hold_gil_ms(1000)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    bind, mark, seconds, start = sys.argv[1:5]
    if start == "fails":
        sys.exit(2)
    with Heartbeat(silent_exit_s=5.0) as heartbeat:
        engine = FaultyEngine(float(seconds), Path(mark) if mark else None)
        serve([engine], bind, observers=[heartbeat])

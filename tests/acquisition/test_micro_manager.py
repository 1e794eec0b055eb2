"""Loading a configuration, letting go of it, and sharing it with nobody."""

import os
import subprocess
import sys

import pytest

FORKS = """
import multiprocessing, os
from acquisition.micro_manager import release_at_exit
class Core:
    mda = property(lambda self: os._exit(3))
core = Core()
release_at_exit(core)
child = multiprocessing.get_context("fork").Process(target=int)
child.start()
child.join(30)
print(child.exitcode, flush=True)
"""
HOLDS = """
import sys
from acquisition.micro_manager import load_cfg
core = load_cfg("demo.cfg")
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_leaves_the_core_alone():
    # OpenVINO's telemetry forks; the child once died in the hook that releases the core.
    ran = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert (ran.stdout.strip(), ran.returncode) == ("0", 3)  # the child's, and the parent's own


def test_two_programs_cannot_drive_one_microscope():
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline().strip() == "holding"
        second = subprocess.run(
            [sys.executable, "-m", "sharpscope", "scan", "demo_camera", "--dry-run"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        first.stdin.close()
    assert second.returncode == 2
    assert "another sharpscope drives this microscope" in second.stderr
    third = subprocess.run([sys.executable, "-c", HOLDS], stdin=subprocess.DEVNULL, timeout=60)
    assert third.returncode == 0

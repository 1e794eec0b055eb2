"""What is found on this machine, and what to do about what is missing."""

import os
import platform
import shutil
import socket
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Finding", "examine"]

LIBRARIES = ("torch", "openvino", "pymmcore-plus", "pyzmq", "tensorstore", "bioimageio.core")
LEAST_FREE_GB = 5.0
DEFAULT_PORT = 5555


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for."""

    what: str
    found: str
    well: bool
    remedy: str = ""


def examine() -> list[Finding]:
    """Look for everything that sharpscope needs; each finding says what to do where something is missing."""
    machine = Finding(
        "machine", f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} CPUs", True
    )
    return [machine, *(_library(name) for name in LIBRARIES), _adapters(), _gpu(), _cpu(), _port(), _disk()]


def _library(name: str) -> Finding:
    try:
        return Finding(name, version(name), True)
    except PackageNotFoundError:
        return Finding(name, "missing", False, "install sharpscope again: pip install sharpscope")


def _adapters() -> Finding:
    from acquisition.micro_manager import adapter_folder

    folder = adapter_folder()
    remedy = "pip install mm-test-adapters, or Micro-Manager by 'mmcore install'"
    return Finding("device adapters", str(folder or "none"), folder is not None, remedy)


def _gpu() -> Finding:
    from inference.backends.torch_backend import gpu_name

    return Finding("GPU", gpu_name() or "none (OpenVINO on the CPU is used)", True)


def _cpu() -> Finding:
    from inference.backends.openvino_backend import has_bfloat16

    found = "bfloat16, twice as fast as float32" if has_bfloat16() else "float32 (it has no bfloat16)"
    return Finding("inference on the CPU", found, True)


def _port() -> Finding:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0
    return Finding(
        f"port {DEFAULT_PORT}", "in use (by a worker?)" if taken else "free", True,
        "serve with --bind tcp://127.0.0.1:*" if taken else "",
    )  # fmt: skip


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding(
        "free disk here", f"{free_gb:.0f} GB", free_gb > LEAST_FREE_GB, "a night's scan needs more"
    )

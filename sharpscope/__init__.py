"""Live super-resolution at the microscope: the thin front door.

The public names are imported when they are first used, so that `import sharpscope` loads no torch, no
ZeroMQ and no Micro-Manager.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acquisition.live import LiveEnhancer
    from sharpscope.model import load_model

__version__ = version("sharpscope")
__all__ = ["LiveEnhancer", "__version__", "load_model"]

_HOMES = {
    "LiveEnhancer": ("acquisition.live", "LiveEnhancer"),
    "load_model": ("sharpscope.model", "load_model"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 # what module-level __getattr__ returns
    if name not in _HOMES:
        msg = f"module 'sharpscope' has no attribute {name!r}"
        raise AttributeError(msg)
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)

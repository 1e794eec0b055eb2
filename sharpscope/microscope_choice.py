"""Opens the microscope that an experiment names: a real one by its `.cfg`, or a virtual stand.

Only the front door may know the virtual microscope; the acquisition room takes any core.
"""

from typing import TYPE_CHECKING

from acquisition.plan import MicroscopeChoice

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["open_microscope"]


def open_microscope(choice: MicroscopeChoice) -> "CMMCorePlus":
    """Return a core with the devices loaded; raises WrongInputError when there is no such microscope."""
    if choice.cfg is not None:
        from acquisition.micro_manager import load_cfg

        return load_cfg(choice.cfg)
    from acquisition.virtual import from_choice

    return from_choice(choice)

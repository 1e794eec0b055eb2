"""The virtual camera: exposes what the positions of the other devices imply.

Owns what a camera does beyond its chip: exposure, binning, region of interest, bit depth, sequences, time,
and the faults of a camera. Knows no physics; the stand has it. The one class that derives from
pymmcore-plus's (experimental) `CameraDevice`.
"""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus.experimental.unicore import CameraDevice

from acquisition.virtual.faults import FaultSchedule
from acquisition.virtual.frame_ring import FrameRing
from acquisition.virtual.light_path import light_path, named
from acquisition.virtual.sensor import BIT_DEPTHS, Roi
from acquisition.virtual.stand import Frame, Stand
from acquisition.virtual.structured_light import EXPOSURES

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from pymmcore_plus import CMMCorePlus

__all__ = ["VirtualCamera"]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
CountImage = np.ndarray[Any, np.dtype[np.uint8 | np.uint16]]

_BINNINGS = (1, 2, 4)
_WAIT_SLICE_S = 0.02
_STALL_S = 5.0
"""After which a snap whose exposure does not end is given up."""
_KEPT_BYTES = 64_000_000
"""Of frames that were rendered: a stage that comes back, and live mode, cost their noise only."""


class VirtualCamera(CameraDevice):
    """Renders what the positions of the other devices imply.

    Parameters
    ----------
    stand
        What there is to see.
    faults
        What goes wrong, and when.
    real_time
        Whether an exposure takes its time; else it costs its rendering only, and the stand's clock is the sum
        of all exposures.
    replay
        So many frames of a sequence are rendered before it begins, then they come again and again, at the
        exposure's own pace; 0 renders every frame. Single snaps are always rendered.
    """

    def __init__(self, stand: Stand, faults: FaultSchedule, *, real_time: bool, replay: int = 0) -> None:
        super().__init__()
        self._stand = stand
        self._faults = faults
        self._real_time = real_time
        self._core: Callable[[], CMMCorePlus | None] = lambda: None
        self._exposure_ms = stand.design.exposure_ms
        self._binning = 1
        self._bits = stand.sensor.bits
        self._roi: Roi | None = None
        self._stopped = threading.Event()
        self._rng = np.random.default_rng([stand.seed, 79])
        self._rendered: OrderedDict[tuple[Frame, float], FloatImage] = OrderedDict()
        self._ring = FrameRing(replay) if replay else None
        self._began_s = time.perf_counter()
        self._exposed_s = 0.0
        self.upwards_xy = (False, False)
        """Whether the stage arrived in the positive direction; the core says."""
        self.snapping = False
        """Whether the next sequence of one is a snap; the core says."""
        self.dark = False
        """Whether a fault keeps the light away; the core says."""
        self.overflowed = False
        """Whether a fault has ended the last sequence by an overflow."""
        self.set_property_allowed_values("Binning", _BINNINGS)
        self.register_property(
            "BitDepth",
            default_value=self._bits,
            allowed_values=BIT_DEPTHS,
            getter=VirtualCamera.get_bit_depth,
            setter=VirtualCamera.set_bit_depth,
        )

    def watch(self, core: "CMMCorePlus") -> None:
        """Read positions from this core; a weak reference, since a strong one would keep the core alive."""
        self._core = weakref.ref(core)

    def stop(self) -> None:
        """End a running sequence without waiting for its exposure."""
        self._stopped.set()

    def shutdown(self) -> None:
        """Stop, as the core is going away."""
        self.stop()

    def get_exposure(self) -> float:
        """Return the exposure time in ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure time in ms; raises ValueError for one that is no time."""
        if not 0 <= float(exposure) < np.inf:
            raise ValueError(f"exposure must be a time in ms, not {exposure}")
        self._exposure_ms = float(exposure)

    def set_property_value(self, prop_name: str, value: Any) -> None:  # noqa: ANN401 - as upstream
        """Set a property; Micro-Manager's presets and files give every value as a string."""
        super().set_property_value(prop_name, int(value) if prop_name in ("Binning", "BitDepth") else value)

    def get_binning(self) -> int:
        """Return how many pixels are summed along each side."""
        return self._binning

    def set_binning(self, value: int) -> None:
        """Set the binning, which clears the region of interest, as on real cameras."""
        self._binning = int(value)
        self._roi = None

    def get_bit_depth(self) -> int:
        """Return the bits of a count."""
        return self._bits

    def set_bit_depth(self, value: int) -> None:
        """Set the bits of a count: fewer of them divide the same range more coarsely."""
        self._bits = int(value)

    def dtype(self) -> "DTypeLike":
        """Return the type of the counts."""
        return np.uint8 if self._bits == 8 else np.uint16

    def shape(self) -> tuple[int, int]:
        """Return (height, width) of the region of interest."""
        _, _, width, height = self.get_roi()
        return (height, width)

    def get_roi(self) -> Roi:
        """Return (x, y, width, height) in binned pixels."""
        height, width = self._stand.sensor.shape_yx
        return self._roi or (0, 0, width // self._binning, height // self._binning)

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """Set the region of interest in binned pixels; raises ValueError when it leaves the chip."""
        full_height, full_width = (length // self._binning for length in self._stand.sensor.shape_yx)
        inside = 0 <= x < x + width <= full_width and 0 <= y < y + height <= full_height
        if not inside:
            roi = (x, y, width, height)
            raise ValueError(f"region of interest {roi} leaves the camera's {full_width} x {full_height} px")
        self._roi = (x, y, width, height)

    def clear_roi(self) -> None:
        """Use the whole chip."""
        self._roi = None

    def start_sequence(
        self, n: int | None, get_buffer: "Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]]"
    ) -> Iterator[Mapping[str, Any]]:
        """Expose n frames, or frames until stopped; a snap is a sequence of one."""
        self._stopped.clear()  # here and not in the generator, which begins later, in another thread
        self.overflowed = False
        if self._ring is not None and not self.snapping:
            self._ring.fill(self._ring_state(), self._render(self.now_s()), self._period())
        return self._frames(n, get_buffer, snap=self.snapping)

    def _frames(
        self,
        n: int | None,
        get_buffer: "Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]]",
        *,
        snap: bool,
    ) -> Iterator[Mapping[str, Any]]:
        if snap and self._faults.happens("snap_fails"):
            raise RuntimeError("Camera: the exposure failed (a fault that was asked for)")
        if snap and self._faults.happens("camera_hangs"):
            while self._wait_until(time.perf_counter() + _STALL_S):
                pass
            return
        taken, started_s = 0, time.perf_counter()
        ring = None if snap else self._ring
        while n is None or taken < n:
            # A ring keeps the pace of a real camera: what comes late delays nothing after it.
            began_s = time.perf_counter() if ring is None else started_s + taken * self._exposure_ms * 1e-3
            if self._faults.happens("camera_stalls"):
                self._stall(snap=snap)
                return
            if not snap and self._faults.happens("buffer_overflows"):
                self.overflowed = True
                return
            place = taken if ring is None else ring.place(taken, self._period())
            image = self._expose(taken) if ring is None else self._replayed(ring, place)
            if (self._real_time or ring) and not self._wait_until(began_s + self._exposure_ms * 1e-3):
                return
            get_buffer(image.shape, image.dtype)[:] = image
            taken += 1
            tags = {} if ring is None else {"FrameNumber": str(taken - 1), "RingPlace": str(place)}
            yield {"StandTime_s": f"{self.now_s():.3f}", **tags}

    def _replayed(self, ring: FrameRing, place: int) -> CountImage:
        return ring.image(self._ring_state(), place, self._render(self.now_s()))

    def _render(self, now_s: float) -> Callable[[int], CountImage]:
        """Return what exposes at a place of the ring: each an exposure later than the one before."""
        return lambda place: self._expose(place, now_s + place * self._exposure_ms * 1e-3)

    def _ring_state(self) -> Hashable:
        """Return what decides how a sequence looks, but for time, pattern and noise."""
        frame = self._frame(0, 0.0)
        return frame, self._exposure_ms, self._binning, self._bits, self.get_roi()

    def _period(self) -> int:
        """Return after how many exposures the light comes again: the patterns of striped light."""
        frame = self._frame(0, 0.0)
        modality = None if frame is None else frame.modality
        return EXPOSURES if modality and self._stand.design.modalities[modality].stripes else 1

    def _stall(self, *, snap: bool) -> None:
        """Deliver nothing until stopped; a snap is given up after a while."""
        patience_s = (_STALL_S if self._real_time else 0.0) if snap else np.inf
        if self._wait_until(time.perf_counter() + patience_s):
            raise RuntimeError("Camera: no image came within the time-out (a fault that was asked for)")

    def _wait_until(self, end_s: float) -> bool:
        """Wait in slices for a moment; False when the sequence was stopped or the core died."""
        while (left_s := end_s - time.perf_counter()) > 0:
            if self._stopped.wait(min(left_s, _WAIT_SLICE_S)) or self._core() is None:
                return False
        return True

    def _expose(self, number: int, time_s: float | None = None) -> CountImage:
        """Return the counts of one exposure, the n-th of its sequence, at the stand's time or another."""
        frame = self._frame(number, self.now_s() if time_s is None else time_s)
        x, y, width, height = (edge * self._binning for edge in self.get_roi())
        electrons = np.zeros((height, width), dtype=np.float32) if frame is None else self._electrons(frame)
        counts = self._stand.sensor.with_bits(self._bits).expose(
            electrons,
            self._rng,
            exposure_ms=self._exposure_ms,
            roi=(x, y, width, height),
            binning=self._binning,
        )
        self._exposed_s += self._exposure_ms * 1e-3
        return counts.astype(self.dtype(), copy=False)

    def _electrons(self, frame: Frame) -> FloatImage:
        """Return the expected electrons, rendered or, where nothing changed since, remembered."""
        stand, exposure_ms = self._stand, self._exposure_ms
        bleaches = bool(stand.imperfections.bleaching_per_s)
        key = (frame, exposure_ms)
        if key in self._rendered and not bleaches:
            self._rendered.move_to_end(key)
            return self._rendered[key]
        electrons = stand.expected_electrons(frame, exposure_ms)
        if bleaches:
            stand.bleach(frame, exposure_ms)
        self._rendered[key] = electrons
        while sum(kept.nbytes for kept in self._rendered.values()) > _KEPT_BYTES and len(self._rendered) > 1:
            self._rendered.popitem(last=False)
        return electrons

    def _frame(self, number: int, time_s: float) -> Frame | None:
        """Read the devices; None when no light reaches the camera."""
        core = self._core()
        if core is None or self.dark or not (core.getAutoShutter() or core.getShutterOpen()):
            return None
        stand = self._stand
        objective = named(core.getStateLabel("Objective"), stand.objectives)
        excitation = named(core.getStateLabel("Excitation"), stand.channels)
        emission = named(core.getStateLabel("Emission"), stand.channels)
        if objective is None or excitation is None or excitation != emission:
            return None
        wheels = light_path(core, stand)
        if wheels is None:
            return None
        modality, light, first = wheels
        stage_x_um, stage_y_um = core.getXYPosition()
        x, y, width, height = (edge * self._binning for edge in self.get_roi())
        return Frame(
            objective,
            emission,
            (stage_x_um, stage_y_um),
            core.getPosition(),
            (x, y, width, height),
            modality=modality,
            stripes_number=(first + number) % EXPOSURES if stand.design.modalities[modality].stripes else 0,
            light=light,
            time_s=time_s if stand.changes else 0.0,
            upwards_xy=self.upwards_xy if stand.imperfections.stage_backlash_um else (False, False),
        )

    def now_s(self) -> float:
        """Return the stand's time."""
        return time.perf_counter() - self._began_s if self._real_time else self._exposed_s

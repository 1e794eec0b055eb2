"""Runs the safetensors weights on an NVIDIA GPU: bfloat16, fused, replayed as a CUDA graph for each shape.

A frame goes up as the camera gave it and comes down in counts: background, scale, upsampling, padding and the
way back are computed on the device with the network. Three streams (up, compute, down) and two slots for each
shape let the copies of one frame run beside the computation of another; `begin` returns at once.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from inference.backends.fused_layers import fusible
from inference.generator import GeneratorPlan, MeanOnly, build_generator
from inference.model_package import ModelPackage
from inference.preprocess import Photometry

__all__ = ["CudaBackend", "FrameNetwork"]

Image = np.ndarray[Any, np.dtype[Any]]
Batch = np.ndarray[Any, np.dtype[np.float32]]
Shape = tuple[int, int]

MOST_SHAPES = 4
"""Shapes whose graphs are kept; the one unused for longest is forgotten first."""
SENT_AS_THEY_ARE = (np.uint8, np.uint16, np.float32)
SLOTS = 2
"""Frames of a shape that are on the device at once."""
WARM_UPS = 3
"""Runs before a graph is captured, in which the libraries choose their kernels."""
log = logging.getLogger(__name__)


class FrameNetwork(nn.Module):
    """A generator with what happens before and after it: camera counts in, counts out.

    Parameters
    ----------
    generator
        (B, 1, H, W) to the same shape, both on the 0 to 255 scale.
    factor
        Of the upsampling.
    shape_yx, padded_yx
        Of the frame, and of what the network is fed.
    """

    def __init__(self, generator: nn.Module, factor: int, shape_yx: Shape, padded_yx: Shape) -> None:
        super().__init__()
        self.generator, self.factor = generator, factor
        self.enlarged = (factor * shape_yx[0], factor * shape_yx[1])
        self.padded_yx = padded_yx
        for axis, (length, whole) in enumerate(zip(self.enlarged, padded_yx, strict=True)):
            self.register_buffer(f"places_{axis}", _reflected(length, whole))

    def forward(self, counts: Tensor, light: Tensor) -> Tensor:
        """Enhance (Y, X) counts; `light` is what `light_of` says, (4,) float32."""
        above = (counts.to(torch.float32) - light[0]).clamp_min(0) * light[1]
        low = functional.interpolate(
            above[None, None], scale_factor=self.factor, mode="bilinear", align_corners=False
        )
        if self.enlarged != self.padded_yx:
            low = low[:, :, self.get_buffer("places_0")][:, :, :, self.get_buffer("places_1")]
        high: Tensor = self.generator(low.contiguous(memory_format=torch.channels_last))
        return high[0, 0, : self.enlarged[0], : self.enlarged[1]] * light[2] + light[3]


def light_of(photometry: Photometry, *, counts: bool) -> Tensor:
    """Return background, scale, and the factor and offset of the way back, to counts or not at all."""
    back = (photometry.flux_gain / photometry.scale, photometry.background) if counts else (1.0, 0.0)
    return torch.tensor([photometry.background, photometry.scale, *back], dtype=torch.float32)


def _reflected(length: int, whole: int) -> Tensor:
    """Return which pixel stands at each place of an axis continued by reflection, edge pixels repeated."""
    return torch.from_numpy(np.pad(np.arange(length), (0, whole - length), mode="symmetric"))


class _Slot:
    """Where one frame of a shape is on the device, and the graph that enhances it there."""

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor], first: Tensor, enlarged: Shape) -> None:
        self.sent = torch.empty_like(first, pin_memory=True)  # (Y, X) on the host
        self.sent_light = torch.empty(4, dtype=torch.float32, pin_memory=True)
        self.counts = torch.zeros_like(first, device="cuda")
        self.light = torch.ones(4, device="cuda")
        self.output = torch.empty(enlarged, dtype=torch.float32, device="cuda")
        self.graph = torch.cuda.CUDAGraph()
        self.free: torch.cuda.Event | None = None
        """Its last frame is down, so that the next may go up."""
        self._network = network

    def capture(self, pool: Any, stream: torch.cuda.Stream) -> None:  # noqa: ANN401 # torch names no type
        """Record what is replayed for every frame."""
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.output.copy_(self._network(self.counts, self.light))
        stream.synchronize()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self.output.copy_(self._network(self.counts, self.light))


class CudaBackend:
    """A generator on the GPU.

    Parameters
    ----------
    narrow
        Compute in bfloat16; float32 otherwise.
    compiled
        Let torch fuse the layers, which takes half a minute at the first frame of a shape.
    """

    under_way = SLOTS
    memory_factor = 2.0

    def __init__(self, package: ModelPackage, *, narrow: bool = True, compiled: bool) -> None:
        generator = build_generator(GeneratorPlan.model_validate(package.card.generator))
        generator.load_state_dict(load(package.safetensors))
        generator = fusible(generator) if compiled else generator
        dtype = torch.bfloat16 if narrow else torch.float32
        self._generator = MeanOnly(generator).eval().to("cuda", dtype)
        self._generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # stubs lack it
        self._compiled = compiled
        self.item_bytes = dtype.itemsize
        self._up, self._compute, self._down = (torch.cuda.Stream() for _ in range(3))  # type: ignore[no-untyped-call] # torch's stub
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._slots: OrderedDict[tuple[object, ...], list[_Slot]] = OrderedDict()
        kind = str(dtype).removeprefix("torch.")
        self.description = f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {kind}"

    def free_bytes(self) -> int:
        """Return how much of the card's memory is free."""
        return int(torch.cuda.mem_get_info()[0])

    @torch.inference_mode()
    def run(self, batch: Batch) -> Batch:
        """Turn (B, 1, H, W) float32 into the same shape."""
        low = torch.from_numpy(batch).cuda().contiguous(memory_format=torch.channels_last)
        result: Batch = self._generator(low).cpu().numpy()
        return result

    @torch.inference_mode()
    def begin(
        self,
        image: Image,
        photometry: Photometry,
        factor: int,
        padded_yx: Shape,
        *,
        counts: bool,
        out: Batch | None = None,
    ) -> Callable[[], Batch]:
        """Send a frame up and return how to wait for it; see `inference.backends.Backend`.

        The result lies in page-locked memory: whoever keeps many of them copies them.
        """
        if image.dtype not in SENT_AS_THEY_ARE:
            image = image.astype(np.float32)
        slot = self._free_slot(image, factor, padded_yx)
        slot.sent.numpy()[...] = image
        slot.sent_light.copy_(light_of(photometry, counts=counts))
        with torch.cuda.stream(self._up):
            slot.counts.copy_(slot.sent, non_blocking=True)
            slot.light.copy_(slot.sent_light, non_blocking=True)
        self._compute.wait_stream(self._up)
        with torch.cuda.stream(self._compute):
            slot.graph.replay()
        self._down.wait_stream(self._compute)
        received = torch.empty_like(slot.output, device="cpu", pin_memory=True)
        with torch.cuda.stream(self._down):
            received.copy_(slot.output, non_blocking=True)
            done = self._down.record_event(torch.cuda.Event(blocking=True))  # type: ignore[no-untyped-call] # as above
        slot.free = done

        def result() -> Batch:
            done.synchronize()
            array: Batch = received.numpy()
            return array

        return result

    @torch.inference_mode()
    def slots(self, image: Image, factor: int, padded_yx: Shape) -> list[_Slot]:
        """Return the slots of a frame's shape and type, captured at the first call."""
        key = (image.shape, image.dtype, factor, padded_yx)
        found = self._slots.pop(key, None)
        if found is None:
            if len(self._slots) >= MOST_SHAPES:
                torch.cuda.synchronize()  # nothing of what is forgotten is in use
                self._slots.popitem(last=False)
            found = self._captured(image, factor, padded_yx)
        self._slots[key] = found
        return found

    def _free_slot(self, image: Image, factor: int, padded_yx: Shape) -> _Slot:
        slots = self.slots(image, factor, padded_yx)
        slots.append(slots.pop(0))  # in turn
        if slots[-1].free is not None:
            slots[-1].free.synchronize()
        return slots[-1]

    def _captured(self, image: Image, factor: int, padded_yx: Shape) -> list[_Slot]:
        shape_yx = (image.shape[0], image.shape[1])
        network = FrameNetwork(self._generator, factor, shape_yx, padded_yx).cuda()
        first = torch.from_numpy(np.zeros(image.shape, image.dtype))
        if self._compiled:
            torch._dynamo.reset()  # noqa: SLF001 # it counts compilations of a layer, and gives up after eight
            try:
                return self._slots_of(torch.compile(network, dynamic=False), first, network.enlarged)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # no Triton, no C compiler, a layer that it cannot compile
                log.warning("the network runs layer by layer, since it cannot be compiled: %s", error)
                self._compiled = False
        return self._slots_of(network, first, network.enlarged)

    def _slots_of(
        self, network: Callable[[Tensor, Tensor], Tensor], first: Tensor, enlarged: Shape
    ) -> list[_Slot]:
        slots = [_Slot(network, first, enlarged) for _ in range(SLOTS)]
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, benchmark_limit=0):  # tries all
            for slot in slots:
                slot.capture(self._pool, self._compute)
        return slots

"""The engine: array in, enhanced array out. Knows no sockets, files or microscopes.

It checks the image, asks the guards (`inference.domain` may refuse, `inference.frame_guard` warns), prepares
it exactly as training did, runs the network on the whole image or on seam-free tiles, and brings the result
back to the input's counts. Where the network computes no numbers, the raw frame is shown, and it says so.
"""

import dataclasses
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.document import WrongInputError
from inference.backends import Backend, Device, open_backend
from inference.backends.host import padded
from inference.domain import ImageFacts, OutOfDomainError, estimate_photometry, out_of_domain_reasons
from inference.frame_guard import FrameGuard, SeenFrame, not_finite
from inference.memory_need import bytes_per_pixel, largest_image_px, tile_core_px
from inference.model_package import ModelPackage, read_package
from inference.preprocess import Photometry, normalise, prepare, restore, upsample
from inference.tiling import padded_length, plan_tiles

__all__ = ["Engine", "Enhanced", "OutOfDomainError", "load_engine"]

Image = np.ndarray[Any, np.dtype[Any]]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]

log = logging.getLogger(__name__)

STREAMED_PX = 256
"""Side of the middle of a frame that is looked at for warnings where frames stream through a GPU: it has
enhanced one before a processor has looked at all of it."""


@dataclass(frozen=True, slots=True)
class Enhanced:
    """An enhanced image with what must always go with it."""

    image: FloatImage
    """(factor * Y, factor * X) float32, in the input's counts."""
    pixel_size_um: float | None
    """Of this image; None where the input's is unknown."""
    model_name: str
    model_hash: str
    out_of_domain: tuple[str, ...]
    """Why the model should not have been applied; empty inside its domain."""
    photometry: Photometry
    """Give it to the next frame of the same stream, so that a time-lapse does not flicker."""
    warnings: tuple[str, ...] = ()
    """What no training frame was like, and where the image does not explain its frame."""
    shows_raw: bool = False
    """The network computed no numbers (NaN): the image is the raw frame, enlarged, and not enhanced."""


class Engine:
    """One model on one backend.

    Parameters
    ----------
    package
        The model.
    backend
        Where it runs.
    whole_image_limit_px
        Output pixels above which the image is tiled; by default as many as half of the free memory holds,
        since whole images are faster.
    guarded_px
        Side of the middle of a frame that is looked at for warnings; None looks at all of it.
    """

    def __init__(
        self,
        package: ModelPackage,
        backend: Backend,
        whole_image_limit_px: int | None = None,
        guarded_px: int | None = None,
    ) -> None:
        self.package = package
        self.backend = backend
        if whole_image_limit_px is None:
            free = round(backend.free_bytes() / backend.memory_factor)
            whole_image_limit_px = largest_image_px(package.card.generator, backend.item_bytes, free)
        self.whole_image_limit_px = whole_image_limit_px
        self._guard = FrameGuard(package.card, guarded_px)
        self._looking = ThreadPoolExecutor(1, "sharpscope-guard") if backend.under_way > 1 else None
        log.info(
            "%s on %s: images of up to %.1f megapixels (output) run whole, in %.1f GB; larger ones in tiles",
            self.name, backend.description, whole_image_limit_px / 1e6,
            self.memory_bytes(whole_image_limit_px) / 1e9,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The model's name."""
        return self.package.name

    @property
    def model_hash(self) -> str:
        """The model's SHA-256."""
        return self.package.model_hash

    @property
    def under_way(self) -> int:
        """How many images it works on at once."""
        return self.backend.under_way

    @property
    def factor(self) -> int:
        """Enlargement of the image."""
        return self.package.card.factor

    @property
    def channel(self) -> str:
        """The channel that the model was trained on."""
        return self.package.card.channel

    def memory_bytes(self, output_px: int) -> int:
        """Return the memory at the peak for an image of so many output pixels, or for a tile of it."""
        at_once = min(output_px, self.whole_image_limit_px)
        each = bytes_per_pixel(self.package.card.generator, self.backend.item_bytes)
        return round(at_once * each * self.backend.memory_factor)

    def enhance(
        self,
        image: Image,
        *,
        pixel_size_um: float | None = None,
        numerical_aperture: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
        photometry: Photometry | None = None,
    ) -> Enhanced:
        """Enhance one image.

        Parameters
        ----------
        image
            (Y, X) counts, any real dtype.
        pixel_size_um
            Of the image; None is unknown, which the guards take as a reason to refuse.
        numerical_aperture, channel
            Of the image; None is unknown, which is let pass.
        allow_out_of_domain
            Apply the model where it does not fit, and say so in the result.
        photometry
            That of the stream's first frame; None makes this frame the first.

        Raises
        ------
        OutOfDomainError
            When the model does not fit and `allow_out_of_domain` is false.
        WrongInputError
            When it is not a 2D image of finite numbers.
        """
        return self.begin(
            image,
            pixel_size_um=pixel_size_um,
            numerical_aperture=numerical_aperture,
            channel=channel,
            allow_out_of_domain=allow_out_of_domain,
            photometry=photometry,
        )()

    def begin(
        self,
        image: Image,
        *,
        pixel_size_um: float | None = None,
        numerical_aperture: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
        photometry: Photometry | None = None,
        out: FloatImage | None = None,
    ) -> Callable[[], Enhanced]:
        """Begin to enhance an image, and return how to wait for it; takes and raises what `enhance` does.

        A GPU works on while the caller begins the next; elsewhere the image is enhanced on return. The
        image's memory may change as soon as this returns. Where `out` is given, (factor * Y, factor * X)
        float32, the result is put there.
        """
        check_image(image)
        facts = ImageFacts(pixel_size_um, channel, numerical_aperture)
        reasons = out_of_domain_reasons(image, facts, self.package.card)
        if reasons and not allow_out_of_domain:
            raise OutOfDomainError(self.name, reasons)
        raw = image.copy()
        seen = self._look(raw)
        finish = (
            self._first_of_foreign(image, out)
            if photometry is None and reasons
            else self._in_light(image, photometry or self.package.card.photometry(), out)
        )
        return lambda: self._enhanced(raw, seen(), *finish(), pixel_size_um, reasons, out)

    def _look(self, raw: Image) -> Callable[[], SeenFrame]:
        """Look at a frame; where a device computes meanwhile, in a thread beside the one that feeds it."""
        if self._looking is None:
            seen = self._guard.look(raw)
            return lambda: seen
        return self._looking.submit(self._guard.look, raw).result

    def _in_light(
        self, image: Image, light: Photometry, out: FloatImage | None
    ) -> Callable[[], tuple[FloatImage, Photometry]]:
        """Begin with an image whose light is known."""
        finish = self._begin(image, light, counts=True, out=out)
        return lambda: (_put(finish(), out), light)

    def _first_of_foreign(
        self, image: Image, out: FloatImage | None
    ) -> Callable[[], tuple[FloatImage, Photometry]]:
        """Begin with the first image of a stream that is out of domain: its light is found from itself."""
        foreign = estimate_photometry(image, self.package.card)
        flux_in = float(normalise(image, foreign).mean(dtype=np.float64))
        finish = self._begin(image, foreign, counts=False)

        def result() -> tuple[FloatImage, Photometry]:
            output = finish()
            light = _conserve_flux(flux_in, output, foreign)
            return restore(output, light, out), light

        return result

    def _enhanced(
        self,
        raw: Image,
        seen: SeenFrame,
        image: FloatImage,
        light: Photometry,
        pixel_size_um: float | None,
        reasons: tuple[str, ...],
        out: FloatImage | None,
    ) -> Enhanced:
        bad = not_finite(image)
        if bad:
            shown = f"{bad} pixels of the network's output are not finite: this is the raw frame"
            image = _put(upsample(raw.astype(np.float32), self.factor), out)
            warnings = (shown, *seen.warnings)
        else:
            warnings = self._guard.judge(seen, image)
        return Enhanced(
            image=image,
            pixel_size_um=None if pixel_size_um is None else pixel_size_um / self.factor,
            model_name=self.name,
            model_hash=self.model_hash,
            out_of_domain=reasons,
            photometry=light,
            warnings=warnings,
            shows_raw=bad > 0,
        )

    def _begin(
        self, image: Image, light: Photometry, *, counts: bool, out: FloatImage | None = None
    ) -> Callable[[], FloatImage]:
        """Begin with the arithmetic: whole where the memory lets it, else in tiles."""
        padded_yx = self._padded_yx((self.factor * image.shape[0], self.factor * image.shape[1]))
        if padded_yx[0] * padded_yx[1] <= self.whole_image_limit_px:
            return self.backend.begin(image, light, self.factor, padded_yx, counts=counts, out=out)
        output = self.run_network(prepare(image, light, self.factor))
        result = restore(output, light, out) if counts else output
        return lambda: result

    def _padded_yx(self, shape_yx: tuple[int, int]) -> tuple[int, int]:
        """Return the shape that the network takes such an image in."""
        card = self.package.card
        height, width = (padded_length(length, card.step, card.minimum) for length in shape_yx)
        return height, width

    def run_network(self, prepared: FloatImage) -> FloatImage:
        """Run the network alone: (H, W) as `inference.preprocess.prepare` makes it, to (H, W) on its scale.

        The image is padded by reflection to the network's step, and the result cropped again.
        """
        height, width = prepared.shape
        whole = padded(prepared, self._padded_yx((height, width)))
        fits = whole.size <= self.whole_image_limit_px
        output = self._run_whole(whole) if fits else self._run_tiled(whole)
        return output[:height, :width]

    def _run_whole(self, low: FloatImage) -> FloatImage:
        result: FloatImage = self.backend.run(low[np.newaxis, np.newaxis])[0, 0]
        return result

    def _run_tiled(self, low: FloatImage) -> FloatImage:
        card = self.package.card
        shape_yx = (low.shape[0], low.shape[1])
        output = np.empty_like(low)
        core_px = tile_core_px(self.whole_image_limit_px, card.receptive_radius_px, card.step)
        for tile in plan_tiles(shape_yx, core_px, card.receptive_radius_px, card.step):
            output[tile.write] = self._run_whole(np.ascontiguousarray(low[tile.read]))[tile.keep]
        return output


def check_image(image: Image) -> None:
    """Raise WrongInputError unless this is a (Y, X) image of finite real numbers."""
    if image.ndim != 2 or 0 in image.shape:
        msg = f"an image of shape (Y, X) is needed, got shape {image.shape}; enhance stacks plane by plane"
        raise WrongInputError(msg)
    if image.dtype.kind not in "uif":
        msg = f"pixels of type {image.dtype} cannot be enhanced; convert them to an integer or float type"
        raise WrongInputError(msg)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(np.count_nonzero(~np.isfinite(image)))
        msg = f"{bad} pixels of the image are not finite (NaN or infinite); mask or replace them first"
        raise WrongInputError(msg)


def _put(image: FloatImage, out: FloatImage | None) -> FloatImage:
    """Return the image where it is wanted."""
    if out is None or image is out:
        return image
    out[...] = image
    return out


def _conserve_flux(flux_in: float, output: FloatImage, photometry: Photometry) -> Photometry:
    """Return the photometry with the gain that gives the output the input's flux.

    An objective spreads light, it does not make it: the mean above the background must stay. Inside the
    domain training has taught that; for a foreign image it is enforced.
    """
    flux_out = float(output.mean(dtype=np.float64))
    gain = flux_in / flux_out if flux_in > 0 and 0 < flux_out < np.inf else 1.0
    return dataclasses.replace(photometry, flux_gain=gain)


def load_engine(path: str | Path, device: Device = "auto", *, streaming: bool = False) -> Engine:
    """Load a model package onto the device that suits the machine.

    Parameters
    ----------
    streaming
        Thousands of frames of one shape will come: a GPU compiles the network for each shape, which takes
        half a minute and halves the time of every frame after it.

    Raises
    ------
    WrongInputError
        When the package or the device cannot be had.
    """
    package = read_package(Path(path))
    backend = open_backend(package, device, streaming=streaming)
    return Engine(package, backend, guarded_px=STREAMED_PX if streaming and backend.under_way > 1 else None)

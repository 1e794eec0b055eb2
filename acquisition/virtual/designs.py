"""The three stands: which objectives, channels and modalities each has, and the devices' `.cfg` behind it.

Owns the numbers of METHOD's three systems. Knows no positions and no imperfections of a single stand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from acquisition.virtual.cells import CHROMATIN, F_ACTIN, MICROTUBULES, EndothelialCells
from acquisition.virtual.nuclei import HISTONE, HistoneNuclei
from acquisition.virtual.optics import WideField
from acquisition.virtual.pits import CLATHRIN, ClathrinPits
from acquisition.virtual.rendering import Blur
from acquisition.virtual.scanning import Scanner
from acquisition.virtual.sensor import Sensor
from acquisition.virtual.specimen import PointSource
from configs.document import WrongInputError

__all__ = ["Channel", "Design", "ImagingState", "Modality", "Objective", "design_named"]


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective lens."""

    name: str
    magnification: float
    numerical_aperture: float
    refractive_index: float = 1.0
    """Of its immersion; 1 is dry."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A filter set with the stain it excites."""

    name: str
    stain: str
    excitation_nm: float
    emission_nm: float
    electrons_per_ms: float
    """Detected electrons per unit of fluorophore and ms, at an aperture of 1."""
    background_per_um2: float
    """Autofluorescence, in units of fluorophore."""


@dataclass(frozen=True, slots=True)
class Modality:
    """What a preset of the config group `Modality` does to light and detection."""

    name: str
    scanned: bool = False
    """Whether a focused beam scans the field and a pinhole detects."""
    pinhole_airy_units: float = 1.0
    saturation: float = 0.0
    """Of depletion (STED): crest intensity over the one that halves the fluorescence."""
    stripes: bool = False
    """Whether the light is striped, one of nine patterns after the other."""
    stripe_aperture: float = 0.0
    stripe_depth: float = 0.0
    light: float = 1.0
    """Excitation relative to the stand's other modality."""


Named = TypeVar("Named", Objective, Channel, Modality)


@dataclass(frozen=True, slots=True)
class ImagingState:
    """An objective and a modality: what METHOD calls low or high."""

    objective: str
    modality: str


@dataclass(frozen=True)
class Design:
    """What a kind of stand is."""

    name: str
    cfg: str
    """Bare name of the Micro-Manager configuration with its devices."""
    objectives: Mapping[str, Objective]
    channels: Mapping[str, Channel]
    modalities: Mapping[str, Modality]
    low: ImagingState
    high: ImagingState
    sensor: Sensor
    pitch_um: float
    """Of the specimen's grid: half the finest camera pixel."""
    specimen: Callable[[int], PointSource]
    """Makes the default specimen from a seed."""
    imperfections: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Those that this kind of stand has if nobody says otherwise."""
    exposure_ms: float = 100.0
    """With which the camera starts: one that shows something."""
    doses: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Light of one uniform exposure over that of one striped exposure, by the label of the wheel `Dose`."""

    def blur(
        self, objective: str, channel: str, modality: str, *, underfill: float, spherical_waves: float
    ) -> Blur:
        """Return how a plane of fluorophores is blurred."""
        lens, filters, mode = self.objectives[objective], self.channels[channel], self.modalities[modality]
        if not mode.scanned:
            return WideField(lens.numerical_aperture, filters.emission_nm, lens.refractive_index)
        return Scanner(
            numerical_aperture=lens.numerical_aperture,
            refractive_index=lens.refractive_index,
            excitation_nm=filters.excitation_nm,
            emission_nm=filters.emission_nm,
            pinhole_airy_units=mode.pinhole_airy_units,
            saturation=mode.saturation,
            underfill=underfill,
            spherical_waves=spherical_waves,
        )


def _named(*things: Named) -> Mapping[str, Named]:
    return MappingProxyType({thing.name: thing for thing in things})


WIDEFIELD = Design(
    name="widefield",
    cfg="demo.cfg",
    objectives=_named(Objective("10X", 10, 0.4), Objective("20X", 20, 0.75)),
    channels=_named(
        Channel("DAPI", CHROMATIN, 387.0, 447.0, electrons_per_ms=70.0, background_per_um2=0.05),
        Channel("FITC", MICROTUBULES, 485.0, 522.0, electrons_per_ms=9.0, background_per_um2=0.06),
        Channel("Texas Red", F_ACTIN, 560.0, 624.0, electrons_per_ms=18.0, background_per_um2=0.06),
    ),
    modalities=_named(Modality("Widefield")),
    low=ImagingState("10X", "Widefield"),
    high=ImagingState("20X", "Widefield"),
    sensor=Sensor(),
    pitch_um=0.1625,
    specimen=EndothelialCells,
)

CONFOCAL_STED = Design(
    name="confocal_sted",
    cfg="confocal_sted.cfg",
    objectives=_named(Objective("100X", 100, 1.4, refractive_index=1.518)),
    channels=_named(Channel("Crimson", HISTONE, 633.0, 645.0, electrons_per_ms=3.5, background_per_um2=0.3)),
    modalities=_named(
        Modality("Confocal", scanned=True), Modality("STED", scanned=True, saturation=4.75, light=5.0)
    ),
    low=ImagingState("100X", "Confocal"),
    high=ImagingState("100X", "STED"),
    sensor=Sensor(pixel_um=3.0, electrons_per_count=1.0, offset_counts=10.0, read_noise_electrons=0.0),
    pitch_um=0.015,
    specimen=HistoneNuclei,
    exposure_ms=1000.0,
    imperfections=MappingProxyType({"excitation_underfill": 1.64, "spherical_aberration_waves": 0.05}),
)

TIRF_SIM = Design(
    name="tirf_sim",
    cfg="tirf_sim.cfg",
    objectives=_named(Objective("100X", 100, 1.49, refractive_index=1.518)),
    channels=_named(Channel("GFP", CLATHRIN, 488.0, 525.0, electrons_per_ms=2.2, background_per_um2=2.0)),
    modalities=_named(
        Modality("TIRF"), Modality("SIM", stripes=True, stripe_aperture=1.35, stripe_depth=0.8)
    ),
    low=ImagingState("100X", "TIRF"),
    high=ImagingState("100X", "SIM"),
    sensor=Sensor(shape_yx=(512, 512), pixel_um=6.5),
    pitch_um=0.0325,
    specimen=ClathrinPits,
    exposure_ms=20.0,
    doses=MappingProxyType({"as one of nine": 1.0, "as three of nine": 3.0, "as nine of nine": 9.0}),
)

_DESIGNS = {design.name: design for design in (WIDEFIELD, CONFOCAL_STED, TIRF_SIM)}


def design_named(name: str) -> Design:
    """Return the design of a stand; raises WrongInputError that lists those there are."""
    if name not in _DESIGNS:
        raise WrongInputError(f"virtual microscope '{name}' does not exist; there is: {', '.join(_DESIGNS)}")
    return _DESIGNS[name]

"""The virtual microscope: a Micro-Manager core whose camera renders a specimen, and the truth behind it."""

from acquisition.virtual.beads import Beads, ScatteredBeads
from acquisition.virtual.build import faults_of, from_choice, load, stand_of, stand_time_s
from acquisition.virtual.cells import EndothelialCells
from acquisition.virtual.faults import Faults
from acquisition.virtual.imperfections import Imperfections
from acquisition.virtual.micrograph import Micrograph
from acquisition.virtual.nuclei import HistoneNuclei
from acquisition.virtual.pits import ClathrinPits
from acquisition.virtual.sensor import Sensor
from acquisition.virtual.stand import Frame, Stand

__all__ = [
    "Beads",
    "ClathrinPits",
    "EndothelialCells",
    "Faults",
    "Frame",
    "HistoneNuclei",
    "Imperfections",
    "Micrograph",
    "ScatteredBeads",
    "Sensor",
    "Stand",
    "faults_of",
    "from_choice",
    "load",
    "stand_of",
    "stand_time_s",
]

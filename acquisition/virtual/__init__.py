"""The virtual microscope: a Micro-Manager core whose camera renders a specimen, and the truth behind it."""

from acquisition.virtual.build import from_experiment, load, stand_of
from acquisition.virtual.imperfections import Imperfections
from acquisition.virtual.sensor import Sensor
from acquisition.virtual.specimen import Beads
from acquisition.virtual.stand import Stand

__all__ = ["Beads", "Imperfections", "Sensor", "Stand", "from_experiment", "load", "stand_of"]

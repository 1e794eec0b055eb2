"""A Dask cluster of real processes makes the same file as this process, also when a worker dies."""

import os
import signal

import numpy as np
import pytest
from test_volume_enhancement import hashes, picture, write_zarr

from configs.document import WrongInputError
from inference.bulk import enhance_on_cluster
from inference.chunk_work import InThisProcess
from inference.cluster import Cluster
from inference.engine import load_engine
from inference.model_package import read_package
from inference.volume_enhancement import enhance_volume

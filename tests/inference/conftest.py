"""Images in files as other programs write them, and what a file holds to the last byte."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts


@pytest.fixture(scope="session")
def picture() -> Callable:
    """Makes frames as bright as the training's."""
    return _picture


@pytest.fixture(scope="session")
def write_zarr() -> Callable:
    """Writes an OME-Zarr as another program would."""
    return _write_zarr


@pytest.fixture(scope="session")
def hashes() -> Callable:
    """Gives the hash of every file below a folder."""
    return _hashes


def _picture(shape, seed=0):
    """Frames as bright as the training's, with structure up to the border."""
    random = np.random.default_rng(seed)
    return random.poisson(100 + 4000 * random.random(shape) ** 8).astype(np.uint16)


def _write_zarr(path: Path, pixels, axes="yx", *, version="0.5", pixel_size_um=0.65, channels=None, chunk=50):
    """Write an OME-Zarr as another program would."""
    store = {"driver": "file", "path": f"{path / '0'}/"}
    chunks = [1] * (pixels.ndim - 2) + [chunk, chunk]
    if version == "0.5":
        grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
        metadata = {"shape": list(pixels.shape), "data_type": pixels.dtype.name, "chunk_grid": grid}
        spec = {"driver": "zarr3", "kvstore": store, "metadata": metadata}
    else:
        metadata = {"shape": list(pixels.shape), "dtype": pixels.dtype.str, "chunks": chunks}
        spec = {"driver": "zarr", "kvstore": store, "metadata": metadata}
    ts.open(spec, create=True).result().write(pixels).result()
    kind = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    spaced = [{"name": a, "type": kind[a], **({"unit": "micrometer"} if a in "zyx" else {})} for a in axes]
    scale = [{"type": "scale", "scale": [pixel_size_um if a in "yx" else 2.0 for a in axes]}]
    attributes = {
        "multiscales": [{"axes": spaced, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    }
    if channels:
        window = {"start": 0, "end": 1, "min": 0, "max": 1}
        attributes["omero"] = {
            "channels": [{"label": c, "color": "FFFFFF", "window": window} for c in channels]
        }
    if version == "0.5":
        document = {"zarr_format": 3, "node_type": "group"}
        document["attributes"] = {"ome": {"version": "0.5", **attributes}}
        (path / "zarr.json").write_text(json.dumps(document))
    else:
        attributes["multiscales"][0]["version"] = "0.4"
        (path / ".zattrs").write_text(json.dumps(attributes))
        (path / ".zgroup").write_text('{"zarr_format": 2}')
    return path


def _hashes(folder: Path):
    """Every byte of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

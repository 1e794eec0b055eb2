"""A Dask cluster of real processes makes the same file as this process, also when a worker dies."""

import os
import signal

import pytest

from configs.document import WrongInputError
from inference import cluster as cluster_module
from inference.bulk import enhance_on_cluster
from inference.chunk_work import InThisProcess
from inference.cluster import Cluster
from inference.engine import load_engine
from inference.model_package import read_package
from inference.volume_enhancement import enhance_volume

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")


def local_cluster(workers):
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
    )


@pytest.mark.slow
def test_two_processes_make_the_file_that_one_makes_also_when_a_worker_is_killed(
    model_zip, tmp_path, write_zarr, picture, hashes
):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((2, 300, 280)), "tyx")
    engine = load_engine(model_zip, "cpu")
    enhance_volume(engine.package, source, tmp_path / "here.ome.zarr", InThisProcess(engine), chunk_px=64)
    told = []

    def kill_a_worker(done, _total):
        told.append(done)
        if len(told) == 12:
            os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

    package = read_package(model_zip)
    with local_cluster(2) as cluster, Cluster(cluster.scheduler_address, model_zip, package, "cpu") as there:
        enhance_volume(
            package, source, tmp_path / "there.ome.zarr", there, chunk_px=64, progress=kill_a_worker
        )
    assert len(told) > 12
    assert hashes(tmp_path / "there.ome.zarr") == hashes(tmp_path / "here.ome.zarr")


@pytest.mark.slow
def test_what_this_process_began_a_cluster_goes_on_with(model_zip, tmp_path, write_zarr, picture, hashes):
    source = write_zarr(tmp_path / "in.ome.zarr", picture((700, 600)) * 50)  # far too bright
    engine = load_engine(model_zip, "cpu")
    foreign = {"allow_out_of_domain": True}
    enhance_volume(engine.package, source, tmp_path / "here.ome.zarr", InThisProcess(engine), **foreign)

    def stop(done, total):
        if done * 2 > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enhance_volume(
            engine.package, source, tmp_path / "out.ome.zarr", InThisProcess(engine), progress=stop, **foreign
        )
    with local_cluster(1) as cluster:
        result = enhance_on_cluster(
            cluster.scheduler_address, model_zip, "cpu", source, tmp_path / "out.ome.zarr", **foreign
        )
    assert "intensity" in result.out_of_domain[0]
    assert hashes(tmp_path / "out.ome.zarr") == hashes(tmp_path / "here.ome.zarr")


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_or_has_no_worker_is_one_clear_error(model_zip, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_TIMEOUT_S", 2)
    package = read_package(model_zip)
    with pytest.raises(WrongInputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        Cluster("tcp://127.0.0.1:9", model_zip, package, "cpu")
    with local_cluster(0) as cluster, pytest.raises(WrongInputError, match="has no worker"):
        Cluster(cluster.scheduler_address, model_zip, package, "cpu")


def test_a_cluster_writes_no_tiff(model_zip, tmp_path):
    with pytest.raises(WrongInputError, match=r"ends in \.ome\.zarr"):
        enhance_on_cluster("tcp://127.0.0.1:9", model_zip, "cpu", tmp_path / "in", tmp_path / "out.ome.tiff")

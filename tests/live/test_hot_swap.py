"""Models that are replaced while frames come."""

import queue
import shutil
import threading

import numpy as np
import pytest

from inference.client import EnhancedFrame, WorkerClient
from inference.engine import load_engine
from inference.model_watch import ModelWatch
from inference.preprocess import Photometry


class Multiplying:
    """Multiplies by a number, and is named by it."""

    factor, channel, under_way = 1, None, 1

    def __init__(self, number):
        self.number = number
        self.name, self.model_hash = f"times {number}", f"{number:064x}"

    def begin(self, image, *, photometry, out=None, **_facts):
        result = np.asarray(image * np.float32(self.number), np.float32)

        class Multiplied:
            image, pixel_size_um, out_of_domain = result, None, ()
            warnings, shows_raw = (), False

        Multiplied.photometry = photometry or Photometry(float(self.number), 1.0)
        return Multiplied


@pytest.mark.parametrize("delivery", ["record", "preview"])
def test_a_model_is_swapped_under_load_without_losing_a_frame(run_worker, wait_for, delivery):
    two, three = Multiplying(2), Multiplying(3)
    worker = run_worker(two)
    outcomes = queue.SimpleQueue()
    with WorkerClient(worker.address, outcomes.put) as client:
        assert client.wait_ready(30)
        for k in range(400):
            if k == 200:
                threading.Thread(target=worker.swap, args=(two, three)).start()
            client.submit(np.full((8, 8), k, np.uint16), delivery=delivery, timeout_s=30)
        wait_for(lambda: client.status().models[0].model_hash == three.model_hash)
        client.submit(np.full((8, 8), 400, np.uint16), delivery=delivery, timeout_s=30)
        assert client.drain(30)
        ends = [outcomes.get(timeout=1) for _ in range(401)]
    enhanced = {end.source.sequence: end for end in ends if isinstance(end, EnhancedFrame)}
    assert len({end.source.sequence for end in ends}) == 401
    assert delivery == "preview" or len(enhanced) == 401
    for k, end in enhanced.items():
        number = int(end.model_name.split()[-1])
        assert int(end.model_hash, 16) == number
        assert (end.image == k * number).all()
        assert end.photometry.background == number, "a stream's light is not carried to another model"
    numbers = [enhanced[k].model_name for k in sorted(enhanced)]
    assert numbers == sorted(numbers), "once swapped, the old one is not asked again"
    assert numbers[-1] == "times 3"


def test_a_package_replaced_on_disk_is_served_and_a_broken_one_is_not(
    model_zip, other_model_zip, tmp_path, caplog
):
    path = tmp_path / "model.zip"
    shutil.copy(model_zip, path)
    swaps = queue.SimpleQueue()
    with ModelWatch([path], lambda p: load_engine(p, "cpu"), interval_s=0.01) as watch:
        (engine,) = watch.engines
        watch.start(lambda old, new: swaps.put((old, new)))
        broken = tmp_path / "broken.zip"
        broken.write_bytes(b"no zip")
        broken.replace(path)
        while "cannot be loaded" not in caplog.text:
            threading.Event().wait(0.01)
        whole = tmp_path / "whole.zip"
        shutil.copy(other_model_zip, whole)
        whole.replace(path)
        old, new = swaps.get(timeout=60)
    assert old is engine
    assert new.model_hash == load_engine(other_model_zip, "cpu").model_hash != old.model_hash
    assert swaps.empty()

"""A running worker as a source of the viewer."""

import numpy as np
import pytest

from inference.client import WorkerClient
from inference.worker_source import WorkerSource


@pytest.fixture
def source(run_worker, gated_engine, wait_for):
    gated_engine.open()
    with WorkerSource(run_worker(gated_engine).address) as opened:
        wait_for(lambda: opened.status().state == "running")
        yield opened


def test_the_newest_frame_of_each_channel_is_shown_raw_and_enhanced(source, numbered, wait_for):
    changes = []
    unsubscribe = source.subscribe(lambda: changes.append(None))
    with WorkerClient(source.status().worker) as client:
        for number, channel in enumerate(["FITC", "DAPI", "FITC"]):
            client.submit(numbered(number), channel=channel, pixel_size_um=0.5)
            client.drain()
            wait_for(lambda name=channel, n=number: (s := source.newest(name)) and s.number == n)
        session = client.session
    assert changes
    unsubscribe()
    assert [(s.name, s.length, s.kept) for s in source.series()] == [("FITC", 2, False), ("DAPI", 1, False)]
    shown = source.newest("FITC")
    assert (shown.number, shown.index, shown.session, shown.reason) == (2, 1, session, None)
    np.testing.assert_array_equal(shown.raw.pixels, numbered(2))
    assert shown.enhanced.pixels.shape == (48, 64)
    assert (shown.raw.pixel_size_um, shown.enhanced.pixel_size_um) == (0.5, 0.25)
    assert (shown.model_name, len(shown.model_hash)) == ("nearest", 64)
    assert source.at("FITC", 1) is shown
    status = source.status()
    assert (status.frames_in, status.enhanced, status.failed) == (3, 3, 0)


def test_a_failed_frame_is_shown_raw_with_the_reason(source, wait_for):
    with WorkerClient(source.status().worker) as client:
        client.submit(np.full((8, 9), 13, np.uint16))
        wait_for(lambda: source.newest("image"))
    shown = source.newest("image")
    assert shown.enhanced is None
    assert shown.reason.startswith("failed: ")
    assert "unlucky" in shown.reason


def test_frames_that_have_passed_are_not_kept(source):
    with pytest.raises(IndexError, match="a worker records nothing"):
        source.at("FITC", 0)

"""The thread that writes: what it says of frames that the disk refuses."""

import logging

from inference.writing_lane import WritingLane


def test_a_full_disk_is_said_once_and_counted(caplog):
    told = []

    def full():
        raise OSError(28, "No space left on device")

    lane = WritingLane("lane", depth=4)
    with caplog.at_level(logging.ERROR):
        for frame in range(40):
            full_now = 5 <= frame < 25 or frame >= 35
            lane.put(
                frame, full if full_now else lambda: None, lambda number, why: told.append((number, why))
            )
        lane.finish()
    lost = [number for number, why in told if why is not None]
    assert [number for number, _ in told] == list(range(40))
    assert lost == [*range(5, 25), *range(35, 40)]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert said[0].startswith("frame 5 is not on the disk: OSError")
    assert said[1].startswith("20 frames in a row")
    assert said[3] == "the last 5 frames are not on the disk"

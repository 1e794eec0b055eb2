"""The engine thread with an engine that works on two frames at once, as a GPU does."""

import dataclasses
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from inference.engine_thread import EngineThread
from inference.messages import Delivery, Enhanced, Failed, FailureCode, Frame
from inference.preprocess import Photometry
from inference.waiting import Job, WaitingRoom


@dataclass(frozen=True)
class Result:
    image: np.ndarray
    photometry: Photometry
    pixel_size_um: float | None = None
    out_of_domain: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    shows_raw: bool = False


class TwoAtOnce:
    """Counts the frames that are under way; fails where the first pixel is 13."""

    name, model_hash, factor, channel, under_way = "two", "ab" * 32, 1, None, 2

    def __init__(self) -> None:
        self.most = 0
        self._open = 0

    def begin(self, image, *, photometry, **facts):
        level = int(image[0, 0])
        self._open += 1
        self.most = max(self.most, self._open)

        def wait():
            self._open -= 1
            if level == 13:
                raise RuntimeError("unlucky")
            return Result(image.astype(np.float32), photometry or Photometry(float(level), 1.0))

        return wait


def job(session, sequence, level):
    image = np.full((4, 4), level, np.uint16)
    frame = Frame(
        session=session, sequence=sequence, shape_yx=image.shape, dtype="uint16", pixel_size_um=None,
        channel=None, captured_ns=0, sent_ns=0, delivery=Delivery.RECORD, allow_out_of_domain=True,
        model=None, photometry=None,
    )  # fmt: skip
    return Job(b"one client", frame, image, 0)


@pytest.fixture
def run():
    """Put all frames into the room, work through them, and return the engine and the answers."""

    def work(jobs):
        engine, room, answers = TwoAtOnce(), WaitingRoom(100), []
        done = threading.Event()

        def post(answered, header, image):
            answers.append((answered, header, image))
            if len(answers) == len(jobs):
                done.set()

        for one in jobs:
            room.add(one)
        thread = EngineThread([engine], room, post)
        thread.start()
        assert done.wait(20)
        room.close()
        thread.join(20)
        assert not thread.is_alive()
        assert thread.busy_s() == 0
        return engine, answers

    return work


def test_two_frames_are_under_way_and_answered_in_order(run):
    engine, answers = run([job("aa", number, 100 + number) for number in range(8)])
    assert engine.most == 2
    assert [answered.frame.sequence for answered, _, _ in answers] == list(range(8))
    assert all(isinstance(header, Enhanced) for _, header, _ in answers)


def test_a_frame_that_fails_keeps_its_place(run):
    _, answers = run([job("aa", number, 13 if number == 3 else 50) for number in range(6)])
    assert [type(header) for _, header, _ in answers] == [Enhanced] * 3 + [Failed] + [Enhanced] * 2


def test_the_first_frame_of_every_stream_decides_its_light_though_another_is_under_way(run):
    jobs = [
        job(session, number, 100 * (1 + ord(session[0]) - ord("a")) + number)
        for session in ("aa", "bb", "cc")
        for number in range(5)
    ]
    _, answers = run(jobs)
    lights = {}
    for answered, header, _ in answers:
        lights.setdefault(answered.frame.session, set()).add(header.photometry.background)
    assert lights == {"aa": {100.0}, "bb": {200.0}, "cc": {300.0}}


def test_a_frame_whose_deadline_passed_as_the_engine_took_it_is_not_begun(run):
    late = job("a", 1, 7)
    late = dataclasses.replace(
        late, frame=late.frame.model_copy(update={"deadline_ms": 1.0})
    )  # received at 0
    engine, answers = run([job("a", 0, 7), late])
    assert [header.sequence for _, header, _ in answers] == [0, 1]
    assert answers[1][1].code is FailureCode.DEADLINE
    assert engine.most == 1

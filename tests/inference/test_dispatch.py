"""The bookkeeping of a fleet: which worker gets which frame, in what light, and in what order it is told."""

from dataclasses import replace

import numpy as np
import pytest

from inference.dispatch import Dispatch
from inference.frame_memory import Held
from inference.ledger import Pending
from inference.messages import Delivery, Frame, ModelInfo, StreamPhotometry
from inference.ordering import Ordering
from inference.outcomes import DroppedFrame, EnhancedFrame, FailedFrame, FrameId
from inference.pace import Pace

LIVE = ModelInfo(name="live", model_hash="aa", factor=2, channel=None)
OTHER = ModelInfo(name="other", model_hash="bb", factor=2, channel=None)
IMAGE = np.zeros((2, 2), np.uint16)


def frame(number, channel="FITC", delivery="record", photometry=None):
    header = Frame(
        session="s",
        sequence=number,
        shape_yx=(2, 2),
        dtype="uint16",
        channel=channel,
        captured_ns=0,
        sent_ns=0,
        delivery=Delivery(delivery),
        photometry=photometry,
    )
    return Pending(header, Held(IMAGE))


def light(background, model_hash="aa"):
    return StreamPhotometry(model_hash=model_hash, background=background, scale=1.0)


def enhanced(number, photometry=None):
    return EnhancedFrame(
        source=FrameId("s", number),
        image=IMAGE,
        pixel_size_um=None,
        channel="FITC",
        model_name="live",
        model_hash="aa",
        out_of_domain=(),
        photometry=photometry or light(100.0 + number),
        latency_ms=1.0,
        engine_ms=1.0,
    )


def failed(number):
    return FailedFrame(FrameId("s", number), "unlucky")


@pytest.fixture
def dispatch():
    """Two workers with the same model and a credit of 2."""
    dispatch = Dispatch(preview_credit=1)
    for address in ("a", "b"):
        dispatch.join(address)
        dispatch.ready(address, (LIVE,), 2)
    return dispatch


def given(dispatch, now_s=0.0):
    """Hand out all that can be, as (address, number, background of the light it is stamped with)."""
    out = []
    while (assignment := dispatch.next(now_s)) is not None:
        header = assignment.pending.frame
        known = header.photometry
        out.append((assignment.address, header.sequence, known and known.background))
    return out


def test_the_first_frame_of_a_stream_goes_alone_and_lends_its_light_to_all_others(dispatch):
    for number in range(4):
        dispatch.add(frame(number))
    ((address, number, stamped),) = given(dispatch)
    assert (number, stamped) == (0, None)
    assert dispatch.answered(address, enhanced(0), 1.0)
    others = given(dispatch, 1.0)
    assert [(number, stamped) for _, number, stamped in others] == [(1, 100.0), (2, 100.0), (3, 100.0)]
    assert {address for address, _, _ in others} == {"a", "b"}


def test_streams_wait_for_their_own_first_frame_only(dispatch):
    for number, channel in enumerate(["FITC", "FITC", "Cy5", "Cy5"]):
        dispatch.add(frame(number, channel))
    assert [number for _, number, _ in given(dispatch)] == [0, 2]


def test_a_first_frame_that_fails_leaves_the_light_to_the_next(dispatch):
    dispatch.add(frame(0))
    dispatch.add(frame(1))
    ((address, _, _),) = given(dispatch)
    dispatch.answered(address, failed(0), 1.0)
    assert [(number, stamped) for _, number, stamped in given(dispatch)] == [(1, None)]


def test_a_first_frame_whose_worker_is_lost_decides_all_the_same(dispatch):
    dispatch.add(frame(0))
    dispatch.add(frame(1))
    ((address, _, _),) = given(dispatch)
    dispatch.lost(address)
    ((other, number, stamped),) = given(dispatch)
    assert (other != address, number, stamped) == (True, 0, None)


def test_a_light_that_is_known_from_before_holds_from_the_first_frame_on(dispatch):
    for number in range(3):
        dispatch.add(frame(number, photometry=light(7.0)))
    assert [stamped for _, _, stamped in given(dispatch)] == [7.0] * 3


def start_stream(dispatch):
    """Let frame 0 decide, so that others may go out."""
    dispatch.add(frame(0))
    ((address, _, _),) = given(dispatch)
    dispatch.answered(address, enhanced(0), 0.0)


def test_what_a_lost_worker_had_goes_to_the_others_before_what_came_later(dispatch):
    start_stream(dispatch)
    for number in range(1, 7):
        dispatch.add(frame(number))
    had = [number for address, number, _ in given(dispatch) if address == "a"]
    dispatch.lost("a")
    for number in (1, 2, 3, 4):
        dispatch.answered("b", enhanced(number), 1.0)
    assert [number for _, number, _ in given(dispatch, 1.0)] == had
    assert dispatch.unanswered() == (*had, 5, 6)


def test_an_answer_that_comes_twice_or_from_who_has_lost_the_frame_does_not_count(dispatch):
    dispatch.add(frame(0))
    ((address, _, _),) = given(dispatch)
    dispatch.lost(address)
    ((other, _, _),) = given(dispatch)
    assert not dispatch.answered(address, enhanced(0), 1.0)
    assert dispatch.answered(other, enhanced(0), 1.0)
    assert not dispatch.answered(other, enhanced(0), 1.0)


def test_no_worker_gets_more_than_its_credit(dispatch):
    start_stream(dispatch)
    for number in range(1, 10):
        dispatch.add(frame(number))
    assert sorted(address for address, _, _ in given(dispatch)) == ["a", "a", "b", "b"]


def test_a_frame_waits_for_a_fast_worker_rather_than_go_to_one_that_takes_longer(dispatch):
    clock_s = {"a": 0.0, "b": 0.0}
    took_s = {"a": 0.01, "b": 1.0}
    for number in range(0, 12, 2):  # both are measured
        for each in (number, number + 1):
            dispatch.add(frame(each, photometry=light(7.0)))
        for address, sequence, _ in given(dispatch, max(clock_s.values())):
            clock_s[address] = max(clock_s.values()) + took_s[address]
            dispatch.answered(address, enhanced(sequence), clock_s[address])
    for number in range(20, 26):
        dispatch.add(frame(number, photometry=light(7.0)))
    assert [address for address, _, _ in given(dispatch, max(clock_s.values()))] == ["a", "a"]


def test_a_stream_stays_with_its_model_as_long_as_a_worker_has_it(dispatch):
    dispatch.ready("b", (OTHER,), 2)
    dispatch.lost("b")
    start_stream(dispatch)
    dispatch.ready("b", (OTHER,), 2)
    for number in range(1, 4):
        dispatch.add(frame(number))
    assert [address for address, _, _ in given(dispatch)] == ["a", "a"]
    dispatch.lost("a")
    assert [(address, stamped) for address, _, stamped in given(dispatch)] == [("b", None)]


def test_a_model_that_was_exchanged_gets_a_light_of_its_own_for_all_workers(dispatch):
    start_stream(dispatch)
    for number in range(1, 5):
        dispatch.add(frame(number))
    for address, number, _ in given(dispatch):
        dispatch.answered(address, enhanced(number, light(number, "bb")), 1.0)
    dispatch.add(frame(5))
    assert [stamped for _, _, stamped in given(dispatch, 1.0)] == [1.0]


def test_of_waiting_preview_frames_the_newest_is_kept(dispatch):
    dispatch.add(frame(0, delivery="preview"))
    given(dispatch)
    assert dispatch.add(frame(1, delivery="preview")) is None
    assert dispatch.add(frame(2, delivery="preview")).frame.sequence == 1
    assert dispatch.unanswered() == (0, 2)


def test_a_preview_frame_that_comes_back_gives_way_to_a_newer_one(dispatch):
    dispatch.add(frame(0, delivery="preview"))
    ((address, _, _),) = given(dispatch)
    dispatch.add(frame(1, delivery="preview"))
    ((pending, newer),) = dispatch.lost(address)
    assert (pending.frame.sequence, newer) == (0, 1)
    assert dispatch.unanswered() == (1,)


def test_outcomes_are_told_in_the_order_of_their_stream_and_streams_do_not_wait_for_each_other():
    ordering = Ordering()
    for number in range(6):
        ordering.add("even" if number % 2 == 0 else "odd", number)
    told = [[o.source.sequence for o in ordering.end(failed(n))] for n in (2, 3, 4, 1, 0, 5)]
    assert told == [[], [], [], [1, 3], [0, 2, 4], [5]]
    assert len(ordering) == 0


def test_every_kind_of_outcome_keeps_its_place():
    ordering = Ordering()
    for number in range(3):
        ordering.add("s", number)
    ordering.end(DroppedFrame(FrameId("s", 2), 3))
    ordering.end(enhanced(1))
    assert [type(o) for o in ordering.end(failed(0))] == [FailedFrame, EnhancedFrame, DroppedFrame]


def test_the_pace_forgets_one_slow_frame_and_the_first():
    pace = Pace()
    now_s = 0.0
    for took_s in (30.0, 1.0, 1.0, 50.0, 1.0, 1.0):
        pace.sent(now_s)
        now_s += took_s
        pace.answered(now_s)
    assert pace.frame_s() == pytest.approx(1.0)


def test_a_worker_that_is_overdue_is_expected_later_the_longer_it_is_silent():
    pace = Pace()
    for now_s in (0.0, 1.0, 2.0):
        pace.sent(now_s)
        pace.answered(now_s + 1.0)
    pace.sent(3.0)
    assert pace.expected_s(3.5, 1.0) == pytest.approx(2.0)
    assert pace.expected_s(13.0, 1.0) == pytest.approx(2.0 + 9.0)


def test_a_frame_is_taken_on_once(dispatch):
    dispatch.add(frame(0))
    with pytest.raises(ValueError, match="unanswered"):
        dispatch.add(replace(frame(0)))


def test_a_frame_that_two_dead_workers_had_alone_is_given_up_and_the_others_are_not(dispatch):
    for address in ("a", "b"):
        dispatch.ready(address, (LIVE,), 2, worker=f"{address}0")
    lit = light(100.0)
    for number in range(4):
        dispatch.add(frame(number, photometry=lit))
    culprit, deaths = None, 0
    while culprit is None:
        had = {number: address for address, number, _ in given(dispatch)}
        doomed = had[0]
        for number, address in had.items():
            if address != doomed:
                assert dispatch.answered(address, enhanced(number, lit), 0.0)
        dispatch.lost(doomed)
        deaths += 1
        culprit = dispatch.ready(doomed, (LIVE,), 2, worker=f"{doomed}{deaths}")
    assert culprit.frame.sequence == 0
    assert deaths <= 3
    for address, number, _ in given(dispatch):
        assert dispatch.answered(address, enhanced(number, lit), 0.0)
    while left := given(dispatch):
        for address, number, _ in left:
            assert dispatch.answered(address, enhanced(number, lit), 0.0)
    assert dispatch.unanswered() == ()


def test_a_network_that_comes_and_goes_blames_nobody(dispatch):
    dispatch.ready("a", (LIVE,), 2, worker="same")
    dispatch.leave("b")
    dispatch.add(frame(0, photometry=light(100.0)))
    for _ in range(5):
        assert given(dispatch)
        dispatch.lost("a")
        assert dispatch.ready("a", (LIVE,), 2, worker="same") is None
    assert dispatch.unanswered() == (0,)


def test_a_worker_that_fails_quickly_is_not_thought_fast():
    pace = Pace()
    for now_s in (0.0, 10.0, 20.0):
        pace.sent(now_s)
        pace.answered(now_s + 1.0)
    for now_s in (30.0, 30.1):
        pace.sent(now_s)
        pace.answered(now_s + 0.001, enhanced=False)
    assert pace.frame_s() == 1.0

"""The client's ledger finds out which frame kills workers."""

import numpy as np

from inference.ledger import Ledger, Pending
from inference.messages import Delivery, Frame

CREDIT = 4


def ledger_of(count):
    ledger = Ledger()
    for sequence in range(count):
        frame = Frame(
            session="s", sequence=sequence, shape_yx=(1, 1), dtype="uint8", captured_ns=0, sent_ns=0,
            delivery=Delivery.RECORD,
        )  # fmt: skip
        ledger.add(Pending(frame, np.zeros((1, 1), np.uint8)))
    return ledger


def send(ledger):
    sent = []
    while (pending := ledger.next_to_send(CREDIT, 1)) is not None:
        sent.append(pending.frame.sequence)
    return sent


def test_after_a_death_what_the_worker_had_goes_out_one_by_one_and_the_rest_together():
    ledger = ledger_of(8)
    assert send(ledger) == [0, 1, 2, 3]
    ledger.worker_lost()
    assert ledger.blame(dead=True) is None
    for sequence in range(4):
        assert send(ledger) == [sequence]
        ledger.settle(sequence)
    assert send(ledger) == [4, 5, 6, 7]


def test_the_frame_that_was_alone_with_two_dead_workers_is_taken_out():
    ledger = ledger_of(6)
    send(ledger)
    ledger.worker_lost()
    ledger.blame(dead=True)
    send(ledger)
    ledger.settle(0)
    for death in range(2):
        assert send(ledger) == [1]
        ledger.worker_lost()
        culprit = ledger.blame(dead=True)
        assert (culprit is None) == (death == 0)
    assert culprit.frame.sequence == 1
    assert ledger.unanswered() == (2, 3, 4, 5)
    assert send(ledger) == [2, 3, 4, 5]


def test_a_worker_that_was_only_out_of_reach_blames_no_frame():
    ledger = ledger_of(1)
    for _ in range(5):
        assert send(ledger) == [0]
        ledger.worker_lost()
        assert ledger.blame(dead=False) is None
    assert ledger.unanswered() == (0,)

"""A journal is read on while somebody writes it."""

import json

from inference.journal_follower import JournalFollower


def test_a_torn_line_is_told_when_it_is_whole(tmp_path):
    journal = tmp_path / "journal.jsonl"
    follower = JournalFollower(journal)
    assert follower.news().lines == []
    line = json.dumps({"kind": "lost", "frame": 4, "reason": "é" * 40}).encode() + b"\n"
    journal.write_bytes(line + line[:-8])
    assert [line["frame"] for line in follower.news().lines] == [4]
    assert follower.news().lines == []
    with journal.open("ab") as stream:
        stream.write(line[-8:])
    assert [line["frame"] for line in follower.news().lines] == [4]


def test_a_line_that_the_writer_took_back_is_void(tmp_path):
    """The disk refused the fsync after a reader had seen the line."""
    journal = tmp_path / "journal.jsonl"
    first, taken_back, longer = (
        json.dumps({"kind": "lost", "frame": frame, "reason": "r" * size}).encode() + b"\n"
        for frame, size in ((0, 3), (1, 3), (2, 90))
    )
    follower = JournalFollower(journal)
    journal.write_bytes(first + taken_back)
    assert [line["frame"] for line in follower.news().lines] == [0, 1]
    journal.write_bytes(first + longer)
    news = follower.news()
    assert news.from_start
    assert [line["frame"] for line in news.lines] == [0, 2]

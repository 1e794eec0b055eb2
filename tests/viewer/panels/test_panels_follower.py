"""A journal that somebody else writes is followed: whole lines once, and anew when it is another."""

import json

import pytest

from inference.journal_follower import JournalFollower


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal.jsonl"


def append(path, *lines):
    with path.open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_journal_that_is_not_there_yet_has_no_lines(journal):
    follower = JournalFollower(journal)
    assert follower.news().lines == []
    append(journal, {"a": 1})
    news = follower.news()
    assert (news.lines, news.from_start) == ([{"a": 1}], False)


def test_each_line_is_told_once(journal):
    follower, told = JournalFollower(journal), []
    for number in range(5):
        append(journal, {"number": number})
        told += follower.news().lines
        assert follower.news().lines == []
    assert told == [{"number": number} for number in range(5)]


def test_a_torn_line_is_told_when_it_is_whole(journal):
    follower = JournalFollower(journal)
    append(journal, {"a": 1})
    with journal.open("a") as stream:
        stream.write('{"b": ')
    assert follower.news().lines == [{"a": 1}]
    mark = follower.mark
    assert follower.news().lines == []
    assert follower.mark == mark
    with journal.open("a") as stream:
        stream.write("2}\n")
    assert follower.news().lines == [{"b": 2}]
    assert follower.mark != mark


def test_a_journal_that_was_cut_and_has_grown_longer_is_read_from_its_start(journal):
    append(journal, {"iteration": 1}, {"iteration": 2})
    follower = JournalFollower(journal)
    follower.news()
    journal.write_text("")
    append(journal, {"iteration": 1}, {"iteration": 22}, {"iteration": 33})
    news = follower.news()
    assert news.from_start
    assert news.lines == [{"iteration": 1}, {"iteration": 22}, {"iteration": 33}]


def test_a_journal_that_was_removed_has_no_lines_any_more(journal):
    append(journal, {"a": 1})
    follower = JournalFollower(journal)
    follower.news()
    journal.unlink()
    news = follower.news()
    assert (news.lines, news.from_start) == ([], True)


def test_lines_that_are_no_json_object_are_counted_and_left_out(journal):
    journal.write_bytes(b'{"a": 1}\n\xff\xfe\x00 damaged\n[1, 2]\n\n{"b": 2}\n')
    follower = JournalFollower(journal)
    assert follower.news().lines == [{"a": 1}, {"b": 2}]
    assert follower.unreadable == 2

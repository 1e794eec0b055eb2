import pytest

from inference.journal import Journal, atomic_path, read_journal


def test_a_torn_last_line_does_not_exist_and_is_cut_off_before_the_next(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"n": 1})
    with path.open("ab") as stream:
        stream.write(b'{"n": 2')
    assert read_journal(path) == [{"n": 1}]
    with Journal(path) as journal:
        journal.append({"n": 3})
    assert read_journal(path) == [{"n": 1}, {"n": 3}]


def write_half(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result"]

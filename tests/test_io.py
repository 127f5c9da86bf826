"""Files that are whole or not there, through the errors of a disk."""

import errno
import os

import pytest

from skhash._io import replaced_file


def write(path, content, error=None):
    with replaced_file(path) as beside:
        beside.write_bytes(content)
        if error is not None:
            raise error


def test_the_new_file_is_in_place_of_the_old_one(tmp_path):
    file = tmp_path / "codes"
    for content in (b"old", b"new and longer", b""):
        write(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]
    write(str(file), b"by name")
    assert file.read_bytes() == b"by name"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False])
def test_a_write_that_fails_leaves_what_there_was(there, error, tmp_path):
    file = tmp_path / "codes"
    if there:
        write(file, b"old")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(type(error)):
        write(file, b"half", error)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_at_the_flush_leaves_what_there_was(tmp_path, monkeypatch):
    # A disk may report only when it is flushed that it is full.
    write(tmp_path / "codes", b"old")

    def fail(_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "codes", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_two_writers_do_not_meet(tmp_path):
    file = tmp_path / "codes"
    with replaced_file(file) as one, replaced_file(file) as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [file]


def test_error_on_a_missing_folder_names_it_before_the_work(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replaced_file(tmp_path / "no" / "codes"):
        pytest.fail("the block was entered")
    assert caught.value.filename == str(tmp_path / "no")

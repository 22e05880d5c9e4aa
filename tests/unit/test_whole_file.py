"""A file is there whole, or as it was before."""

import errno
import os
from pathlib import Path

import pytest

from scripts.command.whole_file import write_whole, written_whole


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    write_whole(tmp_path / "a", b"new")

    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def write_half(path: Path, error: BaseException) -> None:
    with written_whole(path) as file:
        file.write_bytes(b"ne")
        raise error


def test_a_full_disk_keeps_the_old_file_and_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    with pytest.raises(OSError, match=r"No space left on device: '.*/a'") as raised:
        write_half(tmp_path / "a", OSError(errno.ENOSPC, "No space left on device"))

    assert raised.value.errno == errno.ENOSPC
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'b'"):
        write_half(tmp_path / "a", FileNotFoundError(errno.ENOENT, "No such file or directory", "b"))


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "a", KeyboardInterrupt())

    assert os.listdir(tmp_path) == []

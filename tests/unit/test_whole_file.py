"""A file is there whole, or as it was before."""

import errno
import os
from pathlib import Path

import pytest

from scripts.command.whole_file import leaves, write_whole, written_whole


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


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_secret_can_be_read_by_the_user_alone(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    (tmp_path / ".a.partial").write_bytes(b"of a program that was killed")

    write_whole(tmp_path / "a", b"secret", is_secret=True)
    write_whole(tmp_path / "b", b"open")

    assert (mode_of(tmp_path / "a"), (tmp_path / "a").read_bytes()) == (0o600, b"secret")
    assert mode_of(tmp_path / "b") == mode_of(tmp_path / "usual")


def test_a_secret_is_not_written_into_what_another_has_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".a.partial").touch()
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # as if it came between

    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a", b"secret", is_secret=True)

    assert (tmp_path / ".a.partial").read_bytes() == b""


@pytest.mark.parametrize(
    ("path", "is_outside"),
    [
        ("a/b", False),
        ("a/..b", False),
        ("./a", False),
        ("../a", True),
        ("a/../../b", True),
        ("a/..", True),
        ("/a", True),
        ("a\0b", True),
    ],
)
def test_a_path_of_a_stranger_stays_in_its_folder(path: str, is_outside: bool) -> None:
    assert leaves(path) is is_outside

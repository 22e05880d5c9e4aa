"""The lock file of the image says what pyproject.toml says."""

import re

import pytest

from scripts.deployment.image import lock
from scripts.deployment.image.lock import MACHINES, Locked, LockError

LOCKED = lock.parse(lock.REQUIREMENTS.read_text())
COMPILER = lock.parse(lock.COMPILER.read_text())


def test_every_dependency_is_locked_at_the_version_pyproject_pins() -> None:
    pins = dict(pin.split("==") for pin in lock.wanted())

    assert {name: LOCKED[name].version for name in pins} == pins


def test_the_compiler_is_locked_for_every_architecture_and_is_no_package_of_the_image() -> None:
    name, _, version = lock.wanted_compiler().partition("==")

    assert COMPILER[name].version == version
    assert all(any(machine in wheel for wheel in COMPILER[name].wheels) for machine in MACHINES.values())
    assert name not in LOCKED
    assert lock.render(COMPILER, lock.COMPILER_HEADER) == lock.COMPILER.read_text()


def test_every_wheel_is_named_by_a_checksum_of_its_own() -> None:
    checksums = [digest for locked in LOCKED.values() for digest in locked.wheels.values()]

    assert all(locked.wheels for locked in LOCKED.values())
    assert len(set(checksums)) == len(checksums)


@pytest.mark.parametrize("machine", MACHINES.values())
def test_every_package_has_a_wheel_for_every_architecture(machine: str) -> None:
    fitting = re.compile(rf"-none-any\.whl$|{machine}\.whl$")

    assert [name for name, locked in LOCKED.items() if not any(map(fitting.search, locked.wheels))] == []


def test_torch_is_the_build_for_cpu() -> None:
    assert LOCKED["torch"].version.endswith("+cpu")
    assert not any("cuda" in name or name.startswith("nvidia") for name in LOCKED)


def test_a_lock_file_is_read_back_as_it_was_written() -> None:
    assert lock.render(LOCKED) == lock.REQUIREMENTS.read_text()


def test_a_checksum_is_kept_where_no_index_offers_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(architecture: str, pins: list[str]) -> dict[str, Locked]:
        if architecture == "arm64" and any(pin.startswith("torch==") for pin in pins):
            raise LockError("none")
        return {name: locked for name, locked in LOCKED.items() if architecture == "x86_64" or name != "torch"}

    monkeypatch.setattr(lock, "_ask", ask)

    packages, kept = lock._resolve("arm64", LOCKED, LOCKED)

    assert kept == list(packages["torch"].wheels)
    assert "aarch64" in kept[0]


def test_a_missing_wheel_of_a_new_version_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(architecture: str, pins: list[str]) -> dict[str, Locked]:
        raise LockError("none")

    monkeypatch.setattr(lock, "_ask", ask)

    with pytest.raises(LockError):
        lock._resolve("arm64", {"torch": Locked("1.0+cpu", {"torch-aarch64.whl": "0" * 64})}, {})

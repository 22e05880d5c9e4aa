"""The lock file of the image says what pyproject.toml says."""

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
    assert packages["torch"] == Locked(LOCKED["torch"].version, {kept[0]: LOCKED["torch"].wheels[kept[0]]})
    assert packages.keys() == LOCKED.keys()


@pytest.mark.parametrize(
    "old",
    [
        {},
        {"torch": Locked("1.0+cpu", {"torch-aarch64.whl": "0" * 64})},
        {"torch": Locked(LOCKED["torch"].version, {"torch-x86_64.whl": "0" * 64})},
    ],
    ids=["no lock file", "another version", "another architecture"],
)
def test_a_missing_wheel_that_was_never_locked_is_an_error(
    old: dict[str, Locked], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(architecture: str, pins: list[str]) -> dict[str, Locked]:
        if any(pin.startswith("torch==") for pin in pins):
            raise LockError("none")
        return {}

    monkeypatch.setattr(lock, "_ask", ask)

    with pytest.raises(LockError):
        lock._resolve("arm64", old, {})


# ---------------------------------------------------------------------------------------------- asking pip


def is_read(options: dict[str, Any]) -> bool:
    """Return whether a program was started so that what it says can be read as text."""
    return bool(options.get("capture_output") and options.get("text"))


class Pip:
    """Offers one wheel of every pin and architecture, those of `versions` in another version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
        self.commands: list[list[str]] = []
        self.versions = versions
        self.missing: set[str] = set()
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], **options: Any) -> SimpleNamespace:
        self.commands.append(command)
        machine = next(word for word in ("x86_64", "aarch64") if f"manylinux_2_28_{word}" in command)
        if machine in self.missing:
            said = "Looking\nERROR: none\nERROR: at all"
            return SimpleNamespace(returncode=1, stderr=said if is_read(options) else None)
        pins = [word.partition("==") for word in command if re.match(r"[A-Za-z_-]+==", word)]
        install = []
        for name, _, pinned in pins:
            version = self.versions.get(f"{name}_{machine}", pinned)
            url = f"https://x/{name}-{version.replace('+', '%2B')}-{machine}.whl"
            archive = {"hashes": {"sha256": f"{len(name):064x}"}}
            metadata = {"name": name.upper().replace("-", "_"), "version": version}
            install.append({"metadata": metadata, "download_info": {"url": url, "archive_info": archive}})
        Path(dict(pairwise(command))["--report"]).write_text(json.dumps({"install": install}))
        return SimpleNamespace(returncode=0, stderr="")


def test_the_lock_file_has_what_pip_would_install_on_each_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(monkeypatch)

    assert lock.lock(tmp_path / "requirements.txt") == []
    lock.lock_compiler(tmp_path / "compiler.txt")

    written = lock.parse((tmp_path / "requirements.txt").read_text())
    pins = dict(pin.split("==") for pin in lock.wanted())
    assert {name: locked.version for name, locked in written.items()} == pins
    torch = pins["torch"]
    assert [*written["torch"].wheels] == [f"torch-{torch}-{machine}.whl" for machine in ("aarch64", "x86_64")]
    assert [*lock.parse((tmp_path / "compiler.txt").read_text())] == ["ziglang"]
    assert (tmp_path / "compiler.txt").read_text().startswith(lock.COMPILER_HEADER)
    assert {("--python-version", "3.11"), ("--only-binary", ":all:")} <= {*pairwise(pip.commands[0])}


def test_a_wheel_that_pip_does_not_find_is_kept_from_the_lock_file_before_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(monkeypatch)
    path = tmp_path / "requirements.txt"
    lock.lock(path)
    before = path.read_text()
    monkeypatch.setattr(lock, "ask_pip", lambda machine, pins: _ask_without_torch(pip, machine, pins))

    (kept,) = lock.lock(path)

    assert kept.endswith("aarch64.whl")
    assert path.read_text() == before


ASK = lock.ask_pip


def _ask_without_torch(pip: Pip, machine: str, pins: list[str]) -> lock.Report:
    pip.missing = {"aarch64"} if any(pin.startswith("torch==") for pin in pins) else set()
    return ASK(machine, pins)


def test_what_pip_does_not_find_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    Pip(monkeypatch).missing = {"aarch64"}

    with pytest.raises(LockError) as failed:
        lock.ask_pip("arm64", ["numpy==1"])

    assert str(failed.value) == "pip finds no complete set of wheels for arm64:\nERROR: none\nERROR: at all"


def test_two_versions_for_two_architectures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pip(monkeypatch, ziglang_aarch64="0.1")
    version = lock.wanted_compiler().partition("==")[2]

    with pytest.raises(LockError, match=rf"^ziglang is {version} on one architecture and 0\.1 on the other"):
        lock.lock_compiler(tmp_path / "compiler.txt")

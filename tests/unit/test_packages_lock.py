"""The lock file of the clone says what pyproject.toml says, for every machine that is supported."""

import hashlib
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts.deployment import packages
from scripts.deployment.image import lock
from scripts.deployment.image.lock import LockError
from tests.unit.test_image_lock import is_read

TEXT = packages.REQUIREMENTS.read_text()
LOCKED = lock.parse(TEXT)


MAC_ONLY = ("cp312-none-macosx_11_0_arm64", "cp313-none-macosx_11_0_arm64")


def wheel(tag: str, name: str = "thing") -> dict[str, Any]:
    return {"url": f"x/{name}-1.0-{tag}.whl", "hashes": {"sha256": tag}}


def resolved(*tags: str, name: str = "thing", **fields: str) -> dict[str, Any]:
    return {"packages": [{"name": name, "version": "1.0", "wheels": [wheel(tag, name) for tag in tags], **fields}]}


def test_every_requirement_is_locked_at_its_version() -> None:
    pins = [re.match(r"([a-z0-9-]+)(?:\[.*])?==([^; ]+)", pin) for pin in packages.wanted()]
    versions = {name.partition(" ; ")[0]: locked.version.removesuffix("+cpu") for name, locked in LOCKED.items()}

    assert {pin[1]: versions[pin[1]] for pin in pins} == {pin[1]: pin[2] for pin in pins}


def test_the_lock_was_made_of_this_pyproject() -> None:
    assert TEXT.startswith(packages.header()), "pyproject.toml asks for something else: `make lock`"
    assert lock.render(LOCKED, packages.header()) == TEXT


@pytest.mark.parametrize("target", packages.targets(), ids="-".join)
def test_every_machine_finds_a_wheel_of_every_package_it_needs(target: tuple[str, str]) -> None:
    needed = [(name, locked) for name, locked in LOCKED.items() if packages._needs(target, name.partition(" ; ")[2])]

    assert len(needed) > 100
    assert [name for name, locked in needed if not any(packages._fits(target, file) for file in locked.wheels)] == []


def test_torch_is_the_build_for_cpu_and_that_of_the_image() -> None:
    on_linux, in_image = LOCKED[f"torch ; {packages.LINUX}"], lock.parse(lock.REQUIREMENTS.read_text())["torch"]

    assert on_linux.version == in_image.version == f"{packages.torch_version()}+cpu"
    assert len(on_linux.wheels) == len(packages.PYTHONS) * len(lock.MACHINES)
    assert in_image.wheels.items() <= on_linux.wheels.items()
    assert not any(re.match("cuda|nvidia|triton", name) for name in LOCKED)


def test_no_index_is_named() -> None:
    assert "://" not in TEXT


def test_wheels_of_other_machines_are_left_out() -> None:
    fitting = ("cp311-abi3-manylinux2014_x86_64", "cp311-abi3-manylinux_2_17_aarch64", "cp311-abi3-macosx_11_0_arm64")
    others = ("cp314-cp314-manylinux2014_x86_64", "cp312-cp312-win_amd64", "cp311-abi3-musllinux_1_2_x86_64")

    (locked,) = packages.select(resolved(*fitting, *others)).values()

    assert sorted(locked.wheels.values()) == sorted(fitting)


def test_a_package_without_a_wheel_for_a_machine_that_needs_it_is_refused() -> None:
    with pytest.raises(LockError, match=r"thing 1\.0 has no wheel for macosx_arm64 and Python 3\.11"):
        packages.select(resolved("cp311-abi3-manylinux2014_x86_64", "cp311-abi3-manylinux2014_aarch64"))


def test_only_torch_may_come_without_a_wheel_for_linux() -> None:
    (locked,) = packages.select(resolved("cp311-none-macosx_11_0_arm64", *MAC_ONLY, name="torch")).values()

    assert len(locked.wheels) == 3
    with pytest.raises(LockError, match=r"torch 1\.0 has no wheel for macosx_arm64 and Python 3\.12"):
        packages.select(resolved("cp311-none-macosx_11_0_arm64", name="torch"))


@pytest.mark.parametrize(
    ("tag", "machines"),
    [
        ("cp312-cp312-manylinux_2_39_x86_64", {"linux_x86_64"}),
        ("cp312-cp312-manylinux_2_40_x86_64", set()),
        ("cp312-cp312-manylinux_2_5_x86_64", {"linux_x86_64"}),
        ("cp312-cp312-manylinux_2_4_x86_64", set()),
        ("cp312-cp312-manylinux1_x86_64", {"linux_x86_64"}),
        ("cp312-cp312-manylinux1_aarch64", set()),
        ("cp312-cp312-manylinux2014_aarch64", {"linux_aarch64"}),
        ("cp312-cp312-linux_aarch64", {"linux_aarch64"}),
        ("cp312-cp312-macosx_15_0_arm64", {"macosx_arm64"}),
        ("cp312-cp312-macosx_16_0_arm64", set()),
        ("cp312-cp312-macosx_11_0_universal2", {"macosx_arm64"}),
        ("cp312-none-any", {"linux_x86_64", "linux_aarch64", "macosx_arm64"}),
    ],
)
def test_a_wheel_fits_the_machines_that_its_tags_name(tag: str, machines: set[str]) -> None:
    fitting = {target for target in packages.targets() if packages._fits(target, f"thing-1.0-{tag}.whl")}

    assert fitting == {("3.12", machine) for machine in machines}


@pytest.mark.parametrize(
    ("marker", "machines"),
    [
        ("", {"linux_x86_64", "linux_aarch64", "macosx_arm64"}),
        ("platform_system == 'Darwin'", {"macosx_arm64"}),
        ("platform_system == 'Linux' and platform_machine == 'aarch64'", {"linux_aarch64"}),
        ("sys_platform == 'darwin' and platform_machine == 'arm64' and os_name == 'posix'", {"macosx_arm64"}),
        ("implementation_name != 'cpython'", set()),
    ],
)
def test_a_marker_says_which_machines_need_a_package(marker: str, machines: set[str]) -> None:
    needing = {target for target in packages.targets() if packages._needs(target, marker)}

    assert needing == {(python, machine) for python in packages.PYTHONS for machine in machines}


def test_a_marker_may_name_a_python() -> None:
    both = "python_version < '3.12' and python_full_version < '3.11.1'"

    assert {python for python, machine in packages.targets() if packages._needs((python, machine), both)} == {"3.11"}


def test_a_package_that_no_supported_machine_needs_is_left_out() -> None:
    assert packages.select(resolved("py3-none-any", marker="sys_platform == 'win32'")) == {}


def test_a_marker_stays_where_it_decides() -> None:
    found = packages.select(resolved("py3-none-any", marker="sys_platform == 'linux'"))
    always = packages.select(resolved("py3-none-any", marker="platform_python_implementation != 'PyPy'"))

    assert [*found, *always] == ["thing ; sys_platform == 'linux'", "thing"]


def test_checksums_of_torch_are_kept_where_no_index_offers_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    old = LOCKED[f"torch ; {packages.LINUX}"]

    def ask(architecture: str, pins: list[str], *options: str, python: str) -> lock.Report:
        if (architecture, python) != ("x86_64", "3.11"):
            raise LockError("none")
        (file,) = [name for name in old.wheels if "cp311" in name and "x86_64" in name]
        archive = {"hashes": {"sha256": old.wheels[file]}}
        metadata = {"name": "torch", "version": old.version, "requires_dist": ["filelock", "z; extra == 'a'"]}
        return {"install": [{"metadata": metadata, "download_info": {"url": f"x/{file}", "archive_info": archive}}]}

    monkeypatch.setattr(packages, "ask_pip", ask)

    torch, needs, kept = packages._cpu_torch(packages.torch_version(), old)

    assert torch == old
    assert needs == ["filelock"]
    assert len(kept) == len(packages.targets()) * 2 // 3 - 1
    for version, known in (("9.9", old), (packages.torch_version(), None)):
        with pytest.raises(LockError, match=r"^none$"):
            packages._cpu_torch(version, known)


def test_what_torch_needs_is_said_by_its_wheel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> lock.Report:
        raise LockError("none")

    monkeypatch.setattr(packages, "ask_pip", ask)

    with pytest.raises(LockError, match=r"^No index offers torch .* here, and only its wheel says what it needs"):
        packages._cpu_torch(packages.torch_version(), LOCKED[f"torch ; {packages.LINUX}"])


# ------------------------------------------------------------------------------------------------ asking uv


def test_the_lock_has_torch_once_for_linux_and_once_for_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mac = [wheel(tag, "torch") for tag in ("cp311-none-macosx_11_0_arm64", *MAC_ONLY)]
    linux = [wheel(f"cp3{minor}-cp3{minor}-manylinux_2_28_x86_64", "torch") for minor in (11, 12, 13)]
    pylock = resolved("py3-none-any")
    pylock["packages"] += [{"name": "torch", "version": "1.0", "wheels": [*mac, *linux]}]
    digests = {"torch-1.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": "0" * 64}
    asked: list[object] = []

    def cpu_torch(version: str, old: lock.Locked | None) -> tuple[lock.Locked, list[str], list[str]]:
        asked.append(old)
        return lock.Locked("1.0+cpu", digests), ["filelock"], ["kept.whl"]

    def resolve(torch: str, needs: list[str]) -> dict[str, Any]:
        assert (torch, needs) == (f"torch=={packages.torch_version()}", ["filelock"])
        return pylock

    monkeypatch.setattr(packages, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(packages, "_cpu_torch", cpu_torch)
    monkeypatch.setattr(packages, "_resolve", resolve)
    for one in [*mac, *linux, pylock["packages"][0]["wheels"][0]]:
        one["hashes"]["sha256"] = hashlib.sha256(one["url"].encode()).hexdigest()

    assert [packages.lock() for _ in range(2)] == [["kept.whl"]] * 2

    written = lock.parse(packages.REQUIREMENTS.read_text())
    on_linux, on_macos = (written[f"torch ; {system}"] for system in (packages.LINUX, packages.MACOS))
    assert asked == [None, on_linux]
    assert (on_linux.wheels, written.keys() - {"thing"}) == (
        digests,
        {f"torch ; {packages.LINUX}", f"torch ; {packages.MACOS}"},
    )
    assert (on_macos.version, len(on_macos.wheels)) == (packages.torch_version(), 3)
    assert packages.REQUIREMENTS.read_text().startswith(packages.header())


class Uv:
    """Writes a resolution where it is told to, and keeps what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> None:
        self.status = status
        self.settings: dict[str, Any] = {}
        self.wanted: list[str] = []
        self.environment: dict[str, str] = {}
        monkeypatch.setattr(packages, "_uv", lambda: Path("uv"))
        monkeypatch.setattr(subprocess, "run", self.run)

    def run(self, command: list[str], **options: Any) -> SimpleNamespace:
        if command[1:3] == ["-m", "pip"]:
            return SimpleNamespace(stdout="https://index.example/simple\n" if is_read(options) else None)
        told = dict(pairwise(command))
        self.settings = tomllib.loads(Path(told["--config-file"]).read_text())
        self.wanted = Path(command[-1]).read_text().splitlines()
        self.environment = options["env"]
        Path(told["--output-file"]).write_text('packages = [{name = "thing"}]')
        return SimpleNamespace(returncode=self.status, stderr="no versions\n" if is_read(options) else None)


@pytest.mark.parametrize(("mine", "index"), [("", "index.example"), ("https://mine.example/simple", "mine.example")])
def test_uv_resolves_what_is_wanted_with_what_torch_needs_at_the_index_that_pip_asks(
    mine: str, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", mine)
    uv = Uv(monkeypatch)

    assert packages._resolve("torch==1.0", ["filelock", 'numpy; python_version > "3"']) == {
        "packages": [{"name": "thing"}]
    }
    (metadata,) = uv.settings["dependency-metadata"]
    assert metadata == {
        "name": "torch",
        "version": "1.0",
        "requires-dist": ["filelock", 'numpy; python_version > "3"'],
    }
    assert uv.wanted == packages.wanted()
    assert uv.environment["UV_DEFAULT_INDEX"] == f"https://{index}/simple"
    assert "PATH" in uv.environment


def test_versions_that_do_not_fit_together_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Uv(monkeypatch, status=1)

    with pytest.raises(LockError, match=r"^uv finds no versions that fit together:\nno versions$"):
        packages._resolve("torch==1.0", [])


def test_uv_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        assert check
        commands.append(list(map(str, command)))
        Path(command[0]).with_name("uv").touch()

    def create(folder: Path, *, with_pip: bool) -> None:
        assert with_pip
        (folder / "bin").mkdir(parents=True)

    monkeypatch.setattr(packages, "REPOSITORY", tmp_path)
    monkeypatch.setattr(packages.venv, "create", create)
    monkeypatch.setattr(subprocess, "run", run)

    (program,) = {packages._uv() for _ in range(2)}

    assert program.name == "uv"
    assert [command[-1] for command in commands] == [packages.UV]

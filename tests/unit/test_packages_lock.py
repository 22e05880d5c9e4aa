"""The lock file of the clone says what pyproject.toml says, for every machine that is supported."""

import re
from typing import Any

import pytest

from scripts.deployment import packages
from scripts.deployment.image import lock
from scripts.deployment.image.lock import LockError

TEXT = packages.REQUIREMENTS.read_text()
LOCKED = lock.parse(TEXT)


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
    with pytest.raises(LockError):
        packages._cpu_torch("9.9", old)

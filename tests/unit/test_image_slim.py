"""What the build leaves out of the libraries, and what it must keep."""

import importlib.util
from pathlib import Path
from types import ModuleType

from scripts.command.repository import REPOSITORY


def load_slim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slim", REPOSITORY / "docker" / "slim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SLIM = load_slim()


def make_packages(root: Path, *names: str) -> None:
    for name in (SLIM.KEPT, *names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_headers_stubs_and_test_suites_are_left_out(tmp_path: Path) -> None:
    make_packages(tmp_path, "torch/include/a.h", "numpy/a.pyi", "numpy/tests/test_a.py", "bin/f2py", "numpy/core.py")

    SLIM.prune(tmp_path)

    assert files(tmp_path) == {SLIM.KEPT, "numpy/core.py"}


def test_a_library_left_out_is_not_listed_as_installed(tmp_path: Path) -> None:
    make_packages(tmp_path, "sympy/core.py", "sympy-1.14.0.dist-info/METADATA", "torch-2.dist-info/METADATA")

    SLIM.prune(tmp_path)

    assert {path.parts[0] for path in map(Path, files(tmp_path))} == {"torch", "torch-2.dist-info"}


def test_the_native_engine_keeps_what_it_needs(tmp_path: Path) -> None:
    names = ("torch/a.py", "torchgen/b.py", "torch-2.dist-info/METADATA", "onnxruntime/c.so", "numpy/d.py", "e.py")
    make_packages(tmp_path, *names)

    SLIM.remove(tmp_path, SLIM.OTHER_ENGINES)

    assert files(tmp_path) == {"numpy/d.py", "e.py"}


def test_modes_and_times_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    packages = tmp_path / "opt" / "packages"
    make_packages(packages, "a.py", "b.so")
    (packages / "a.py").chmod(0o600)
    (packages / "b.so").chmod(0o700)

    SLIM.normalise(tmp_path)

    states = {name: (packages / name).stat() for name in ("a.py", "b.so", SLIM.KEPT)}
    assert [oct(state.st_mode & 0o777) for state in states.values()] == ["0o644", "0o755", "0o755"]
    assert {state.st_mtime for state in states.values()} == {SLIM.MTIME_S}

"""What a stage or a command loads at its start, and which way imports point."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("inference", ("numpy", "msgspec", "torch")),
        ("handlers.initialize", ("torch", "boto3", "scipy", "numpy", "safetensors", "urllib.request", "xml")),
        ("handlers.summarize", ("torch", "boto3", "scipy", "safetensors", "urllib.request", "xml")),
        ("handlers.infer", ("torch", "boto3", "scipy", "onnxruntime", "openvino")),
        ("handlers.rendezvous.service", ("numpy", "msgspec", "obstore", "torch", "boto3")),
        ("scripts.dataset", ("torch", "scipy", "matplotlib", "sklearn")),
        ("scripts.evaluate", ("torch", "scipy", "sklearn")),
        ("scripts.status", ("numpy", "boto3", "asyncio")),
    ],
)
def test_no_program_loads_at_import_what_it_may_not_need(module: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "handlers").rglob("*.py")), ids=lambda path: path.name)
def test_no_handler_needs_boto3(path: Path) -> None:
    assert not imported_by(path) & {"boto3", "botocore", "scripts"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "inference").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_core_knows_nothing_of_aws_or_of_its_callers(path: Path) -> None:
    # The library asks how many CPUs there are: a run's threads follow from its function's memory. A rank that waits for
    # a message lets others compute.
    allowed = {"os"} if path.name in ("loading.py", "link.py") else set()
    assert not imported_by(path) & {"boto3", "botocore", "obstore", "handlers", "scripts", "os"} - allowed
    assert "environ" not in path.read_text().replace("environment", "")


def test_the_packages_of_scripts_form_no_circle() -> None:
    graph = {package: set[str]() for package in packages_of_scripts()}
    for package in graph:
        for path in (ROOT / "scripts" / package).rglob("*.py"):
            graph[package] |= {name for name in parts_of_scripts(path) if name != package}

    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "package", sorted(path.parent for path in (ROOT / "scripts").glob("*/__init__.py")), ids=lambda path: path.name
)
def test_a_package_of_scripts_imports_no_command_and_no_test(package: Path) -> None:
    files = list(package.rglob("*.py"))

    assert not set().union(*map(parts_of_scripts, files)) - packages_of_scripts()
    assert not any("tests" in imported_by(path) for path in files)


def packages_of_scripts() -> set[str]:
    return {path.parent.name for path in (ROOT / "scripts").glob("*/__init__.py")}


@cache
def imports_in(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of a file, wherever in it."""
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]


def parts_of_scripts(path: Path) -> set[str]:
    """Return the packages and commands of `scripts` that a file imports."""
    names = set()
    for node in imports_in(path):
        if isinstance(node, ast.ImportFrom) and node.module == "scripts":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= set(re.findall(r"^scripts\.(\w+)", node.module))
    return names


def imported_by(path: Path) -> set[str]:
    imported = set()
    for node in imports_in(path):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    return imported

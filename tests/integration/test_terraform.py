"""Terraform's own checks: format, and its tests, which need a valid configuration, against a mocked provider."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.deployment.terraform import FOLDER, Terraform
from tests.terraform_provider import shared_provider

pytestmark = [
    pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed"),
    pytest.mark.timeout(900),
]

VALIDATIONS = "validations.tftest.hcl"


def copy_configuration(folder: Path) -> Path:
    """Copy what is committed, so that nothing Terraform writes is in the clone and no state of the user is read."""
    unwanted = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars*", "*.tfplan", "backend.tf", "override.tf")
    shutil.copytree(FOLDER, folder, ignore=unwanted)
    return folder


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    with shared_provider(copy_configuration(tmp_path_factory.mktemp("tests") / "terraform")) as terraform:
        yield terraform


def test_the_format_is_terraforms(terraform: Terraform) -> None:
    assert terraform.read("fmt", "-check", "-recursive") == ""


def test_its_own_tests_pass(terraform: Terraform) -> None:
    files = [path.name for path in (FOLDER / "tests").glob("*.tftest.hcl") if path.name != VALIDATIONS]

    # Terraform validates the configuration first: an invalid one fails.
    assert_passes(terraform, *files)


def test_every_validation_of_a_variable_refuses(tmp_path: Path) -> None:
    # On the variables alone: with the resources Terraform would draw the whole graph for every run.
    for name in ("variables.tf", "stages.tf", "stages.json"):
        shutil.copy(FOLDER / name, tmp_path)
    shutil.copytree(FOLDER / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("[!v]*.tftest.hcl"))
    terraform = Terraform(tmp_path)
    terraform.read("init", "-no-color")

    assert_passes(terraform, VALIDATIONS)


def assert_passes(terraform: Terraform, *files: str) -> None:
    printed = terraform.read("test", "-no-color", *(f"-filter=tests/{name}" for name in files))

    assert printed.count('"... pass') == sum(runs_in(name) for name in files) > 0
    assert ", 0 failed" in printed
    assert "skip" not in printed


def runs_in(name: str) -> int:
    return (FOLDER / "tests" / name).read_text().count('\nrun "')

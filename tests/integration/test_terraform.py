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
    # Terraform validates the configuration first: an invalid one fails.
    printed = terraform.read("test", "-no-color")

    assert ", 0 failed" in printed
    assert "skip" not in printed

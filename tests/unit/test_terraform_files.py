"""Terraform's files agree with the house style, and with what the code says about the same things."""

import ast
import json
import re
from pathlib import Path

import pytest

from handlers import telemetry
from scripts.pricing.prices import read_prices
from tests.iam import ACCOUNT

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
MODULES = sorted(path for path in (TERRAFORM / "modules").iterdir() if path.is_dir())
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    files = [path for path in TERRAFORM.rglob("*.tf") if ".terraform" not in path.parts]
    return [
        (f"{path.parent.name}.{name}", body)
        for path in files
        for found, name, body in BLOCK.findall(path.read_text())
        if found == kind
    ]


def text(path: str) -> str:
    return (TERRAFORM / path).read_text()


def test_every_variable_has_a_description_and_a_type() -> None:
    for name, body in blocks("variable"):
        assert re.search(r"^  description += \"", body, re.MULTILINE), name
        assert re.search(r"^  type += ", body, re.MULTILINE), name


def test_every_output_has_a_description() -> None:
    for name, body in blocks("output"):
        assert re.search(r"^  description += \"", body, re.MULTILINE), name


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_every_module_has_main_variables_and_outputs(module: Path) -> None:
    assert {"main.tf", "variables.tf", "outputs.tf"} <= {path.name for path in module.iterdir()}


def test_every_variable_of_the_root_with_a_limit_is_validated() -> None:
    free = {name for name, body in blocks("variable") if name.startswith("terraform.") and "validation {" not in body}

    assert free == set()


def test_a_rehearsal_touches_no_account_but_that_of_the_local_aws() -> None:
    (allowed,) = re.findall(r"allowed_account_ids += (.*)", text("main.tf"))

    assert allowed == f'var.local_endpoint == null ? null : ["{ACCOUNT}"]'


def test_the_readme_names_every_variable_of_the_root() -> None:
    readme = text("README.md")
    recorded_by_push = {"terraform.code_version", "terraform.image_uri", "terraform.rendezvous_image_uri"}

    for name, _ in blocks("variable"):
        if name.startswith("terraform.") and name not in recorded_by_push:
            assert name.removeprefix("terraform.") in readme


def test_every_skipped_check_has_its_reason_beside_the_code() -> None:
    skips = [
        line for path in TERRAFORM.rglob("*.tf") for line in path.read_text().splitlines() if "checkov:skip" in line
    ]

    assert skips
    for line in skips:
        assert re.search(r"# checkov:skip=CKV2?_AWS_\d+:\w.{10,}", line), line


def test_the_functions_get_the_variables_that_the_handlers_read() -> None:
    # Those of the rendezvous and of a bucket whose requesters pay are given on demand, outside this table.
    source = (ROOT / "handlers" / "settings.py").read_text()
    read = set(re.findall(r'(?:_read|os\.environ\.get)\("((?!RENDEZVOUS_|REQUESTER_)\w+)"\)', source))
    given = set(re.findall(r"^      ([A-Z_]+) += ", text("modules/functions/main.tf"), re.MULTILINE))
    by_the_image = set(re.findall(r"^    ([A-Z_]+)=", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE))

    assert given == {name for name in read - by_the_image if not name.startswith("AWS_LAMBDA_")}


def test_what_is_given_on_demand_is_read() -> None:
    main = text("modules/functions/main.tf")
    source = (ROOT / "handlers" / "settings.py").read_text()

    on_demand = set(re.findall(r"\b((?:RENDEZVOUS|REQUESTER)_[A-Z_]+) +=", main))

    assert on_demand == set(re.findall(r'"((?:RENDEZVOUS|REQUESTER)_\w+)"', source))


def test_the_dashboard_draws_every_metric_that_the_handlers_write_and_no_other() -> None:
    drawn = set(re.findall(r'\[local\.namespace, "(\w+)", "function_name"', text("modules/dashboard/widgets.tf")))
    calls = [
        node
        for handler in (ROOT / "handlers").glob("*.py")
        for node in ast.walk(ast.parse(handler.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "telemetry.embed"
    ]
    written = {keyword.arg for call in calls for keyword in call.keywords}

    assert drawn == written == set(telemetry.UNITS)
    assert f'namespace = "{telemetry.NAMESPACE}"' in text("modules/dashboard/main.tf")


def test_the_dashboard_estimates_with_the_prices_of_the_report() -> None:
    dashboard = text("modules/dashboard/main.tf")
    prices = read_prices().of("us-east-1")

    for architecture, usd in prices.lambda_gb_s.items():
        assert re.search(rf"{architecture} = {usd:.10f}\b", dashboard)
    assert re.search(rf"usd_per_request = {prices.lambda_request:.7f}\b", dashboard)


def test_the_state_machine_file_says_what_terraform_replaces_in_it() -> None:
    definition = text("state_machine.asl.json")

    for fragment in ('"ExecutionType": "STANDARD"', '"ToleratedFailurePercentage": 100.0'):
        assert definition.count(fragment) == 1
        assert json.dumps(fragment)[1:-1] in text("modules/workflow/main.tf")

"""`make plan`, `apply`, `output`, `destroy`: Terraform, and what a person should know before data is deleted."""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from scripts.command.aws_errors import explain
from scripts.command.program import start_one_of
from scripts.command.variables import Flag, Variables
from scripts.command.whole_file import write_whole
from scripts.deployment.holdings import Holdings
from scripts.deployment.image.registry import keep
from scripts.deployment.terraform import IMAGE_FILE, DeployError, Terraform

HOLDS_DATA = ("aws_s3_bucket", "aws_ecr_repository")
LEFT_BEHIND = (
    "All is deleted. What AWS itself made stays, free of charge: CloudWatch's metrics of the past, for 15 months, and "
    "the account's policy AWSLogDeliveryWrite20150319, by which Step Functions logs."
)
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/AWS-logs-and-resource-policy.html"""

IMAGE_URI = re.compile(r"^\S+@sha256:[0-9a-f]{64}$")


class DeployVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make plan`, `apply`, `output` and `destroy`."""

    yes: Flag = False
    """Answers yes to every question."""


def show_plan(_: DeployVariables) -> None:
    """Show what `make apply` would change."""
    plan(Terraform())


def make_it_so(variables: DeployVariables) -> None:
    """Deploy; ask before data would be deleted."""
    apply(Terraform(), confirm=partial(ask, yes=variables.yes))


def show_outputs(_: DeployVariables) -> None:
    """Print what is deployed as JSON, as Terraform writes it: `make run OUTPUTS=file` reads the same."""
    terraform = Terraform()
    terraform.init()
    print(terraform.read("output", "-json", "-no-color"), end="")


def delete_all(variables: DeployVariables) -> None:
    """Say which data would be deleted, ask, and delete everything that was deployed."""
    destroy(Terraform(), confirm=partial(ask, yes=variables.yes))


def show_registry(_: DeployVariables) -> None:
    """Print where images are pushed to; make the registry when it is not there."""
    print(ensure_registry(Terraform()))


COMMANDS = {
    "plan": show_plan,
    "apply": make_it_so,
    "output": show_outputs,
    "destroy": delete_all,
    "registry": show_registry,
}


def plan(terraform: Terraform) -> None:
    """Show what `apply` would change."""
    terraform.init()
    terraform.show("plan", "-input=false")


def apply(terraform: Terraform, *, confirm: Callable[[str], bool]) -> None:
    """Make AWS as the configuration says; ask only when something that holds data would be deleted or replaced."""
    terraform.init()
    with tempfile.TemporaryDirectory() as folder:
        plan_path = str(Path(folder) / "tfplan")
        terraform.show("plan", "-input=false", f"-out={plan_path}")
        doomed = list(_deleted(json.loads(terraform.read("show", "-json", plan_path))))
        if doomed and not confirm(f"This deletes {', '.join(doomed)} and the data in it."):
            raise DeployError("Nothing was changed.")
        terraform.show("apply", "-input=false", plan_path)
    _keep_images(terraform.folder / IMAGE_FILE)


def _keep_images(record: Path) -> None:
    """Tag what is deployed now, so that newer images never push it out of the registry."""
    recorded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    for uri in [value for name, value in recorded.items() if name.endswith("image_uri")]:
        try:
            keep(uri)
        except (BotoCoreError, ClientError) as error:
            say(f"Deployed, but newer images may push {uri} out of the registry: {explain(error)}")


def ensure_registry(terraform: Terraform) -> str:
    """Return the URL images of the worker are pushed to; make the registry first when it is not there.

    With `rendezvous = true` the registry of that image is made too: the output `rendezvous_repository_url`.
    """
    terraform.init()
    outputs = terraform.outputs()
    missing = ["registry", "rendezvous_registry"] if outputs.get("repository_url") is None else []
    if not missing and outputs.get("rendezvous_repository_url") is None:
        missing = ["rendezvous_registry"] if terraform.evaluate("var.rendezvous") == "true" else []
    if missing:
        targets = [f"-target=module.{module}" for module in missing]
        say(f"There is no registry yet: making it and nothing else (terraform apply {' '.join(targets)}).")
        terraform.show("apply", "-input=false", "-auto-approve", *targets)
        outputs = terraform.outputs()
    return str(outputs["repository_url"])


def record_image(folder: Path, image_uri: str, code_version: str, rendezvous_image_uri: str = "") -> bool:
    """Write down which images Terraform deploys; return whether that is anything else than before."""
    recorded = {"image_uri": image_uri, "code_version": code_version}
    if rendezvous_image_uri:
        recorded["rendezvous_image_uri"] = rendezvous_image_uri
    for uri in [image_uri, *([rendezvous_image_uri] if rendezvous_image_uri else [])]:
        if not IMAGE_URI.match(uri):
            raise DeployError(f"{uri} has no digest: it must end in @sha256:HEX, as `make push` records it.")
    path = folder / IMAGE_FILE
    content = json.dumps(recorded, indent=2) + "\n"
    if path.exists() and path.read_text() == content:
        return False
    write_whole(path, content.encode())
    return True


def destroy(terraform: Terraform, *, confirm: Callable[[str], bool]) -> None:
    """Say which data would be deleted, ask, and delete everything that was deployed."""
    terraform.init()
    outputs = terraform.outputs()
    if not outputs and not terraform.read("state", "list").strip():
        say("Nothing is deployed.")
        return
    bucket = outputs.get("bucket")
    holdings = Holdings(outputs.get("region"))
    data = [*holdings.describe_bucket(bucket), *holdings.describe_images(outputs.get("repository_url"))]
    running = holdings.running_executions(outputs.get("state_machine_arn"))
    lines = [
        f"This deletes the deployment {outputs.get('name', '')} and, for good:",
        *(f"  {line}" for line in data or ["no data: bucket and registry are empty"]),
        *([f"  {len(running)} runs in progress"] if running else []),
        "  its logs, its dashboard, its alarms",
    ]
    if not confirm("\n".join(lines)):
        raise DeployError("Nothing was deleted.")
    holdings.stop(running)
    # Before the bucket is emptied: ranks that are still to begin would write into it. Terraform finds them gone.
    holdings.delete_functions(outputs.get("function_arns", {}).values())
    for is_last in (False, False, True):
        holdings.empty(bucket)
        try:
            terraform.show("destroy", "-input=false", "-auto-approve")
            break
        except DeployError:
            # Ranks that were under way write until their function is gone, and a bucket with anything in it stays.
            if is_last or holdings.is_empty(bucket):
                raise
            say("Workers that were under way wrote into the bucket: emptying it again.")
    (terraform.folder / IMAGE_FILE).unlink(missing_ok=True)
    say(LEFT_BEHIND)


def _deleted(planned: dict[str, Any]) -> Iterator[str]:
    for change in planned.get("resource_changes", ()):
        if "delete" in change["change"]["actions"] and change["type"] in HOLDS_DATA:
            yield change["address"]


def ask(question: str, *, yes: bool) -> bool:
    """Ask a person; `yes` is the answer given beforehand."""
    say(question)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise DeployError("This needs an answer and there is no terminal to ask at: YES=1 answers yes.")
    say("Type yes to continue:")
    return sys.stdin.readline().strip() == "yes"


def say(text: str) -> None:
    """Print something that is not a result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    start_one_of(COMMANDS)

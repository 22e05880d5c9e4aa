"""A working copy of the configuration, for a deployment next to the user's own, with a state of its own."""

import json
import os
import shutil
from pathlib import Path

from scripts.command.whole_file import write_whole
from scripts.deployment.terraform import FOLDER, IMAGE_FILE

NAME = "redshift-inference-smoke"
"""Of the deployment: no user's own, and one that docs/operator-policy.json is about."""

OWN_VARIABLES = "zz-smoke.auto.tfvars.json"
"""Read last: it beats what is copied of the user's."""

USERS_OWN = (
    *(".terraform*", "*.tfstate*", "*.tfplan", "override.tf", "*_override.tf", "tests"),
    IMAGE_FILE,
)
"""Of Terraform's folder: what belongs to the user's deployment. terraform.tfvars, with what an organization prescribes,
is copied."""

LOCAL_STATE = 'terraform {\n  backend "local" {}\n}\n'
"""Takes the place of any other backend: https://developer.hashicorp.com/terraform/language/files/override"""

ELSEWHERE = ("TF_WORKSPACE", "TF_DATA_DIR", "TF_CLI_ARGS")
"""Beginnings of the variables that tell Terraform where else to work, or how.

https://developer.hashicorp.com/terraform/cli/config/environment-variables
"""


def forget_terraform_settings() -> None:
    """Keep what is set for the user's deployment from this one: another workspace or folder would be another state."""
    for name in [name for name in os.environ if name.startswith(ELSEWHERE)]:
        del os.environ[name]


def prepare(folder: Path, region: str, architecture: str) -> Path:
    """Copy the configuration, with what an organization prescribes, without anything of the user's deployment.

    Parameters
    ----------
    folder : Path
        Where to; it is not there.
    region, architecture : str
        Where, and on which processor, it deploys.
    """
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(*USERS_OWN))
    own = {
        "name": NAME,
        "region": region,
        "architecture": architecture,
        "stages": {},
        "max_concurrency": 1000,
        "map_child_type": "STANDARD",
        "map_tolerated_failure_percentage": 100,
        "infer_reserved_concurrency": None,
        "infer_provisioned_concurrency": 0,
        "infer_snap_start": False,
        "dataset_prefixes": ["datasets/"],
        "result_prefixes": ["*/"],
        "alarm_email": None,
        "rendezvous": False,
    }
    (folder / "smoke_override.tf").write_text(LOCAL_STATE)
    write_whole(folder / OWN_VARIABLES, json.dumps(own, indent=2).encode())
    return folder


def resources(folder: Path) -> tuple[str, ...]:
    """Return the addresses of what a working copy has made, as its state says; asks neither Terraform nor AWS."""
    path = folder / "terraform.tfstate"
    try:
        found = json.loads(path.read_text()).get("resources", ())
    except FileNotFoundError:
        return ()
    except ValueError:
        return (f"whatever {path} named before it was damaged",)
    return tuple(
        ".".join(filter(None, (one.get("module"), one["type"], one["name"])))
        for one in found
        if one["mode"] == "managed"
    )

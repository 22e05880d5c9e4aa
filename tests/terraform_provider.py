"""Terraform's AWS provider as one process for all commands of a test file, where each would start its own."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.deployment.terraform import PROVIDER, Terraform

ANNOUNCEMENT = re.compile(r"TF_REATTACH_PROVIDERS='(.+)'")
# Both programs are short-lived and keep tables of every AWS resource: collecting garbage costs a third of their CPU.
LAZY_COLLECTOR = {"GOGC": "400"}
# A provider that a developer starts logs everything it does, 100,000 lines in a test file.
# https://developer.hashicorp.com/terraform/plugin/log/managing
LOGS = ("PROVIDER", "SDK", "SDK_PROTO", "SDK_MUX", "SDK_HELPER_SCHEMA", "SDK_FRAMEWORK")
QUIET = {f"TF_LOG_{name}": "OFF" for name in LOGS}


def planned_changes(printed: str) -> dict[str, str]:
    """Read what plan or apply printed with -json; return resource → what is done to it."""
    messages = [json.loads(line) for line in printed.splitlines()]
    changes = [message["change"] for message in messages if message["type"] == "planned_change"]
    # What is read depends on what is made: it is put off until then.
    return {change["resource"]["addr"]: change["action"] for change in changes if change["action"] != "read"}


@contextmanager
def shared_provider(folder: Path) -> Iterator[Terraform]:
    """Start the provider of a configuration; return a Terraform that uses it until the end.

    The provider sees the environment as it is now.

    References
    ----------
    https://developer.hashicorp.com/terraform/plugin/debugging
    """
    Terraform(folder).init()
    (program,) = folder.glob(f".terraform/providers/{PROVIDER}/*/*/terraform-provider-aws_v*")
    environment = os.environ | LAZY_COLLECTOR | QUIET
    with subprocess.Popen([program, "-debug"], env=environment, stdout=subprocess.PIPE, text=True) as provider:
        try:
            assert provider.stdout is not None
            announced = next(filter(None, map(ANNOUNCEMENT.search, provider.stdout)), None)
            assert announced, f"{program.name} ended before it could be used"
            yield Terraform(folder, {**LAZY_COLLECTOR, "TF_REATTACH_PROVIDERS": announced[1]})
        finally:
            provider.kill()

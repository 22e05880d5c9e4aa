"""`make smoke`: a deployment of its own for a few minutes, which settles what only a real account can say."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from inference.errors import RunError
from scripts import deploy
from scripts.command.aws_errors import explain
from scripts.command.console import say
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, CommandError
from scripts.command.model import find_model
from scripts.command.program import start
from scripts.command.variables import Flag
from scripts.command.whole_file import write_whole
from scripts.deployment.account import Account
from scripts.deployment.image import build as building
from scripts.deployment.image import registry
from scripts.deployment.image.engine import EngineError, find_engine
from scripts.deployment.stack import read_stack
from scripts.deployment.terraform import DeployError, Terraform
from scripts.deployment.working_copy import NAME, forget_terraform_settings, prepare, resources
from scripts.forecasts.system import Setting, forecast
from scripts.image import MachineVariables
from scripts.pricing.prices import PriceError, read_prices
from scripts.runs.first_account import NUM_RANKS, ROWS_PER_SHARD, Trial, settle
from scripts.runs.smoke_report import SmokeAnswer, SmokeReport, answer_table, encode_report
from scripts.runs.target import connect_aws

HOME = Path("smoke")
WORKING_COPY = "terraform"
WORK = "work"
"""Below `HOME`: Terraform's folder, and what the run left."""

WITH_TORCH_BYTES = 500e6
"""Of an image: without torch it has 292 MB, with it 742, see docker/README.md."""

FAULTS = (CommandError, RunError, OSError, BotoCoreError, ClientError)


class SmokeVariables(MachineVariables, frozen=True, kw_only=True):
    """The variables of `make smoke`."""

    snap_start: Flag = False
    """Ask whether an image publishes with SnapStart, too; a snapshot is paid for three hours at least."""

    yes: Flag = False
    """Answers yes to every question."""


class Pushed(NamedTuple):
    """The image of the functions."""

    uri: str
    """By digest."""

    version: str
    """Of the code in it."""


Push = Callable[[str], Pushed]
"""Pushes to a repository."""


def main(variables: SmokeVariables) -> int:
    """Ask a real account. Exit status: 0 all is as expected, 1 something is not, 130 interrupted."""
    forget_terraform_settings()
    architecture = variables.arch or building.machine_architecture()
    confirm = partial(deploy.ask, yes=variables.yes)
    return smoke(
        Path(), architecture, _pusher(variables, architecture), snap_start=variables.snap_start, confirm=confirm
    )


def _pusher(variables: SmokeVariables, architecture: str) -> Push:
    """Find the image before anything is asked or made."""
    engine = find_engine(variables.container_engine or "")
    image = building.inspect(engine, building.image_name(architecture))
    if image.model != (ours := find_model("").in_words):
        raise EngineError(f"The image holds {image.model}; the smoke test is for {ours}, which `make build` takes.")
    if image.size_bytes < WITH_TORCH_BYTES:
        raise EngineError(
            "The image was built with SLIM=1. A rank runs out of memory by loading torch, which it lacks: `make build` "
            "makes one that has it."
        )

    def push(repository: str) -> Pushed:
        uri = registry.push(engine, image, repository, registry.ecr_login(repository)).uri
        return Pushed(uri, image.revision)

    return push


@dataclass
class _Seen:
    """What there is to say, however it ends."""

    version: str = "unknown"
    answers: list[SmokeAnswer] = field(default_factory=list)
    stopped_by: str = "a fault of this command"


def smoke(
    root: Path,
    architecture: str,
    push: Push,
    *,
    snap_start: bool,
    confirm: Callable[[str], bool],
    open_terraform: Callable[[Path], Terraform] = Terraform,
) -> int:
    """Deploy, ask, destroy, and write down what was seen; nothing is made before a yes.

    Parameters
    ----------
    root : Path
        Where ``smoke/`` is, with the reports, and with Terraform's state until everything is destroyed.
    architecture : str
        Processor of the functions.
    push : callable
        Pushes the image.
    snap_start : bool
        Whether to ask about SnapStart, too.
    confirm : callable
        Answers the question that names the price.
    open_terraform : callable
        Makes the program for a folder.
    """
    account = Account()
    account_id, who = account.identity()
    region = str(account.region)
    home = (root / HOME).resolve()
    usd = most_usd(region, architecture)
    if not confirm(question(usd, who, region, home, snap_start=snap_start)):
        raise DeployError("Nothing was made.")
    began, began_s, seen = datetime.now(UTC), time.monotonic(), _Seen()
    left: tuple[str, ...] = ()
    try:
        if earlier := end(home, open_terraform):
            raise DeployError(f"What an earlier one made could not be destroyed: {', '.join(earlier)}.")
        shutil.rmtree(home / WORK, ignore_errors=True)
        terraform = open_terraform(prepare(home / WORKING_COPY, region, architecture))
        _deploy_and_ask(terraform, push, home, seen, snap_start=snap_start)
        seen.stopped_by = ""
    except KeyboardInterrupt:
        seen.stopped_by = "Ctrl-C"
    except FAULTS as error:
        seen.stopped_by = explain(error) if isinstance(error, BotoCoreError | ClientError) else str(error)
    finally:
        left = end(home, open_terraform)
        report = SmokeReport(
            began_at=began.isoformat(timespec="seconds"),
            total_s=round(time.monotonic() - began_s, 1),
            region=region,
            architecture=architecture,
            code_version=seen.version,
            estimated_usd=usd,
            answers=tuple(seen.answers),
            stopped_by=seen.stopped_by,
            left_behind=left,
        )
        path = home / f"report-{began:%Y%m%dT%H%M%SZ}.json"
        write_whole(path, encode_report(report, account_id))
        _print(report, path)
    if seen.stopped_by == "Ctrl-C":
        return INTERRUPTED
    return COMPLETE if report.is_good else FAILED


def _deploy_and_ask(terraform: Terraform, push: Push, home: Path, seen: _Seen, *, snap_start: bool) -> None:
    image = push(deploy.ensure_registry(terraform))
    seen.version = image.version
    deploy.record_image(terraform.folder, image.uri, image.version)
    deploy.apply(terraform, confirm=lambda _: False)
    aws = connect_aws(read_stack(terraform.folder))
    trial = Trial(terraform, aws, home / WORK, Console(stderr=True, highlight=False))
    # One by one: what was answered before a Ctrl-C is in the report.
    for answer in settle(trial, snap_start=snap_start):
        seen.answers.append(answer)


def most_usd(region: str, architecture: str) -> float | None:
    """Return what 95 of 100 such runs cost at most [USD]; None where the price file does not know the region."""
    try:
        prices = read_prices().of(region)
    except PriceError:
        return None
    # The rank without memory may be tried twice, and is counted as if it had all of it.
    runs = (NUM_RANKS, NUM_RANKS), (2, 1)
    settings = (
        Setting(num_rows=ranks * ROWS_PER_SHARD, world_size=ranks, num_shards=shards, architecture=architecture)
        for ranks, shards in runs
    )
    return sum(forecast(setting, prices, prices_of=region, num=200).usd[-1] for setting in settings)


def question(usd: float | None, who: str, region: str, home: Path, *, snap_start: bool) -> str:
    """Return what is to be agreed to."""
    price = (
        "for a price that the price file does not know here"
        if usd is None
        else f"for {usd:.4f} USD at most in 95 of 100 cases"
    )
    lines = [
        f"This deploys {NAME} in {region} as {who}, runs {NUM_RANKS} ranks, and destroys it, {price}. Not in it: the "
        "image, the dashboard and seven alarms, each for the hour, where the free tier is used up.",
    ]
    if snap_start:
        lines.append("SNAP_START=1 takes a snapshot, which AWS bills for three hours at least; its price is not known.")
    if (home / WORKING_COPY).exists():
        lines.append(f"What an earlier one left, which {home / WORKING_COPY} knows, is destroyed first.")
    return "\n".join(lines)


def end(home: Path, open_terraform: Callable[[Path], Terraform]) -> tuple[str, ...]:
    """Destroy what the working copy made, also when it is interrupted again; return what is left of it.

    The working copy goes with the last of it: while it is there, the next smoke test knows what to destroy.
    """
    folder = home / WORKING_COPY
    if resources(folder):
        try:
            deploy.destroy(open_terraform(folder), confirm=lambda _: True)
        except KeyboardInterrupt:
            deploy.say("Interrupted while destroying.")
        except FAULTS as error:
            deploy.say(explain(error) if isinstance(error, BotoCoreError | ClientError) else str(error))
    left = resources(folder)
    if not left:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def _print(report: SmokeReport, path: Path) -> None:
    console = Console(highlight=False)
    console.print(answer_table(report.answers))
    if report.stopped_by:
        say(console, f"It ended early: {report.stopped_by}")
    if report.left_behind:
        say(console, "Not destroyed, and paid for until it is; `make smoke` tries again:")
        for address in report.left_behind:
            say(console, f"  {address}")
    say(console, f"{path}: please send it to the authors; the account's number is not in it.")


if __name__ == "__main__":
    start(main)

"""`make sweep`: run every combination of some lists, and say which setting is fastest, cheapest, balanced."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from rich.console import Console

from inference.models import MAGNITUDES
from scripts.command.console import say
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, CommandError, UsageError
from scripts.command.model import ModelName, find_model
from scripts.command.program import start
from scripts.command.variables import Flag, FolderName, Variables, read_variables
from scripts.command.whole_file import write_whole
from scripts.deployment.stack import read_stack
from scripts.pricing.prices import read_prices
from scripts.runs.target import connect_aws
from scripts.runs.variables import StackVariables, Usd, choose_target
from scripts.sweeps.analyse import analyse
from scripts.sweeps.backend import AwsBackend, Backend, LocalBackend
from scripts.sweeps.data import Dataset, Key, cut_missing, find_datasets, without_images
from scripts.sweeps.estimate import forecast_sweep, refuse_above
from scripts.sweeps.journal import Journal, held, read_journal, stop_left
from scripts.sweeps.lists import VARIABLES, read_plan
from scripts.sweeps.present import print_plan, print_statistics
from scripts.sweeps.runner import Runner
from scripts.sweeps.show import SweepShow
from scripts.sweeps.statistics import STATISTICS_KEY, SweepStatistics
from scripts.sweeps.table import write_tables

NOT_KNOWN = "not known: a dataset has no dataset.json that says how many galaxies it has"
OF_ONE_RUN = ("RESULT", "PAYLOAD")


Elements = Annotated[str, Meta(description="one value, or several with commas between them")]


class SweepVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make sweep`."""

    world: Elements = ""
    batch: Elements = ""
    data: Elements = ""
    dataset: Elements = ""
    shard_mb: Elements = ""
    files: Elements = ""
    memory: Elements = ""
    engine: Elements = ""
    precision: Elements = ""
    profile: Elements = ""
    repeat: Elements = ""
    seed: Elements = ""
    tolerate: Elements = ""
    target: Elements = ""
    outputs: Annotated[str, Meta(description="a file with what `terraform output -json` printed")] = ""
    budget: Usd | None = None
    sweep: Annotated[str, Meta(description="the lists as a YAML file")] = ""
    name: FolderName = ""
    retry: Flag = False
    yes: Flag = False
    result: Elements = ""
    payload: Elements = ""
    model: ModelName = ""


def main(variables: SweepVariables) -> int:
    """Sweep. Exit status: 0 a run predicted, 1 none did or the sweep stopped, 2 wrong usage, 130 interrupted."""
    try:
        return run_sweep(variables, root=Path(), console=Console(stderr=True, highlight=False))
    except UsageError:
        raise
    except (CommandError, OSError) as error:
        raise CommandError(f"The sweep stopped: {error} The same command continues it.") from error
    except KeyboardInterrupt:
        print("Interrupted. The same command continues it.", file=sys.stderr)
        return INTERRUPTED


def run_sweep(variables: SweepVariables, *, root: Path, console: Console) -> int:
    """Carry out the sweep that the variables ask for, or continue it; return the exit status.

    Raises
    ------
    UsageError
        If the variables cannot be followed; nothing has been started or written then.
    CommandError
        If the backend does not answer any more.
    """
    journal = find_sweep(variables.given, root)
    retry = variables.retry
    backend = _backend(journal, variables.outputs, root)
    datasets = find_datasets(journal.plan, root, backend.buckets)
    if not variables.model and (name := without_images(journal.plan, root)):
        say(
            console,
            f"model      {journal.plan.model} predicts them all: {name} holds no images",
        )
    left = journal.remaining(retry=retry)
    forecast = forecast_sweep(left, backend, datasets, root=root, model=journal.plan.model)
    print_plan(console, journal, num_left=len(left), cost=forecast.words if forecast else NOT_KNOWN)
    refuse_above(variables.budget, forecast)
    if left:
        _confirm(len(left), yes=variables.yes)
        with held(journal.folder, journal.plan):
            # Another terminal may have gone on with it while this one was asked.
            journal = read_journal(journal.folder, journal.plan)
            if stopped := stop_left(journal.folder, root):
                say(console, f"stopped    {stopped}, which went on since the sweep was killed")
            cut_missing(datasets, root, console)
            _carry_out(journal, backend, datasets, root, console, retry=retry)
    found = _write_statistics(read_journal(journal.folder, journal.plan), backend)
    print_statistics(Console(highlight=False), found, str(journal.folder))
    return COMPLETE if any(one.num_runs for one in found.settings) else FAILED


def find_sweep(given: Mapping[str, str], root: Path) -> Journal:
    """Return the sweep: of the lists given, or the one that NAME means.

    Raises
    ------
    UsageError
        As `read_plan` and `read_journal`; also when a variable has no meaning in a sweep.
    """
    for name in OF_ONE_RUN:
        if name in given:
            raise UsageError(f"{name} is of one run: a sweep has many. `make run {name}={given[name]}` takes it.")
    if "DATASET" in given and "DATA" in given:
        raise UsageError("DATA and DATASET mean the same here: give one of them.")
    given = {**given, "DATA": given.get("DATA", given.get("DATASET", ""))}
    name = given.get("NAME", "")
    if name and not any(given.get(key) for key in ("SWEEP", *VARIABLES)):
        return read_journal(root / "sweeps" / name, None)
    plan = read_plan(given)
    target, _ = choose_target(
        read_variables(StackVariables, {**given, "TARGET": plan.target or ""}), terraform=root / "terraform"
    )
    if plan.model is None and without_images(plan, root):
        plan = msgspec.structs.replace(plan, model=MAGNITUDES.name)
    sha256 = find_model(plan.model, root=root).card.weights_sha256 if plan.model else None
    plan = msgspec.structs.replace(plan, target=target, model_sha256=sha256)
    return read_journal(root / "sweeps" / (name or f"sweep-{plan.fingerprint}"), plan)


def _backend(journal: Journal, outputs: str, root: Path) -> Backend:
    if journal.plan.target == "local":
        return LocalBackend(
            journal.folder / "logs", journal.plan.memory, find_model(journal.plan.model or "", root=root).folder
        )
    return AwsBackend(
        connect_aws(read_stack(root / "terraform", outputs=outputs)).within_account(), journal.plan.memory
    )


def _confirm(num_runs: int, *, yes: bool) -> None:
    """Ask before anything is started.

    Raises
    ------
    UsageError
        If there is no terminal to ask at, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask at: YES=1 answers yes beforehand.")
    print(f"Carry out {num_runs} runs? Type yes to continue:", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("yes", "y"):
        raise UsageError("Nothing was started.")


def _carry_out(
    journal: Journal, backend: Backend, datasets: Mapping[Key, Dataset], root: Path, console: Console, *, retry: bool
) -> None:
    left = journal.remaining(retry=retry)
    show = SweepShow(console, journal.plan, list(journal.newest().values()))
    try:
        with backend, show:
            Runner(backend=backend, datasets=datasets, root=root, show=show).carry_out(journal, left)
    finally:
        # Whatever ended it, what is there is in the tables.
        _write_statistics(read_journal(journal.folder, journal.plan), backend)


def _write_statistics(journal: Journal, backend: Backend) -> SweepStatistics:
    write_tables(journal.folder, *journal.rows())
    found = analyse(journal, prices=f"list prices of {read_prices().label(backend.region)}")
    write_whole(journal.folder / STATISTICS_KEY, msgspec.json.format(msgspec.json.encode(found), indent=2))
    return found


if __name__ == "__main__":
    start(main)

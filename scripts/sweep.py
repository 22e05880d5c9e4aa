"""`make sweep`: run every combination of some lists, and say which setting is fastest, cheapest, balanced."""

import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED, WRONG_USAGE, UsageError
from scripts.command.exit_status import settle_terminal
from scripts.command.whole_file import write_whole
from scripts.deployment.stack import StackError, read_stack
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.runs.budget import read_budget
from scripts.runs.perform import RunStoppedError
from scripts.runs.target import connect_aws
from scripts.runs.variables import choose_target
from scripts.sweeps.analyse import analyse
from scripts.sweeps.borrowed import Borrowed
from scripts.sweeps.carry_out import Carrier, SweepStoppedError
from scripts.sweeps.data import Dataset, Key, cut_missing, find_datasets
from scripts.sweeps.estimate import forecast_sweep, refuse_above
from scripts.sweeps.journal import Journal, held, read_journal, write_tables
from scripts.sweeps.left_behind import stop_left
from scripts.sweeps.lists import VARIABLES, read_plan
from scripts.sweeps.place import AwsPlace, LocalPlace, Place
from scripts.sweeps.present import print_plan, print_statistics
from scripts.sweeps.price import prices_in_words
from scripts.sweeps.show import SweepShow
from scripts.sweeps.statistics import STATISTICS_KEY, SweepStatistics

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NOT_KNOWN = "not known: a dataset has no dataset.json that says how many galaxies it has"
OF_ONE_RUN = ("RESULT", "PAYLOAD")


def main(
    world: Annotated[str, typer.Option(envvar="WORLD", help="Ranks.")] = "",
    batch: Annotated[str, typer.Option(envvar="BATCH", help="Galaxies per batch.")] = "",
    data: Annotated[str, typer.Option(envvar="DATA", help="Datasets under datasets/.")] = "",
    dataset: Annotated[str, typer.Option(envvar="DATASET", help="The same.")] = "",
    shard_mb: Annotated[str, typer.Option(envvar="SHARD_MB", help="Largest size of shards, in megabytes.")] = "",
    files: Annotated[str, typer.Option(envvar="FILES", help="Only the first n shards.")] = "",
    memory: Annotated[str, typer.Option(envvar="MEMORY", help="Memory of a rank, in megabytes.")] = "",
    engine: Annotated[str, typer.Option(envvar="ENGINE", help="Libraries that compute.")] = "",
    precision: Annotated[str, typer.Option(envvar="PRECISION", help="Precisions of the products.")] = "",
    profile: Annotated[str, typer.Option(envvar="PROFILE", help="0,1: without and with torch's profiler.")] = "",
    repeat: Annotated[str, typer.Option(envvar="REPEAT", help="How often every setting runs.")] = "",
    seed: Annotated[str, typer.Option(envvar="SEED", help="Decides the order.")] = "",
    tolerate: Annotated[str, typer.Option(envvar="TOLERATE", help="Percentage of ranks that may fail.")] = "",
    target: Annotated[str, typer.Option(envvar="TARGET", help="local or aws.")] = "",
    outputs: Annotated[str, typer.Option(envvar="OUTPUTS", help="Terraform's outputs as a JSON file.")] = "",
    budget: Annotated[str, typer.Option(envvar="BUDGET", help="USD that the sweep may cost.")] = "",
    sweep: Annotated[str, typer.Option(envvar="SWEEP", help="The lists as a YAML file.")] = "",
    name: Annotated[str, typer.Option(envvar="NAME", help="Folder under sweeps/.")] = "",
    retry: Annotated[str, typer.Option(envvar="RETRY", help="1 runs what failed again.")] = "",
    yes: Annotated[str, typer.Option(envvar="YES", help="1 to be asked nothing.")] = "",
    result: Annotated[str, typer.Option(envvar="RESULT", hidden=True)] = "",
    payload: Annotated[str, typer.Option(envvar="PAYLOAD", hidden=True)] = "",
) -> None:
    """Sweep. Exit status: 0 a run predicted, 1 none did or the sweep stopped, 2 wrong usage, 130 interrupted."""
    options = {name.upper(): value for name, value in locals().items()}
    given = {name: value.strip() for name, value in options.items() if value.strip()}
    settle_terminal()
    try:
        status = run_sweep(given, root=Path(), console=Console(stderr=True, highlight=False))
    except UsageError as error:
        print(error, file=sys.stderr)
        status = WRONG_USAGE
    except (SweepStoppedError, RunStoppedError, StackError, EmulatorUnavailableError, OSError) as error:
        print(f"The sweep stopped: {error} The same command goes on with it.", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on with it.", file=sys.stderr)
        status = INTERRUPTED
    raise typer.Exit(status)


def run_sweep(given: Mapping[str, str], *, root: Path, console: Console) -> int:
    """Carry out the sweep that the variables ask for, or go on with it; return the exit status.

    Raises
    ------
    UsageError
        If the variables cannot be followed; nothing has been started or written then.
    SweepStoppedError
        If the sweep's place does not answer any more.
    """
    journal = find_sweep(given, root)
    retry = given.get("RETRY", "") not in ("", "0")
    place = _place(journal, given, root)
    datasets = find_datasets(journal.plan, root, place.buckets)
    left = journal.remaining(retry=retry)
    budget = read_budget(given)
    forecast = forecast_sweep(left, place, datasets, root=root)
    print_plan(console, journal, num_left=len(left), cost=forecast.words if forecast else NOT_KNOWN)
    refuse_above(budget, forecast)
    if left:
        _confirm(len(left), yes=given.get("YES", "") not in ("", "0"))
        with held(journal.folder, journal.plan):
            # Another terminal may have gone on with it while this one was asked.
            journal = read_journal(journal.folder, journal.plan)
            if stopped := stop_left(journal.folder, root):
                console.print(f"stopped    {stopped}, which went on since the sweep was killed", soft_wrap=True)
            cut_missing(datasets, root, console)
            _carry_out(journal, place, datasets, root, console, retry=retry)
    found = _write_statistics(read_journal(journal.folder, journal.plan), place)
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
    if name and not NAME.fullmatch(name):
        raise UsageError(f"NAME={name} is not valid: NAME is a folder's name of letters, digits, dots, dashes.")
    if name and not any(given.get(key) for key in ("SWEEP", *VARIABLES)):
        return read_journal(root / "sweeps" / name, None)
    plan = read_plan(given)
    target, _ = choose_target({**given, "TARGET": plan.target}, terraform=root / "terraform")
    plan = msgspec.structs.replace(plan, target=target)
    return read_journal(root / "sweeps" / (name or f"sweep-{plan.fingerprint}"), plan)


def _place(journal: Journal, given: Mapping[str, str], root: Path) -> Place:
    if journal.plan.target == "local":
        return LocalPlace(journal.folder / "logs")
    target = connect_aws(read_stack(root / "terraform", outputs=given.get("OUTPUTS", "")))
    return AwsPlace(target, Borrowed(target, journal.folder, token=secrets.token_hex(3)))


def _confirm(num_runs: int, *, yes: bool) -> None:
    """Ask before anything is started.

    Raises
    ------
    UsageError
        If there is nobody to ask, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("There is nobody to ask: YES=1 says yes beforehand.")
    print(f"Carry out {num_runs} runs? Type yes to go on:", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("yes", "y"):
        raise UsageError("Nothing was started.")


def _carry_out(
    journal: Journal, place: Place, datasets: Mapping[Key, Dataset], root: Path, console: Console, *, retry: bool
) -> None:
    left = journal.remaining(retry=retry)
    show = SweepShow(console, journal.plan, list(journal.newest().values()))
    try:
        with place, show:
            Carrier(place=place, datasets=datasets, root=root, show=show).carry_out(journal, left)
    finally:
        # Whatever ended it, what is there is in the tables.
        _write_statistics(read_journal(journal.folder, journal.plan), place)


def _write_statistics(journal: Journal, place: Place) -> SweepStatistics:
    write_tables(journal)
    found = analyse(journal, prices=prices_in_words(place.region))
    write_whole(journal.folder / STATISTICS_KEY, msgspec.json.format(msgspec.json.encode(found), indent=2))
    return found


if __name__ == "__main__":
    typer.run(main)

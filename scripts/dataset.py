"""`make dataset`: the sample of real galaxies, or any number of synthetic ones, as shards under `datasets/`."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from scripts.command.errors import UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.command.machine import num_cores
from scripts.data.present import progress_bar, show_report, shown
from scripts.data.request import SAMPLE, Wanted, plan_of_source
from scripts.data.sample import sample_plan, synthetic_plan
from scripts.data.variables import refuse_without_source, seed_number, shard_size_mb, whole
from scripts.data.writer import DatasetPlan, is_complete, make

ROOT = Path(__file__).parent.parent


def plan_for(root: Path, *, name: str, n: str, shard_mb: str, seed: str) -> DatasetPlan:
    """Turn the variables of `make dataset` into a plan.

    Raises
    ------
    UsageError
        If a variable is no valid value; the message names it.
    """
    size = shard_size_mb(shard_mb)
    number = seed_number(seed)
    if not name and n:
        raise UsageError(f"N={n} makes synthetic galaxies and needs a NAME, as in NAME=big N={n}.")
    if name in ("", SAMPLE):
        if n:
            raise UsageError(f"NAME={SAMPLE} is the sample of real galaxies, whose number is fixed: leave N out.")
        return sample_plan(root, shard_mb=size, seed=number)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(f"NAME={name} is not valid: NAME is letters, digits, dots, dashes and underscores.")
    if not n:
        raise UsageError(f"NAME={name} needs N, the number of synthetic galaxies, as in NAME={name} N=100000.")
    num_rows = whole("N", n, 1, 10**9)
    return synthetic_plan(root, name=name, num_rows=num_rows, shard_mb=size, seed=number)


def main(
    name: Annotated[str, typer.Option(envvar="NAME", help="Name of the dataset; the sample when absent.")] = "",
    n: Annotated[str, typer.Option(envvar="N", help="Number of synthetic galaxies.")] = "",
    shard_mb: Annotated[str, typer.Option(envvar="SHARD_MB", help="Largest shard [MiB]; 10 when absent.")] = "",
    seed: Annotated[str, typer.Option(envvar="SEED", help="Another seed, other galaxies; 0 when absent.")] = "",
    source: Annotated[str, typer.Option(envvar="SOURCE", help="Table, published file, or folder of cutouts.")] = "",
    fields: Annotated[str, typer.Option(envvar="FIELDS", help="Columns of a table, as in u=MAG_U,z_spec=ZBEST.")] = "",
    training: Annotated[str, typer.Option(envvar="TRAINING", help="1: leave out what training must not see.")] = "",
) -> None:
    """Make datasets/NAME/SHARD_MBMB/. Exit status: 0 made or already there, 1 failed, 2 wrong usage."""
    (ROOT / "datasets").mkdir(exist_ok=True)
    scratch = TemporaryDirectory(prefix=".records-", dir=ROOT / "datasets")
    with told_in_one_line(), scratch, progress_bar() as progress:
        if source:
            wanted = Wanted(source, name, n, fields, training, shard_mb, seed)
            bar = progress.add_task("reading", total=None)
            plan = plan_of_source(ROOT, wanted, Path(scratch.name), lambda rows: progress.advance(bar, rows))
            progress.remove_task(bar)
        else:
            refuse_without_source(FIELDS=fields, TRAINING=training)
            plan = plan_for(ROOT, name=name, n=n, shard_mb=shard_mb, seed=seed)
        if is_complete(plan):
            print(f"{shown(plan.folder)}: {len(plan.galaxies):,} galaxies, already there")
            return
        bar = progress.add_task("galaxies", total=len(plan.galaxies))
        card = make(plan, processes=num_cores(), tick=lambda rows: progress.advance(bar, rows))
    show_report(plan.folder)
    size_mb = sum(shard.size_bytes for shard in card.shards) / 1e6
    print(f"{shown(plan.folder)}: {card.num_rows:,} galaxies in {len(card.shards)} shards, {size_mb:,.0f} MB")


if __name__ == "__main__":
    typer.run(main)

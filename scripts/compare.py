"""`make compare`: the same rows by the plain library, by the local AWS and by AWS, and beside the published rates."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from inference.plan import SHARD_SUFFIXES
from scripts.benchmarks.comparison.agreement import RowsDifferError, agreement
from scripts.benchmarks.comparison.comparison import COMPARISON_KEY, Comparison, put_beside
from scripts.benchmarks.comparison.contender import Contender, against_first
from scripts.benchmarks.comparison.measure import BaselineError, Measured, carry_out, measure_process, measure_run
from scripts.benchmarks.comparison.present import print_comparison
from scripts.benchmarks.comparison.published import read_published
from scripts.command.console import step
from scripts.command.errors import FAILED, UsageError
from scripts.command.exit_status import told_in_one_line
from scripts.command.whole_file import write_whole
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.stack import read_stack
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAwsError
from scripts.pricing.prices import LOCAL_REGION
from scripts.runs import journal
from scripts.runs.perform import RunStoppedError, find_data
from scripts.runs.recall import find_run
from scripts.runs.request import draft_request
from scripts.runs.target import connect_aws, start_local
from scripts.runs.variables import choose_target
from scripts.sweeps.price import prices_in_words

OF_A_NEW_RUN = ("WORLD", "BATCH", "DATASET", "FILES", "ENGINE", "PRECISION")


def main(
    world: Annotated[str, typer.Option(envvar="WORLD", help="Ranks.")] = "",
    batch: Annotated[str, typer.Option(envvar="BATCH", help="Galaxies per batch.")] = "",
    dataset: Annotated[str, typer.Option(envvar="DATASET", help="Dataset under datasets/.")] = "",
    files: Annotated[str, typer.Option(envvar="FILES", help="Only the first n shards.")] = "",
    engine: Annotated[str, typer.Option(envvar="ENGINE", help="Library that the runs compute with.")] = "",
    precision: Annotated[str, typer.Option(envvar="PRECISION", help="Precision of the runs.")] = "",
    target: Annotated[str, typer.Option(envvar="TARGET", help="local leaves AWS out.")] = "",
    outputs: Annotated[str, typer.Option(envvar="OUTPUTS", help="Terraform's outputs as a JSON file.")] = "",
    run: Annotated[str, typer.Option(envvar="RUN", help="A run that has ended, instead of new ones.")] = "",
) -> None:
    """Compare. Exit status: 0 compared, 1 something failed, 2 wrong usage."""
    options = {name.upper(): value for name, value in locals().items()}
    given = {name: value.strip() for name, value in options.items() if value.strip()}
    with told_in_one_line():
        try:
            compare(given, root=Path(), console=Console(stderr=True, highlight=False))
        except (BaselineError, RunStoppedError, RowsDifferError, LocalAwsError, EmulatorUnavailableError) as error:
            print(f"The comparison stopped: {error}", file=sys.stderr)
            raise typer.Exit(FAILED) from error


def compare(given: Mapping[str, str], *, root: Path, console: Console) -> Comparison:
    """Measure every way, compare their redshifts, print, and leave ``comparison.json`` in the folder of every run.

    Raises
    ------
    UsageError
        If the variables cannot be followed.
    """
    folders, dataset, file_limit, batch_size = _runs(given, root, console)
    files = [path for path in dataset.files(file_limit) if path.suffix in SHARD_SUFFIXES]
    measured: list[Measured] = []
    for name, profile in (("plain loop", False), ("plain loop, profiled", True)):
        with step(console, "baseline") as facts:
            measured.append(measure_process(name, files, batch_size=batch_size, profile=profile))
            facts.append(name)
    runs = [measure_run(folder) for folder in folders]
    found = _comparison([*measured, *(run for run, _ in runs)], dataset, batch_size, rank_rate_per_s=runs[0][1])
    for folder in folders:
        write_whole(folder / COMPARISON_KEY, msgspec.json.format(msgspec.json.encode(found), indent=2))
    print_comparison(Console(highlight=False), found, str(folders[0] / COMPARISON_KEY))
    return found


def _runs(given: Mapping[str, str], root: Path, console: Console) -> tuple[list[Path], LocalDataset, int | None, int]:
    """Carry out the runs, or find the one that RUN names; return their folders, what they read, and the batch size."""
    if "RUN" in given:
        for name in OF_A_NEW_RUN:
            if name in given:
                raise UsageError(f"RUN={given['RUN']} has ended: {name} is of a new run. Give one of the two.")
        folder = find_run(given["RUN"], given, root=root).folder
        summary = journal.read_summary(folder)
        if summary is None:
            raise UsageError(f"{folder}/ has no summary.json: `make status RUN={folder.name}` says why.")
        request = summary.request
        prefix = request.data_prefix
        dataset = _local(find_data(prefix, asked=f"the dataset {prefix} of {folder.name}", root=root))
        return [folder], dataset, request.file_limit, request.batch_size
    draft = draft_request({name: given[name] for name in OF_A_NEW_RUN if name in given})
    target, _ = choose_target(given, terraform=root / "terraform")
    aws = connect_aws(read_stack(root / "terraform", outputs=given.get("OUTPUTS", ""))) if target == "aws" else None
    dataset = _local(find_data(draft.dataset, asked=draft.dataset_asked, root=root))
    folders = []
    if aws is not None:
        folders.append(carry_out(lambda _: nullcontext(aws), draft, dataset, root, console))
    # Last, since it takes the user's AWS settings away from this process.
    folders.append(carry_out(start_local, draft, dataset, root, console))
    return folders, dataset, draft.request.file_limit, draft.request.batch_size


def _local(dataset: LocalDataset | RemoteDataset) -> LocalDataset:
    if isinstance(dataset, RemoteDataset):
        raise UsageError(f"{dataset.describe()} is not on this machine, where the plain loop reads.")
    return dataset


def _comparison(
    measured: Sequence[Measured], dataset: LocalDataset, batch_size: int, *, rank_rate_per_s: float
) -> Comparison:
    plain = measured[0].redshifts
    lines: list[Contender] = []
    notes = ["Measured once each, one after the other: REPEAT of `make sweep` shows how far chance moves a run."]
    for one in measured:
        same = agreement(plain, one.redshifts)
        lines.append(
            msgspec.structs.replace(
                one.line, max_abs_difference=same.max_abs_difference, num_compared=same.num_compared
            )
        )
        if same.num_one_sided:
            notes.append(f"{one.line.name} refused {same.num_one_sided:,} galaxies otherwise than the plain loop.")
    lines = against_first(lines)
    published = read_published()
    return Comparison(
        dataset=dataset.prefix,
        num_samples=lines[0].num_samples,
        batch_size=batch_size,
        lines=tuple(lines),
        published=put_beside(published, lines, rank_rate_per_s=rank_rate_per_s),
        caveat=published.caveat,
        sources=published.sources,
        prices=prices_in_words(LOCAL_REGION),
        notes=tuple(notes),
    )


if __name__ == "__main__":
    typer.run(main)

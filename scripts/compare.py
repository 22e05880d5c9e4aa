"""`make compare`: the same rows by the plain library, by the local AWS and by AWS, and beside the published rates."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec
from rich.console import Console

from inference.plan import SHARD_SUFFIXES
from scripts.benchmarks.comparison.agreement import agreement
from scripts.benchmarks.comparison.comparison import COMPARISON_KEY, Comparison, put_beside
from scripts.benchmarks.comparison.contender import Contender, against_first
from scripts.benchmarks.comparison.measure import Measured, carry_out, measure_process, measure_run
from scripts.benchmarks.comparison.present import print_comparison
from scripts.benchmarks.comparison.published import read_published
from scripts.command.console import step
from scripts.command.errors import CommandError, UsageError
from scripts.command.program import start
from scripts.command.whole_file import write_whole
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.stack import read_stack
from scripts.pricing.prices import LOCAL_REGION, read_prices
from scripts.runs import journal
from scripts.runs.perform import find_data
from scripts.runs.recall import find_run
from scripts.runs.request import draft_request
from scripts.runs.target import connect_aws, start_local
from scripts.runs.variables import RequestVariables, RunName, choose_target

OF_A_NEW_RUN = ("WORLD", "BATCH", "DATASET", "FILES", "ENGINE", "PRECISION")


class CompareVariables(RequestVariables, frozen=True, kw_only=True):
    """The variables of `make compare`."""

    run: RunName = ""


def main(variables: CompareVariables) -> None:
    """Compare. Exit status: 0 compared, 1 something failed, 2 wrong usage."""
    try:
        compare(variables, root=Path(), console=Console(stderr=True, highlight=False))
    except UsageError:
        raise
    except CommandError as error:
        raise CommandError(f"The comparison stopped: {error}") from error


def compare(variables: CompareVariables, *, root: Path, console: Console) -> Comparison:
    """Measure every way, compare their redshifts, print, and leave ``comparison.json`` in the folder of every run.

    Raises
    ------
    UsageError
        If the variables cannot be followed.
    """
    folders, dataset, file_limit, batch_size = _runs(variables, root, console)
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


def _runs(
    variables: CompareVariables, root: Path, console: Console
) -> tuple[list[Path], LocalDataset, int | None, int]:
    """Carry out the runs, or find the one that RUN names; return their folders, what they read, and the batch size."""
    if variables.run:
        for name in OF_A_NEW_RUN:
            if name in variables.given:
                raise UsageError(f"RUN={variables.run} has ended: {name} is of a new run. Give one of the two.")
        folder = find_run(variables.run, variables, root=root).folder
        summary = journal.read_summary(folder)
        if summary is None:
            raise UsageError(f"{folder}/ has no summary.json: `make status RUN={folder.name}` says why.")
        request = summary.request
        prefix = request.data_prefix
        dataset = _local(find_data(prefix, asked=f"the dataset {prefix} of {folder.name}", root=root))
        return [folder], dataset, request.file_limit, request.batch_size
    draft = draft_request(variables)
    target, _ = choose_target(variables, terraform=root / "terraform")
    aws = connect_aws(read_stack(root / "terraform", outputs=variables.outputs)) if target == "aws" else None
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
        prices=f"list prices of {read_prices().label(LOCAL_REGION)}",
        notes=tuple(notes),
    )


if __name__ == "__main__":
    start(main)

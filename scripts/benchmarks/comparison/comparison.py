"""``comparison.json``: every method on the same rows, and the published rates of the same definitions."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from scripts.benchmarks.comparison.agreement import agreement
from scripts.benchmarks.comparison.measure import Measured, measure_process, measure_run
from scripts.benchmarks.comparison.method import Method
from scripts.benchmarks.comparison.published import Definition, Published, PublishedRate, read_published
from scripts.benchmarks.comparison.runs import CompareVariables, find_runs
from scripts.command.console import step
from scripts.command.whole_file import write_whole
from scripts.pricing.prices import LOCAL_REGION, read_prices

COMPARISON_KEY = "comparison.json"


class RatePair(msgspec.Struct, frozen=True, kw_only=True):
    """A published rate, and ours of the same definition."""

    definition: Definition
    """What both are rates of."""

    theirs: PublishedRate
    """What was published."""

    theirs_per_s: float
    """Its rate [galaxies/s]."""

    ours: str
    """Which of our methods."""

    ours_per_s: float
    """Its rate [galaxies/s]."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison."""

    dataset: str
    """Key prefix of the rows."""

    num_samples: int
    """Galaxies."""

    batch_size: int
    """Galaxies per batch."""

    methods: tuple[Method, ...]
    """The plain loop first: it is what the others are compared with."""

    published: tuple[RatePair, ...]
    """Published rates, each with ours."""

    caveat: str
    """What the published rates do not say."""

    sources: dict[str, str]
    """Name to where it was published."""

    prices: str
    """Which prices, in words."""

    notes: tuple[str, ...]
    """What limits it, in sentences."""


def compare(variables: CompareVariables, *, root: Path, console: Console) -> tuple[Comparison, list[Path]]:
    """Measure every method; leave ``comparison.json`` in the folder of every run.

    Returns
    -------
    comparison : Comparison
    paths : list of Path
        The files.

    Raises
    ------
    UsageError
        If the variables cannot be followed.
    CommandError, RunFolderError
        If a method fails, or predicted other galaxies.
    """
    runs = find_runs(variables, root, console)
    measured: list[Measured] = []
    for name, profile in (("plain loop", False), ("plain loop, profiled", True)):
        with step(console, "baseline") as facts:
            measured.append(measure_process(name, runs.files, runs.model, batch_size=runs.batch_size, profile=profile))
            facts.append(name)
    measured += [measure_run(folder) for folder in runs.folders]
    found = compare_methods(measured, runs.dataset.prefix, runs.batch_size)
    paths = [folder / COMPARISON_KEY for folder in runs.folders]
    for path in paths:
        write_whole(path, msgspec.json.format(msgspec.json.encode(found), indent=2))
    return found, paths


def compare_methods(measured: Sequence[Measured], dataset: str, batch_size: int) -> Comparison:
    """Compare methods with the first, and with what was published.

    Parameters
    ----------
    measured : sequence of Measured
        The plain loop first.
    dataset : str
        Key prefix of the rows.
    batch_size : int
        Galaxies per batch.

    Raises
    ------
    CommandError
        If they are not of the same galaxies.
    """
    plain = measured[0]
    methods = []
    notes = ["Measured once each, one after the other: REPEAT of `make sweep` shows how far chance moves a run."]
    for one in measured:
        same = agreement(plain.redshifts, one.redshifts)
        speedup = plain.method.end_to_end_s / one.method.end_to_end_s
        methods.append(
            msgspec.structs.replace(
                one.method,
                speedup=speedup,
                efficiency=speedup / one.method.num_workers,
                max_abs_difference=same.max_abs_difference,
                num_compared=same.num_compared,
            )
        )
        if same.num_one_sided:
            notes.append(f"{one.method.name} and the plain loop reject {same.num_one_sided:,} galaxies differently.")
    published = read_published()
    return Comparison(
        dataset=dataset,
        num_samples=methods[0].num_samples,
        batch_size=batch_size,
        methods=tuple(methods),
        published=tuple(pair_rates(published, methods)),
        caveat=published.caveat,
        sources=published.sources,
        prices=f"list prices of {read_prices().label(LOCAL_REGION)}",
        notes=tuple(notes),
    )


def pair_rates(published: Published, methods: Sequence[Method]) -> list[RatePair]:
    """Return the published rates whose definition matches one of ours, by definition.

    Parameters
    ----------
    published : Published
    methods : sequence of Method
        The plain loop first; a run on AWS counts before a local one.
    """
    plain = methods[0]
    ours: dict[Definition, tuple[str, float]] = {}
    if runs := sorted((method for method in methods if method.run_id), key=lambda method: method.place):
        run = runs[0]
        ours = {
            "sum_of_rank_rates": (run.name, run.sum_of_rank_rates_per_s),
            "map_wall": (run.name, run.map_wall_per_s),
            "end_to_end": (run.name, run.end_to_end_per_s),
            "one_rank": (f"{run.name}, median rank", run.rank_rate_per_s),
        }
    ours["one_process"] = (plain.name, plain.end_to_end_per_s)
    return [
        RatePair(definition=definition, theirs=theirs, theirs_per_s=theirs.rate_per_s, ours=name, ours_per_s=rate_per_s)
        for definition, (name, rate_per_s) in ours.items()
        for theirs in published.throughput
        if theirs.definition == definition
    ]

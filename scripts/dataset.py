"""`make dataset`: the sample of real galaxies, or any number of synthetic ones, as shards under `datasets/`."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from scripts.command.exit_status import told_in_one_line
from scripts.data.cleaning_report import CleaningReport
from scripts.data.present import progress_bar, show_report, shown
from scripts.data.request import SAMPLE, Wanted, plan_of_source
from scripts.data.shards import DatasetPlan, is_complete, make
from scripts.data.variables import DEFAULT_SHARD_MB, refuse_without_source, seed_number, shard_size_mb, whole
from scripts.local_aws.server import num_cores
from scripts.runs.variables import UsageError
from scripts.simulation.cutouts import Rows, real_rows, synthetic_rows
from scripts.simulation.facts import Facts
from scripts.simulation.population import Population
from scripts.simulation.sdss import SourceCatalog, load_sources

ROOT = Path(__file__).parent.parent
GENERATOR = "generator 1"
"""Part of the provenance: a changed generator makes existing datasets count as other ones."""


@dataclass(frozen=True)
class RealGalaxies:
    """Galaxies of the real catalogue, in its order."""

    sources: SourceCatalog
    seed: int

    def __len__(self) -> int:
        return len(self.sources.redshift)

    def rows(self, start: int, stop: int) -> Rows:
        """Render the galaxies from `start` to before `stop`."""
        return real_rows(self.sources, slice(start, stop), self.seed)

    def facts(self, start: int, stop: int) -> Facts:
        """Return positions."""
        rows = slice(start, stop)
        known = np.zeros(stop - start, dtype=np.uint8)
        return Facts(self.sources.ra_deg[rows], self.sources.dec_deg[rows], known)


@dataclass(frozen=True)
class SyntheticGalaxies:
    """Galaxies made from real ones; the identifier counts from 1."""

    population: Population
    num_rows: int
    seed: int

    def __len__(self) -> int:
        return self.num_rows

    def rows(self, start: int, stop: int) -> Rows:
        """Make the galaxies from `start` to before `stop`."""
        return synthetic_rows(self.population, np.arange(start + 1, stop + 1), self.seed)

    def facts(self, start: int, stop: int) -> Facts:
        """Return nothing: they are on no sky."""
        return Facts.unknown(stop - start)


def ensure_sample(root: Path = ROOT) -> Path:
    """Make the sample dataset if it is missing or incomplete, and return its folder."""
    plan = sample_plan(root, shard_mb=DEFAULT_SHARD_MB, seed=0)
    if not is_complete(plan):
        make(plan, processes=num_cores())
    return plan.folder


def sample_plan(root: Path, *, shard_mb: int, seed: int) -> DatasetPlan:
    """Plan the dataset of real galaxies that no training has seen."""
    everything = load_sources()
    sources = everything.of("held_out")
    num_training = len(everything.redshift) - len(sources.redshift)
    removed = ", ".join(f"{count} {rule}" for rule, count in sources.removed.items() if count)
    return DatasetPlan(
        galaxies=RealGalaxies(sources, seed),
        root=root,
        name=SAMPLE,
        shard_mb=shard_mb,
        seed=seed,
        provenance=(
            f"{len(sources.redshift)} real SDSS galaxies with spectroscopic redshifts, of the 10,000 in kcorrect 5.1.9 "
            "(kcorrect/data/test/gst_tests_small.fits): the 30 % held out by a hash of the position, after cleaning "
            f"(of all 10,000: {removed}). Magnitudes are measured ones. Images are rendered from the measured "
            "photometry with plausible sizes; neither knows the redshift. "
            f"{GENERATOR}."
        ),
        report=CleaningReport(
            Counter({"dropped": sources.num_removed, "kept for training": num_training}), +Counter(sources.removed)
        ),
    )


def synthetic_plan(root: Path, *, name: str, num_rows: int, shard_mb: int, seed: int) -> DatasetPlan:
    """Plan a dataset of synthetic galaxies made from the held-out real ones."""
    return DatasetPlan(
        galaxies=SyntheticGalaxies(Population(load_sources().of("held_out")), num_rows, seed),
        root=root,
        name=name,
        shard_mb=shard_mb,
        seed=seed,
        provenance=(
            "Simulated galaxies: spectral energy distributions of the real SDSS galaxies held out from training "
            "(kcorrect 5.1.9), moved in redshift as a magnitude-limited sample with 15 % luminous red galaxies, with "
            f"measurement errors, and rendered with sizes that follow from luminosity and distance. {GENERATOR}."
        ),
    )


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

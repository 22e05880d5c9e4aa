"""The galaxies that the project brings: real ones that training never saw, and synthetic ones made from them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.block import Block
from scripts.data import taken
from scripts.data.cleaning_report import CleaningReport
from scripts.data.galaxies import Facts, Origin
from scripts.data.sample import GENERATOR, SAMPLE
from scripts.data.writer import DatasetPlan
from scripts.simulation.conditions import PIXEL_ARCSEC
from scripts.simulation.cutouts import real_rows, synthetic_rows
from scripts.simulation.population import Population
from scripts.simulation.sdss import SourceCatalog, load_sources

REAL = Origin("rendered", PIXEL_ARCSEC, dereddened=True, extinction="the catalogue's column EXTINCTION (SDSS)")
SYNTHETIC = Origin("rendered", PIXEL_ARCSEC, dereddened=True, extinction="that of the real galaxies, known exactly")


@dataclass(frozen=True)
class RealGalaxies:
    """Galaxies of the real catalogue, in its order."""

    sources: SourceCatalog
    seed: int

    def __len__(self) -> int:
        return len(self.sources.redshift)

    def rows(self, start: int, stop: int) -> Block:
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

    def rows(self, start: int, stop: int) -> Block:
        """Make the galaxies from `start` to before `stop`."""
        return synthetic_rows(self.population, np.arange(start + 1, stop + 1), self.seed)

    def facts(self, start: int, stop: int) -> Facts:
        """Return nothing: they are on no sky."""
        return Facts.unknown(stop - start)


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
        origin=REAL,
        report=CleaningReport(
            Counter({"dropped": sources.num_removed, "kept for training": num_training}), +Counter(sources.removed)
        ),
    )


def synthetic_plan(root: Path, *, name: str, num_rows: int, shard_mb: int, seed: int) -> DatasetPlan:
    """Plan a dataset of synthetic galaxies made from the real ones of the test set."""
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
        origin=SYNTHETIC,
        source=taken.SYNTHETIC,
    )

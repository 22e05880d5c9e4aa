"""The sample that the project brings: real galaxies that training never saw. A run without a dataset reads it."""

from pathlib import Path

from inference import contract
from scripts.command.machine import num_cores
from scripts.command.repository import REPOSITORY
from scripts.data.location import whole_card

SAMPLE = "sdss"
"""Name of the sample of real galaxies."""
SEED = 0
"""Of the noise in its images."""

GENERATOR = "generator 2"
"""Part of the provenance: a changed generator, or a card that says more, makes a dataset on disk count as another."""


def ensure_sample(root: Path = REPOSITORY) -> Path:
    """Make the sample dataset if it is missing, incomplete or of another generator, and return its folder."""
    folder = root / contract.SAMPLE_PREFIX
    card = whole_card(folder)
    if card is None or card.seed != SEED or GENERATOR not in card.provenance:
        # Imported here: a run that finds its galaxies starts 1.4 s of CPU sooner without their generator.
        from scripts.data.generated import sample_plan
        from scripts.data.writer import DEFAULT_SHARD_MB, make

        make(sample_plan(root, shard_mb=DEFAULT_SHARD_MB, seed=SEED), processes=num_cores())
    return folder

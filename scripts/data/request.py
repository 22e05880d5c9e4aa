"""What the user of `make dataset SOURCE=…` asks for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.command.errors import UsageError
from scripts.command.variables import yes_or_no
from scripts.data.variables import seed_number, shard_size_mb
from scripts.data.writer import DatasetPlan

SAMPLE = "sdss"
"""Name of the sample of real galaxies."""


@dataclass(frozen=True)
class Wanted:
    """The variables of `make dataset SOURCE=…`, as given."""

    source: str
    name: str
    n: str
    fields: str
    training: str
    shard_mb: str
    seed: str


def plan_of_source(root: Path, wanted: Wanted, scratch: Path, tick: Callable[[int], None]) -> DatasetPlan:
    """Turn the variables of `make dataset SOURCE=…` into a plan; reads a table, or for training all, once.

    Raises
    ------
    UsageError
        If a variable is no valid value; the message names it.
    SourceError
        If the source is not what it seems.
    """
    # Reading tables needs half a second of imports, which the sample does without.
    from scripts.data.plan import name_of, plan_source

    if wanted.n:
        raise UsageError(f"N={wanted.n} is the number of synthetic galaxies; SOURCE={wanted.source} has its own.")
    if wanted.name == SAMPLE:
        raise UsageError(f"NAME={SAMPLE} is the sample of real galaxies: give SOURCE={wanted.source} another NAME.")
    source = Path(wanted.source).expanduser()
    return plan_source(
        root,
        source,
        name=name_of(source, wanted.name),
        fields=wanted.fields,
        for_training=yes_or_no("TRAINING", wanted.training),
        shard_mb=shard_size_mb(wanted.shard_mb),
        seed=seed_number(wanted.seed),
        scratch=scratch,
        tick=tick,
    )

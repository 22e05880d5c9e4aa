"""Which runs a sweep consists of: the settings that its lists span, and the order they run in."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from scripts.command.model import ModelName
from scripts.command.variables import Whole
from scripts.runs.variables import TargetName

ShardMb = Annotated[
    int, Meta(ge=1, le=10_000, description="a largest size of shards in whole megabytes from 1, such as 25")
]
DatasetName = Annotated[str, Meta(min_length=1, description="datasets under datasets/, such as sdss or sdss/10MB")]
MemoryMb = Annotated[int, Meta(ge=128, le=10_240, description="whole megabytes from 128 to 10240")]


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """Everything that may differ between two runs. None: as `make run` has it without the variable."""

    world: int | None = None
    """Ranks."""

    batch: int | None = None
    """Galaxies per batch."""

    data: str | None = None
    """Dataset, ``name`` or ``name/partition``."""

    shard_mb: int | None = None
    """Largest size of its shards, the name of the partition [MiB]."""

    files: int | None = None
    """Only the first n shards."""

    memory: int | None = None
    """Memory of a rank [MB]."""

    engine: str | None = None
    """Library that computes."""

    precision: str | None = None
    """Precision of the products."""

    profile: bool | None = None
    """Under torch's profiler."""

    def label(self, names: Sequence[str]) -> str:
        """Return the values of some fields as one would type them: ``WORLD=8 BATCH=32``."""
        given = [(name, getattr(self, name)) for name in names]
        return " ".join(f"{name.upper()}={_typed(value)}" for name, value in given if value is not None)


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``sweep.yaml``: the lists as the user gave them. An empty one stands for the default, which is one value."""

    world: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    data: tuple[DatasetName, ...] = ()
    shard_mb: tuple[ShardMb, ...] = ()
    files: tuple[int, ...] = ()
    memory: tuple[MemoryMb, ...] = ()
    engine: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    profile: tuple[bool, ...] = ()

    repeat: Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")] = 1
    """How often every setting runs."""

    seed: Whole = 0
    """Decides the order."""

    tolerate: float = 0.0
    """Percentage of ranks that a run may lose."""

    target: TargetName | None = None
    """As `make run` decides when absent."""

    model: ModelName | None = None
    """Name of the model of all runs; the shipped one here, the deployed one on AWS when absent."""

    model_sha256: str | None = None
    """Checksum of its weights: trained again, it makes another sweep."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every combination, in the order of the lists."""
        combined = [Setting()]
        for name in LISTS:
            values = getattr(self, name) or (None,)
            combined = [msgspec.structs.replace(one, **{name: value}) for one in combined for value in values]
        return tuple(combined)

    @property
    def varied(self) -> tuple[str, ...]:
        """Lists with more than one value; all that are given when none has."""
        given = tuple(name for name in LISTS if getattr(self, name))
        return tuple(name for name in given if len(getattr(self, name)) > 1) or given

    @property
    def fingerprint(self) -> str:
        """Eight digits that the same sweep always has: the same command finds its folder again."""
        # A default is left out: what a plan has learnt to name since then changes the digits of no older sweep.
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]

    def label(self, setting: Setting) -> str:
        """Return what varies of a setting, as typed."""
        return setting.label(self.varied) or "default"

    def runs(self) -> Iterator["PlannedRun"]:
        """Yield every run in the order of the sweep.

        Notes
        -----
        Repeats are the outermost loop, and within each the settings come in another shuffled order: what drifts while a
        sweep goes, such as the load of the machine, favours no setting.
        """
        order = random.Random(self.seed)  # noqa: S311 -- no secret
        position = 0
        for repeat in range(self.repeat):
            settings = list(self.settings)
            order.shuffle(settings)
            for setting in settings:
                yield PlannedRun(setting, repeat, position)
                position += 1


LISTS = tuple(name for name in SweepPlan.__struct_fields__ if name in Setting.__struct_fields__)
"""What a sweep can go over."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    setting: Setting
    """What it runs."""

    repeat: int
    """Number among its repeats, from 0."""

    position: int
    """Place in the order, from 0."""


def _typed(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)

"""What `make dataset` is asked for, and the dataset that comes of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from inference.checksum import file_sha256
from inference.models import without_images
from inference.models.card import ModelCard
from scripts.command.errors import SourceError, UsageError
from scripts.command.model import ModelName, find_model
from scripts.command.variables import Flag, FolderName, NumRows, Variables, rows_asked
from scripts.data.cleaning_report import CleaningReport
from scripts.data.galaxies import Galaxies
from scripts.data.generated import sample_plan, synthetic_plan
from scripts.data.sample import SAMPLE
from scripts.data.taken import SYNTHETIC, free_name, refuse_taken
from scripts.data.writer import DEFAULT_SHARD_MB, DatasetPlan, ShardMb

if TYPE_CHECKING:
    from scripts.data.selection import Kept
    from scripts.data.source import Source

MAX_HASHED_BYTES = 2**30
"""Larger files are identified by size and time: reading them twice would take minutes."""


class SourceVariables(Variables, frozen=True, kw_only=True):
    """What names galaxies that somebody brings."""

    source: Annotated[
        str, Meta(description="a table, a published .pt or .npz, or a folder of shards or of FITS cutouts")
    ] = ""
    name: FolderName = ""
    yes: Flag = False
    fields: Annotated[str, Meta(description="columns of a table, as in u=MAG_U,z_spec=ZBEST")] = ""
    training: Flag = False

    @property
    def path(self) -> Path:
        """File or folder of the source."""
        return Path(self.source).expanduser()


class DatasetVariables(SourceVariables, frozen=True, kw_only=True):
    """The variables of `make dataset`."""

    rows: NumRows | None = None
    """Only the first of them."""
    where: Annotated[str, Meta(description='a condition, as in "r < 17.8 and z_spec > 0.1"')] = ""
    """Only those for which it holds."""
    n: Annotated[int, Meta(ge=1, le=10**9, description="a whole number from 1 to 1000000000")] | None = None
    model: ModelName = ""
    shard_mb: ShardMb = DEFAULT_SHARD_MB
    seed: Annotated[int, Meta(ge=0, lt=2**31, description="a whole number from 0 to 2147483647")] = 0


def plan_dataset(
    variables: DatasetVariables,
    *,
    root: Path,
    scratch: Path,
    tick: Callable[[int], None] = lambda _: None,
    expect: Callable[[int], None] = lambda _: None,
) -> DatasetPlan:
    """Plan the sample, synthetic galaxies, or those of a source, of which a table, or for training all, is read once.

    Parameters
    ----------
    variables : DatasetVariables
    root : Path
        Folder that holds `datasets/`.
    scratch : Path
        Folder for records of a table, needed until the dataset is made.
    tick : callable
        Called with the number of galaxies read.
    expect : callable
        Called with about how many will be read, once that is known; each as often as it is read.

    Raises
    ------
    UsageError
        If the variables contradict each other; the message names them.
    SourceError
        If the source is not what it seems.
    """
    name, n = variables.name, variables.n
    if variables.source:
        return _plan_source(variables, root, scratch, tick, expect)
    given = (
        ("FIELDS", variables.fields),
        ("TRAINING", int(variables.training)),
        ("MODEL", variables.model),
        ("ROWS", variables.rows),
        ("WHERE", variables.where),
    )
    for variable, value in given:
        if value:
            raise UsageError(f"{variable}={value} needs a SOURCE, as in SOURCE=my.csv.")
    if not name and n:
        raise UsageError(f"N={n} makes synthetic galaxies and needs a NAME, as in NAME=big N={n}.")
    if name in ("", SAMPLE):
        if n:
            raise UsageError(f"NAME={SAMPLE} is the sample of real galaxies, whose number is fixed: leave N out.")
        return sample_plan(root, shard_mb=variables.shard_mb, seed=variables.seed)
    if not n:
        raise UsageError(f"NAME={name} needs N, the number of synthetic galaxies, as in NAME={name} N=100000.")
    if not variables.yes:
        refuse_taken(name, SYNTHETIC, root=root, is_same=lambda text: text.startswith("Simulated"))
    return synthetic_plan(root, name=name, num_rows=n, shard_mb=variables.shard_mb, seed=variables.seed)


def _plan_source(
    variables: DatasetVariables,
    root: Path,
    scratch: Path,
    tick: Callable[[int], None],
    expect: Callable[[int], None],
) -> DatasetPlan:
    # Reading tables needs half a second of imports, which the sample does without.
    from scripts.data.selection import select_for_training
    from scripts.data.source import missing, open_source

    if variables.n:
        raise UsageError(f"N={variables.n} is the number of synthetic galaxies; SOURCE={variables.source} has its own.")
    if variables.name == SAMPLE:
        raise UsageError(f"NAME={SAMPLE} is the sample of real galaxies: give SOURCE={variables.source} another NAME.")
    path = variables.path
    if not path.exists():
        raise UsageError(missing(variables.source))
    name = settled_name(path, variables, root)
    card = _model_card(variables, root)
    num_times = 1 + variables.training + bool(variables.where)
    source = open_source(
        path,
        fields=variables.fields,
        scratch=scratch,
        seed=variables.seed,
        tick=tick,
        expect=lambda num_rows: expect(num_times * num_rows),
        card=card,
    )
    galaxies, report = source.galaxies, source.report
    which = "All rows; what is wrong is flagged."
    if variables.training:
        galaxies, report = select_for_training(source, tick)
        which = "Only clean rows with a label, each identifier once."
    if variables.where or variables.rows:
        whole = len(galaxies)
        galaxies, said = _part(variables, source, galaxies, tick)
        which = f"{which} {said}"
        report += CleaningReport(+Counter({"dropped": whole - len(galaxies)}), notes=(said,))
    what = ". ".join((source.description, *source.report.notes))
    return DatasetPlan(
        galaxies=galaxies,
        root=root,
        name=name,
        shard_mb=variables.shard_mb,
        seed=variables.seed,
        provenance=f"Made from {_fingerprint(path)}: {what}. {IMAGES[source.origin.image_origin]} {which}",
        origin=source.origin,
        report=report,
        description=source.description,
        source=str(path.resolve()),
        is_sequential=source.is_sequential,
    )


def _part(
    variables: DatasetVariables, source: "Source", galaxies: Galaxies, tick: Callable[[int], None]
) -> tuple["Kept", str]:
    """Return the galaxies that WHERE and ROWS leave, and what these say."""
    import numpy as np

    from scripts.data.selection import Kept
    from scripts.data.subset import rows_where

    rows = galaxies.kept if isinstance(galaxies, Kept) else np.arange(len(galaxies))
    said = []
    if variables.where:
        rows = np.intersect1d(rows, rows_where(source, variables.where, tick), assume_unique=True)
        said.append(f"Only galaxies with {variables.where}: {len(rows):,}.")
    if not len(rows):
        raise SourceError(f"WHERE={variables.where}: none of the galaxies for training is left.")
    if variables.rows:
        asked, num_rows = rows_asked(variables.rows), len(rows)
        rows = rows[:asked]
        which = "of them" if said else "rows"
        said.append(f"Only the first {asked:,} {which}." if num_rows > asked else f"All {num_rows:,} {which}.")
    return Kept(source.galaxies, rows), " ".join(said)


def settled_name(path: Path, variables: SourceVariables, root: Path) -> str:
    """Return the name of the dataset of a source, which no other source has.

    Raises
    ------
    UsageError
        If NAME is that of another source's dataset.
    """

    def is_same(provenance: str) -> bool:
        return provenance.startswith(f"Made from {_fingerprint(path)}:")

    if not variables.name:
        return free_name(path, root=root, is_same=is_same, may_replace=variables.yes)
    if not variables.yes:
        refuse_taken(variables.name, str(path.resolve()), root=root, is_same=is_same)
    return variables.name


def _model_card(variables: DatasetVariables, root: Path) -> ModelCard | None:
    """Return whose inputs the dataset is to hold; None for what the shipped model reads, or is there.

    A table without images needs none: the model that serves it reads its magnitudes. For training some are rendered.
    """
    if variables.model:
        return find_model(variables.model, root=root).card
    from scripts.data.user_table import is_table

    return without_images().card if is_table(variables.path) and not variables.training else None


IMAGES = {
    "rendered": "Images are rendered from the photometry.",
    "measured": "Images are those of the source.",
    "none": "There are no images.",
    None: "Images are those of the source.",
}


def _fingerprint(path: Path) -> str:
    """Say which very file or folder it was."""
    if path.is_dir():
        files = [child for child in path.iterdir() if child.is_file()]
        newest = max(child.stat().st_mtime_ns for child in files)
        return f"{path.name}/ ({len(files)} files, {sum(child.stat().st_size for child in files)} bytes, {newest})"
    facts = path.stat()
    if facts.st_size > MAX_HASHED_BYTES:
        return f"{path.name} ({facts.st_size} bytes, {facts.st_mtime_ns})"
    return f"{path.name} (sha256 {file_sha256(path)})"

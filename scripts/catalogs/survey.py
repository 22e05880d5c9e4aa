"""Which ranks of a run have predictions, which are lost, and what computed them."""

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from inference import contract
from inference.contract import LostRank, RankFailure, RankRecord, RankTask
from inference.pipeline import Predictions
from inference.summary import prove
from scripts.catalogs.errors import CatalogError

FACTS = ("weights_sha256", "engine", "precision", "code_version", "image_digest")
"""What a record says about how its redshifts came about; one value over a run, unless it was deployed meanwhile."""


@dataclass(frozen=True)
class Survey:
    """The ranks of a run, in rank order."""

    tasks: tuple[RankTask, ...]
    """The manifest."""

    lost: dict[int, LostRank]
    """Ranks without predictions that count."""

    facts: dict[str, tuple[str, ...]]
    """Distinct values of `FACTS`."""

    started_at_s: float
    """When the first rank that counts was entered [s since the epoch]; 0 when none does."""

    @property
    def num_rows(self) -> int:
        """Galaxies in the dataset as it was planned."""
        return sum(task.num_samples for task in self.tasks)

    @property
    def num_predicted(self) -> int:
        """Galaxies of the ranks that count."""
        return sum(task.num_samples for task in self.tasks if task.rank not in self.lost)


def survey(folder: Path, known_lost: Iterable[LostRank] = ()) -> Survey:
    """Look at every rank of a run, one at a time.

    Parameters
    ----------
    folder : Path
        The run's folder on this machine.
    known_lost : iterable of LostRank
        Ranks that Summarize found lost: their rows stay so, whatever arrived later.

    Raises
    ------
    CatalogError
        If it has no manifest: then nobody knows which rows in which order the run was to predict.
    """
    tasks = _read_manifest(folder)
    lost = {one.rank: one for one in known_lost}
    facts: dict[str, set[str]] = {name: set() for name in FACTS}
    began_s: list[float] = []
    for task in tasks:
        judged = lost.get(task.rank) or _judge(folder, task)
        if isinstance(judged, LostRank):
            lost[task.rank] = judged
            continue
        began_s.append(judged.started_at_s)
        for name in FACTS:
            facts[name].add(getattr(judged, name))
    distinct = {name: tuple(sorted(values)) for name, values in facts.items()}
    return Survey(tuple(tasks), lost, distinct, min(began_s, default=0.0))


def predictions_path(folder: Path, task: RankTask) -> Path:
    """Return where the predictions of a rank lie on this machine."""
    return folder / task.predictions_key.removeprefix(task.run_prefix)


def read_predictions(folder: Path, task: RankTask) -> Predictions:
    """Read the predictions of a rank.

    Raises
    ------
    CatalogError
        If the file changed or broke since the survey.
    """
    path = predictions_path(folder, task)
    try:
        predictions = Predictions.from_npz(path.read_bytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CatalogError(f"{path} is broken or of an older version ({error}). Run again.") from error
    if len(predictions.z_phot) != task.num_samples:
        raise CatalogError(f"{path} holds {len(predictions.z_phot)} rows; the manifest says {task.num_samples}.")
    return predictions


def name_lost(lost: Sequence[LostRank], *, limit: int = 5) -> str:
    """Name lost ranks with their reasons, the first few of them."""
    named = "; ".join(f"rank {one.rank}: {one.error}: {one.message}" for one in lost[:limit])
    return named + (f"; and {len(lost) - limit} more" if len(lost) > limit else "")


def _read_manifest(folder: Path) -> list[RankTask]:
    path = folder / contract.MANIFEST_KEY
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[RankTask])
    except FileNotFoundError as error:
        raise CatalogError(f"{path} is missing: the run ended before it was planned. Run again.") from error
    except msgspec.DecodeError as error:
        raise CatalogError(f"{path} is no manifest of this version ({error}). Run again.") from error


def _judge(folder: Path, task: RankTask) -> RankRecord | LostRank:
    """Hold a rank against the manifest, as Summarize does, and look whether its predictions are there."""
    record_path = folder / task.record_key.removeprefix(task.run_prefix)
    found = {task.record_key: record_path.read_bytes()} if record_path.exists() else {}
    proof = prove([task], found, _failures(folder, task))
    if proof.lost:
        return proof.lost[0]
    num_rows = _count_rows(predictions_path(folder, task))
    if num_rows == task.num_samples:
        return proof.records[0]
    shards = tuple(rows.key for rows in task.rows)
    message = f"{task.predictions_key} has {num_rows or 'no'} readable rows; the manifest says {task.num_samples}."
    return LostRank(rank=task.rank, error="MissingPredictions", message=message, shards=shards)


def _failures(folder: Path, task: RankTask) -> Iterator[RankFailure]:
    path = folder / task.failure_key.removeprefix(task.run_prefix)
    if path.exists():
        try:
            yield msgspec.json.decode(path.read_bytes(), type=RankFailure)
        except msgspec.DecodeError:
            return


def _count_rows(path: Path) -> int:
    """Return the rows of a predictions file from its table of contents; 0 when it is missing or broken."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("z_phot.npy") as member:
            np.lib.format.read_magic(member)
            return int(np.lib.format.read_array_header_1_0(member)[0][0])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return 0

"""A run's folder, read: what is missing, cut off or of another version is one error that names the file."""

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.checksum import file_sha256
from inference.contract import (
    COMBINED_KEY,
    MANIFEST_KEY,
    PUBLISHED_RECORD_KEYS,
    SUMMARY_KEY,
    LostRank,
    RankFailure,
    RankRecord,
    RankTask,
    RunSummary,
    T,
)
from inference.errors import RunFolderError
from inference.npz import read_arrays, shape_of
from inference.pipeline import Predictions
from inference.summary import StoredObject, decode_records, prove
from inference.text import printable_json

IMPORT_KEY = "import.json"
BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)
"""What numpy and zipfile raise for a file that is not an npz file."""

FACTS = ("model", "weights_sha256", "engine", "precision", "code_version", "image_digest")
"""What a record says about how its redshifts were computed; one value over a run, unless it was deployed meanwhile."""


class PartialRecord(msgspec.Struct, frozen=True, kw_only=True, rename=PUBLISHED_RECORD_KEYS):
    """A record as far as it goes: published ones lack our keys, and older ones the newest."""

    total_cpu_time_s: float | None = None
    execution_time_s_per_batch: float | None = None
    sample_persec: float | None = None
    throughput_bps: float | None = None
    total_cpu_memory_mb: float | None = None
    total_process_memory_mb: float | None = None
    total_model_memory_mb: float | None = None
    total_image_memory_mb: float | None = None
    library_overhead_memory_mb: float | None = None
    num_batches: float | None = None
    batch_size: float | None = None
    device: str | None = None
    data_path: str | None = None
    s3_num_requests: float | None = None
    s3_total_time: float | None = None
    predictions_key: str | None = None
    predictions: dict[str, Any] | None = None
    rank: int | None = None
    world_size: int | None = None
    run_id: str | None = None
    num_samples: float | None = None
    attempt: float | None = None
    cold_start: bool | None = None
    clock: dict[str, float] = {}
    peak_memory_bytes: float | None = None
    function_memory_mb: float | None = None
    num_threads: float | None = None
    engine: str | None = None
    engine_note: str | None = None
    precision: str | None = None
    model: str | None = None
    weights_sha256: str | None = None
    image_digest: str | None = None
    code_version: str | None = None
    started_at_s: float | None = None
    inputs: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class RunPredictions:
    """Every galaxy of a run whose file of predictions is there, in dataset order."""

    object_id: NDArray[np.int64]
    """Identifiers, shape (N,); -1 where a file has none."""

    z_phot: NDArray[np.float64]
    """Predicted redshifts, shape (N,); NaN where the input was rejected."""

    z_spec: NDArray[np.float64]
    """Spectroscopic redshifts, shape (N,); NaN where unknown."""

    sigma: NDArray[np.float64] | None
    """Calibrated half-width of the 68 % interval in redshift, shape (N,); None where none is known."""

    quality: NDArray[np.uint8] | None
    """Flags of `inference.quality`, shape (N,); None where no file has them."""

    pz: NDArray[np.float32] | None = None
    """Distributions of redshift, see `inference.distributions`, shape (N, P); NaN where the input was rejected, None
    where a file has none."""

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Galaxies with both redshifts."""
        return np.isfinite(self.z_phot) & np.isfinite(self.z_spec)


@dataclass(frozen=True)
class Inventory:
    """Which ranks of a run have predictions, which are lost, and what computed them."""

    tasks: tuple[RankTask, ...]
    """The manifest, in rank order."""

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


@dataclass(frozen=True)
class RunFolder:
    """The files that a run left on this machine.

    Raises
    ------
    RunFolderError
        By everything that reads a file which is cut off or of another version; by `summary` and `tasks` also where
        the file is missing.
    """

    path: Path
    """The folder."""

    @property
    def has_summary(self) -> bool:
        """False when the run ended before Summarize, or was imported."""
        return (self.path / SUMMARY_KEY).exists()

    @property
    def is_planned(self) -> bool:
        """False when the run ended before Initialize had written the manifest."""
        return (self.path / MANIFEST_KEY).exists()

    @cached_property
    def summary(self) -> RunSummary:
        """``summary.json``."""
        return self._read(self.path / SUMMARY_KEY, RunSummary)

    @cached_property
    def tasks(self) -> tuple[RankTask, ...]:
        """``manifest.json``, in rank order: every rank that was planned."""
        path = self.path / MANIFEST_KEY
        tasks = self._read(path, tuple[RankTask, ...])
        world_size = tasks[0].world_size if tasks else 0
        if not tasks or [task.rank for task in tasks] != list(range(world_size)):
            raise RunFolderError(f"{path} holds {len(tasks)} of {world_size} ranks. Fetch the run again, or run again.")
        planned = self.summary.num_samples_planned if self.has_summary else None
        if planned not in (None, num_samples := sum(task.num_samples for task in tasks)):
            raise RunFolderError(f"{path} holds {num_samples} galaxies; {SUMMARY_KEY} says {planned}. Run again.")
        return tasks

    @cached_property
    def records(self) -> tuple[RankRecord, ...]:
        """The records of the ranks that have one, by rank."""
        return self._records(RankRecord)

    @cached_property
    def partial_records(self) -> tuple[PartialRecord, ...]:
        """The same, as far as they go: of a published run, or of another version."""
        return self._records(PartialRecord)

    @cached_property
    def failures(self) -> tuple[RankFailure, ...]:
        """What the state machine noted about ranks that failed."""
        return tuple(self._read(path, RankFailure) for path in sorted(self.path.glob("failures/*.json")))

    def document(self, name: str) -> dict[str, Any]:
        """Return a JSON object as it is, whatever its version; nothing where there is no such file."""
        path = self.path / name
        return self._read(path, dict[str, Any]) if path.exists() else {}

    def file(self, task: RankTask, key: str) -> Path:
        """Return where an object of a rank is on this machine."""
        return self.path / key.removeprefix(task.run_prefix)

    def predictions(self, task: RankTask) -> Predictions:
        """Return what a rank predicted: every array of this version, as many rows as were planned."""
        path = self.file(task, task.predictions_key)
        try:
            predictions = Predictions.from_npz(path.read_bytes())
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except BROKEN as error:
            raise _unreadable(path, error) from error
        if len(predictions.z_phot) != task.num_samples:
            raise RunFolderError(f"{path} holds {len(predictions.z_phot)} rows; the manifest says {task.num_samples}.")
        return predictions

    def all_predictions(self) -> RunPredictions | None:
        """Return the predictions of all ranks with the arrays that every file has; None where there is no file."""
        files = self._own_files()
        parts = [self._own_arrays(path, sha256) for path, sha256 in files.items()]
        if not parts:
            return None
        shared = set.intersection(*map(set, parts))
        if len({part["pz"].shape[1:] for part in parts if "pz" in part}) > 1:
            shared.discard("pz")
        whole = {name: np.concatenate([part[name] for part in parts]) for name in shared}
        if "z_phot" not in whole:
            lacking = next(path for path, part in zip(files, parts, strict=True) if "z_phot" not in part)
            raise _unreadable(lacking, KeyError("z_phot"))
        num = len(whole["z_phot"])
        sigma, quality = whole.get("sigma"), whole.get("quality")
        return RunPredictions(
            object_id=whole.get("object_id", np.full(num, -1)).astype(np.int64),
            z_phot=whole["z_phot"].astype(np.float64),
            z_spec=whole.get("z_spec", np.full(num, np.nan)).astype(np.float64),
            sigma=None if sigma is None or not np.isfinite(sigma).any() else sigma.astype(np.float64),
            quality=None if quality is None else quality.astype(np.uint8),
            pz=whole.get("pz"),
        )

    def _own_files(self) -> dict[Path, str | None]:
        """Return the files of predictions that the records are about, with their checksums; all where these say none.

        Raises
        ------
        RunFolderError
            If one of them is missing.
        """
        folder = self.path / "predictions"
        there = sorted(path.name for path in folder.glob("*.npz"))
        bound: dict[str, str] = {
            Path(record.predictions_key).name: record.predictions.get("sha256", "")
            for record in self.partial_records
            if record.predictions_key and record.predictions
        }
        if there and (missing := sorted(bound.keys() - set(there))):
            raise self._missing(folder / missing[0])
        return {folder / name: bound.get(name) for name in there if not bound or name in bound}

    def _own_arrays(self, path: Path, sha256: str | None) -> dict[str, NDArray[Any]]:
        """Return the arrays of a file of predictions, which is proved where its checksum is known."""
        try:
            content = path.read_bytes()
            if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
                raise RunFolderError(f"{path} is not what the rank wrote: fetch the run again, or run again.")
            return read_arrays(content)
        except BROKEN as error:
            raise _unreadable(path, error) from error

    def inventory(self, known_lost: Iterable[LostRank] = ()) -> Inventory:
        """Judge every rank as Summarize does, and by its predictions; one at a time, however many there are.

        Parameters
        ----------
        known_lost : iterable of LostRank
            Ranks that Summarize found lost: their rows stay so, whatever arrived later.
        """
        lost = {one.rank: one for one in known_lost}
        facts: dict[str, set[str]] = {name: set() for name in FACTS}
        began_s: list[float] = []
        for task in self.tasks:
            judged = lost.get(task.rank) or self._judge(task)
            if isinstance(judged, LostRank):
                lost[task.rank] = judged
                continue
            began_s.append(judged.started_at_s)
            for name in FACTS:
                if value := getattr(judged, name):
                    facts[name].add(value)
        distinct = {name: tuple(sorted(values)) for name, values in facts.items()}
        return Inventory(self.tasks, lost, distinct, min(began_s, default=0.0))

    def _judge(self, task: RankTask) -> RankRecord | LostRank:
        path, failures = self.file(task, task.record_key), []
        records = decode_records({task.record_key: printable_json(path.read_bytes())} if path.exists() else {})
        with suppress(RunFolderError):
            failures.append(self._read(self.file(task, task.failure_key), RankFailure))
        there = _stored(self.file(task, task.predictions_key))
        stored = {task.predictions_key: there} if there else {}
        proof = prove([task], records, failures, stored, needs_binding=False)
        if proof.lost:
            return proof.lost[0]
        (record,) = proof.records
        num_rows = _count_rows(self.file(task, task.predictions_key))
        if num_rows == task.num_samples:
            return record
        shards = tuple(rows.key for rows in task.rows)
        message = f"{task.predictions_key} has {num_rows or 'no'} readable rows; the manifest says {task.num_samples}."
        return LostRank(rank=task.rank, error="MissingPredictions", message=message, shards=shards)

    def _records(self, kind: type[T]) -> tuple[T, ...]:
        combined = self.path / COMBINED_KEY
        if combined.exists():
            return self._read(combined, tuple[kind, ...])  # type: ignore[valid-type]
        return tuple(self._read(path, kind) for path in sorted(self.path.glob("ranks/*.json")))

    def _read(self, path: Path, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(printable_json(path.read_bytes()), type=kind)
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(path, error) from error

    def _missing(self, path: Path) -> RunFolderError:
        return RunFolderError(f"{path} is missing: `make status RUN={self.path.name}` says why.")


def read_summary(folder: Path) -> RunSummary | None:
    """Return the summary in a run's folder, or None when the run ended before there was one.

    Raises
    ------
    RunFolderError
        As `RunFolder.summary`.
    """
    found = RunFolder(folder)
    return found.summary if found.has_summary else None


def name_lost(lost: Sequence[LostRank], *, limit: int = 5) -> str:
    """Name lost ranks with their reasons, the first few of them."""
    named = "; ".join(f"rank {one.rank}: {one.error}: {one.message}" for one in lost[:limit])
    return named + (f"; and {len(lost) - limit} more" if len(lost) > limit else "")


def _unreadable(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be read ({error}): it is of another version, or was cut off. Fetch the run again, or run again."
    )


def _stored(path: Path) -> StoredObject | None:
    """Describe a file as an object; None where there is none."""
    try:
        return StoredObject(path.stat().st_size, sha256=file_sha256(path))
    except OSError:
        return None


def _count_rows(path: Path) -> int:
    """Return the rows of a file of predictions by its table of contents; 0 when it is missing or broken."""
    try:
        with path.open("rb") as file:
            return shape_of("z_phot", file)[0]
    except (*BROKEN, IndexError):
        return 0

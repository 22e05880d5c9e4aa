"""What the state machine carries: the plan of a run, and the work of each rank."""

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from inference.contract.comm import CommTask
from inference.contract.payload import Count, NonEmpty, Payload, Positive
from inference.contract.request import Engine, Precision, RunRequest

MANIFEST_KEY = "manifest.json"
SUMMARY_KEY, COMBINED_KEY = "summary.json", "combined_data.json"
PLAN_KEY = "plan.json"
PENDING_FOLDER = "pending/"
NO_DEADLINE_S = 930
"""Longer than any function runs: it answers before, if only that it timed out [s]."""


class RowRange(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Consecutive rows of one shard."""

    key: NonEmpty
    """Object key of the shard in the data bucket."""

    start_row: Count
    """First row, counted from 0."""

    stop_row: Positive
    """One past the last row."""

    etag: str | None = None
    """Entity tag of the object when the plan was made; a different one later means the shard was replaced."""

    sha256: str | None = None
    """Checksum of the whole shard as its ``dataset.json`` states it, where there is one."""

    crc32: bytes = b""
    """Checksums of its parts, see `ShardEntry`; what is read of it is proved by them. A record leaves them out."""

    size_bytes: Count | None = None
    """Size of the shard; null where no part is proved [bytes]."""

    @property
    def num_rows(self) -> int:
        """Number of rows in the range."""
        return self.stop_row - self.start_row


class RankTask(Payload, frozen=True, kw_only=True):
    """The work of one Map iteration: the rows of one rank. One element of ``manifest.json``."""

    run_id: NonEmpty
    """Name of the execution; every record repeats it, so that a stale one is recognised."""

    bucket: NonEmpty
    """Bucket of the results."""

    data_bucket: NonEmpty
    """Bucket of the shards."""

    run_prefix: NonEmpty
    """Where the run stores its results, ending in ``/``."""

    rank: Count
    """Position of this worker, ``0 <= rank < world_size``."""

    world_size: Positive
    """Number of ranks of the run."""

    rows: tuple[RowRange, ...]
    """Rows to predict, in dataset order."""

    num_samples: Positive
    """Number of rows over all ranges."""

    batch_size: Positive
    """Galaxies per batch as the user asked."""

    record_key: NonEmpty
    """Object key of the rank's record, written last: its presence is the commit."""

    predictions_key: NonEmpty
    """Object key of the rank's predictions, written before the record."""

    failure_key: NonEmpty
    """Object key under which the state machine notes that the rank failed."""

    profile: bool = False
    """Measure with torch's profiler."""

    engine: Engine = "auto"
    """Library that computes the redshifts."""

    precision: Precision = "fp32"
    """Precision of the products."""

    bands: tuple[NonEmpty, ...] | None = None
    """Bands of the shards' arrays, in their order; those of the model when absent."""

    qualifier: NonEmpty = "$LATEST"
    """Version or alias of the Infer function that the state machine invokes."""

    deadline_s: Positive = NO_DEADLINE_S
    """When the state machine invokes the rank again, while the first invocation goes on [s]."""

    comm: CommTask | None = None
    """How the rank meets the others after its work; null when it does not."""

    def __post_init__(self) -> None:
        """Refuse other keys than a rank's own: a manifest is read from a bucket, and they become paths of files."""
        own = rank_keys(self.run_prefix, self.rank)
        if (self.record_key, self.predictions_key, self.failure_key) != tuple(own.values()):
            raise ValueError(f"rank {self.rank} has other keys than follow from its number")


class RankKeys(TypedDict):
    """Where one rank's objects go."""

    record_key: str
    predictions_key: str
    failure_key: str


def is_rank_key(key: str, run_prefix: str, world_size: int) -> bool:
    """Return whether one of so many ranks writes an object of this key; keys follow from ranks, see `rank_keys`."""
    stem = key[key.rfind("/") + 1 : key.rfind(".")]
    is_rank = stem.isascii() and stem.isdigit() and len(stem) < 20 and int(stem) < world_size
    return is_rank and key in rank_keys(run_prefix, int(stem)).values()


def rank_keys(run_prefix: str, rank: int) -> RankKeys:
    """Return the three object keys of a rank; a retry writes to the same ones."""
    return {
        "record_key": f"{run_prefix}ranks/{rank:05d}.json",
        "predictions_key": f"{run_prefix}predictions/{rank:05d}.npz",
        "failure_key": f"{run_prefix}failures/{rank:05d}.json",
    }


class InferEvent(Payload, frozen=True, kw_only=True):
    """What the state machine hands to one Infer invocation."""

    task: RankTask
    """The rank's element of the manifest."""

    entered_at: str | None = None
    """When the Map entered the iteration, ISO 8601: the start of the queue."""

    attempt: Count = 0
    """Earlier attempts of this rank, 0 for the first."""


class RendezvousCheck(Payload, frozen=True, kw_only=True):
    """Instead of a task: Infer says whether a rendezvous server answers, and as whom it sees the function."""

    check: Literal["rendezvous"]
    """What is to be checked."""

    host: NonEmpty
    """DNS name or IPv4 address of the server."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    """Its port."""


class InitializeEvent(Payload, frozen=True, kw_only=True):
    """What the state machine hands to Initialize."""

    execution_name: NonEmpty
    """Name of the execution; becomes the run id."""

    request: Any
    """The execution's input, as the user wrote it: `parse_request` reads it."""


class ResumeRequest(Payload, frozen=True, kw_only=True):
    """The input of an execution that goes on with a run: the ranks that it lacks, under the keys of its plan."""

    bucket: NonEmpty
    """Bucket of the run's results."""

    pending_key: Annotated[str, Meta(pattern=f".+/{PENDING_FOLDER}[0-9]+[.]json$")]
    """Object key of those ranks, a JSON array of RankTask, in ``pending/`` of the run."""

    max_concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Ranks that run at the same time, where fewer than deployed should."""

    @property
    def run_prefix(self) -> str:
        """Where the run stores its results, ending in ``/``."""
        return self.pending_key.rpartition(PENDING_FOLDER)[0]

    @property
    def plan_key(self) -> str:
        """Object key of the run's plan."""
        return self.run_prefix + PLAN_KEY


class Resumption(Payload, frozen=True, kw_only=True):
    """One time that a run was resumed."""

    execution_name: NonEmpty
    """Name of the execution that went on with it."""

    num_ranks: Count
    """Ranks that it found without a valid record and predictions."""


class RunPlan(Payload, frozen=True, kw_only=True):
    """What Initialize returns, and writes to ``plan.json``: keys and counts, never data."""

    run_id: NonEmpty
    """Name of the execution."""

    bucket: NonEmpty
    """Bucket of the results."""

    run_prefix: NonEmpty
    """Where the run stores its results, ending in ``/``."""

    manifest_key: NonEmpty
    """Object key of the manifest, a JSON array of RankTask."""

    items_key: NonEmpty
    """Object key of what the Map reads: the manifest, or the ranks that a resumed run lacks."""

    request: RunRequest
    """The request with every default filled in."""

    notes: tuple[str, ...]
    """What was ignored or replaced in the request, in sentences."""

    num_samples: Positive
    """Rows over all ranks."""

    max_concurrency: Positive
    """Ranks that run at the same time: those beyond wait, since Lambda refuses what it has no room for."""

    started_at_s: float
    """When Initialize was entered, of a resumed run the last time [s since the epoch]."""

    planned_at_s: float
    """When the manifest was written or the run resumed: the start of the Map [s since the epoch]."""

    manifest_sha256: str | None = None
    """Checksum of the manifest as it was written; null in plans of older versions."""

    resumptions: tuple[Resumption, ...] = ()
    """How often the run was resumed, and what was left to do."""

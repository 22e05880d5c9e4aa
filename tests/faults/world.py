"""One run of three shards by four ranks, what is to go wrong in it, and what is judged afterwards."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from safetensors.numpy import load

from inference import contract
from inference.contract import DatasetCard, RunSummary, ShardEntry
from inference.errors import RunError
from inference.pipeline import Predictions
from tests.factories import make_arrays, make_shard_bytes
from tests.faults.bucket import NAME, Bucket, Fault, Reply
from tests.faults.machine import AwsError, Machine, StateFailed

RUN = "run-f"
PREFIX = "d/"
ROWS_PER_SHARD = 4
NUM_SHARDS = 3
WORLD_SIZE = 4
LIMIT_S = 10.0
"""No row in this process may take longer [s]."""

AWS_ERRORS = {"Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "Lambda.TooManyRequestsException"}
"""What may be named next to the product's own errors: a function that did not come to raise any."""

LOST_BY_RECORD = {"MissingRecord", "UnreadableRecord", "StaleRecord", "DuplicateRecord", "WrongRowCount", "WrongRecord"}
LOST_BY_RECORD |= {"MissingPredictions", "WrongPredictions"}
BUGS = {"ValueError", "UnicodeEncodeError", "MemoryError"}
"""Raised by rows that play a bug."""


@cache
def shard(number: int) -> bytes:
    """Return one of the shards."""
    return make_shard_bytes(ROWS_PER_SHARD, **make_arrays(ROWS_PER_SHARD, seed=number))


def make_card(contents: Mapping[str, bytes], **changes: Any) -> DatasetCard:
    """Return the card of a dataset."""
    entries = tuple(
        ShardEntry(
            name=name,
            num_rows=ROWS_PER_SHARD,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            crc32=zlib.crc32(content).to_bytes(4, "little"),
        )
        for name, content in contents.items()
    )
    fields = {"name": "tiny", "partition": "1MB", "num_rows": ROWS_PER_SHARD * len(contents), "shards": entries}
    fields |= {"arrays": {}, "seed": 0, "provenance": "noise"}
    return DatasetCard(**{**fields, **changes})


@dataclass
class Trouble:
    """One thing that happens to invocations of a state."""

    state: str
    act: Callable[[Callable[[], Any]], Any]
    """Given what calls the handler."""

    rank: int | None = None
    """Of Infer: which; any when None."""

    times: int = 10**9
    num_done: int = 0


@dataclass
class World:
    """A bucket with a dataset, and a run to be."""

    bucket: Bucket = field(default_factory=Bucket)
    request: Any = field(default_factory=lambda: {"bucket": NAME, "data_prefix": PREFIX, "world_size": WORLD_SIZE})
    troubles: list[Trouble] = field(default_factory=list)
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    late: list[Callable[[], Any]] = field(default_factory=list)
    """Invocations that were given up and end when the Map has."""

    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the functions that differ; empty ones are not set."""

    name: str = RUN
    """Name of the run."""

    def __post_init__(self) -> None:
        shards = {f"{number}.safetensors": shard(number) for number in range(NUM_SHARDS)}
        self.put_dataset(shards)

    def put_dataset(self, shards: Mapping[str, bytes], *, card: DatasetCard | None = None) -> None:
        """Replace the dataset."""
        self.bucket.objects = {PREFIX + name: content for name, content in shards.items()}
        self.bucket.objects[PREFIX + "dataset.json"] = contract.encode(card or make_card(shards))

    def fault(self, call: str, keys: str, reply: Reply, times: int = 10**9) -> None:
        """Let the proxy do something to requests."""
        self.bucket.faults.append(Fault(call, keys, reply, times))

    def own(self, name: str) -> str:
        """Return the key of an object of the run."""
        return f"runs/{self.name}/{name}"

    def script(self, state: str, event: dict[str, Any], call: Callable[[], Any]) -> Any:
        """Do what is to happen to an invocation."""
        rank = event["task"]["rank"] if "task" in event else None
        for one in self.troubles:
            is_its = one.state in (state, state.removesuffix("AtLast")) and one.rank in (None, rank)
            if is_its and one.num_done < one.times:
                one.num_done += 1
                return one.act(call)
        return call()

    def run(self) -> "Outcome":
        """Run to the end."""
        began_s = time.monotonic()
        machine = Machine(self.bucket, self.script)
        error, message = "", ""
        after = {**self.after, "InferRanks": self._after_map}
        try:
            machine.run(self.name, self.request, after=after)
        except StateFailed as failed:
            error, message = failed.error, str(failed)
        return Outcome(self, self.summary(), error, message, time.monotonic() - began_s)

    def summary(self) -> RunSummary | None:
        """Return the summary of the run, if there is one."""
        content = self.bucket.objects.get(self.own("summary.json"))
        return contract.decode(content, RunSummary) if content else None

    def _after_map(self) -> None:
        for call in self.late:
            call()
        self.after.get("InferRanks", lambda: None)()


@dataclass
class Outcome:
    """How a run ended."""

    world: World
    summary: RunSummary | None
    error: str
    message: str
    seconds: float
    """How long it took [s]."""

    @property
    def words(self) -> str:
        """The end in a few words, the same whenever the row runs."""
        if self.summary is None:
            return f"refused: {self.error}"
        if self.summary.complete:
            return f"complete, but FAILED: {self.error}" if self.error else "complete"
        lost = ", ".join(f"{one.rank} {one.error}" for one in self.summary.lost_ranks)
        end = {"": " (tolerated)", "IncompleteRunError": ""}.get(self.error, f", but FAILED: {self.error}")
        return f"lost: {lost}{end}"


def judge(outcome: Outcome, names: str, clean: Sequence[bytes], *, limit_s: float = LIMIT_S) -> None:
    """Judge any row: what counts is whole and right, what is lost is named, and it was over in time.

    Parameters
    ----------
    outcome : Outcome
    names : str
        What an error or a note must name.
    clean : sequence of bytes
        Predictions of every rank of a run in which nothing went wrong.
    limit_s : float
        No run may take longer [s].
    """
    world = outcome.world
    assert outcome.seconds < limit_s
    said = outcome.message
    known = {error.__name__ for error in subclasses(RunError)} | AWS_ERRORS | LOST_BY_RECORD | BUGS
    assert outcome.error in known | {""}
    if outcome.summary is None:
        assert outcome.error, "a run without a summary has failed"
        assert names in said, said
        return
    lost = {one.rank: one for one in outcome.summary.lost_ranks}
    assert outcome.summary.complete == (not lost)
    found: list[np.ndarray] = []
    for rank in range(outcome.summary.world_size):
        if rank in lost:
            assert lost[rank].error in known, lost[rank]
            assert lost[rank].shards, "a lost rank names its shards"
            continue
        content = world.bucket.objects[world.own(f"predictions/{rank:05d}.npz")]
        assert content == clean[rank], f"rank {rank} has other bits than a run without faults"
        found.append(Predictions.from_npz(content).object_id)
    ids = np.concatenate(found) if found else np.zeros(0, np.int64)
    assert len(set(ids.tolist())) == len(ids) == outcome.summary.num_samples
    if not lost:
        assert sorted(ids.tolist()) == sorted(planned_ids())
    told = [said, *outcome.summary.notes, *(f"{one.message} {one.shards}" for one in lost.values())]
    assert any(names in text for text in told), told


@cache
def planned_ids() -> tuple[int, ...]:
    """Return the identifiers of every galaxy of the dataset."""
    return tuple(int(one) for number in range(NUM_SHARDS) for one in load(shard(number))["object_id"])


def subclasses(kind: type) -> set[type]:
    """Return a class and all that are derived from it."""
    return {kind, *(found for child in kind.__subclasses__() for found in subclasses(child))}


# ------------------------------------------------------------------------------------- what an invocation does


def dies(call: Callable[[], Any]) -> Any:
    """Is killed before it has done anything."""
    raise AwsError("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: signal: killed")


def dies_after(call: Callable[[], Any]) -> Any:
    """Is killed when all is done, before it answers."""
    call()
    raise AwsError("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: signal: killed")


def fails_with(name: str) -> Callable[[Callable[[], Any]], Any]:
    """Return what AWS says of it, without any work done."""

    def act(call: Callable[[], Any]) -> Any:
        raise AwsError(name, f"{name} is what AWS says")

    return act


def has_a_bug(error: Exception) -> Callable[[Callable[[], Any]], Any]:
    """Return an exception that no one expected."""

    def act(call: Callable[[], Any]) -> Any:
        raise error

    return act


def is_late(world: World) -> Callable[[Callable[[], Any]], Any]:
    """Does not answer in time, and ends when the Map is over: a slow twin."""

    def act(call: Callable[[], Any]) -> Any:
        world.late.append(call)
        raise AwsError("States.Timeout")

    return act


def edit(world: World, name: str, change: Callable[[Any], Any]) -> Callable[[], None]:
    """Return what changes an object of the run, as JSON."""

    def act() -> None:
        key = world.own(name)
        world.bucket.objects[key] = json.dumps(change(json.loads(world.bucket.objects[key]))).encode()

    return act

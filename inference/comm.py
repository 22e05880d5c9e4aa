"""What ranks say to each other after their work: a barrier, then sums that Summarize can check to the last bit."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from inference import contract
from inference.contract import (
    AccuracySums,
    CommReport,
    CommSummary,
    PeerReport,
    RankComm,
    RankRecord,
    RankTask,
    ReducedValue,
    RunComm,
)
from inference.errors import FmiTimeout, RunError
from inference.fmi import tree

if TYPE_CHECKING:
    from inference.fmi.communicator import Communicator
    from inference.fmi.meeting import Store

REDUCED = ("total_cpu_time_s", "num_samples", *AccuracySums.__struct_fields__)
"""What is summed: the published loop time, the rows, and everything that accuracy is made of."""

COMM_NAME = "run"


def contribution(record: RankRecord) -> list[float]:
    """Return what a rank adds to the sums of `REDUCED`, NaN for what it does not know; counts are exact up to 2⁵³."""
    own = (record.total_cpu_time_s, record.num_samples)
    return [math.nan if value is None else float(value) for value in (*own, *msgspec.structs.astuple(record.accuracy))]


def talk(task: RankTask, record: RankRecord, store: "Store", *, latest_s: float) -> CommReport:
    """Meet the other ranks, wait for all of them, and add up; whatever goes wrong is reported, nothing is raised.

    Parameters
    ----------
    task : RankTask
        With `comm`.
    record : RankRecord
        What this rank did; it is safe already.
    store : Store
        The last resort for messages.
    latest_s : float
        When this process must have given up, whatever the plan says [s since the epoch].
    """
    assert task.comm is not None, "the plan says how ranks meet"
    # Imported when ranks talk: numpy and sockets are no business of a run that does not.
    from inference.fmi.communicator import Communicator
    from inference.fmi.config import Config
    from inference.fmi.tokens import RunToken

    arrived_at_s = time.time()
    times = _Times(arrived_at_s)
    comm: Communicator | None = None
    reduced: dict[str, float] | None = None
    why: str | None = None
    try:
        left_s = min(task.comm.meet_by_s, latest_s) - arrived_at_s
        if left_s <= 0:
            raise FmiTimeout(f"Rank {task.rank} came {-left_s:.1f} s after the others had stopped to wait.")
        host, port = contract.split_endpoint(task.comm.endpoint)
        token = RunToken.from_text(task.comm.token)
        prefix = f"{task.run_prefix}fmi/"
        config = Config(host=host, port=port, token=token, timeout_s=left_s, store=store, store_prefix=prefix)
        with Communicator(task.rank, task.world_size, config, COMM_NAME) as comm:
            comm.connect()
            times = times._replace(met_at_s=time.time())
            comm.timeout_s = max(1.0, arrived_at_s + left_s - time.time())
            comm.barrier()
            times = times._replace(released_at_s=time.time())
            reduced = _reduce(comm, contribution(record))
    except (RunError, OSError) as error:
        why = f"{type(error).__name__}: {error}"
    return CommReport(
        status="failed" if why else "ok",
        why=why,
        arrived_at_s=arrived_at_s,
        meeting_s=max(0.0, times.met_at_s - arrived_at_s),
        barrier_s=max(0.0, times.released_at_s - times.met_at_s) if times.released_at_s else 0.0,
        total_s=max(0.0, time.time() - arrived_at_s),
        peers=_peers(comm) if comm else (),
        reduced=reduced,
    )


class _Times(NamedTuple):
    met_at_s: float
    released_at_s: float = 0.0


def _reduce(comm: "Communicator", values: list[float]) -> dict[str, float] | None:
    import numpy as np

    total = np.zeros(len(values))
    comm.Reduce(np.array(values), total, root=0)
    if comm.rank > 0:
        return None
    # What one rank does not know, the run does not.
    return {name: value for name, value in zip(REDUCED, total.tolist(), strict=True) if not math.isnan(value)}


def _peers(comm: "Communicator") -> tuple[PeerReport, ...]:
    return tuple(
        PeerReport(
            peer=peer.peer,
            path=peer.path,
            wait_s=peer.wait_s,
            meet_s=peer.meet_s,
            num_bytes_sent=peer.num_bytes_sent,
            num_bytes_received=peer.num_bytes_received,
            num_messages_sent=peer.num_messages_sent,
            num_messages_received=peer.num_messages_received,
        )
        for peer in comm.stats().peers
    )


def merge(run_id: str, world_size: int, records: Sequence[RankRecord]) -> RunComm:
    """Describe how the ranks of a run met, and compare what they added up with what their records say.

    Parameters
    ----------
    run_id : str
        Name of the execution.
    world_size : int
        Ranks planned.
    records : sequence of RankRecord
        The valid ones, in rank order; those without a report did not get as far as the meeting, or died in it.
    """
    reports = {record.rank: record.comm for record in records if record.comm is not None}
    last_arrival_s = max((report.arrived_at_s for report in reports.values()), default=0.0)
    ranks = tuple(
        RankComm(rank=rank, waited_s=last_arrival_s - report.arrived_at_s, report=report)
        for rank, report in reports.items()
    )
    return RunComm(run_id=run_id, summary=_summarize(world_size, records, ranks), ranks=ranks)


def _summarize(world_size: int, records: Sequence[RankRecord], ranks: Sequence[RankComm]) -> CommSummary:
    peers = [(one.rank, peer) for one in ranks for peer in one.report.peers]
    # Each connection has two ends; where one end did not report, the other one counts.
    paths = {(min(rank, peer.peer), max(rank, peer.peer)): peer.path for rank, peer in peers}
    met = [one for one in ranks if one.report.status == "ok"]
    reduced = _compare(world_size, records, ranks)
    is_ok = len(met) == world_size and bool(reduced)
    last = min(ranks, key=lambda one: one.waited_s, default=None)
    return CommSummary(
        status="ok" if is_ok else "failed",
        why=None if is_ok else _why(world_size, records, ranks),
        num_met=len(met),
        paths={path: list(paths.values()).count(path) for path in sorted(set(paths.values()))},
        meet_s=max((peer.meet_s for _, peer in peers), default=0.0),
        skew_s=max((one.waited_s for one in ranks), default=0.0),
        last_rank=last.rank if last else None,
        waited_s=sum(one.waited_s for one in ranks),
        total_s=max((one.report.total_s for one in ranks), default=0.0),
        num_messages=sum(peer.num_messages_sent for _, peer in peers),
        num_bytes=sum(peer.num_bytes_sent for _, peer in peers),
        reduced=reduced,
    )


def _compare(world_size: int, records: Sequence[RankRecord], ranks: Sequence[RankComm]) -> dict[str, ReducedValue]:
    by_ranks = next((one.report.reduced for one in ranks if one.rank == 0), None)
    if by_ranks is None or len(records) != world_size:
        return {}
    # In the order of the tree: a floating-point sum depends on it.
    totals = tree.fold(
        [contribution(record) for record in records],
        lambda one, other: [first + second for first, second in zip(one, other, strict=True)],
    )
    return {
        name: ReducedValue(by_ranks=by_ranks[name], from_records=total, is_equal=by_ranks[name] == total)
        for name, total in zip(REDUCED, totals, strict=True)
        if name in by_ranks
    }


def _why(world_size: int, records: Sequence[RankRecord], ranks: Sequence[RankComm]) -> str:
    first = next((one.report.why for one in ranks if one.report.why), None)
    silent = sorted(set(range(world_size)) - {one.rank for one in ranks})
    if first:
        return first
    lost = sorted(set(range(world_size)) - {record.rank for record in records})
    named = ", ".join(map(str, (lost or silent)[:8]))
    return f"Ranks without a {'record' if lost else 'report of their meeting'}: {named}."

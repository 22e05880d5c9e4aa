"""How the ranks of a run met: connections, who waited for whom, and sums both ways."""

import msgspec

from inference.contract import FMI_KEY, RunComm
from scripts.command.console import counted
from scripts.reports.document import Block, Row, Section, Table
from scripts.reports.evidence import RunEvidence
from scripts.reports.quantities import count, seconds

MAX_ROWS = 64
"""Ranks that are listed: those that came last."""


def talking_sections(run: RunEvidence) -> tuple[Section, ...]:
    """Return how the ranks of a run met; nothing where they were not to."""
    path = run.folder / FMI_KEY
    if not path.exists():
        return ()
    try:
        met = msgspec.json.decode(path.read_bytes(), type=RunComm)
    except (OSError, msgspec.DecodeError) as error:
        return (Section("Ranks that talk", f"{path} cannot be read: {error}."),)
    blocks: list[Block] = [_ranks(met)]
    if met.summary.reduced:
        blocks.append(_sums(met))
    return (Section("Ranks that talk", _lead(met), blocks),)


def _lead(met: RunComm) -> str:
    found = met.summary
    paths = ", ".join(f"{number:,} {path}" for path, number in found.paths.items()) or "none"
    if found.status == "failed":
        return f"The meeting failed, which cost the run nothing else: {found.why} Connections: {paths}."
    return (
        f"All {counted(found.num_met, 'rank')} met. Connections: {paths}; the slowest took {seconds(found.meet_s)} "
        f"once both ranks were there. All waited for rank {found.last_rank}, {seconds(found.skew_s)} after the first. "
        f"{counted(found.num_messages, 'message')} of {count(found.num_bytes)} bytes in all."
    )


def _ranks(met: RunComm) -> Table:
    last = sorted(met.ranks, key=lambda one: (one.waited_s, one.rank))[:MAX_ROWS]
    rows = [
        (
            str(one.rank),
            seconds(one.waited_s),
            seconds(one.report.meeting_s),
            seconds(one.report.barrier_s),
            ", ".join(f"{peer.peer} {peer.path}" for peer in one.report.peers),
            count(sum(peer.num_messages_sent for peer in one.report.peers)),
            count(sum(peer.num_bytes_sent for peer in one.report.peers)),
            one.report.why or "met",
        )
        for one in last
    ]
    more = f"; the {MAX_ROWS} that came last of {len(met.ranks):,}" if len(met.ranks) > MAX_ROWS else ""
    columns = ("rank", "waited for the last", "connecting", "barrier", "connections", "messages", "bytes", "outcome")
    return Table(f"Ranks by arrival, the last first{more}", columns, rows, frozenset({0, 4, 7}))


def _sums(met: RunComm) -> Table:
    rows: list[Row] = [
        (name, repr(value.by_ranks), repr(value.from_records), "yes" if value.is_equal else "no")
        for name, value in met.summary.reduced.items()
    ]
    return Table("Sums over all ranks", ("sum", "by the ranks", "from the records", "equal"), rows, frozenset({0, 3}))

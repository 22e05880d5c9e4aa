"""Ranks that talk: what a rank needs to meet the others, what it reports, and what the run makes of the reports."""

from typing import Literal

from inference.contract.payload import Count, NonEmpty, Payload, Seconds
from inference.errors import InvalidRequestError

RENDEZVOUS_PORT = 10000
FMI_KEY = "fmi.json"


class CommTask(Payload, frozen=True, kw_only=True):
    """How a rank meets the others."""

    endpoint: NonEmpty
    """The rendezvous server, ``host:port``."""

    token: NonEmpty
    """What the ranks of this run share and no one else has; good until shortly after `meet_by_s`."""

    meet_by_s: float
    """When ranks stop waiting for each other [s since the epoch]."""


class PeerReport(Payload, frozen=True, kw_only=True):
    """One connection of a rank."""

    peer: Count
    """The rank at the other end."""

    path: Literal["direct", "relay", "store"]
    """How it came about: directly, through the rendezvous server, or through the bucket."""

    wait_s: Seconds
    """From asking for the peer until it was there too [s]."""

    meet_s: Seconds
    """From then until the connection was proved [s]."""

    num_bytes_sent: Count
    """Headers included [bytes]."""

    num_bytes_received: Count
    """Headers included [bytes]."""

    num_messages_sent: Count
    """Messages to the peer."""

    num_messages_received: Count
    """Messages from it."""


class CommReport(Payload, frozen=True, kw_only=True):
    """What came of a rank's meeting with the others."""

    status: Literal["ok", "failed"]
    """``failed`` costs the run nothing but what the ranks would have said to each other."""

    why: str | None = None
    """Why it failed: the error and its message."""

    arrived_at_s: float
    """When the rank's own work was safe and it turned to the others [s since the epoch]."""

    meeting_s: Seconds = 0.0
    """Until all its connections were there [s]."""

    barrier_s: Seconds = 0.0
    """In the barrier: until the last rank had come [s]."""

    total_s: Seconds
    """All of it [s]."""

    peers: tuple[PeerReport, ...] = ()
    """Its connections, by rank."""

    reduced: dict[str, float] | None = None
    """At rank 0: name to the sum over all ranks, added up by the ranks themselves."""


class ReducedValue(Payload, frozen=True, kw_only=True):
    """A sum over all ranks, once as the ranks added it up, once as Summarize does from the records."""

    by_ranks: float
    """What rank 0 had after the reduction."""

    from_records: float
    """The same sum, in the same order, of the records."""

    is_equal: bool
    """To the last bit."""


class CommSummary(Payload, frozen=True, kw_only=True):
    """How the ranks of a run met."""

    status: Literal["ok", "failed"]
    """``ok`` when every rank met its neighbours and the sums arrived."""

    why: str | None = None
    """The first reason of a rank for which it failed."""

    num_met: Count
    """Ranks whose meeting succeeded."""

    paths: dict[str, Count]
    """Kind of connection to their number."""

    meet_s: Seconds
    """Longest time that a connection took once both ranks were there [s]."""

    skew_s: Seconds
    """From the first rank's arrival at the barrier to the last one's [s]."""

    last_rank: Count | None = None
    """The rank for which all others waited."""

    waited_s: Seconds
    """What the other ranks waited for it, added up [s]."""

    total_s: Seconds
    """Longest meeting, barrier and reduction of a rank [s]."""

    num_messages: Count
    """Messages of all ranks."""

    num_bytes: Count
    """Their size, headers included [bytes]."""

    reduced: dict[str, ReducedValue]
    """Name to the sum over all ranks, both ways; empty when it did not arrive."""


class RankComm(Payload, frozen=True, kw_only=True):
    """One rank's part."""

    rank: Count
    """The rank."""

    waited_s: Seconds
    """From its arrival to that of the last rank [s]."""

    report: CommReport
    """What it reported."""


class RunComm(Payload, frozen=True, kw_only=True):
    """``fmi.json``: who met whom, how, and what came of it."""

    run_id: NonEmpty
    """Name of the execution."""

    summary: CommSummary
    """The whole run."""

    ranks: tuple[RankComm, ...]
    """Ranks that reported, in order."""


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``host``.

    Raises
    ------
    InvalidRequestError
        If it is neither.
    """
    host, colon, port = endpoint.strip().rpartition(":")
    if not colon:
        host, port = port, str(RENDEZVOUS_PORT)
    if not host or any(sign in host for sign in "/: ") or not port.isascii() or not port.isdigit():
        raise InvalidRequestError(
            f"rendezvous_endpoint {endpoint!r} is no host:port, such as rendezvous.example.org:{RENDEZVOUS_PORT}."
        )
    return host, int(port)

"""Ranks behind NATs of every kind, and over lines that lose packets: directly where it can be, else by the relay."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

from inference.fmi import Communicator, Config
from tests.namespaces import Network, enter, network, why_not
from tests.rendezvous import running

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

HOST, PORT = "10.77.0.1", 10000
NUM_SUMS = 5

PATIENCE_S = 120.0
"""A lost packet is sent again after waits that double; no claim of these tests is about this time."""


class Outcome(NamedTuple):
    """What a rank went through."""

    path: str
    wait_s: float
    """Until the other one was there too [s]."""
    meet_s: float
    """From then on [s]."""
    total: float


Case = list["Future[Outcome]"]
"""What two ranks go through, or will have."""


def meet(space: str, rank: int) -> Outcome:
    """Be a rank in a namespace."""
    enter(space)
    with Communicator(rank, 2, Config(host=HOST, port=PORT, timeout_s=PATIENCE_S), "nat") as comm:
        comm.connect()
        out = np.empty(3_000)
        for _ in range(NUM_SUMS):
            comm.Allreduce(np.full(3_000, rank + 1.0), out)
            comm.barrier()
        (peer,) = comm.stats().peers
    return Outcome(peer.path, peer.wait_s, peer.meet_s, float(out[-1]))


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, Case]]:
    """Start all cases at once: most of their time is waiting."""
    with ExitStack() as stack:
        places: dict[str, list[str]] = {}

        def build(label: str, hosts: Callable[[Network], list[str]]) -> None:
            net = stack.enter_context(network(f"n{len(places)}"))
            places[label] = hosts(net)
            stack.enter_context(running(host=HOST, port=PORT, space=net.server))

        for kind in MATRIX:
            build(kind, partial(behind_two_nats, kind=kind))
        build("one NAT", behind_one_nat)
        for lost_of in LOST_OF:
            build(f"one of {lost_of}", partial(in_public, lost_of=lost_of))
        pool = stack.enter_context(ThreadPoolExecutor(2 * len(places)))
        yield {
            label: [pool.submit(meet, space, rank) for rank, space in enumerate(hosts)]
            for label, hosts in places.items()
        }


def behind_two_nats(net: Network, kind: str) -> list[str]:
    return [net.behind(net.nat(f"r{side}", 2 + side, kind), f"h{side}", 1 + side) for side in (0, 1)]


def behind_one_nat(net: Network) -> list[str]:
    router = net.nat("r", 2, "keeps ports, drops")
    return [net.behind(router, f"h{side}", 1 + side) for side in (0, 1)]


def in_public(net: Network, lost_of: int) -> list[str]:
    return [net.public(f"h{side}", 2 + side, lost_of=lost_of) for side in (0, 1)]


MATRIX = {
    "keeps ports, drops": {"direct"},
    # The crossing of two packets decides: each one that comes too early is answered by RST, which closes the way.
    "keeps ports, resets": {"direct", "relay"},
    "another port, the same for all": {"direct"},
    "another port for everyone": {"relay"},
}

LOST_OF = (5, 20)
"""One packet of so many is lost."""


@pytest.mark.parametrize("kind", MATRIX)
def test_ranks_behind_two_nats_meet_within_5_s(kind: str, cases: dict[str, Case]) -> None:
    outcomes = [rank.result(PATIENCE_S + 10) for rank in cases[kind]]

    for outcome in outcomes:
        assert outcome.path in MATRIX[kind]
        assert outcome.total == 3.0
        assert outcome.meet_s < 5.0
    assert outcomes[0].path == outcomes[1].path


def test_ranks_behind_one_nat_meet_at_the_relay_within_5_s(cases: dict[str, Case]) -> None:
    for rank in cases["one NAT"]:
        outcome = rank.result(PATIENCE_S + 10)
        assert (outcome.path, outcome.total) == ("relay", 3.0)
        assert outcome.meet_s < 5.0


@pytest.mark.parametrize("lost_of", LOST_OF)
def test_lost_packets_cost_time_and_nothing_else(lost_of: int, cases: dict[str, Case]) -> None:
    for rank in cases[f"one of {lost_of}"]:
        outcome = rank.result(PATIENCE_S + 10)
        assert (outcome.path, outcome.total) == ("direct", 3.0)

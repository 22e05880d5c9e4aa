"""Ranks behind NATs of every kind, and over lines that lose packets: directly where it can be, else by the relay."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.namespaces import Network, network, why_not

WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

RANK = """
import json, sys, time
import numpy as np
from inference.fmi import Communicator, Config, FmiError
rank, repeats = int(sys.argv[1]), int(sys.argv[2])
began_s = time.monotonic()
with Communicator(rank, 2, Config(host="10.77.0.1", timeout_s=30), "nat") as comm:
    comm.connect()
    met_s = time.monotonic() - began_s
    out = np.empty(3_000)
    for _ in range(repeats):
        comm.Allreduce(np.full(3_000, rank + 1.0), out)
        comm.barrier()
    (peer,) = comm.stats().peers
print(json.dumps({"path": peer.path, "met_s": met_s, "wait_s": peer.wait_s, "sum": out[-1]}))
"""


@dataclass
class Case:
    """What two ranks went through."""

    ranks: "list[subprocess.Popen[str]]"

    def outcomes(self) -> list[dict[str, Any]]:
        """Return what both said."""
        said = [rank.communicate(timeout=40)[0] for rank in self.ranks]
        assert all(rank.returncode == 0 for rank in self.ranks), said
        return [json.loads(one.splitlines()[-1]) for one in said]


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, Case]]:
    """Start all cases at once: most of their time is waiting."""
    with ExitStack() as stack:
        found = {}

        def begin(label: str, net: Network, hosts: list[str], repeats: int = 3) -> None:
            # Not waited for: the ranks ask again until it is there.
            server = net.start(net.server, "-m", "handlers.rendezvous", "--host", "10.77.0.1")
            ranks = [net.start(host, "-c", RANK, str(rank), str(repeats)) for rank, host in enumerate(hosts)]
            for process in (server, *ranks):
                stack.callback(process.communicate)
                stack.callback(process.kill)
            found[label] = Case(ranks)

        for number, kind in enumerate(MATRIX):
            net = stack.enter_context(network(f"n{number}"))
            routers = [net.nat(f"r{side}", 2 + side, kind) for side in (0, 1)]
            begin(kind, net, [net.behind(router, f"h{side}", 1 + side) for side, router in enumerate(routers)])
        net = stack.enter_context(network("one"))
        router = net.nat("r", 2, "keeps ports, drops")
        begin("one", net, [net.behind(router, f"h{side}", 1 + side) for side in (0, 1)])
        for percent in (5, 20):
            net = stack.enter_context(network(f"l{percent}"))
            hosts = [net.public(f"h{side}", 2 + side, loss_percent=percent) for side in (0, 1)]
            begin(f"loss {percent}", net, hosts, repeats=50 // percent)
        yield found


MATRIX = {
    "keeps ports, drops": {"direct"},
    # The crossing of two packets decides: each one that comes too early is answered by RST, which closes the way.
    "keeps ports, resets": {"direct", "relay"},
    "another port, the same for all": {"direct"},
    "another port for everyone": {"relay"},
}


@pytest.mark.parametrize("kind", MATRIX)
def test_ranks_behind_two_nats_meet_within_5_s(kind: str, cases: dict[str, Case]) -> None:
    outcomes = cases[kind].outcomes()

    for outcome in outcomes:
        assert outcome["path"] in MATRIX[kind]
        assert outcome["sum"] == 3.0
        assert outcome["met_s"] - outcome["wait_s"] < 5.0
    assert outcomes[0]["path"] == outcomes[1]["path"]


def test_ranks_behind_one_nat_meet_at_the_relay_within_5_s(cases: dict[str, Case]) -> None:
    for outcome in cases["one"].outcomes():
        assert (outcome["path"], outcome["sum"]) == ("relay", 3.0)
        assert outcome["met_s"] - outcome["wait_s"] < 5.0


@pytest.mark.parametrize("percent", [5, 20])
def test_lost_packets_cost_time_and_nothing_else(percent: int, cases: dict[str, Case]) -> None:
    for outcome in cases[f"loss {percent}"].outcomes():
        assert (outcome["path"], outcome["sum"]) == ("direct", 3.0)

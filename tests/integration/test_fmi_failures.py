"""Ranks that die, stay away, lie or disagree: one clear error on every rank, and no hang."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import fmi
from inference.fmi import Communicator, Config, meeting, tokens, tree
from inference.fmi.collectives import SEGMENT_BYTES
from inference.fmi.mesh import ABORT_GRACE_S
from tests.ranks import CALLS, PATIENCE_S, rank_processes, run_ranks
from tests.rendezvous import nowhere, running, take

KEY = b"k" * 32


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with running() as server:
        yield server.address


@pytest.fixture(scope="module")
def strict_address() -> Iterator[tuple[str, int]]:
    """Return the address of a server that asks for tokens."""
    with running(key=KEY) as server:
        yield server.address


# -------------------------------------------------------------------------------------------------- lost ranks


@pytest.mark.parametrize(
    ("call", "victim"),
    [
        *((call, number % 4) for number, call in enumerate(CALLS)),
        *(("barrier", victim) for victim in (1, 2, 3)),
        ("bcast", 0),
    ],
)
def test_a_killed_rank_ends_the_collective_on_all_others(call: str, victim: int, address: tuple[str, int]) -> None:
    with rank_processes(4, call, address) as ranks:
        for rank in ranks:
            rank.wait_until_it_is_at_work()

        ranks[victim].kill()
        began_s = time.monotonic()
        errors = [rank.error() for number, rank in enumerate(ranks) if number != victim]

    # By the end of its connection, not by the deadline, which is far.
    assert time.monotonic() - began_s < PATIENCE_S / 2
    for kind, lost, message in errors:
        assert (kind, lost) == ("PeerLost", (victim,)), message
        assert f"ank {victim} is lost" in message


def test_an_exception_on_one_rank_ends_the_others_with_its_words(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> None:
        comm.barrier()
        if comm.rank == 2:
            raise ZeroDivisionError("2 / 0")
        comm.barrier()

    with pytest.raises(ZeroDivisionError):
        run_ranks(4, job, address)


def test_the_others_learn_of_an_exception(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> str:
        if comm.rank == 2:
            comm.barrier()
            comm.__exit__(ZeroDivisionError, ZeroDivisionError("2 / 0"), None)
            return "raised"
        with pytest.raises(fmi.FmiError, match="Rank 2 stopped: ZeroDivisionError: 2 / 0") as caught:
            list(iter(comm.barrier, "never"))
        assert caught.value.ranks == (2,)
        with pytest.raises(fmi.FmiError, match="Rank 2 stopped"):
            comm.barrier()
        return "informed"

    assert run_ranks(4, job, address) == ["informed", "informed", "raised", "informed"]


def test_a_rank_that_has_left_is_not_waited_for(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> None:
        comm.barrier()
        if comm.rank == 0:
            comm.recv(1, fmi.types(fmi.datatypes.int))

    outcome = run_ranks(2, job, address)[0]

    assert isinstance(outcome, fmi.PeerLost)
    assert "has closed its communicator" in str(outcome)


def test_who_leaves_early_disturbs_no_one_who_does_not_need_it(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> int:
        comm.barrier()
        if comm.rank == 3:
            return 0
        kind = fmi.types(fmi.datatypes.int)
        for number in range(50):
            if comm.rank == 0:
                comm.send(number, 1, kind)
            elif comm.rank == 1:
                assert comm.recv(0, kind) == number
        return 1

    assert run_ranks(4, job, address) == [1, 1, 1, 0]


# ------------------------------------------------------------------------------------------------- absent ranks


def test_ranks_that_do_not_come_are_named_on_every_rank(address: tuple[str, int]) -> None:
    gate = threading.Barrier(6)
    began_s = time.monotonic()

    def job(comm: Communicator) -> None:
        if comm.rank in (1, 5):
            gate.wait(PATIENCE_S)
            return
        try:
            comm.barrier()
        finally:
            gate.wait(PATIENCE_S)

    outcomes = run_ranks(6, job, address, timeout_s=2.0)

    assert time.monotonic() - began_s < PATIENCE_S / 2
    present = [outcome for rank, outcome in enumerate(outcomes) if rank not in (1, 5)]
    assert all(isinstance(outcome, fmi.FmiTimeout) and isinstance(outcome, TimeoutError) for outcome in present)
    assert set().union(*(outcome.ranks for outcome in present)) == {1, 5}
    assert "did not meet rank 1" in str(outcomes[0])


def test_a_rank_that_meets_but_does_not_answer_is_named(address: tuple[str, int]) -> None:
    is_over = threading.Event()

    def job(comm: Communicator) -> None:
        comm.connect(deadline=time.monotonic() + PATIENCE_S)
        if comm.rank == 1:
            is_over.wait(PATIENCE_S)
            return
        try:
            comm.recv(1, fmi.types(fmi.datatypes.int))
        finally:
            is_over.set()

    outcome = run_ranks(2, job, address, timeout_s=0.3)[0]

    assert isinstance(outcome, fmi.FmiTimeout)
    assert outcome.ranks == (1,)
    assert "waited 2.3 s for rank 1" in str(outcome)


def test_a_large_sum_may_take_longer_than_one_of_its_messages(address: tuple[str, int]) -> None:
    def slow(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        time.sleep(0.35)
        return one + other

    def job(comm: Communicator) -> float:
        comm.connect(tree.ring(comm.rank, comm.size), deadline=time.monotonic() + PATIENCE_S)
        mine, out = np.ones(12 * SEGMENT_BYTES // 8), np.empty(12 * SEGMENT_BYTES // 8)
        comm.Allreduce(mine, out, op=fmi.Operation("slow", slow))
        return float(out.sum() / out.size)

    # Eight additions each, one after the other, where a message is waited for 2.1 s.
    began_s = time.monotonic()
    assert run_ranks(3, job, address, timeout_s=0.1) == [3.0] * 3
    assert time.monotonic() - began_s > 0.1 + ABORT_GRACE_S


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_named(host: str) -> None:
    with nowhere() as (_, port):
        outcomes = run_ranks(2, lambda comm: comm.barrier(), (host, port), timeout_s=0.5)

    assert all(isinstance(outcome, fmi.FmiTimeout) for outcome in outcomes)
    assert all(f"the rendezvous server {host}:{port} cannot be reached" in str(outcome) for outcome in outcomes)


def test_ranks_that_wait_outlast_a_restart_of_the_server(address: tuple[str, int]) -> None:
    # An address of its own: the port is free for a moment, and other tests take free ports.
    host = "127.0.0.77"
    with running(host=host) as first:
        port = first.address[1]
        outcome: list[Any] = []
        thread = threading.Thread(
            target=lambda: outcome.extend(run_ranks(3, _barrier_once_released, first.address, name="restart"))
        )
        released.clear()
        thread.start()
        first.waiting(1)
    with running(host=host, port=port):
        released.set()
        thread.join(PATIENCE_S)

    assert outcome == ["met"] * 3


released = threading.Event()


def _barrier_once_released(comm: Communicator) -> str:
    if comm.rank == 2:
        released.wait(PATIENCE_S)
    comm.barrier()
    return "met"


# ------------------------------------------------------------------------------------------------ proof and lies


def signed(*, expires_at_s: int = 2_000_000_000, key: bytes = KEY, run: str = "run-1") -> tokens.RunToken:
    return tokens.mint(key, run, expires_at_s=expires_at_s)


def test_ranks_with_the_token_of_their_run_meet(strict_address: tuple[str, int]) -> None:
    assert run_ranks(3, lambda comm: comm.barrier(), strict_address, token=signed()) == [None] * 3


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(key=b"x" * 32), "not made with the server's key"),
        (signed(expires_at_s=1_000_000_000), "expired"),
        (None, "not made with the server's key"),
    ],
)
def test_a_token_that_does_not_fit_is_one_error_at_once(
    token: tokens.RunToken | None, reason: str, strict_address: tuple[str, int]
) -> None:
    began_s = time.monotonic()

    outcomes = run_ranks(2, lambda comm: comm.barrier(), strict_address, token=token)

    assert time.monotonic() - began_s < PATIENCE_S / 2
    for outcome in outcomes:
        assert isinstance(outcome, fmi.AuthError)
        assert reason in str(outcome)


def start(size: int, rank: int, config: Config, name: str, outcomes: dict[str, Any], label: str) -> threading.Thread:
    def run() -> None:
        try:
            with Communicator(rank, size, config, name) as comm:
                comm.barrier()
                outcomes[label] = "met"
        except fmi.FmiError as error:
            outcomes[label] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_peer_of_another_run_under_the_same_name_is_refused(address: tuple[str, int]) -> None:
    # The server asks for no token here: only the ranks' own proof is between them.
    ours, other = signed(), signed(run="run-2")

    class Liar(tokens.RunToken):
        def name(self, rank: int, other: int) -> bytes:
            return ours.name(rank, other)

    liar = Liar(run=other.run, expires_at_s=other.expires_at_s, key=other.key)
    outcomes: dict[str, Any] = {}
    threads = [
        start(2, 0, Config(host=address[0], port=address[1], token=ours, timeout_s=3.0), "c", outcomes, "ours"),
        start(2, 1, Config(host=address[0], port=address[1], token=liar, timeout_s=3.0), "c", outcomes, "liar"),
    ]
    for thread in threads:
        thread.join(PATIENCE_S)

    assert {label: type(outcome) for label, outcome in outcomes.items()} == {
        "ours": fmi.AuthError,
        "liar": fmi.AuthError,
    }
    assert "does not have the key of this run" in str(outcomes["ours"])


def test_two_processes_of_the_same_rank_are_found_out(address: tuple[str, int]) -> None:
    outcomes: dict[str, Any] = {}
    config = Config(host=address[0], port=address[1], token=signed(), timeout_s=PATIENCE_S)
    threads = [start(2, 1, config, "twins", outcomes, label) for label in ("one", "other")]
    for thread in threads:
        thread.join(PATIENCE_S)

    for outcome in outcomes.values():
        assert isinstance(outcome, fmi.AuthError)
        assert "Two processes claim to be rank 1" in str(outcome)


# ------------------------------------------------------------------------------------------------ disagreements


def test_different_calls_are_one_error_on_all_ranks(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> None:
        if comm.rank == 2:
            comm.Scan(np.zeros(2), np.zeros(2))
        else:
            comm.Allreduce(np.zeros(2), np.zeros(2))

    outcomes = run_ranks(3, job, address)

    assert {type(outcome) for outcome in outcomes} == {fmi.MessageMismatchError}
    said = "Rank (2 is at step scan .* rank 0 at allreduce|0 is at step allreduce .* rank 2 at scan) .* the same order"
    assert all(re.match(said, str(outcome)) for outcome in outcomes)


@pytest.mark.parametrize(
    ("theirs", "match"), [(np.zeros(3), "shape \\(3,\\)"), (np.zeros(2, np.float32), "sent float32")]
)
def test_another_length_or_dtype_is_one_error_on_all_ranks(
    theirs: np.ndarray, match: str, address: tuple[str, int]
) -> None:
    def job(comm: Communicator) -> None:
        mine = theirs if comm.rank == 2 else np.zeros(2)
        comm.Allreduce(mine, mine.copy())

    outcomes = run_ranks(3, job, address)

    assert {type(outcome) for outcome in outcomes} == {fmi.MessageMismatchError}
    assert all(re.search(match, str(outcome)) for outcome in outcomes)


def test_a_message_beyond_the_limit_is_refused_before_it_is_sent(address: tuple[str, int]) -> None:
    def job(comm: Communicator) -> None:
        comm.connect()
        if comm.rank == 0:
            comm.Send(np.zeros(100), 1)
        else:
            comm.Recv(np.zeros(100), 0)

    for outcome in run_ranks(2, job, address, max_message_bytes=799):
        assert isinstance(outcome, fmi.MessageMismatchError)
        assert "larger than the limit of 799" in str(outcome)


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_root_out_of_range_is_refused(rank: int, address: tuple[str, int]) -> None:
    for outcome in run_ranks(2, lambda comm: comm.Bcast(np.zeros(1), root=rank), address):
        assert isinstance(outcome, fmi.FmiError)
        assert f"There is no rank {rank} among 2" in str(outcome)


def test_no_rank_talks_to_itself(address: tuple[str, int]) -> None:
    (outcome,) = run_ranks(1, lambda comm: comm.Send(np.zeros(1), 0), address)

    assert "cannot talk to itself" in str(outcome)


# ---------------------------------------------------------------------------------------------------- other ways


class Folder:
    """A store of objects in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{threading.get_ident()}")
        part.write_bytes(content)
        part.rename(path)

    def list(self, prefix: str) -> list[str]:
        folder = self.path / prefix
        if not folder.is_dir():
            return []
        return [prefix + path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."]


def everything(comm: Communicator) -> tuple[set[str], float]:
    comm.barrier()
    large, out = np.full(50_000, comm.rank + 0.5), np.empty(50_000)
    comm.Allreduce(large, out)
    total = comm.allreduce(1.0, fmi.func(fmi.op.sum), fmi.types(fmi.datatypes.double))
    return {peer.path for peer in comm.stats().peers}, total + float(out[-1])


def test_the_relay_carries_what_no_direct_connection_can(address: tuple[str, int]) -> None:
    outcomes = run_ranks(4, everything, address, paths=("relay",))

    assert outcomes == [({"relay"}, 4.0 + 8.0)] * 4


def test_without_a_server_the_object_store_carries_it(tmp_path: Path) -> None:
    with nowhere() as address:
        outcomes = run_ranks(4, everything, address, store=Folder(tmp_path), store_prefix="run/fmi/")

    assert outcomes == [({"store"}, 4.0 + 8.0)] * 4


def test_one_rank_without_the_server_takes_the_others_to_the_store(address: tuple[str, int], tmp_path: Path) -> None:
    outcomes: dict[str, Any] = {}
    with nowhere() as (host, away):
        configs = [
            Config(host=host, port=port, store=Folder(tmp_path), timeout_s=PATIENCE_S) for port in (address[1], away)
        ]
        threads = [start(2, rank, config, "mixed", outcomes, str(rank)) for rank, config in enumerate(configs)]
        for thread in threads:
            thread.join(PATIENCE_S)

    assert outcomes == {"0": "met", "1": "met"}


def test_what_an_earlier_attempt_left_in_the_store_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = taken.getsockname()
    config: dict[str, Any] = {"store": Folder(tmp_path), "timeout_s": 1.0}
    assert run_ranks(2, lambda comm: comm.barrier(), nowhere, name="again", **config) == [None, None]

    outcomes: dict[str, Any] = {}
    start(2, 1, Config(host=nowhere[0], port=nowhere[1], **config), "again", outcomes, "late").join(20)

    assert isinstance(outcomes["late"], fmi.FmiTimeout)
    assert outcomes["late"].ranks == (0,)


def test_strangers_on_the_port_are_not_taken_for_a_peer(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers: list[socket.socket] = []
    listening = meeting._listening

    def visited(interface: str, port: int) -> socket.socket:
        """Have a stranger at the door before anyone else can be there."""
        made = listening(interface, port)
        strangers.append(socket.create_connection(made.getsockname(), timeout=PATIENCE_S))
        strangers[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return made

    monkeypatch.setattr(meeting, "_listening", visited)

    outcomes = run_ranks(6, everything, address)

    assert [total for _, total in outcomes] == [6.0 + 18.0] * 6
    # Every one was answered before it was refused: the ranks did take them up.
    assert {bytes(take(stranger, 4)) for stranger in strangers} == {b"FMI2"}
    for stranger in strangers:
        stranger.close()

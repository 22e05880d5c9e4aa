"""How two ranks find each other, and what they say where they do not: servers, stores and latecomers of the test."""

import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from inference.errors import AuthError, FmiError, FmiTimeout
from inference.fmi import meeting, tokens, wire
from inference.fmi.hello import Handshake
from inference.fmi.meeting import Connection, Meeting, Venue, meet_all
from inference.fmi.wire import Kind, Reply, Status, pack_address, pack_reply
from tests.rendezvous import DEADLINE_S, nowhere, running, take

KEY = b"k" * 32
NAME = b"test.0_1"
SHORT_S = 1.0
"""Long enough for what a rank tries first, on a busy machine too."""


class Shelf:
    """An object store that all ranks of a process can use."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.num_listed = 0
        self.written: list[tuple[str, bytes]] = []

    def read(self, key: str) -> bytes:
        return self.objects[key]

    def write(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.written.append((key, content))

    def list(self, prefix: str) -> list[str]:
        self.num_listed += 1
        return [key for key in list(self.objects) if key.startswith(prefix)]


def make_venue(address: tuple[str, int] = ("127.0.0.1", 1), **changes: Any) -> Venue:
    host, port = address
    return Venue(
        **{
            "host": host,
            "port": port,
            "name": lambda rank, other: wire.open_name("test", rank, other),
            "key": KEY,
            "paths": ("direct", "relay"),
            **changes,
        }
    )


def meet(rank: int, venue: Venue, *, within_s: float = DEADLINE_S) -> Connection:
    """Have one of the ranks 0 and 1 meet the other."""
    met, failed = meet_all(rank, [1 - rank], venue, time.monotonic() + within_s)
    for error in failed.values():
        raise error
    return met[1 - rank]


@contextmanager
def met(*venues: Venue, between: Callable[[], object] = lambda: None) -> Iterator[list[Connection]]:
    """Have both ranks meet; they may have venues of their own, and something happen before the second begins."""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, 0, venues[0])
        between()
        second = pool.submit(meet, 1, venues[-1])
        found = [first.result(DEADLINE_S), second.result(DEADLINE_S)]
    try:
        yield found
    finally:
        for one in found:
            if one.sock:
                one.sock.close()


@contextmanager
def server(answer: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[str, int]]:
    """Serve connection after connection by a function, which gets what the client said first."""

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                answer(client, client.recv(200))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_S)


def wait_for(claim: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not claim():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def wait_for_the_end(client: socket.socket) -> None:
    while client.recv(100):
        pass


# ------------------------------------------------------------------------------------------------ that it works


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_who_came_first_waited_and_both_can_talk(path: meeting.Path) -> None:
    moments_s = [time.monotonic()]

    def wait_a_while() -> None:
        there.waiting(1)
        moments_s.append(time.monotonic())
        time.sleep(0.1)  # what is measured
        moments_s.append(time.monotonic())

    with running() as there, met(make_venue(there.address, paths=(path,)), between=wait_a_while) as (first, second):
        began_s, waited_from_s, waited_to_s, ended_s = *moments_s, time.monotonic()
        assert [(one.peer, one.path) for one in (first, second)] == [(1, path), (0, path)]
        assert first.wait_s >= waited_to_s - waited_from_s
        assert 0 < first.wait_s + first.meet_s <= ended_s - began_s
        assert 0 < second.wait_s + second.meet_s <= ended_s - waited_to_s
        assert first.meet_s > 0 < second.meet_s
        assert first.sock
        assert second.sock
        first.sock.sendall(b"hello")
        second.sock.settimeout(DEADLINE_S)
        assert take(second.sock, 5) == b"hello"


def test_a_connection_sends_at_once_and_outlives_silence() -> None:
    with running() as there, met(make_venue(there.address)) as connections:
        for sock in (one.sock for one in connections):
            assert sock
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle_s, every_s, count = (
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle_s + every_s * count <= 120


def test_what_meets_on_this_machine_cannot_be_reached_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = []
    listening = meeting._listening
    monkeypatch.setattr(
        meeting, "_listening", lambda interface, port: (interfaces.append(interface), listening(interface, port))[1]
    )

    with running() as there, met(make_venue(there.address, paths=("direct",))):
        assert set(interfaces) == {"127.0.0.1"}


def test_ranks_that_no_direct_connection_joins_meet_at_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(interface: str, port: int) -> socket.socket:
        time.sleep(0.05)  # what is measured
        raise OSError("no listener here")

    monkeypatch.setattr(meeting, "_listening", refuse)

    with running() as there, met(make_venue(there.address)) as connections:
        assert {one.path for one in connections} == {"relay"}
        assert all(one.meet_s >= 0.05 for one in connections)


def test_ranks_that_have_only_the_relay_wait_there_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "RELAY_S", 0.05)

    def wait_a_while() -> None:
        there.waiting(1)
        time.sleep(0.2)  # longer than at the relay as a last resort

    with running() as there, met(make_venue(there.address, paths=("relay",)), between=wait_a_while):
        assert there.rendezvous.metrics.departed == 0


def test_many_ranks_are_met_at_once_and_who_cannot_be_met_is_a_failure_of_its_own() -> None:
    token = tokens.mint(KEY, "run", expires_at_s=2_000_000_000)

    def name(rank: int, other: int) -> bytes:
        return wire.open_name("unsigned", rank, other) if 2 in (rank, other) else token.name(rank, other)

    def meet_two(rank: int) -> tuple[dict[int, Connection], dict[int, FmiError]]:
        venue = make_venue(there.address, name=name)
        return meet_all(rank, [1 - rank, 2], venue, time.monotonic() + DEADLINE_S)

    with running(key=KEY) as there, ThreadPoolExecutor(2) as pool:
        found = list(pool.map(meet_two, (0, 1)))

    assert [(list(connections), list(failures)) for connections, failures in found] == [([1], [2]), ([0], [2])]
    assert {type(failures[2]) for _, failures in found} == {AuthError}
    for connections, _ in found:
        for one in connections.values():
            assert one.sock
            one.sock.close()
    assert meet_all(0, [], make_venue(), time.monotonic()) == ({}, {})


# ------------------------------------------------------------------------------------------- that it does not


def why_not(venue: Venue, *, within_s: float = SHORT_S) -> str:
    began_s, worked_s = time.monotonic(), time.thread_time()
    with pytest.raises(FmiTimeout) as failed:
        meet(0, venue, within_s=within_s)
    took_s = time.monotonic() - began_s
    assert time.thread_time() - worked_s < within_s / 5, "it sleeps"
    assert failed.value.ranks == (1,)
    found = re.fullmatch(r"Rank 0 did not meet rank 1 within (\d+\.\d) s: (.*)", str(failed.value))
    assert found
    assert within_s <= float(found[1]) <= took_s + 0.1 < DEADLINE_S
    return found[2]


def test_a_rank_that_does_not_come_is_named() -> None:
    with running() as there:
        assert why_not(make_venue(there.address)) == "it did not come to the rendezvous."


def test_a_server_that_accepts_and_says_nothing_is_waited_for_no_longer_than_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meeting, "CONNECT_S", 1000.0)
    with server(lambda client, _: wait_for_the_end(client)) as address:
        why_not(make_venue(address))


def test_a_server_that_does_not_accept_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "CONNECT_S", 1000.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        assert "cannot be reached (timed out)" in why_not(make_venue(full.getsockname()))


def test_a_server_that_hangs_up_is_named_and_asked_again_after_a_pause_each() -> None:
    asked: list[bytes] = []
    with server(lambda client, said: asked.append(said)) as (host, port):
        said = why_not(make_venue((host, port), paths=("relay",)))

    assert said == f"the rendezvous server {host}:{port} hung up."
    assert 2 <= len(asked) <= SHORT_S / 0.05 + 1


def test_the_relay_as_a_last_resort_is_left_for_another_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "RELAY_S", 0.02)
    asked: list[Kind] = []

    def answer(client: socket.socket, said: bytes) -> None:
        request = wire.parse_request(said)
        assert request
        asked.append(request.kind)
        if request.kind is Kind.RELAY:
            wait_for_the_end(client)

    with server(answer) as address:
        why_not(make_venue(address))

    assert asked[:6] == [Kind.MEET, Kind.CHECK, Kind.RELAY] * 2


def test_a_connection_through_the_relay_has_its_time_to_prove_that_it_leads_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meeting, "RELAY_S", 1000.0)
    asked: list[bytes] = []
    ask = Meeting._ask
    monkeypatch.setattr(Meeting, "_ask", lambda self, request: (asked.append(request), ask(self, request))[1])

    def pass_on(client: socket.socket, said: bytes) -> None:
        client.sendall(AT_THE_RELAY)
        wait_for_the_end(client)

    with server(pass_on) as address:
        why_not(make_venue(address, paths=("relay",)))
    assert len(asked) == 1


@pytest.mark.parametrize("paths", [("direct",), ("relay",), ("direct", "relay")])
def test_a_server_that_refuses_says_why(paths: tuple[meeting.Path, ...]) -> None:
    def refuse(client: socket.socket, said: bytes) -> None:
        request = wire.parse_request(said)
        if request and request.kind is not Kind.MEET:
            assert request.name == NAME
            client.sendall(pack_reply(Reply(Status.FULL, ("127.0.0.1", 1))))

    with server(refuse) as (host, port):
        assert why_not(make_venue((host, port), paths=paths)) == f"the rendezvous server {host}:{port} answered FULL."


@pytest.mark.parametrize("paths", [("direct",), ("relay",)])
@pytest.mark.parametrize("status", [Status.TOKEN_INVALID, Status.TOKEN_EXPIRED])
def test_a_token_that_is_refused_ends_the_search_at_once(status: Status, paths: tuple[meeting.Path, ...]) -> None:
    def refuse(client: socket.socket, said: bytes) -> None:
        if said.startswith(b"\0"):
            client.sendall(pack_reply(Reply(status, ("127.0.0.1", 1))))

    what = {Status.TOKEN_INVALID: "not made with the server's key", Status.TOKEN_EXPIRED: "expired"}[status]
    with server(refuse) as address, pytest.raises(AuthError, match=f"refuses rank 0: .* is {what}") as refused:
        meet(0, make_venue(address, paths=paths))
    assert refused.value.ranks == (0,)


@pytest.mark.parametrize("paths", [("direct",), ("relay",)])
def test_a_server_of_another_protocol_is_named(paths: tuple[meeting.Path, ...]) -> None:
    def answer(client: socket.socket, said: bytes) -> None:
        if said.startswith(b"\0"):
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with server(answer) as address:
        assert "The answer is not of this protocol" in why_not(make_venue(address, paths=paths))


def send_to(partner: tuple[str, int], asked: list[bytes]) -> Callable[[socket.socket, bytes], None]:
    """Serve whoever asks for a partner that this is its address."""

    def answer(client: socket.socket, said: bytes) -> None:
        asked.append(said)
        client.sendall(pack_address(client.getpeername()) + pack_address(partner))
        wait_for_the_end(client)

    return answer


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_partner_that_cannot_be_connected_with_is_named_and_asked_for_again(
    is_elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "PUNCH_S", 0.3)
    monkeypatch.setattr(meeting, "RETRY_S", (1000.0, 1000.0))
    asked: list[bytes] = []

    # The kernel sends nothing from 127.0.0.1 to another machine.
    with nowhere() as gone, server(send_to(("192.0.2.1", 9) if is_elsewhere else gone, asked)) as address:
        said = why_not(make_venue(address, paths=("direct",)))
    assert said == "neither a direct connection nor one through the relay came about."
    assert len(asked) > 1


def test_a_port_that_cannot_be_listened_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(interface: str, port: int) -> socket.socket:
        raise OSError(f"{interface} has no {port}")

    monkeypatch.setattr(meeting, "_listening", refuse)
    with nowhere() as gone, server(send_to(gone, [])) as address:
        said = why_not(make_venue(address, paths=("direct",)))
    assert re.fullmatch(r"its own port (\d+) cannot be listened on \(127\.0\.0\.1 has no \1\)\.", said)


def test_a_partner_that_does_not_answer_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "PUNCH_S", 0.3)
    monkeypatch.setattr(meeting, "RETRY_S", (0.001, 0.002))
    monkeypatch.setattr(meeting, "NEW_SYN_S", (0.1, 0.12))
    asked: list[bytes] = []
    tried: list[tuple[str, int]] = []
    start = meeting._start_connecting

    def start_connecting(interface: str, port: int, partner: tuple[str, int]) -> socket.socket | None:
        tried.append(partner)
        return start(interface, port, partner)

    monkeypatch.setattr(meeting, "_start_connecting", start_connecting)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
        server(send_to(full.getsockname(), asked)) as address,
    ):
        why_not(make_venue(address, paths=("direct",)))
    assert len(asked) < len(tried) <= len(asked) + SHORT_S / 0.1


def test_an_address_that_is_not_this_machines_cannot_be_bound() -> None:
    with pytest.raises(OSError, match="assign"):
        meeting._bound("192.0.2.1")


AT_THE_RELAY = pack_reply(Reply(Status.OK, ("127.0.0.1", 1)))


def speak(client: socket.socket, *, rank: int, other: int, key: bytes = KEY) -> None:
    """Say hello, right behind the server's reply, and prove the key."""
    handshake = Handshake(rank, other, key, set())
    client.sendall(AT_THE_RELAY + handshake.hello())
    while received := client.recv(handshake.num_bytes_wanted):
        if answer := handshake.feed(received):
            client.sendall(answer)


STRANGERS: dict[str, Callable[[socket.socket], None]] = {
    "it does not speak this protocol": lambda client: client.sendall(AT_THE_RELAY + b"HTTP" + bytes(24)),
    "it does not have the key": lambda client: speak(client, rank=1, other=0, key=b"another"),
    "it is rank 2 and looks for rank 0": lambda client: speak(client, rank=2, other=0),
}


@pytest.mark.parametrize("why", STRANGERS)
def test_who_does_not_prove_to_be_the_other_rank_is_no_reason_to_stop_and_named_in_the_end(why: str) -> None:
    came: list[bytes] = []

    def pass_on(client: socket.socket, said: bytes) -> None:
        STRANGERS[why](client)
        wait_for_the_end(client)
        came.append(said)

    with (
        server(pass_on) as address,
        pytest.raises(AuthError, match=f"should be rank 1, but {why}") as failed,
    ):
        meet(0, make_venue(address, paths=("relay",)), within_s=SHORT_S)
    assert failed.value.ranks == (1,)
    assert came


def test_a_second_process_of_the_same_rank_ends_the_search_at_once() -> None:
    def pass_on(client: socket.socket, said: bytes) -> None:
        speak(client, rank=0, other=1)

    with server(pass_on) as address, pytest.raises(AuthError, match="Two processes claim to be rank 0") as failed:
        meet(0, make_venue(address, paths=("relay",)))
    assert failed.value.ranks == (0,)


@pytest.mark.parametrize("limit", [meeting.MAX_CANDIDATES, 0])
def test_who_says_nothing_at_the_relay_is_left_in_the_end_and_at_once_where_there_are_too_many(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "RELAY_S", 1000.0)
    monkeypatch.setattr(meeting, "MAX_CANDIDATES", limit)
    ended_s: list[float] = []

    def pass_on(client: socket.socket, said: bytes) -> None:
        client.sendall(AT_THE_RELAY)
        wait_for_the_end(client)
        ended_s.append(time.monotonic())

    with server(pass_on) as address:
        searched_to_s = time.monotonic() + SHORT_S
        why_not(make_venue(address, paths=("relay",)))
    assert len(ended_s) == 1
    assert (ended_s[0] < searched_to_s) == (limit == 0)


def test_the_server_is_asked_again_after_it_was_away() -> None:
    # An address of its own: other tests take free ports.
    host = "127.0.0.78"
    with nowhere() as (_, port):
        pass

    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(meet, 0, make_venue((host, port)))
        time.sleep(0.2)  # it finds no one
        with running(host=host, port=port) as there:
            connections = [meet(1, make_venue(there.address)), early.result(DEADLINE_S)]
    for one in connections:
        assert one.sock
        one.sock.close()


# ----------------------------------------------------------------------------------------------------- the store


@pytest.fixture
def store() -> Shelf:
    return Shelf()


def test_where_there_is_no_server_ranks_meet_in_the_store(store: Shelf) -> None:
    with nowhere() as address:
        venue = make_venue(address, paths=("direct", "relay", "store"), store=store, store_prefix="messages/")
        with met(venue) as (first, second):
            assert [(one.peer, one.path, one.sock) for one in (first, second)] == [
                (1, "store", None),
                (0, "store", None),
            ]
            assert first.store_keys == second.store_keys[::-1]
            assert len({*first.store_keys}) == 2
            assert all(key.startswith("messages/0_1/") and key.endswith("/") for key in first.store_keys)
    assert all(key.startswith("messages/0_1/") for key in store.objects)


def test_ranks_that_have_only_the_store_meet_there(store: Shelf) -> None:
    with met(make_venue(paths=("store",), store=store)) as (first, second):
        assert (first.path, second.path) == ("store", "store")


def test_a_rank_goes_to_the_store_when_two_rounds_have_failed(store: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    num_asked = []
    monkeypatch.setattr(store, "write", lambda key, content: num_asked.append(len(asked)))
    with server(lambda client, said: asked.append(said)) as address:
        why_not(make_venue(address, paths=("relay", "store"), store=store))

    assert num_asked == [meeting.ROUNDS_BEFORE_STORE] == [2]


def test_a_rank_with_the_server_goes_to_the_store_where_the_other_has_none(
    store: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "GLANCE_S", 0.05)
    paths = ("direct", "relay", "store")
    with running() as there, nowhere() as away:
        venues = [make_venue(address, paths=paths, store=store) for address in (there.address, away)]
        with met(*venues) as (first, second):
            assert (first.path, second.path) == ("store", "store")


EARLIER = {"0_1/hello-0": b"earlier", "0_1/hello-1": b"earlier-too", "0_1/choice": b"earlier-too"}
LEFT = [dict(some) for count in range(4) for some in itertools.combinations(EARLIER.items(), count)]
"""What earlier attempts of either rank, or of both, may have left."""


@pytest.mark.parametrize("left", LEFT, ids=lambda left: ", ".join(left) or "nothing")
def test_whatever_earlier_attempts_left_and_whoever_looks_first_both_agree(
    left: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause_s in ("GLANCE_S", "ANNOUNCED_GLANCE_S"):
        monkeypatch.setattr(meeting, pause_s, 0.0)

    for order in itertools.product((0, 1), repeat=7):
        store = Shelf()
        store.objects |= left
        venue = make_venue(paths=("store",), store=store)
        ranks = [Meeting(rank, 1 - rank, venue, time.monotonic() + DEADLINE_S, set()) for rank in (0, 1)]
        for rank in (*order, 0, 1, 0, 1):
            if ranks[rank]._chosen is None:
                ranks[rank]._announce()
                ranks[rank]._glance()

        first, second = (one.meet().store_keys for one in ranks)
        assert first == second[::-1], order
        assert "earlier" not in first[0], order
        assert len({*store.written}) == len(store.written) <= 5, order


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_an_earlier_attempt_chose_is_chosen_anew(
    order: tuple[int, int], store: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "ANNOUNCED_GLANCE_S", 0.01)
    store.objects |= EARLIER
    own = f"0_1/hello-{order[0]}"

    with nowhere() as address, ThreadPoolExecutor(1) as pool:
        venue = make_venue(address, paths=("direct", "store"), store=store)
        early = pool.submit(meet, order[0], venue)
        wait_for(lambda: b"earlier" != store.objects[own] != b"earlier-too")
        late = meet(order[1], venue)

        assert late.store_keys == early.result(DEADLINE_S).store_keys[::-1]
        assert not late.store_keys[0].startswith("0_1/earlier")


def test_a_greeting_that_the_store_did_not_take_is_written_again(store: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "ANNOUNCED_GLANCE_S", 0.01)
    failures = [OSError("busy")] * 3
    write = store.write

    def write_later(key: str, content: bytes) -> None:
        if failures:
            raise failures.pop()
        write(key, content)

    monkeypatch.setattr(store, "write", write_later)
    with nowhere() as address, met(make_venue(address, paths=("direct", "store"), store=store)) as (first, second):
        assert first.store_keys == second.store_keys[::-1]


@pytest.mark.parametrize("paths", [("direct", "relay"), ("direct", "relay", "store")])
def test_a_store_is_only_used_where_it_is_a_path(
    paths: tuple[meeting.Path, ...], store: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "GLANCE_S", 0.0)
    with nowhere() as address:
        why_not(make_venue(address, paths=paths, store=store))

    assert bool(store.objects) == bool(store.num_listed) == ("store" in paths)
    assert store.num_listed <= 6, "less and less often"


def test_a_rank_that_waits_for_the_server_looks_into_the_store_only_now_and_then(
    store: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "GLANCE_S", 1000.0)
    with server(lambda client, _: wait_for_the_end(client)) as address:
        said = why_not(make_venue(address, paths=("direct", "store"), store=store))

    assert said == "it did not come to the rendezvous."
    assert (store.objects, store.num_listed) == ({}, 0)


def test_a_store_that_fails_is_the_reason(store: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "GLANCE_S", 0.05)

    def fail(prefix: str) -> list[str]:
        raise OSError("no space")

    monkeypatch.setattr(store, "list", fail)
    with running() as there:
        said = why_not(make_venue(there.address, paths=("direct", "store"), store=store))
    assert said == "the object store does not help either (no space)."


def test_the_key_of_the_ranks_is_not_printed() -> None:
    assert repr(KEY) not in repr(make_venue())

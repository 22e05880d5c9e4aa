"""The connections of one rank, with sockets of the test at their other ends: what is awaited, refused and passed on."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from inference.errors import AuthError, FmiError, FmiTimeout, MessageMismatchError, PeerLost, StorageUnavailableError
from inference.fmi import mesh as module
from inference.fmi.config import Config
from inference.fmi.frame import ABORT, BYE, COLLECTIVE, LARGE_PAYLOAD_BYTES, POINT, FrameReader, Message, header
from inference.fmi.link import StoreLink
from inference.fmi.meeting import Connection
from inference.fmi.mesh import ABORT_GRACE_S, Mesh, Want, collective_tag
from tests.unit.test_fmi_meeting import Shelf

LIKE = np.zeros(1)
TAG = collective_tag("allreduce", 3)
HEAD = header(Message(COLLECTIVE, TAG, LIKE))
SHORT_S = 0.05

MakeMesh = Callable[..., Mesh]


@pytest.fixture
def others() -> Iterator[dict[int, socket.socket]]:
    """Return the other ends of what rank 0 has met, by rank."""
    ends: dict[int, socket.socket] = {}
    yield ends
    for end in ends.values():
        end.close()


@pytest.fixture
def deadlines() -> list[float]:
    """Return until when rank 0 wanted to meet others, meeting by meeting."""
    return []


@pytest.fixture
def make_mesh(
    others: dict[int, socket.socket], deadlines: list[float], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeMesh]:
    """Make rank 0 of a few, connected with some."""
    made: list[Mesh] = []

    def meet_all(
        _rank: int, missing: list[int], _venue: object, deadline: float
    ) -> tuple[dict[int, Connection], dict[int, FmiError]]:
        met = {}
        deadlines.append(deadline)
        for peer in missing:
            ours, others[peer] = socket.socketpair()
            met[peer] = Connection(peer=peer, path="direct", sock=ours)
        return met, {}

    def make(*peers: int, wait_s: float = 60.0, max_message_bytes: int = 10**6) -> Mesh:
        venue = Config(host="127.0.0.1").venue("test")
        # A wait is as long as this, and the grace.
        mesh = Mesh(0, 8, venue, timeout_s=wait_s - ABORT_GRACE_S, max_message_bytes=max_message_bytes)
        mesh.connect(peers)
        made.append(mesh)
        return mesh

    monkeypatch.setattr(module, "meet_all", meet_all)
    yield make
    for mesh in made:
        mesh.close()


def wire(message: Message) -> bytes:
    return header(message) + message.array.tobytes()


def step(*values: float, tag: int = TAG) -> bytes:
    return wire(Message(COLLECTIVE, tag, np.array(values)))


def abort(error: str, message: str, *ranks: int) -> bytes:
    facts = json.dumps({"error": error, "message": message, "ranks": ranks}).encode()
    return wire(Message(ABORT, 0, np.frombuffer(facts, np.uint8)))


def heard(mesh: Mesh, *peers: int) -> list[float]:
    return [float(array[0]) for array in mesh.hear(peers, HEAD, TAG, LIKE)]


def exchanged(mesh: Mesh, *peers: int) -> list[float]:
    return [float(array[0]) for array in mesh.exchange([], [Want(peer, COLLECTIVE, TAG, LIKE) for peer in peers])]


WAYS = pytest.mark.parametrize("wait", [heard, exchanged])
"""Both ways to wait: small steps at once, and anything."""


def said(end: socket.socket) -> list[Message]:
    """Return what came at the other end so far."""
    reader = FrameReader(10**6)
    end.setblocking(False)
    try:
        while piece := end.recv(2**16):
            reader.feed(piece)
    except BlockingIOError:
        pass
    return list(reader.messages)


@WAYS
def test_what_comes_is_in_the_order_that_was_asked_for(
    wait: Callable[..., list[float]], make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, 2, 4)
    for peer in (4, 1, 2):
        others[peer].sendall(step(float(peer)))

    assert wait(mesh, 1, 2, 4) == [1.0, 2.0, 4.0]
    assert [mesh.links[peer].num_waiting_bytes for peer in (1, 2, 4)] == [0, 0, 0]


@WAYS
def test_all_ranks_that_are_silent_for_too_long_are_named(
    wait: Callable[..., list[float]], make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    wait_s = 0.2
    mesh = make_mesh(1, 2, 4, wait_s=wait_s)
    others[2].sendall(step(2.0))
    began_s, worked_s = time.monotonic(), time.thread_time()

    with pytest.raises(FmiTimeout, match=f"Rank 0 waited {wait_s:g} s for ranks 1, 4") as caught:
        wait(mesh, 1, 2, 4)

    assert caught.value.ranks == (1, 4)
    assert wait_s <= time.monotonic() - began_s < 5
    assert time.thread_time() - worked_s < wait_s / 4, "it sleeps"
    with pytest.raises(FmiTimeout, match="for ranks 1, 4") as again:
        mesh.connect([])
    assert again.value.ranks == (1, 4)
    for peer in (1, 2, 4):
        (last,) = said(others[peer])
        assert json.loads(last.array.tobytes()) == {
            "error": "FmiTimeout",
            "message": str(caught.value),
            "ranks": [1, 4],
        }


@WAYS
@pytest.mark.parametrize("teller", [1, 2])
def test_the_error_of_another_rank_is_raised_here_whoever_tells_it(
    wait: Callable[..., list[float]], teller: int, make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, 2)
    others[teller].sendall(abort("AuthError", "rank 5 lies", 5))

    with pytest.raises(AuthError, match="rank 5 lies") as caught:
        wait(mesh, 1)

    assert caught.value.ranks == (5,)
    (last,) = said(others[3 - teller])
    assert json.loads(last.array.tobytes())["message"] == "rank 5 lies"


@pytest.mark.parametrize("error", ["SystemExit", "PlanError", "json", "no such name"])
def test_an_error_that_is_none_of_ours_becomes_the_plain_one(
    error: str, make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1)
    others[1].sendall(abort(error, "why", 3))

    with pytest.raises(FmiError, match="why") as caught:
        heard(mesh, 1)

    assert type(caught.value) is FmiError


def test_a_rank_that_gives_up_without_a_reason_is_lost(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1)
    others[1].sendall(wire(Message(ABORT, 0, np.frombuffer(b"{", np.uint8))))

    with pytest.raises(PeerLost, match="Rank 1 gave up without a reason") as caught:
        heard(mesh, 1)

    assert caught.value.ranks == (1,)


@WAYS
@pytest.mark.parametrize("lost", [1, 2])
def test_a_connection_that_ends_loses_its_rank(
    wait: Callable[..., list[float]], lost: int, make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, 2)
    others[lost].close()

    with pytest.raises(PeerLost, match=f"Rank {lost} is lost: its connection ended") as caught:
        wait(mesh, 1)

    assert caught.value.ranks == (lost,)


@WAYS
@pytest.mark.parametrize("is_gone", [True, False])
def test_who_says_goodbye_is_waited_for_no_longer_and_disturbs_no_one_else(
    wait: Callable[..., list[float]], is_gone: bool, make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, 2)
    others[2].sendall(step(2.0) + wire(Message(BYE, 0, np.empty(0, np.uint8))))
    if is_gone:
        others[2].close()
    others[1].sendall(step(1.0))

    assert wait(mesh, 1, 2) == [1.0, 2.0]
    with pytest.raises(PeerLost, match="Rank 2 has closed its communicator, and rank 0 still waits for it") as caught:
        wait(mesh, 2)
    assert caught.value.ranks == (2,)


def test_a_message_of_who_has_said_goodbye_is_not_waited_for(
    make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1)
    others[1].sendall(wire(Message(POINT, 4, LIKE)) + wire(Message(BYE, 0, np.empty(0, np.uint8))))
    mesh.exchange([], [Want(1, POINT, 4, LIKE)])

    with pytest.raises(PeerLost, match="Rank 1 has closed its communicator"):
        mesh.exchange([], [Want(1, POINT, 4, LIKE)])


@WAYS
def test_who_has_said_goodbye_and_gone_is_not_watched_any_more(
    wait: Callable[..., list[float]], make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, 2)
    others[2].sendall(wire(Message(BYE, 0, np.empty(0, np.uint8))))
    others[2].close()
    for value in (1.0, 2.0, 3.0):
        others[1].sendall(step(value))
        assert exchanged(mesh, 1) == [value]
    assert mesh.links[2].is_ended

    with pytest.raises(PeerLost, match="Rank 2 has closed its communicator"):
        wait(mesh, 2)


@WAYS
def test_another_step_than_the_one_awaited_is_named(
    wait: Callable[..., list[float]], make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1)
    others[1].sendall(step(1.0, tag=collective_tag("scan", 4)))

    with pytest.raises(
        MessageMismatchError, match=r"Rank 1 is at step scan \(call 4\), rank 0 at allreduce \(call 3\)"
    ) as error:
        wait(mesh, 1)

    assert error.value.ranks == (1,)


@WAYS
def test_another_shape_than_the_one_awaited_is_named(
    wait: Callable[..., list[float]], make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1)
    others[1].sendall(step(1.0, 2.0))

    with pytest.raises(
        MessageMismatchError, match=r"Rank 1 sent float64 of shape \(2,\); rank 0 expects .* \(1,\)"
    ) as error:
        wait(mesh, 1)

    assert error.value.ranks == (1,)


def test_a_step_goes_to_all_and_waits_for_a_kernel_that_is_full(
    make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, 2, wait_s=SHORT_S)
    mesh.tell((1, 2), HEAD, np.array([5.0]))
    assert [[message.array[0] for message in said(others[peer])] for peer in (1, 2)] == [[5.0], [5.0]]

    array = np.zeros(1500)

    def flood() -> None:
        while True:
            mesh.tell((1, 2), header(Message(COLLECTIVE, TAG, array)), array)
            said(others[1])

    with pytest.raises(FmiTimeout, match="for rank 2") as caught:
        flood()

    assert caught.value.ranks == (2,)


def test_every_message_has_the_whole_time(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1, wait_s=0.3)
    others[1].sendall(step(0.0))
    began_s = time.monotonic()

    def pass_on(index: int) -> None:
        if index < 4:
            time.sleep(0.1)
            others[1].sendall(step(index + 1.0))

    mesh.exchange([], [Want(1, COLLECTIVE, TAG, LIKE)] * 5, pass_on)

    assert time.monotonic() - began_s > 0.4


@pytest.mark.parametrize(("limit_bytes", "is_held_back"), [(20, True), (module.MAX_WAITING_BYTES, False)])
def test_who_sends_too_far_ahead_of_being_asked_is_held_back(
    limit_bytes: int,
    is_held_back: bool,
    make_mesh: MakeMesh,
    others: dict[int, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", limit_bytes)
    mesh = make_mesh(1, 2)
    others[2].sendall(b"".join(wire(Message(POINT, number, np.zeros(1000))) for number in range(3)))
    link = mesh.links[2]
    while link.num_waiting_bytes < 24_000:
        link.pump()
    others[2].sendall(wire(Message(POINT, 9, LIKE)))
    others[1].sendall(step(1.0))

    assert exchanged(mesh, 1) == [1.0]
    assert link.num_waiting_bytes == (24_000 if is_held_back else 24_008)
    (came,) = mesh.exchange([], [Want(2, POINT, 9, LIKE)])
    assert came.tolist() == [0.0]


@pytest.mark.parametrize("count", [1, LARGE_PAYLOAD_BYTES // 8 + 1])
def test_numbers_come_into_the_arrays_that_wait_for_them(
    count: int, make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh, into = make_mesh(1), [np.zeros(count) for _ in range(2)]
    others[1].sendall(b"".join(step(*np.full(count, value)) for value in (3.0, 4.0)))

    came = mesh.exchange([], [Want(1, COLLECTIVE, TAG, one, one) for one in into])

    assert [one is two for one, two in zip(came, into, strict=True)] == [True, True]
    assert [{*one} for one in into] == [{3.0}, {4.0}]


def test_what_has_come_can_be_passed_on_at_once(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1, 2)
    others[1].sendall(step(1.0) + step(2.0))

    wants = [Want(1, COLLECTIVE, TAG, LIKE)] * 2
    mesh.exchange([], wants, lambda index: (2, Message(COLLECTIVE, TAG, LIKE + index)) if index else None)

    assert [message.array.tolist() for message in said(others[2])] == [[1.0]]


def test_what_is_passed_on_is_gone_before_the_call_ends(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1, 2, wait_s=SHORT_S)
    others[1].sendall(step(1.0))
    much = Message(COLLECTIVE, TAG, np.zeros(100_000))

    with pytest.raises(FmiTimeout, match="for rank 2"):
        mesh.exchange([], [Want(1, COLLECTIVE, TAG, LIKE)], lambda _: (2, much))


def test_much_is_sent_as_the_other_end_reads(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1)
    reader = FrameReader(10**6)

    def read() -> None:
        while not reader.messages:
            reader.feed(others[1].recv(2**16))

    thread = threading.Thread(target=read)
    thread.start()
    mesh.exchange([(1, Message(POINT, 0, np.arange(100_000.0)))], [])
    thread.join(60)

    assert reader.messages[0].array[-1] == 99_999


def test_last_words_wait_for_room(
    make_mesh: MakeMesh, others: dict[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GOODBYE_S", 60.0)
    mesh = make_mesh(1, 2)
    mesh.links[1].send(Message(COLLECTIVE, TAG, np.zeros(500_000)))
    assert mesh.links[1].num_pending, "more than the kernel takes"
    reader = FrameReader(10**7)

    def read() -> None:
        while piece := others[1].recv(2**16):
            reader.feed(piece)

    thread = threading.Thread(target=read)
    thread.start()
    mesh.close()
    thread.join(60)

    assert [message.kind for message in reader.messages] == [COLLECTIVE, BYE]


def test_last_words_do_not_wait_for_who_never_reads(
    make_mesh: MakeMesh, others: dict[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GOODBYE_S", SHORT_S)
    mesh = make_mesh(1, 2)
    mesh.links[1].send(Message(COLLECTIVE, TAG, np.zeros(500_000)))

    mesh.close()

    assert [message.kind for message in said(others[2])] == [BYE]
    assert others[2].recv(1) == b""


def test_tags_choose_and_any_takes_the_first(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1)
    for tag in (4, 5, 6):
        others[1].sendall(wire(Message(POINT, tag, np.array([float(tag)]))))

    came = [mesh.exchange([], [Want(1, POINT, tag, LIKE)])[0][0] for tag in (5, module.ANY_TAG, module.ANY_TAG)]

    assert came == [5.0, 4.0, 6.0]
    assert mesh.links[1].num_waiting_bytes == 0


def test_a_message_beyond_the_limit_is_refused_and_one_of_the_limit_is_not(
    make_mesh: MakeMesh, others: dict[int, socket.socket]
) -> None:
    mesh = make_mesh(1, max_message_bytes=80)
    assert mesh.small_bytes == 81
    mesh.exchange([(1, Message(POINT, 0, np.zeros(10)))], [])
    assert [len(message.array) for message in said(others[1])] == [10]

    with pytest.raises(MessageMismatchError, match="88 bytes is larger than the limit of 80"):
        mesh.exchange([(1, Message(POINT, 0, np.zeros(11)))], [])


def test_goodbye_is_said_once_and_ends_all(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(1)

    mesh.close()
    mesh.close()
    mesh.abort(FmiError("too late"))

    assert [message.kind for message in said(others[1])] == [BYE]
    with pytest.raises(FmiError, match="This communicator is closed"):
        mesh.connect([])


def test_ranks_are_met_once_and_until_the_deadline(make_mesh: MakeMesh, deadlines: list[float]) -> None:
    began_s = time.monotonic()
    mesh = make_mesh(1, 2, 2, wait_s=50 + ABORT_GRACE_S)
    met = dict(mesh.links)

    mesh.connect([2, 1], deadline=began_s + 1)
    mesh.connect([4], deadline=began_s + 2)

    assert {peer: mesh.links[peer] for peer in (1, 2)} == met
    assert list(mesh.links) == [1, 2, 4]
    ended_s = time.monotonic()
    assert began_s + 50 <= deadlines[0] <= ended_s + 50
    assert deadlines[1:] == [began_s + 2]
    assert 0 < mesh.meeting_s <= ended_s - began_s


def test_who_is_not_met_yet_is_met_for_the_message(make_mesh: MakeMesh, others: dict[int, socket.socket]) -> None:
    mesh = make_mesh(wait_s=SHORT_S)

    with pytest.raises(FmiTimeout, match="for rank 6"):
        mesh.exchange([(5, Message(COLLECTIVE, TAG, LIKE))], [Want(6, COLLECTIVE, TAG, LIKE)])

    assert [[message.kind for message in said(others[peer])] for peer in (5, 6)] == [[COLLECTIVE, ABORT], [ABORT]]


def test_a_rank_that_is_not_met_ends_the_others(
    make_mesh: MakeMesh, others: dict[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = make_mesh(1)
    monkeypatch.setattr(module, "meet_all", lambda *_: ({}, {2: FmiTimeout("rank 2 is late", ranks=(2,))}))

    with pytest.raises(FmiTimeout, match="rank 2 is late") as caught:
        mesh.connect([1, 2])

    assert caught.value.ranks == (2,)
    (last,) = said(others[1])
    assert json.loads(last.array.tobytes())["message"] == "rank 2 is late"


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mesh, StoreLink]]:
    """Rank 0 of two that only a store connects, and the other end."""
    shelf = Shelf()

    def meet_all(
        _rank: int, missing: list[int], _venue: object, _deadline: float
    ) -> tuple[dict[int, Connection], dict[int, FmiError]]:
        return {peer: Connection(peer=peer, path="store", store_keys=("to 1/", "to 0/")) for peer in missing}, {}

    monkeypatch.setattr(module, "meet_all", meet_all)
    venue = Config(host="127.0.0.1", store=shelf).venue("test")
    mesh = Mesh(0, 2, venue, timeout_s=60.0, max_message_bytes=10**6)
    mesh.connect([1])
    yield mesh, StoreLink(Connection(peer=0, path="store", store_keys=("to 0/", "to 1/")), 10**6, shelf)
    mesh.close()


@WAYS
def test_a_rank_that_only_the_store_reaches_is_heard_like_the_others(
    wait: Callable[..., list[float]], far: tuple[Mesh, StoreLink]
) -> None:
    mesh, there = far
    there.send(Message(COLLECTIVE, TAG, np.array([3.0])))

    assert wait(mesh, 1) == [3.0]
    mesh.tell((1,), HEAD, np.array([4.0]))
    mesh.close()
    there.pump()
    assert [message.array.tolist() for message in there.collective] == [[4.0]]
    assert there.control is not None
    assert there.control.kind is BYE


def test_the_store_is_looked_into_while_a_rank_is_waited_for(
    far: tuple[Mesh, StoreLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, there = far
    link = mesh.links[1]
    assert isinstance(link, StoreLink)
    looks_s: list[float] = []
    pump = link.pump

    def look() -> None:
        looks_s.append(time.monotonic())
        if len(looks_s) == 4:
            there.send(Message(COLLECTIVE, TAG, np.array([3.0])))
        pump()

    monkeypatch.setattr(link, "pump", look)

    assert exchanged(mesh, 1) == [3.0]
    # Not again and again, but when it is time: each look that found nothing is followed by a pause.
    assert 4 <= len(looks_s) <= 8
    assert looks_s[-1] - looks_s[0] < 30


@WAYS
def test_goodbye_in_the_store_is_heard(wait: Callable[..., list[float]], far: tuple[Mesh, StoreLink]) -> None:
    mesh, there = far
    there.send(Message(COLLECTIVE, TAG, np.array([3.0])))
    there.send(Message(BYE, 0, np.empty(0, np.uint8)))

    assert wait(mesh, 1) == [3.0]
    with pytest.raises(PeerLost, match="Rank 1 has closed its communicator"):
        wait(mesh, 1)


def test_an_error_that_comes_through_the_store_is_raised(far: tuple[Mesh, StoreLink]) -> None:
    mesh, there = far
    facts = json.dumps({"error": "AuthError", "message": "rank 5 lies", "ranks": [5]}).encode()
    there.send(Message(ABORT, 0, np.frombuffer(facts, np.uint8)))

    with pytest.raises(AuthError, match="rank 5 lies"):
        exchanged(mesh, 1)


def test_who_gave_up_says_no_goodbye_in_the_store(far: tuple[Mesh, StoreLink]) -> None:
    mesh, there = far
    mesh.abort(FmiError("why"))
    mesh.close()
    there.pump()

    assert there.control is not None
    assert there.control.kind is ABORT


def test_a_store_that_fails_ends_the_meeting_with_what_it_said(
    far: tuple[Mesh, StoreLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh, _ = far

    def fail(message: Message) -> None:
        raise StorageUnavailableError("S3 answered 503")

    monkeypatch.setattr(mesh.links[1], "send", fail)

    with pytest.raises(FmiError, match="Rank 0 cannot talk through the object store: S3 answered 503") as failed:
        mesh.exchange([(1, Message(POINT, 0, LIKE))], [])
    assert type(failed.value) is FmiError


def test_many_ranks_are_named_by_the_first_few() -> None:
    assert module.name_ranks([3]) == "rank 3"
    assert module.name_ranks(range(8)) == "ranks 0, 1, 2, 3, 4, 5, 6, 7"
    assert module.name_ranks(range(10)) == "ranks 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_proof_that_fails_comes_before_those_who_did_not_come() -> None:
    late, liar = FmiTimeout("late", ranks=(1,)), AuthError("liar", ranks=(2,))

    assert module._merge(0, {1: late, 2: liar}) is liar
    assert module._merge(0, {1: late}) is late
    both = module._merge(0, {3: FmiTimeout("why", ranks=(3,)), 1: late})
    assert (str(both), both.ranks) == ("Rank 0 did not meet ranks 1, 3. late", (1, 3))
    assert isinstance(both, FmiTimeout)


def test_a_tag_says_which_call_and_an_unknown_one_does_too() -> None:
    assert module.describe(collective_tag("barrier", 1)) == "barrier (call 1)"
    assert module.describe(collective_tag("scan", 2**24 + 5)) == "scan (call 5)"
    assert module.describe(255) == "? (call 0)"
    assert module.describe(len(module.CALLS)) == "? (call 0)"

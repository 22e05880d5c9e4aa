"""Small steps of a collective over a pair of sockets: taken at once where they read as expected, sorted where not."""

import os
import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from inference.errors import MessageMismatchError
from inference.fmi.frame import ABORT, BYE, COLLECTIVE, POINT, Array, Kind, Message, header
from inference.fmi.link import SocketLink, StoreLink
from inference.fmi.meeting import Connection
from tests.unit.test_fmi_meeting import Shelf

LIKE = np.zeros(2)
EXPECTED = Message(COLLECTIVE, 7, np.array([1.0, 2.0]))


@pytest.fixture
def pair() -> Iterator[tuple[SocketLink, socket.socket]]:
    """Return a link, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    with theirs:
        link = SocketLink(Connection(peer=1, path="direct", sock=ours, wait_s=0.0, meet_s=0.0), 10**6)
        yield link, theirs
        link.close()


def on_the_wire(message: Message) -> bytes:
    return header(message) + message.array.tobytes()


def caught(link: SocketLink, like: Array = LIKE) -> list[float] | None:
    array = link.catch(header(Message(COLLECTIVE, 7, like)), like)
    return None if array is None else array.tolist()


def test_a_step_that_reads_as_expected_is_taken_and_counted(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    theirs.sendall(on_the_wire(EXPECTED))

    assert caught(link) == [1.0, 2.0]
    assert (link.num_received, link.num_bytes_received) == (1, EXPECTED.num_bytes)
    assert link.num_waiting_bytes == 0
    assert caught(link) is None, "there is only one"


@pytest.mark.parametrize(
    "other",
    [
        Message(COLLECTIVE, 8, EXPECTED.array),
        Message(POINT, 7, EXPECTED.array),
        Message(COLLECTIVE, 7, EXPECTED.array.astype(">f8")),
        Message(COLLECTIVE, 7, EXPECTED.array[:, None]),
        Message(COLLECTIVE, 7, EXPECTED.array[:1]),
    ],
)
def test_any_other_message_is_sorted_as_it_is(other: Message, pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    theirs.sendall(on_the_wire(other))

    assert caught(link) is None
    (kept,) = link.point if other.kind is POINT else link.collective
    assert (kept.tag, kept.array.dtype, kept.array.shape) == (other.tag, other.array.dtype, other.array.shape)
    assert (link.num_received, link.num_waiting_bytes) == (1, other.array.nbytes)
    theirs.sendall(on_the_wire(EXPECTED))
    assert caught(link) is None, "what came before is taken before"


@pytest.mark.parametrize("cut", [1, 24, 32, 40])
def test_a_step_in_two_parts_is_put_together(cut: int, pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    stream = on_the_wire(EXPECTED)
    theirs.sendall(stream[:cut])
    assert caught(link) is None
    theirs.sendall(stream[cut:])
    assert caught(link) is None, "its header is gone"

    link.pump()

    assert [message.array.tolist() for message in link.collective] == [[1.0, 2.0]]


def test_two_steps_that_come_together_keep_their_order(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    theirs.sendall(on_the_wire(EXPECTED) + on_the_wire(Message(COLLECTIVE, 8, LIKE)))

    assert caught(link) is None
    assert [message.tag for message in link.collective] == [7, 8]


@pytest.mark.parametrize("kind", [ABORT, BYE])
def test_last_words_are_heard(kind: Kind, pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    theirs.sendall(on_the_wire(Message(kind, 0, np.empty(0, np.uint8))))

    assert caught(link) is None
    assert link.control is not None
    assert link.control.kind is kind


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("look", [caught, SocketLink.pump])
def test_the_end_of_a_connection_is_noticed(
    look: Callable[[SocketLink], object], is_reset: bool, pair: tuple[SocketLink, socket.socket]
) -> None:
    link, theirs = pair
    assert look(link) is None
    assert not link.is_ended
    if is_reset:
        link.post(on_the_wire(EXPECTED))  # it is never read
    theirs.close()

    assert look(link) is None
    assert link.is_ended
    assert link.reader.is_between_messages


def test_the_other_end_notices_a_close_while_a_forked_process_still_has_the_socket(
    pair: tuple[SocketLink, socket.socket],
) -> None:
    link, theirs = pair
    with socket.socket(fileno=os.dup(link.fileno())):
        link.close()
        theirs.setblocking(False)
        assert theirs.recv(1) == b""


def test_a_step_without_numbers_is_its_header(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    empty = np.empty(0)
    theirs.sendall(header(Message(COLLECTIVE, 7, empty)))

    assert caught(link, empty) == []


def test_what_is_no_message_is_refused(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    theirs.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

    with pytest.raises(MessageMismatchError, match="no message of this protocol"):
        caught(link)


@pytest.mark.parametrize("count", [1500, 200_000])
def test_what_the_kernel_does_not_take_goes_later_and_in_order(
    count: int, pair: tuple[SocketLink, socket.socket]
) -> None:
    link, theirs = pair
    frames: list[bytes] = []
    while True:
        frames.append(on_the_wire(Message(COLLECTIVE, len(frames), np.full(count, float(len(frames))))))
        if not link.post(frames[-1]):
            break
    assert link.num_pending == 1
    received = theirs.recv(2**16)
    frames.append(on_the_wire(EXPECTED))
    assert not link.post(frames[-1]), "there is room, but another one is before"
    assert (link.num_sent, link.num_bytes_sent) == (len(frames), sum(map(len, frames)))

    while len(received) < sum(map(len, frames)):
        received += theirs.recv(2**20)
        link.flush()

    assert received == b"".join(frames)
    assert link.num_pending == 0


def test_a_large_message_goes_in_as_many_parts_as_the_kernel_takes(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    large = Message(POINT, 7, np.arange(100_000.0))
    link.send(large)
    assert link.num_pending

    received = b""
    while len(received) < large.num_bytes:
        received += theirs.recv(50_001)
        link.flush()

    assert received == on_the_wire(large)
    assert (link.num_pending, link.num_sent, link.num_bytes_sent) == (0, 1, large.num_bytes)


def test_a_step_to_someone_who_has_left_breaks_the_link(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    theirs.close()

    assert not link.post(on_the_wire(EXPECTED))
    assert link.is_broken
    assert link.num_pending == 0, "nothing that could ever go"


@pytest.mark.parametrize("num_ahead", [0, 1])
def test_a_large_step_is_read_into_the_array_that_waits_for_it(
    num_ahead: int, pair: tuple[SocketLink, socket.socket]
) -> None:
    link, theirs = pair
    steps = [Message(COLLECTIVE, 7, np.arange(3000.0) + number) for number in range(2)]
    targets = [np.zeros(3000) for _ in steps]
    for step in steps[:num_ahead]:
        theirs.sendall(on_the_wire(step))
        link.pump()
    link.offer(targets)
    for step in steps[num_ahead:]:
        theirs.sendall(on_the_wire(step))
    while len(link.collective) < len(steps):
        link.pump()

    came = [message.array for message in link.collective]
    assert [array is target for array, target in zip(came, targets, strict=True)] == [
        number >= num_ahead for number in (0, 1)
    ]
    for array, step in zip(came, steps, strict=True):
        np.testing.assert_array_equal(array, step.array)


def test_a_step_that_has_begun_to_come_stays_where_it_is(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    steps = [Message(COLLECTIVE, 7, np.arange(3000.0) + number) for number in range(3)]
    targets = [np.zeros(3000) for _ in steps]
    theirs.sendall(on_the_wire(steps[0])[:1000])
    link.pump()
    link.offer(targets)
    theirs.sendall(on_the_wire(steps[0])[1000:] + on_the_wire(steps[1]) + on_the_wire(steps[2]))
    while len(link.collective) < len(steps):
        link.pump()

    came = [message.array for message in link.collective]
    assert [array is target for array, target in zip(came, targets, strict=True)] == [False, True, True]
    for array, step in zip(came, steps, strict=True):
        np.testing.assert_array_equal(array, step.array)


# ----------------------------------------------------------------------------------------------------- the store


@pytest.fixture
def store_pair() -> tuple[StoreLink, StoreLink, Shelf]:
    """Return both ends of a pair that talks through a store, and the store."""
    store = Shelf()
    keys = ("pair/0/", "pair/1/")
    ends = [
        StoreLink(Connection(peer=1 - rank, path="store", store_keys=keys[:: 1 - 2 * rank]), 10**6, store)
        for rank in (0, 1)
    ]
    return ends[0], ends[1], store


def test_messages_through_the_store_come_in_order_and_are_counted(
    store_pair: tuple[StoreLink, StoreLink, Shelf],
) -> None:
    here, there, store = store_pair
    here.send(Message(COLLECTIVE, 1, LIKE))
    assert here.post(on_the_wire(Message(POINT, 2, LIKE)))
    here.send(Message(COLLECTIVE, 3, LIKE))
    here.send(Message(BYE, 0, np.empty(0, np.uint8)))

    there.pump()

    assert sorted(store.objects) == [f"pair/0/{number:08d}" for number in range(4)]
    assert [message.tag for message in there.collective] == [1, 3]
    assert [message.tag for message in there.point] == [2]
    assert there.control is not None
    assert (here.num_sent, here.num_bytes_sent) == (3, 3 * EXPECTED.num_bytes)
    assert (there.num_received, there.num_bytes_received) == (3, 3 * EXPECTED.num_bytes)
    assert there.catch(header(EXPECTED), LIKE) is None
    there.send(EXPECTED)
    here.pump()
    assert [message.array.tolist() for message in here.collective] == [[1.0, 2.0]]


def test_the_store_is_asked_less_often_while_nothing_comes_and_often_again_after(
    store_pair: tuple[StoreLink, StoreLink, Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, _ = store_pair
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    pauses_s = []
    for _ in range(12):
        there.pump()
        pauses_s.append(there.next_look - now_s)
        now_s = there.next_look

    assert pauses_s[0] == pytest.approx(0.03)
    assert pauses_s[1] == pytest.approx(0.045)
    assert pauses_s[-1] == pytest.approx(1.0)
    assert pauses_s == sorted(pauses_s)
    there.pump()
    here.send(EXPECTED)
    there.pump()
    assert not there.collective, "it does not look again so soon"
    now_s = there.next_look
    there.pump()
    assert len(there.collective) == 1
    assert there.next_look - now_s == pytest.approx(0.02)


def test_a_message_in_the_store_that_is_cut_off_is_named(
    store_pair: tuple[StoreLink, StoreLink, Shelf],
) -> None:
    _, there, store = store_pair
    store.write("pair/0/00000000", on_the_wire(EXPECTED)[:-1])

    with pytest.raises(MessageMismatchError, match="pair/0/00000000 is cut off: it is no message of rank 0"):
        there.pump()

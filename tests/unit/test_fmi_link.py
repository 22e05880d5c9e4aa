"""Small steps of a collective over a pair of sockets: taken at once where they read as expected, sorted where not."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest

from inference.errors import MessageMismatchError
from inference.fmi.frame import ABORT, BYE, COLLECTIVE, POINT, Array, Kind, Message, header
from inference.fmi.link import SocketLink
from inference.fmi.meeting import Connection

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


def test_the_end_of_a_connection_is_noticed(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    assert caught(link) is None
    assert not link.is_ended
    theirs.close()

    assert caught(link) is None
    assert link.is_ended


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


def test_what_the_kernel_does_not_take_goes_later_and_in_order(pair: tuple[SocketLink, socket.socket]) -> None:
    link, theirs = pair
    frames: list[bytes] = []
    while True:
        frames.append(on_the_wire(Message(COLLECTIVE, len(frames), np.full(1500, float(len(frames))))))
        if not link.post(frames[-1]):
            break
    frames.append(on_the_wire(EXPECTED))
    assert not link.post(frames[-1])
    assert link.num_pending == 2
    assert (link.num_sent, link.num_bytes_sent) == (len(frames), sum(map(len, frames)))

    received = b""
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

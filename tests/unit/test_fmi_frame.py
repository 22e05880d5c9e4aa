import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inference.errors import MessageMismatchError
from inference.fmi.frame import FrameReader, Kind, Message, header

DTYPES = ("?", "<i1", "<u2", "<i4", ">i4", "<i8", "<f2", "<f4", "<f8", "<c16")


def on_the_wire(message: Message) -> bytes:
    return header(message) + message.array.tobytes()


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(DTYPES).flatmap(lambda name: arrays.arrays(np.dtype(name), arrays.array_shapes(min_dims=0))),
        max_size=4,
    ),
    st.integers(1, 50),
)
def test_messages_arrive_as_they_were_sent_however_the_stream_is_cut(sent: list[np.ndarray], piece: int) -> None:
    messages = [Message(Kind.POINT, 7 + number, array) for number, array in enumerate(sent)]
    stream = b"".join(map(on_the_wire, messages))
    reader = FrameReader(10**6)

    for start in range(0, len(stream), piece):
        reader.feed(stream[start : start + piece])

    assert reader.is_between_messages
    for came, message in zip(reader.messages, messages, strict=True):
        assert (came.kind, came.tag, came.array.dtype) == (message.kind, message.tag, message.array.dtype)
        np.testing.assert_array_equal(came.array, message.array)


def test_steps_of_collectives_come_where_they_are_wanted_and_nothing_else_does() -> None:
    first, second = np.arange(3.0), np.arange(4)
    reader, wanted = FrameReader(10**6), [np.zeros(3), np.zeros(4)]
    reader.targets.extend(wanted)

    for message in (
        Message(Kind.POINT, 1, -first),
        Message(Kind.COLLECTIVE, 2, first),
        Message(Kind.COLLECTIVE, 2, second),
    ):
        reader.feed(on_the_wire(message))

    point, step, other_dtype = (message.array for message in reader.messages)
    assert step is wanted[0]
    np.testing.assert_array_equal(step, first)
    np.testing.assert_array_equal(point, -first)
    np.testing.assert_array_equal(other_dtype, second)
    assert other_dtype.dtype == second.dtype
    np.testing.assert_array_equal(wanted[1], np.zeros(4))


def test_the_header_of_a_number_is_these_bytes() -> None:
    message = Message(Kind.COLLECTIVE, 0x102, np.array([1.0]))

    expected = "464d4932 01 01 3c6638000000 00000102 0000000000000008 0000000000000001".replace(" ", "")
    assert header(message).hex() == expected


@pytest.mark.parametrize(
    ("stream", "match"),
    [
        (b"GET / HTTP/1.1\r\nHost: somewhere", "no message of this protocol"),
        (struct.pack("!4sBB6sIQ", b"FMI2", 9, 0, b"<f8", 0, 8), "no message of this protocol"),
        (struct.pack("!4sBB6sIQ", b"FMI2", 0, 200, b"<f8", 0, 8) + bytes(1600), "no message of this protocol"),
        (struct.pack("!4sBB6sIQ", b"FMI2", 0, 0, b"|O", 0, 8), "dtype"),
        (struct.pack("!4sBB6sIQ", b"FMI2", 0, 0, b"\xff\xfe", 0, 8), "dtype"),
        (struct.pack("!4sBB6sIQQ", b"FMI2", 0, 1, b"<f8", 0, 8, 2), "claims to be float64 of shape"),
        (struct.pack("!4sBB6sIQQ", b"FMI2", 0, 1, b"<f8", 0, 8 << 40, 1 << 40), "larger than the limit"),
    ],
)
def test_what_is_no_message_is_refused_before_anything_is_allocated(stream: bytes, match: str) -> None:
    with pytest.raises(MessageMismatchError, match=match):
        FrameReader(1000).feed(stream)


def test_eight_dimensions_and_a_payload_of_the_limit_are_taken() -> None:
    deep, reader = np.arange(2.0).reshape((1,) * 7 + (2,)), FrameReader(16)
    reader.feed(on_the_wire(Message(Kind.POINT, 2**32 - 1, deep)))

    (came,) = reader.messages
    assert (came.tag, came.array.shape, came.array.tolist()) == (2**32 - 1, deep.shape, deep.tolist())
    with pytest.raises(MessageMismatchError, match="of 24 bytes is larger than the limit of 16"):
        reader.feed(on_the_wire(Message(Kind.POINT, 0, np.zeros(3))))


@pytest.mark.parametrize("tag", [-1, 2**32])
def test_a_tag_that_has_no_place_is_refused(tag: int) -> None:
    with pytest.raises(MessageMismatchError, match=f"{tag} is no tag of a message: tags count from 0 to 4294967295"):
        header(Message(Kind.POINT, tag, np.zeros(1)))


@pytest.mark.parametrize("count", [1, 2047, 2048, 5000])
def test_a_payload_goes_straight_to_where_it_is_wanted(count: int) -> None:
    step = Message(Kind.COLLECTIVE, 7, np.arange(float(count)))
    target, reader = np.zeros(count), FrameReader(10**6)
    reader.targets.append(target)
    stream = on_the_wire(step)
    states = []

    while not reader.messages:
        room = reader.rest or memoryview(bytearray(reader.num_bytes_wanted))
        num_bytes = min(len(room), 1000)
        room[:num_bytes] = stream[:num_bytes]
        if reader.rest:
            reader.filled(num_bytes)
        else:
            reader.feed(room[:num_bytes])
        stream = stream[num_bytes:]
        states.append((reader.has_begun_collective, reader.is_between_messages))

    assert reader.messages[0].array is target
    np.testing.assert_array_equal(target, step.array)
    assert stream == b""
    assert set(states[:-1]) <= {(True, False)}
    assert states[-1] == (False, True)


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["text"]), np.zeros((1,) * 9)])
def test_only_numbers_in_few_dimensions_are_sent(array: np.ndarray) -> None:
    with pytest.raises(MessageMismatchError, match="send numbers"):
        header(Message(Kind.POINT, 0, array))

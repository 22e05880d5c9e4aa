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


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["text"]), np.zeros((1,) * 9)])
def test_only_numbers_in_few_dimensions_are_sent(array: np.ndarray) -> None:
    with pytest.raises(MessageMismatchError, match="send numbers"):
        header(Message(Kind.POINT, 0, array))

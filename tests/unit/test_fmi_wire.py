"""The bytes between a rank and the rendezvous server."""

import struct

import pytest

from inference.fmi import wire
from inference.fmi.wire import Kind, ProtocolError, Reply, Request, Status

PROXY = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c 0a000001 0a000002 1f90 2710")


def proxy_header(*, command: int = 0x21, family: int = 0x11, body: bytes = PROXY[16:]) -> bytes:
    return PROXY[:12] + struct.pack("!BBH", command, family, len(body)) + body


def test_an_address_has_the_bytes_that_were_captured_from_the_original() -> None:
    assert wire.pack_address(("127.0.0.1", 38576)) == bytes.fromhex("7f000001 96b0 0000")


def test_the_last_two_bytes_of_an_address_mean_nothing() -> None:
    assert wire.unpack_address(bytes.fromhex("7f000001 96b0 beef")) == ("127.0.0.1", 38576)


@pytest.mark.parametrize("num_bytes", [0, 7, 9])
def test_an_address_of_another_length_is_refused(num_bytes: int) -> None:
    with pytest.raises(ProtocolError, match=f"8 bytes, not {num_bytes}"):
        wire.unpack_address(bytes(num_bytes))


@pytest.mark.parametrize(
    ("received", "name"),
    [
        (b"run42_0_1", b"run42_0_1"),
        (b"ab\0cd", b"ab"),
        (b"n" * 99, b"n" * 99),
        (b"n" * 100, b"n" * 100),
        (b"n" * 150, b"n" * 100),
    ],
)
def test_the_first_bytes_are_a_name_as_the_original_reads_it(received: bytes, name: bytes) -> None:
    assert wire.parse_request(received) == Request(Kind.MEET, name)


@pytest.mark.parametrize(
    "request_",
    [
        Request(Kind.MEET, b"a"),
        Request(Kind.MEET, b"n" * 100),
        Request(Kind.RELAY, b"n" * 100),
        Request(Kind.CHECK, b""),
        Request(Kind.CHECK, b"name"),
    ],
)
def test_a_request_is_read_as_it_was_written(request_: Request) -> None:
    assert wire.parse_request(wire.pack_request(request_)) == request_


def test_a_request_of_ours_is_incomplete_until_its_last_byte() -> None:
    packed = wire.pack_request(Request(Kind.RELAY, b"name"))

    assert {wire.parse_request(packed[:end]) for end in range(len(packed))} == {None}


@pytest.mark.parametrize(
    "received",
    [
        b"\0run42_0_1",
        b"\0FMI\x00\x01a",
        b"\0FMI\x03\x01a",
        b"\0FMI\x01\x00",
        b"\0FMI\x01\x65",
        b"\0FMI\x01\x01ab",
        b"\0GET / HTTP/1.1",
    ],
)
def test_what_can_never_become_a_request_is_refused(received: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_request(received)


@pytest.mark.parametrize("name", [b"", b"a\0b", b"n" * 101])
def test_a_name_that_would_be_cut_is_never_sent(name: bytes) -> None:
    with pytest.raises(ProtocolError, match=f"has {len(name)} bytes"):
        wire.pack_request(Request(Kind.MEET, name))


def test_two_ranks_meet_under_one_name_whoever_begins() -> None:
    assert wire.open_name("r", 12, 3) == wire.open_name("r", 3, 12) == b"r.3_12"


def test_the_names_of_run_a1_and_rank_2_and_of_run_a_and_rank_12_differ() -> None:
    assert wire.open_name("A1", 2, 3) != wire.open_name("A", 12, 3)


def test_a_reply_is_read_as_it_was_written() -> None:
    reply = Reply(Status.PAIRED, ("10.1.2.3", 65535))

    assert wire.unpack_reply(wire.pack_reply(reply)) == reply


@pytest.mark.parametrize("record", [b"", b"HTTP/1.1 400 ", b"\0FMI\x63" + bytes(8), b"\0FMI\x00" + bytes(9)])
def test_what_is_no_reply_is_refused(record: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.unpack_reply(record)


def test_a_proxy_header_names_the_client_behind_the_load_balancer() -> None:
    assert wire.parse_proxy_header(PROXY + b"name") == (("10.0.0.1", 8080), 28)


def test_what_a_load_balancer_adds_to_the_header_is_skipped() -> None:
    assert wire.parse_proxy_header(proxy_header(body=PROXY[16:] + b"\xea\x00\x03\x01vp")) == (("10.0.0.1", 8080), 34)


def test_the_load_balancer_itself_has_no_client() -> None:
    assert wire.parse_proxy_header(proxy_header(command=0x20, family=0, body=b"")) == (None, 16)


def test_a_proxy_header_is_incomplete_until_its_last_byte() -> None:
    assert {wire.parse_proxy_header(PROXY[:end]) for end in range(len(PROXY))} == {None}


@pytest.mark.parametrize(
    "received",
    [b"run42_0_1", proxy_header(command=0x11), proxy_header(family=0x21), proxy_header(body=b"short")],
)
def test_a_connection_without_a_proxy_header_of_tcp_over_ipv4_is_refused(received: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_proxy_header(received)


def test_the_numbers_on_the_wire_are_those_of_earlier_servers() -> None:
    assert [kind.name for kind in Kind] == ["MEET", "RELAY", "CHECK"]
    assert [(status.name, status.value) for status in Status] == [
        ("OK", 0),
        ("PAIRED", 1),
        ("TOKEN_INVALID", 2),
        ("TOKEN_EXPIRED", 3),
        ("FULL", 4),
        ("TIMEOUT", 5),
        ("CLOSING", 6),
    ]
    assert wire.pack_request(Request(Kind.RELAY, b"a")) == b"\0FMI\x01\x01a"
    assert wire.pack_request(Request(Kind.CHECK, b"")) == b"\0FMI\x02\x00"
    assert [status.is_refusal for status in Status] == [False, False, True, True, True, True, True]


def test_what_the_load_balancer_says_of_itself_is_incomplete_until_its_last_byte() -> None:
    header = proxy_header(command=0x20, family=0, body=b"12345678")

    assert {wire.parse_proxy_header(header[:end]) for end in range(len(header))} == {None}
    assert wire.parse_proxy_header(header + b"name") == (None, 24)


def test_a_proxy_header_cannot_announce_more_than_a_kilobyte() -> None:
    assert wire.parse_proxy_header(proxy_header(body=PROXY[16:] + bytes(1012))) == (("10.0.0.1", 8080), 1040)
    with pytest.raises(ProtocolError, match="1025 bytes"):
        wire.parse_proxy_header(proxy_header(body=bytes(1025))[:16])

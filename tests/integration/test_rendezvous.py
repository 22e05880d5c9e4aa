"""The rendezvous server over TCP: the original's protocol, byte for byte, and what the original did not survive."""

import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from handlers.rendezvous import __main__ as program
from handlers.rendezvous import health
from handlers.rendezvous.health import METRICS_TYPE, Health
from handlers.rendezvous.limits import Limits
from handlers.rendezvous.probe import from_builtins, probe, to_builtins
from handlers.rendezvous.relay import BUFFER_BYTES
from handlers.rendezvous.server import Rendezvous, Settings, listen
from inference.fmi import tokens
from inference.fmi.wire import (
    REPLY_BYTES,
    Kind,
    ProtocolError,
    Reply,
    Request,
    Status,
    pack_reply,
    pack_request,
    unpack_reply,
)
from tests.rendezvous import DEADLINE_S, Running, is_over, nowhere, record, reset, running, take

KEY = b"k" * 32


def relayed(server: Running, name: bytes = b"r") -> tuple[socket.socket, socket.socket]:
    """Return two clients that the server has spliced."""
    asked = pack_request(Request(Kind.RELAY, name))
    first = server.connect(asked)
    server.waiting(1)
    second = server.connect(asked)
    for client, other in ((first, second), (second, first)):
        assert take(client, REPLY_BYTES) == pack_reply(Reply(Status.PAIRED, other.getsockname()))
    return first, second


def meets(server: Running, name: bytes = b"healthy") -> bool:
    """Return whether two clients still meet."""
    first = server.connect(name)
    assert take(first, 8) == record(first)
    second = server.connect(name)
    return take(second, 16) == record(second) + record(first) and take(first, 8) == record(second)


# ------------------------------------------------------------------------------------------------- TCPunch v1, exactly


def test_two_clients_exchange_the_bytes_that_were_captured_from_the_original() -> None:
    with running() as server:
        first = server.connect(bytes.fromhex("72756e34325f305f31"))
        own = take(first, 8)
        second = server.connect(bytes.fromhex("72756e34325f305f31"))

        assert own == record(first)
        assert take(second, 17) == record(second) + record(first)  # 16 bytes, then FIN
        assert take(first, 9) == record(second)
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)
        assert server.metric("rendezvous_departed_total") == 0


def test_pairs_are_made_in_the_order_of_arrival_and_an_odd_client_waits() -> None:
    with running() as server:
        clients = []
        for number in range(5):
            clients.append(server.connect(b"same"))
            server.waiting((number + 1) % 2)

        partners = [take(client, 16)[8:] for client in clients[:4]]

        assert partners == [record(clients[number]) for number in (1, 0, 3, 2)]
        assert take(clients[4], 8) == record(clients[4])
        assert server.rendezvous.gauges()["waiting"] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"ab\0cd", b"ab"), (b"n" * 99, b"n" * 99), (b"n" * 100, b"n" * 100), (b"n" * 150, b"n" * 100)],
    ids=["NUL", "99", "100", "150"],
)
def test_names_are_cut_as_the_original_cuts_them(one: bytes, other: bytes) -> None:
    with running() as server:
        first = server.connect(one)
        take(first, 8)
        second = server.connect(other)

        assert take(second, 16)[8:] == record(first)


def test_a_name_in_two_segments_is_its_first_part_and_the_rest_is_ignored() -> None:
    with running() as server:
        first = server.connect(b"run42")
        take(first, 8)
        first.sendall(b"_0_1")
        second = server.connect(b"run42")

        assert take(second, 16)[8:] == record(first)
        assert take(first, 8) == record(second)


# -------------------------------------------------------------------------------- what blocked or killed the original


@pytest.mark.parametrize("said", [b"", b"\0", b"\0FMI\x01\x05name"], ids=["nothing", "a byte", "half a request"])
def test_a_client_that_does_not_say_all_keeps_no_one_waiting_and_must_go(said: bytes) -> None:
    with running() as server:
        silent = server.connect(said)
        server.wait_for(lambda: server.rendezvous.metrics.connections == 1)

        server.later(4.9)
        assert meets(server)
        assert server.rendezvous.metrics.timeouts == {}
        server.later(0.2)
        assert is_over(silent)
        assert server.metric('rendezvous_timeouts_total{phase="greeting"}') == 1


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_a_client_that_sent_a_name_and_left_is_no_ones_partner(leave) -> None:
    with running() as server:
        leave(server.connect(b"poisoned"))
        server.wait_for(
            lambda: server.rendezvous.metrics.connections == 1 and not server.rendezvous.gauges()["waiting"]
        )

        assert meets(server, b"poisoned")


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_a_client_that_leaves_while_it_waits_is_no_ones_partner(leave) -> None:
    with running() as server:
        gone = server.connect(b"poisoned")
        take(gone, 8)
        leave(gone)
        server.waiting(0)

        assert meets(server, b"poisoned")
        server.later(301)
        assert server.metric("rendezvous_departed_total") == 1
        assert server.rendezvous.metrics.timeouts == {}


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_connections_without_a_byte_do_no_harm(leave) -> None:
    with running() as server:
        for _ in range(20):
            leave(server.connect())

        assert meets(server)
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)


@pytest.mark.parametrize("said", [b"\0\0\0\0", b"\0FMI\x07\x00", b"\0GET / HTTP/1.1\r\n"])
def test_an_empty_name_or_garbage_is_refused(said: bytes) -> None:
    with running() as server:
        assert is_over(server.connect(said))
        assert server.metric('rendezvous_rejected_total{reason="malformed"}') == 1
        assert meets(server)


def test_a_client_that_talks_while_it_should_wait_must_go() -> None:
    with running() as server:
        noisy = server.connect(b"name")
        take(noisy, 8)
        noisy.sendall(b"x" * 2000)

        assert is_over(noisy)
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)
        server.later(301)
        assert server.metric('rendezvous_rejected_total{reason="noise"}') == 1
        assert server.metric("rendezvous_departed_total") == 0
        assert server.rendezvous.metrics.timeouts == {}


def test_a_client_that_no_one_comes_to_meet_is_sent_home() -> None:
    with running() as server:
        lonely = server.connect(b"name")
        lonely_relay = server.connect(pack_request(Request(Kind.RELAY, b"name")))
        server.waiting(2)

        server.later(299)
        assert server.rendezvous.gauges()["waiting"] == 2
        server.later(2)
        assert take(lonely, 9) == record(lonely)
        assert unpack_reply(take(lonely_relay, REPLY_BYTES)).status is Status.TIMEOUT
        assert is_over(lonely_relay)
        assert server.metric('rendezvous_timeouts_total{phase="wait"}') == 2
        assert server.rendezvous.gauges()["waiting"] == 0


# ------------------------------------------------------------------------------------------------------------- limits


def test_no_more_than_the_limit_wait_and_those_that_are_awaited_still_come() -> None:
    with running(limits=Limits(max_waiting=2)) as server:
        first = server.connect(b"a")
        server.connect(b"b")
        server.waiting(2)

        assert is_over(server.connect(b"c"))
        assert probe(*server.address, name=b"c").status is Status.FULL
        assert take(server.connect(b"a"), 16)[8:] == record(first)


def test_an_address_with_too_many_connections_is_refused_and_another_is_not() -> None:
    with running(limits=Limits(max_connections_per_address=2)) as server:
        for name in (b"a", b"b"):
            take(server.connect(name), 8)

        assert is_over(server.connect(b"c"))
        assert take(server.connect(b"c", source="127.0.0.2"), 8)


def test_an_address_is_given_back_its_connections() -> None:
    with running(limits=Limits(max_connections_per_address=2)) as server:
        for _ in range(5):
            assert meets(server)
            one, other = relayed(server)
            one.close()
            other.close()
            server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)


def test_connections_above_the_limit_are_refused_and_those_that_wait_are_not_harmed() -> None:
    with running(limits=Limits(max_connections=2)) as server:
        first = server.connect(b"a")
        take(first, 8)
        take(server.connect(b"b"), 8)

        assert is_over(server.connect())
        assert server.rendezvous.metrics.rejected == {"connections": 1}
        server.clients[1].close()
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 1)
        assert take(server.connect(b"a"), 16)[8:] == record(first)


# -------------------------------------------------------------------------------------------------------------- tokens


def make_name(*, key: bytes = KEY, expires_in_s: int = 60) -> bytes:
    return tokens.mint(key, "run", expires_at_s=int(time.time()) + expires_in_s).name(0, 1)


def test_signed_names_meet_and_others_see_not_even_their_own_address() -> None:
    with running(key=KEY) as server:
        assert meets(server, make_name())
        for name in (b"run42_0_1", make_name(key=b"q" * 32), make_name(expires_in_s=-1)):
            assert take(server.connect(name), 1) == b""
        assert server.metric('rendezvous_rejected_total{reason="token_expired"}') == 1
        assert server.metric('rendezvous_rejected_total{reason="token_invalid"}') == 2


def test_a_relay_without_a_token_is_refused_by_name() -> None:
    with running(key=KEY) as server:
        client = server.connect(pack_request(Request(Kind.RELAY, b"run42_0_1")))

        assert unpack_reply(take(client, REPLY_BYTES)).status is Status.TOKEN_INVALID
        assert is_over(client)


def test_a_probe_says_where_it_comes_from_and_whether_its_name_would_be_let_in() -> None:
    with running(key=KEY) as server:
        began_s = time.perf_counter()
        seen = probe(*server.address)

        assert seen.connect_s + seen.answer_s < time.perf_counter() - began_s
        assert (seen.status, seen.seen_as, seen.server) == (Status.OK, seen.local, server.address)
        assert from_builtins(json.loads(json.dumps(to_builtins(seen)))) == seen
        assert probe(*server.address, name=make_name()).status is Status.OK
        assert probe(*server.address, name=b"unsigned").status is Status.TOKEN_INVALID
        assert probe(*server.address, name=make_name(expires_in_s=-1)).status is Status.TOKEN_EXPIRED
        assert server.rendezvous.gauges()["waiting"] == 0


def test_a_probe_of_another_service_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(probe, *other.getsockname())
        client, _ = other.accept()
        take(client, 6)
        client.close()

        with pytest.raises(ProtocolError, match="no rendezvous server"):
            asked.result()


@pytest.mark.parametrize(("timeout_s", "is_answered"), [(DEADLINE_S, True), (0.1, False)])
def test_a_probe_takes_a_slow_answer_and_has_one_limit_for_the_whole(timeout_s: float, is_answered: bool) -> None:
    reply = Reply(Status.OK, ("192.0.2.1", 1))

    def answer_slowly() -> None:
        client, _ = other.accept()
        with client, suppress(OSError):
            take(client, len(pack_request(Request(Kind.CHECK, b""))))
            for number in pack_reply(reply):
                time.sleep(0.02)
                client.sendall(bytes([number]))

    with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor(1) as pool:
        pool.submit(answer_slowly)
        if is_answered:
            assert probe(*other.getsockname(), timeout_s=timeout_s).seen_as == reply.address
        else:
            with pytest.raises(ConnectionError, match="cannot be reached: no answer in time"):
                probe(*other.getsockname(), timeout_s=timeout_s)


def test_a_probe_does_not_wait_for_a_server_that_accepts_no_one() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as other,
        socket.create_connection(other.getsockname()),
        pytest.raises(ConnectionError, match="cannot be reached: no answer in time"),
    ):
        probe(*other.getsockname(), timeout_s=0.1)


def test_a_probe_says_why_there_is_no_server() -> None:
    with nowhere() as (host, port), pytest.raises(ConnectionError) as refused:
        probe(host, port)

    assert str(refused.value) == f"The rendezvous server {host}:{port} cannot be reached: Connection refused."


# ------------------------------------------------------------------------------------------------------ load balancers


def proxied(source: tuple[str, int]) -> bytes:
    head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", 12)
    return head + socket.inet_aton(source[0]) + socket.inet_aton("10.0.0.9") + struct.pack("!HH", source[1], 10000)


def test_behind_a_load_balancer_clients_meet_under_the_addresses_in_its_headers() -> None:
    with running(expects_proxy_header=True) as server:
        header = proxied(("192.0.2.1", 1111))
        first = server.connect(header[:20])
        first.sendall(header[20:])
        first.sendall(b"name")
        own = take(first, 8)
        second = server.connect(proxied(("192.0.2.2", 2222)) + b"name")

        assert own == bytes.fromhex("c0000201 0457 0000")
        assert take(second, 16) == bytes.fromhex("c0000202 08ae 0000 c0000201 0457 0000")


def test_a_load_balancer_that_looks_whether_the_port_is_open_is_no_client() -> None:
    with running(expects_proxy_header=True) as server:
        assert is_over(server.connect(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"))
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)
        assert server.rendezvous.gauges()["addresses"] == 0
        assert server.rendezvous.metrics.rejected == {}


def test_behind_a_load_balancer_a_client_without_a_header_is_refused() -> None:
    with running(expects_proxy_header=True) as server:
        assert is_over(server.connect(b"run42_0_1"))


def test_behind_a_load_balancer_the_limits_count_the_clients_and_not_the_load_balancer() -> None:
    with running(expects_proxy_header=True, limits=Limits(max_connections_per_address=1)) as server:
        first = server.connect(proxied(("192.0.2.1", 1)) + b"a")
        take(first, 8)

        assert is_over(server.connect(proxied(("192.0.2.1", 2)) + b"b"))
        assert server.rendezvous.gauges()["waiting"] == 1
        assert take(server.connect(proxied(("192.0.2.2", 1)) + b"c"), 8)


def test_without_one_a_header_is_a_name_and_forges_no_address() -> None:
    with running() as server:
        client = server.connect(proxied(("192.0.2.1", 1)) + b"a")

        assert take(client, 8) == record(client)


# --------------------------------------------------------------------------------------------------------------- relay


def test_relayed_clients_exchange_megabytes_in_both_directions_at_once() -> None:
    payload = bytes(range(256)) * 16384  # 4 MiB
    with running() as server, ThreadPoolExecutor(4) as pool:
        first, second = relayed(server)
        sent = [pool.submit(client.sendall, payload) for client in (first, second)]
        received = [pool.submit(take, client, len(payload)) for client in (first, second)]

        assert [future.result() for future in received] == [payload, payload]
        assert [future.result() for future in sent] == [None, None]
        assert server.metric("rendezvous_relay_bytes_total") == 2 * len(payload)


def test_an_end_that_has_said_all_still_hears_the_other() -> None:
    with running() as server:
        first, second = relayed(server)
        first.sendall(b"question")
        first.shutdown(socket.SHUT_WR)

        assert take(second, 9) == b"question"
        second.sendall(b"answer")
        second.shutdown(socket.SHUT_WR)
        assert take(first, 7) == b"answer"
        server.wait_for(lambda: server.rendezvous.gauges()["relays"] == 0)


@pytest.mark.parametrize("has_ended", [False, True], ids=["open", "said all"])
def test_an_end_that_is_lost_resets_the_other_which_takes_no_part_for_the_whole(has_ended: bool) -> None:
    with running() as server:
        first, second = relayed(server)
        first.sendall(b"half a mess")
        assert take(second, 11)
        if has_ended:
            second.shutdown(socket.SHUT_WR)
            assert take(first, 1) == b""
        reset(first)

        with pytest.raises(ConnectionResetError):
            second.recv(1)


def test_an_end_that_takes_nothing_stops_the_other_instead_of_filling_the_server_and_loses_nothing() -> None:
    with running() as server:
        first, second = relayed(server)
        first.settimeout(0.3)
        num_bytes = 0
        with suppress(TimeoutError):
            while num_bytes < 2**26:
                num_bytes += first.send(bytes(2**16))
        assert num_bytes < 2**26

        # What the server holds is bounded; the rest is in the kernel's buffers, which the timeout shows to be full.
        (relay,) = server.rendezvous._relays
        transports = [side.transport for side in relay._sides]
        assert {transport.get_write_buffer_limits()[1] for transport in transports} == {BUFFER_BYTES}
        assert max(transport.get_write_buffer_size() for transport in transports) < 2**20
        assert meets(server)
        first.shutdown(socket.SHUT_WR)
        second.shutdown(socket.SHUT_WR)
        assert len(take(second, num_bytes + 1)) == num_bytes


def test_a_relay_ends_after_too_many_bytes_and_not_before() -> None:
    with running(limits=Limits(relay_max_bytes=1000)) as server:
        first, second = relayed(server)
        first.sendall(bytes(600))
        assert len(take(second, 600)) == 600
        second.sendall(bytes(400))
        assert len(take(first, 400)) == 400
        first.sendall(b"x")

        for client in (first, second):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert server.metric('rendezvous_rejected_total{reason="relay_bytes"}') == 1


def test_a_relay_in_which_nothing_moves_ends_and_one_in_which_something_does_goes_on() -> None:
    with running() as server:
        still, _ = relayed(server, b"still")
        busy, partner = relayed(server, b"busy")
        server.later(200)
        busy.sendall(b"x")
        assert take(partner, 1) == b"x"

        server.later(299)
        assert is_over(still)
        assert server.rendezvous.gauges()["relays"] == 1
        server.later(2)
        assert is_over(busy)
        assert server.metric('rendezvous_timeouts_total{phase="relay"}') == 2


def test_a_relay_that_has_ended_is_not_idle() -> None:
    with running() as server:
        for client in relayed(server):
            client.close()
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)
        server.later(1000)

        assert server.rendezvous.metrics.timeouts == {}


def test_a_client_that_speaks_before_it_has_a_partner_is_refused() -> None:
    with running() as server:
        asked = pack_request(Request(Kind.RELAY, b"r"))
        hasty = server.connect(asked)
        server.waiting(1)
        hasty.sendall(b"hello")

        assert is_over(hasty)
        assert is_over(server.connect(asked + b"hello"))


def test_a_relay_and_a_meeting_of_the_same_name_are_not_mixed() -> None:
    with running() as server:
        server.connect(pack_request(Request(Kind.RELAY, b"name")))
        server.waiting(1)

        assert meets(server, b"name")


# ------------------------------------------------------------------------------------------------------------- the end


def test_draining_sends_those_home_who_wait_and_lets_relays_end() -> None:
    with running() as server:
        waits = server.connect(b"name")
        take(waits, 8)
        waits_for_relay = server.connect(pack_request(Request(Kind.RELAY, b"other")))
        server.waiting(2)
        first, second = relayed_beside(server)

        silent = server.connect()
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 5)

        drained = server.drain()

        assert is_over(silent)
        assert is_over(waits)
        assert unpack_reply(take(waits_for_relay, REPLY_BYTES)).status is Status.CLOSING
        with pytest.raises(urllib.error.HTTPError, match="503"):
            server.get("/readyz")
        assert server.get("/livez") == "alive\n"
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        first.sendall(b"still here")
        assert take(second, 10) == b"still here"
        assert server.rendezvous.gauges() == {"connections": 2, "waiting": 0, "relays": 1, "addresses": 1, "closing": 1}
        assert not drained.done()
        first.close()
        second.close()
        drained.result(DEADLINE_S)


def relayed_beside(server: Running) -> tuple[socket.socket, socket.socket]:
    asked = pack_request(Request(Kind.RELAY, b"r"))
    first, second = server.connect(asked), server.connect(asked)
    for client in (first, second):
        assert unpack_reply(take(client, REPLY_BYTES)).status is Status.PAIRED
    return first, second


def test_a_relay_that_does_not_end_is_cut_when_draining_has_taken_too_long(caplog: pytest.LogCaptureFixture) -> None:
    with running(limits=Limits(drain_timeout_s=0.2)) as server:
        first, second = relayed(server)

        with caplog.at_level("WARNING"):
            server.drain().result(DEADLINE_S)

        for client in (first, second):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert [(one.getMessage(), vars(one)["num_relays"]) for one in caplog.records] == [("relays cut", 1)]


def test_the_program_ends_in_order_on_sigterm_and_says_what_it_did() -> None:
    command = [sys.executable, "-m", "handlers.rendezvous", "--port", "0", "--health-port", "0", "--require-token"]
    environment = {"RENDEZVOUS_KEY": KEY.decode(), "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        server, asked = process.stdout.readline().split()
        host, port = server.split(":")
        status = probe(host, int(port), name=make_name()).status
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_S)

    ready, draining, ended = (json.loads(line) for line in said.splitlines())
    assert (status, process.returncode) == (Status.OK, 0)
    assert (ready["message"], ready["port"], ready["signed"]) == ("ready", int(port), True)
    assert ready["health_port"] == int(asked.split(":")[1])
    assert (draining["message"], draining["waiting"]) == ("draining", 0)
    assert (ended["message"], ended["pairs"], ended["rejected"]) == ("ended", {"meet": 0, "relay": 0}, {})
    assert KEY.decode() not in said


def test_make_rendezvous_prints_where_it_is_and_ends_at_ctrl_c() -> None:
    command = [sys.executable, "-m", "scripts.rendezvous"]
    environment = {"PORT": "0", "HEALTH_PORT": "0", "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        facts = [process.stdout.readline().split() for _ in range(3)]
        seen = probe("127.0.0.1", int(facts[0][1].rstrip(",").rpartition(":")[2]))
        with urllib.request.urlopen(facts[2][1], timeout=DEADLINE_S) as answer:
            metrics = answer.read()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)

    assert [name for name, *_ in facts] == ["rendezvous", "health", "metrics"]
    assert seen.status is Status.OK
    assert b"rendezvous_checks_total 1" in metrics
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "settings", "health"),
    [
        ([], Settings(host="127.0.0.1", port=10000, key=None, expects_proxy_header=False), ("127.0.0.1", 10001)),
        (
            ["--host=0.0.0.0", "--port=1", "--health-host=::", "--health-port=2", "--proxy-protocol=v2"],
            Settings(host="0.0.0.0", port=1, expects_proxy_header=True),
            ("::", 2),
        ),
        (["--require-token", "--proxy-protocol=off"], Settings(key=KEY), ("127.0.0.1", 10001)),
    ],
)
def test_the_program_serves_as_its_options_say(
    options: list[str], settings: Settings, health: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []

    async def serve(settings: Settings, *, health_host: str, health_port: int, on_ready: object) -> None:
        served.append((settings, (health_host, health_port)))

    monkeypatch.setattr(program, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["rendezvous", *options])
    monkeypatch.setenv("RENDEZVOUS_KEY", KEY.decode())

    assert program.main() == 0
    assert served == [(settings, health)]
    assert KEY.decode() not in repr(served)


def test_the_program_explains_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rendezvous", "--help"])
    with pytest.raises(SystemExit):
        program.main()

    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "usage: python -m handlers.rendezvous [",
        "the server in a process of its own",
        "0.0.0.0 for everyone",
        "0 takes a free one",
        "a load balancer's header",
        "32 characters or more",
    ):
        assert words in said


@pytest.mark.parametrize("key", ["", "short", "k" * 31])
def test_the_program_does_not_start_without_the_key_that_it_shall_require(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rendezvous", "--port", "0", "--require-token"])
    monkeypatch.setenv("RENDEZVOUS_KEY", key)

    with pytest.raises(SystemExit) as ended:
        program.main()

    assert ended.value.code == 2
    assert "32 characters" in capsys.readouterr().err


def test_a_header_that_the_program_does_not_know_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rendezvous", "--proxy-protocol", "v1"])

    with pytest.raises(SystemExit) as ended:
        program.main()

    assert ended.value.code == 2
    assert "choose from" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running() as server:
        port = server.address[1]
        monkeypatch.setattr(sys, "argv", ["rendezvous", "--port", str(port)])
        assert program.main() == 1

    assert re.fullmatch(rf"127.0.0.1:{port} cannot be had: .* Choose another port.\n", capsys.readouterr().err)


def test_a_server_that_starts_again_has_its_port_at_once() -> None:
    # An address of its own: the port is free for a moment, and other tests take free ports.
    host = "127.0.0.79"
    with running(host=host) as server:
        assert meets(server)

    with running(host=host, port=server.address[1]) as again:
        assert meets(again)


def test_a_client_that_vanished_is_found_out_within_a_minute() -> None:
    with listen("127.0.0.1", 0) as listener:
        idle_s, every_s, count = (
            listener.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert idle_s + every_s * count <= 60


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "::1"])
def test_an_address_of_another_machine_is_one_clear_line(host: str) -> None:
    with pytest.raises(OSError, match=r"cannot be had: .* It needs an IPv4 address of this machine"):
        listen(host, 10000)


# -------------------------------------------------------------------------------------------------------------- health


def say(server: Running, request: bytes) -> bytes:
    """Say something to the health port; return all that it answers until it closes."""
    with socket.create_connection(server.health, timeout=DEADLINE_S) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(4096), b""))


def test_the_health_port_answers_load_balancers_over_http_and_closes() -> None:
    with running() as server:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"

        assert say(server, b"GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n") == head + b"ready\n"
        assert say(server, b"HEAD /readyz HTTP/1.1\r\n\r\n") == head


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("GET", "/livez", 200, "alive"),
        ("GET", "/readyz", 200, "ready"),
        ("HEAD", "/health", 200, "ready"),
        ("GET", "/readyz?verbose", 200, "ready"),
        ("GET", "/metrics", 200, "# TYPE rendezvous_connections gauge"),
        ("GET", "/", 404, "/livez, /readyz or /metrics"),
        ("GET", "/metricsx", 404, "/livez, /readyz or /metrics"),
        ("POST", "/readyz", 405, "GET or HEAD"),
    ],
)
def test_health_is_asked_for_by_path(method: str, path: str, status: int, content: str) -> None:
    found, content_type, text = Health(Rendezvous(Settings())).answer(method, path)

    assert (found, text.splitlines()[0]) == (status, content)
    assert content_type == (METRICS_TYPE if path == "/metrics" else "text/plain")


@pytest.mark.parametrize("said", [b"", b"GET", b"\r\n\r\n", b"\xff\xff \xff\r\n\r\n"])
def test_no_request_to_the_health_port_harms_the_next(said: bytes) -> None:
    with running() as server:
        with socket.create_connection(server.health, timeout=DEADLINE_S) as client:
            client.sendall(said)
        assert server.get("/readyz") == "ready\n"


def test_the_health_port_hears_no_one_without_end() -> None:
    with running() as server:
        endless, silent = (socket.create_connection(server.health, timeout=DEADLINE_S) for _ in range(2))
        with endless, silent:
            endless.sendall(b"x" * 20_000)
            assert is_over(endless)
            server.wait_for(lambda: server.http._num_requests == 1)
            server.later(6)
            assert is_over(silent)


def test_the_health_port_answers_so_many_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_REQUESTS", 2)
    with running() as server:
        with socket.create_connection(server.health, timeout=DEADLINE_S):
            server.wait_for(lambda: server.http._num_requests == 1)
            assert server.get("/readyz") == "ready\n"
            with socket.create_connection(server.health, timeout=DEADLINE_S):
                server.wait_for(lambda: server.http._num_requests == 2)
                assert say(server, b"") == b""
        server.wait_for(lambda: server.http._num_requests == 0)
        assert server.get("/readyz") == "ready\n"


def test_the_health_port_is_closed_with_the_server() -> None:
    with running() as server:
        server.loop.call_soon_threadsafe(server.http.close)
        server.later(0)

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.health)


# ---------------------------------------------------------------------------------------------------------------- load


def test_a_thousand_who_wait_and_a_flood_of_pairs_leave_the_memory_as_it_was() -> None:
    # In a process of its own: its memory is the server's and not that of the clients.
    command = [sys.executable, "-m", "handlers.rendezvous", "--port", "0", "--health-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        (host, port), health = (where.split(":") for where in process.stdout.readline().split())
        address = (host, int(port))

        def metric(name: str) -> float:
            with urllib.request.urlopen(f"http://{':'.join(health)}/metrics", timeout=30) as answer:
                lines = answer.read().decode().splitlines()
            return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

        def connect(name: bytes) -> socket.socket:
            client = socket.create_connection(address, 30)
            client.sendall(name)
            return client

        def pair(number: int) -> bool:
            with connect(b"pair %d" % number) as one, connect(b"pair %d" % number) as two:
                return take(one, 16)[8:] == record(two) and take(two, 16)[8:] == record(one)

        with ExitStack() as waiting, ThreadPoolExecutor(4) as pool:
            waiting.callback(process.kill)
            for number in range(1000):
                take(waiting.enter_context(connect(b"waits %d" % number)), 8)
            assert metric("rendezvous_waiting") == 1000
            assert all(pool.map(pair, range(200)))
            before = metric("process_resident_memory_bytes")
            assert all(pool.map(pair, range(200, 800)))

            assert metric("rendezvous_waiting") == 1000
            assert metric('rendezvous_pairs_total{way="meet"}') == 800
            assert metric("process_resident_memory_bytes") < before + 1e6

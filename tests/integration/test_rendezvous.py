"""The rendezvous server over TCP: the original's protocol, byte for byte, and what the original did not survive."""

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
from contextlib import ExitStack

import pytest

from handlers.rendezvous import __main__ as program
from handlers.rendezvous.limits import Limits
from handlers.rendezvous.probe import probe
from handlers.rendezvous.server import listen
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
from tests.rendezvous import DEADLINE_S, Running, is_over, record, reset, running, take

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


def test_a_silent_client_keeps_no_one_waiting_and_must_go() -> None:
    with running(limits=Limits(greeting_timeout_s=1.0)) as server:
        silent = server.connect()

        assert meets(server)
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
        assert server.metric("rendezvous_departed_total") == 1


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_connections_without_a_byte_do_no_harm(leave) -> None:
    with running() as server:
        for _ in range(20):
            leave(server.connect())

        assert meets(server)
        server.wait_for(lambda: server.rendezvous.gauges()["connections"] == 0)


@pytest.mark.parametrize("said", [b"\0", b"\0\0\0\0", b"\0FMI\x07\x00", b"\0GET / HTTP/1.1\r\n"])
def test_an_empty_name_or_garbage_is_refused(said: bytes) -> None:
    with running(limits=Limits(greeting_timeout_s=1.0)) as server:
        assert is_over(server.connect(said))
        assert meets(server)


def test_a_client_that_talks_while_it_should_wait_must_go() -> None:
    with running() as server:
        noisy = server.connect(b"name")
        take(noisy, 8)
        noisy.sendall(b"x" * 2000)

        assert is_over(noisy)
        assert server.metric('rendezvous_rejected_total{reason="noise"}') == 1


def test_a_client_that_no_one_comes_to_meet_is_sent_home() -> None:
    with running(limits=Limits(wait_timeout_s=0.2)) as server:
        lonely = server.connect(b"name")
        lonely_relay = server.connect(pack_request(Request(Kind.RELAY, b"name")))

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

        refused = server.connect()
        assert is_over(refused)
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
        seen = probe(*server.address)

        assert (seen.status, seen.seen_as, seen.server) == (Status.OK, seen.local, server.address)
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


def test_behind_a_load_balancer_a_client_without_a_header_is_refused() -> None:
    with running(expects_proxy_header=True) as server:
        assert is_over(server.connect(b"run42_0_1"))


def test_behind_a_load_balancer_the_limits_count_the_clients_and_not_the_load_balancer() -> None:
    with running(expects_proxy_header=True, limits=Limits(max_connections_per_address=1)) as server:
        first = server.connect(proxied(("192.0.2.1", 1)) + b"a")
        take(first, 8)

        assert is_over(server.connect(proxied(("192.0.2.1", 2)) + b"b"))
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


def test_an_end_that_is_lost_resets_the_other_which_takes_no_part_for_the_whole() -> None:
    with running() as server:
        first, second = relayed(server)
        first.sendall(b"half a mess")
        assert take(second, 11)
        reset(first)

        with pytest.raises(ConnectionResetError):
            second.recv(1)


def test_an_end_that_takes_nothing_stops_the_other_instead_of_filling_the_server() -> None:
    with running() as server:
        first, _ = relayed(server)
        first.settimeout(0.3)
        with pytest.raises(TimeoutError):
            first.sendall(bytes(2**26))

        # What the server holds is bounded; the rest is in the kernel's buffers, which the timeout shows to be full.
        (relay,) = server.rendezvous._relays
        held = [side.transport.get_write_buffer_size() for side in relay._sides]
        assert max(held) < 2**20
        assert meets(server)


def test_a_relay_ends_after_too_many_bytes() -> None:
    with running(limits=Limits(relay_max_bytes=1000)) as server:
        first, second = relayed(server)
        first.sendall(bytes(1001))

        assert is_over(second)
        assert is_over(first)
        assert server.metric('rendezvous_rejected_total{reason="relay_bytes"}') == 1


def test_a_relay_in_which_nothing_moves_ends_and_one_in_which_something_does_goes_on() -> None:
    with running(limits=Limits(relay_idle_timeout_s=1.0)) as server:
        still, _ = relayed(server, b"still")
        busy, partner = relayed(server, b"busy")
        deadline_s = time.monotonic() + 2.0
        while time.monotonic() < deadline_s:
            busy.sendall(b"x")
            assert take(partner, 1) == b"x"
            time.sleep(0.05)

        assert is_over(still)
        assert server.rendezvous.gauges()["relays"] == 1


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

        drained = server.drain()

        assert is_over(waits)
        assert unpack_reply(take(waits_for_relay, REPLY_BYTES)).status is Status.CLOSING
        with pytest.raises(urllib.error.HTTPError, match="503"):
            server.get("/readyz")
        assert server.get("/livez") == "alive\n"
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        first.sendall(b"still here")
        assert take(second, 10) == b"still here"
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


def test_a_relay_that_does_not_end_is_cut_when_draining_has_taken_too_long() -> None:
    with running(limits=Limits(drain_timeout_s=0.2)) as server:
        first, second = relayed(server)

        server.drain().result(DEADLINE_S)

        assert is_over(first)
        assert is_over(second)


def test_the_program_ends_in_order_on_sigterm_and_says_what_it_did() -> None:
    command = [sys.executable, "-m", "handlers.rendezvous", "--port", "0", "--health-port", "0", "--require-token"]
    environment = {"RENDEZVOUS_KEY": KEY.decode(), "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        host, port = process.stdout.readline().split()[0].split(":")
        status = probe(host, int(port), name=make_name()).status
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_S)

    assert (status, process.returncode) == (Status.OK, 0)
    assert '"message": "ended"' in said
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


@pytest.mark.parametrize("key", ["", "short"])
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


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "::1"])
def test_an_address_of_another_machine_is_one_clear_line(host: str) -> None:
    with pytest.raises(OSError, match=r"cannot be had: .* It needs an IPv4 address of this machine"):
        listen(host, 10000)


# -------------------------------------------------------------------------------------------------------------- health


def test_the_health_port_answers_load_balancers_and_refuses_the_rest() -> None:
    with running() as server:
        assert server.get("/readyz") == "ready\n"
        for path, code in (("/", "404"), ("/metricsx", "404")):
            with pytest.raises(urllib.error.HTTPError, match=code):
                server.get(path)


@pytest.mark.parametrize("said", [b"", b"GET", b"\r\n\r\n", b"\xff\xff \xff\r\n\r\n", b"x" * 20_000])
def test_no_request_to_the_health_port_harms_the_next(said: bytes) -> None:
    with running() as server:
        with socket.create_connection(server.health, timeout=DEADLINE_S) as client:
            client.sendall(said)
        assert server.get("/readyz") == "ready\n"


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

"""What one address may take of the rendezvous server, and what the server tells of itself."""

import asyncio
import gc
import io
import json
import logging
import resource
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from handlers.rendezvous.connection import Connection
from handlers.rendezvous.limits import Admission, Limits
from handlers.rendezvous.metrics import Metrics
from handlers.rendezvous.relay import Relay, reset
from handlers.rendezvous.server import Rendezvous, Settings
from handlers.rendezvous.service import JsonFormatter
from inference.fmi.tokens import MIN_KEY_BYTES
from scripts import rendezvous as command
from scripts.command.program import exit_status, usage
from scripts.command.repository import REPOSITORY


def make_admission(*, connections: int = 100, burst: int = 100, rate_per_s: float = 10.0) -> Admission:
    return Admission(
        Limits(max_connections_per_address=connections, burst_per_address=burst, rate_per_address_per_s=rate_per_s)
    )


def enter(admission: Admission, count: int, *, host: str = "10.0.0.1", now_s: float = 0.0) -> list[str | None]:
    return [admission.enter(host, now_s) for _ in range(count)]


def test_an_address_with_too_many_connections_waits_until_one_has_ended() -> None:
    admission = make_admission(connections=2)

    assert enter(admission, 3) == [None, None, "address_connections"]
    admission.leave("10.0.0.1")
    assert enter(admission, 2) == [None, "address_connections"]


def test_an_address_that_comes_too_fast_waits_until_its_allowance_has_grown() -> None:
    admission = make_admission(burst=3, rate_per_s=10.0)

    assert enter(admission, 4) == [None, None, None, "address_rate"]
    assert enter(admission, 1, now_s=0.09) == ["address_rate"]
    assert enter(admission, 2, now_s=0.11) == [None, "address_rate"]


def test_the_allowance_never_exceeds_the_burst() -> None:
    admission = make_admission(burst=3)
    enter(admission, 3)

    assert enter(admission, 4, now_s=1e6) == [None, None, None, "address_rate"]


def test_one_address_takes_nothing_from_another() -> None:
    admission = make_admission(burst=1)
    enter(admission, 2)

    assert enter(admission, 1, host="10.0.0.2") == [None]


def test_a_whole_run_of_64_ranks_that_all_know_each_other_passes_behind_one_address() -> None:
    assert set(enter(Admission(Limits()), 64 * 63)) == {None}


@pytest.mark.parametrize(("num_in_use", "most_known"), [(1, 4096), (3000, 6000)])
def test_of_addresses_that_are_not_in_use_hardly_more_are_known_than_of_those_that_are(
    num_in_use: int, most_known: int
) -> None:
    admission = make_admission(burst=1, rate_per_s=1.0)
    for number in range(num_in_use):
        enter(admission, 1, host=f"in use {number}")
    known = []
    for number in range(10_000):
        enter(admission, 1, host=f"gone {number}", now_s=10.0 * number)
        admission.leave(f"gone {number}")
        known.append(len(admission))

    assert max(known) == most_known
    assert known[-1] >= num_in_use


def test_an_address_in_use_or_in_debt_is_not_forgotten() -> None:
    admission = make_admission(connections=1, burst=2, rate_per_s=1e-9)
    enter(admission, 1, host="in use")
    enter(admission, 1, host="in debt")
    admission.leave("in debt")
    for number in range(10_000):
        enter(admission, 1, host=f"host {number}")

    assert enter(admission, 1, host="in use") == ["address_connections"]
    assert enter(admission, 2, host="in debt") == [None, "address_connections"]


def test_the_documented_limits_are_those_of_the_server() -> None:
    page, limits = (REPOSITORY / "docs" / "fmi.md").read_text(), Limits()

    for line in (
        f"An address may have {limits.max_connections_per_address:,} connections and open "
        f"{limits.burst_per_address:,} at once, {limits.rate_per_address_per_s:,.0f}\nper second",
        f"| connections, of them waiting | {limits.max_connections:,}, {limits.max_waiting:,} |",
        f"| request complete within, partner within | {limits.greeting_timeout_s:g} s, {limits.wait_timeout_s:g} s |",
        f"| relay: idle, bytes of a pair | {limits.relay_idle_timeout_s:g} s, {limits.relay_max_bytes / 2**30:g} GiB |",
        f"| drain after SIGTERM | {limits.drain_timeout_s:g} s |",
    ):
        assert line in page


def test_a_server_that_has_just_started_has_counted_nothing() -> None:
    samples = [line for line in Metrics().to_text({}).splitlines() if line.startswith("rendezvous_")]

    assert {float(line.split()[-1]) for line in samples} == {0}


def test_the_metrics_are_in_the_text_format_of_prometheus() -> None:
    metrics = Metrics()
    metrics.paired("meet", 0.02)
    metrics.paired("relay", 400.0)
    metrics.rejected |= {"noise": 2, "malformed": 3}
    metrics.timeouts["wait"] = 4
    metrics.connections, metrics.checks, metrics.departed, metrics.relay_bytes = 5, 6, 7, 8

    lines = metrics.to_text({"waiting": 9}).splitlines()

    assert (
        lines[:-4]
        == """\
# TYPE rendezvous_waiting gauge
rendezvous_waiting 9
# TYPE rendezvous_connections_total counter
rendezvous_connections_total 5
# TYPE rendezvous_pairs_total counter
rendezvous_pairs_total{way="meet"} 1
rendezvous_pairs_total{way="relay"} 1
# TYPE rendezvous_checks_total counter
rendezvous_checks_total 6
# TYPE rendezvous_rejected_total counter
rendezvous_rejected_total{reason="malformed"} 3
rendezvous_rejected_total{reason="noise"} 2
# TYPE rendezvous_timeouts_total counter
rendezvous_timeouts_total{phase="wait"} 4
# TYPE rendezvous_departed_total counter
rendezvous_departed_total 7
# TYPE rendezvous_relay_bytes_total counter
rendezvous_relay_bytes_total 8
# TYPE rendezvous_pair_wait_seconds histogram
rendezvous_pair_wait_seconds_bucket{le="0.001"} 0
rendezvous_pair_wait_seconds_bucket{le="0.005"} 0
rendezvous_pair_wait_seconds_bucket{le="0.01"} 0
rendezvous_pair_wait_seconds_bucket{le="0.05"} 1
rendezvous_pair_wait_seconds_bucket{le="0.1"} 1
rendezvous_pair_wait_seconds_bucket{le="0.5"} 1
rendezvous_pair_wait_seconds_bucket{le="1.0"} 1
rendezvous_pair_wait_seconds_bucket{le="5.0"} 1
rendezvous_pair_wait_seconds_bucket{le="10.0"} 1
rendezvous_pair_wait_seconds_bucket{le="30.0"} 1
rendezvous_pair_wait_seconds_bucket{le="60.0"} 1
rendezvous_pair_wait_seconds_bucket{le="120.0"} 1
rendezvous_pair_wait_seconds_bucket{le="300.0"} 1
rendezvous_pair_wait_seconds_bucket{le="+Inf"} 2
rendezvous_pair_wait_seconds_sum 400.02
rendezvous_pair_wait_seconds_count 2""".splitlines()
    )
    assert [line.split()[:3] for line in lines[-4::2]] == [
        ["#", "TYPE", "process_resident_memory_bytes"],
        ["#", "TYPE", "process_start_time_seconds"],
    ]
    memory, start = (line.split() for line in lines[-3::2])
    assert (memory[0], start[0]) == ("process_resident_memory_bytes", "process_start_time_seconds")
    assert float(memory[1]) > 1e6
    assert float(start[1]) == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
def test_a_wait_as_long_as_a_bound_counts_within_it(wait_s: float) -> None:
    metrics = Metrics()
    metrics.paired("meet", wait_s)

    assert 'rendezvous_pair_wait_seconds_bucket{le="0.001"} 1' in metrics.to_text({})


def test_a_client_that_is_accepted_while_the_server_closes_is_sent_home() -> None:
    async def drain_at_once() -> bytes:
        rendezvous = Rendezvous(Settings(port=0))
        address = await rendezvous.start()
        with socket.create_connection(address, timeout=10) as client:
            # Now it is accepted, and not let in yet.
            for _ in range(2):
                await asyncio.sleep(0)
            await rendezvous.drain()
            return client.recv(1)

    assert asyncio.run(drain_at_once()) == b""
    gc.collect()


@dataclass
class FakeTransport(asyncio.Transport):
    """A connection that writes down what becomes of it."""

    peer: tuple[str, int] | None = ("192.0.2.1", 1)
    said: bytes = b""
    is_open: bool = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": self.peer, "socket": self}.get(name, default)

    def setsockopt(self, *_: object) -> None:
        assert self.is_open, "a closed socket has no options"

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.said += data

    def is_closing(self) -> bool:
        return not self.is_open

    def close(self) -> None:
        self.is_open = False

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write_eof(self) -> None:
        raise OSError("Transport endpoint is not connected")


async def connect(server: Rendezvous, **how: Any) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(server), FakeTransport(**how)
    connection.connection_made(transport)
    return connection, transport


def test_a_client_that_is_leaving_is_no_ones_partner_any_more() -> None:
    async def leave_and_come() -> dict[str, float]:
        server = Rendezvous(Settings())
        (leaving, _), (coming, transport) = await connect(server), await connect(server)
        leaving.data_received(b"name")
        leaving.eof_received()
        coming.data_received(b"name")
        assert len(transport.said) == 8
        transport.close()
        return server.gauges()

    assert asyncio.run(leave_and_come())["waiting"] == 1


def test_a_client_that_is_gone_when_it_is_let_in_is_dropped() -> None:
    async def come() -> Rendezvous:
        server = Rendezvous(Settings())
        connection, transport = await connect(server, peer=None)
        assert not transport.is_open
        connection.connection_lost(None)
        return server

    server = asyncio.run(come())

    assert server.metrics.rejected == {"gone": 1}
    assert server.gauges()["connections"] == 0


def test_what_follows_a_name_is_noise_up_to_a_kibibyte() -> None:
    async def make_noise(num_bytes: int) -> bool:
        connection, transport = await connect(Rendezvous(Settings()))
        connection.data_received(b"name")
        connection.data_received(bytes(num_bytes))
        is_open = transport.is_open
        transport.close()
        return is_open

    assert [asyncio.run(make_noise(num_bytes)) for num_bytes in (1024, 1025)] == [True, False]


def test_what_is_closed_already_can_be_reset() -> None:
    transport = FakeTransport()
    transport.close()

    reset(transport)


def test_a_relay_ends_where_one_end_could_not_be_told_that_the_other_has_said_all() -> None:
    async def say_all() -> list[bool]:
        relay = Relay(Limits(), Metrics(), lambda _: None)
        ends = [FakeTransport(), FakeTransport()]
        for end in ends:
            relay.take(end, lambda: None)
        for end in ends:
            with suppress(OSError):
                end.protocol.eof_received()
        # As asyncio ends a connection whose protocol fails.
        ends[1].close()
        ends[1].protocol.connection_lost(None)
        return [end.is_open for end in ends]

    assert asyncio.run(say_all()) == [False, False]


def test_ranks_that_come_while_the_server_is_busy_all_get_in() -> None:
    async def come_at_once() -> int:
        server = Rendezvous(Settings(port=0))
        address = await server.start()
        # The loop does not turn meanwhile: they wait in the kernel.
        clients = [socket.create_connection(address, timeout=10) for _ in range(300)]
        while server.metrics.connections < len(clients):
            await asyncio.sleep(0)
        for client in clients:
            client.close()
        await server.drain()
        return server.metrics.connections

    assert asyncio.run(come_at_once()) == 300
    gc.collect()


def test_how_long_the_first_of_a_pair_waited_is_added_up() -> None:
    async def meet() -> float:
        server = Rendezvous(Settings())
        loop = asyncio.get_running_loop()
        for _ in range(2):
            connection, transport = await connect(server)
            connection.data_received(b"name")
            transport.close()
            now = loop.time
            loop.time = lambda now=now: now() + 20  # type: ignore[method-assign,misc]
        return server.metrics.wait_s

    assert asyncio.run(meet()) == pytest.approx(20, abs=5)


def test_a_line_of_the_log_is_an_object_with_the_facts_at_its_root() -> None:
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "ready on %s", "args": ("10000",), "port": 10000})

    line = json.loads(JsonFormatter().format(record))

    assert line.pop("timestamp").startswith("20")
    assert line == {"level": "INFO", "message": "ready on 10000", "port": 10000}


def test_a_line_of_the_log_holds_the_trace_of_an_error() -> None:
    record = logging.makeLogRecord({"exc_info": (OSError, OSError("no files"), None)})

    assert json.loads(JsonFormatter().format(record))["exception"] == "OSError: no files"


UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "taken", "let_in"),
    [
        (256, 100_000, [(10_128, 100_000)], 10_000),
        (256, UNLIMITED, [(10_128, UNLIMITED)], 10_000),
        (256, 600, [(600, 600)], 472),
        (10_128, 10_128, [], 10_000),
        (UNLIMITED, UNLIMITED, [], 10_000),
    ],
)
def test_a_server_takes_the_files_it_may_have_and_lets_in_no_more_clients_than_fit(
    soft: int,
    hard: int,
    taken: list[tuple[int, int]],
    let_in: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))

    async def start_and_stop() -> Rendezvous:
        rendezvous = Rendezvous(Settings(port=0, limits=Limits(max_connections=10_000)))
        await rendezvous.start()
        await rendezvous.drain()
        return rendezvous

    assert asyncio.run(start_and_stop()).limits.max_connections == let_in
    assert asked == taken
    said = [(vars(one)["num_files"], vars(one)["max_connections"]) for one in caplog.records]
    assert said == ([(hard, let_in)] if let_in < 10_000 else [])


@pytest.mark.parametrize(("key", "said"), [("", "every name is let in"), ("k" * MIN_KEY_BYTES, "signed names only")])
def test_make_rendezvous_serves_where_it_is_told_and_shows_its_health_on_this_machine_only(
    key: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    out: Any = io.TextIOWrapper(io.BytesIO())

    async def serve(settings: Settings, *, on_ready: Any, **where: object) -> None:
        asked.update(where, settings=settings)
        on_ready(("10.0.0.1", 7), ("127.0.0.1", 8))
        # Whoever started it in a pipe reads it now, not when it ends.
        asked["said"] = out.buffer.getvalue().decode().splitlines()

    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(command, "serve", serve)
    where = {"HOST": "0.0.0.0", "PORT": "0", "HEALTH_PORT": "8"}

    assert exit_status(command.main, {**where, "RENDEZVOUS_KEY": key}) == 0
    settings = Settings(host="0.0.0.0", port=0, key=key.encode() or None)
    assert asked.pop("said") == [
        f"rendezvous  10.0.0.1:7, {said}",
        "health      http://127.0.0.1:8/readyz",
        "metrics     http://127.0.0.1:8/metrics",
    ]
    assert asked == {"settings": settings, "health_host": "127.0.0.1", "health_port": 8}


def test_make_rendezvous_refuses_a_key_that_can_be_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(command.main, {"RENDEZVOUS_KEY": "k" * (MIN_KEY_BYTES - 1)}) == 2

    assert f"has {MIN_KEY_BYTES - 1} characters; it needs {MIN_KEY_BYTES} or more" in capsys.readouterr().err


def test_make_rendezvous_listens_on_this_machine_where_nothing_is_said() -> None:
    variables = command.RendezvousVariables()

    assert (variables.host, variables.port, variables.health_port) == ("127.0.0.1", 10000, 10001)
    assert "a port, 0 for a free one" in usage(command.main)

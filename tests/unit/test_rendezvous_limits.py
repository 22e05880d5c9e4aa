"""What one address may take of the rendezvous server, and what the server tells of itself."""

import asyncio
import gc
import resource
import socket

import pytest

from handlers.rendezvous.limits import Admission, Limits
from handlers.rendezvous.metrics import Metrics
from handlers.rendezvous.server import NUM_OTHER_FILES, Rendezvous, Settings


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
    assert enter(admission, 1) == [None]


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


def test_addresses_are_forgotten_once_nothing_is_left_to_know_of_them() -> None:
    admission = make_admission(burst=1, rate_per_s=1.0)
    for number in range(100_000):
        host = f"host {number}"
        admission.enter(host, number / 10)
        admission.leave(host)

    assert len(admission) <= 8192


def test_an_address_in_use_or_in_debt_is_not_forgotten() -> None:
    admission = make_admission(connections=1, burst=2, rate_per_s=1e-9)
    enter(admission, 1, host="in use")
    enter(admission, 1, host="in debt")
    admission.leave("in debt")
    for number in range(10_000):
        enter(admission, 1, host=f"host {number}")

    assert enter(admission, 1, host="in use") == ["address_connections"]
    assert enter(admission, 2, host="in debt") == [None, "address_connections"]


def test_the_metrics_are_in_the_text_format_of_prometheus() -> None:
    metrics = Metrics()
    metrics.paired("meet", 0.02)
    metrics.paired("relay", 400.0)
    metrics.rejected["malformed"] += 3

    lines = metrics.to_text({"waiting": 7}).splitlines()

    for line in (
        "# TYPE rendezvous_waiting gauge",
        "rendezvous_waiting 7",
        'rendezvous_pairs_total{way="meet"} 1',
        'rendezvous_rejected_total{reason="malformed"} 3',
        'rendezvous_pair_wait_seconds_bucket{le="0.01"} 0',
        'rendezvous_pair_wait_seconds_bucket{le="0.05"} 1',
        'rendezvous_pair_wait_seconds_bucket{le="300.0"} 1',
        'rendezvous_pair_wait_seconds_bucket{le="+Inf"} 2',
        "rendezvous_pair_wait_seconds_sum 400.02",
        "rendezvous_pair_wait_seconds_count 2",
    ):
        assert line in lines
    assert float(next(line for line in lines if line.startswith("process_resident")).split()[1]) > 1e6


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


@pytest.mark.parametrize(("hard", "allowed", "let_in"), [(100_000, 10_000 + NUM_OTHER_FILES, 10_000), (600, 600, 472)])
def test_a_server_takes_the_files_it_may_have_and_lets_in_no_more_clients_than_fit(
    hard: int, allowed: int, let_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: taken.append(pair))

    async def start_and_stop() -> Rendezvous:
        rendezvous = Rendezvous(Settings(port=0, limits=Limits(max_connections=10_000)))
        await rendezvous.start()
        await rendezvous.drain()
        return rendezvous

    assert asyncio.run(start_and_stop()).limits.max_connections == let_in
    assert taken == [(allowed, hard)]

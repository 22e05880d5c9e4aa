"""Two ranks meet through the store where no socket works, and leave it alone before."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from inference.errors import FmiTimeout
from inference.fmi import meeting
from inference.fmi.config import Config
from inference.fmi.meeting import Connection, Path, Store, Venue, meet_all


class Shelf:
    """A store in memory that counts how often it was listed."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.num_listed = 0
        self._lock = threading.Lock()

    def read(self, key: str) -> bytes:
        return self.objects[key]

    def write(self, key: str, content: bytes) -> None:
        with self._lock:
            self.objects[key] = content

    def list(self, prefix: str) -> list[str]:
        with self._lock:
            self.num_listed += 1
            return [key for key in self.objects if key.startswith(prefix)]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that lets everyone in and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, and at which no one listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def venue(port: int, store: Store, *paths: Path) -> Venue:
    known = Config(host="127.0.0.1", port=port).venue("test")
    return replace(known, paths=paths, store=store, store_prefix="runs/a/fmi/")


def meet(place: Venue, rank: int, *, within_s: float) -> Connection:
    """Meet the other of ranks 0 and 1."""
    connections, failures = meet_all(rank, [1 - rank], place, time.monotonic() + within_s)
    if failures:
        raise failures[1 - rank]
    return connections[1 - rank]


def test_ranks_whose_server_is_away_meet_in_the_store(closed_port: int) -> None:
    place = venue(closed_port, Shelf(), "direct", "store")

    with ThreadPoolExecutor(2) as pool:
        lower, higher = pool.map(lambda rank: meet(place, rank, within_s=60), (0, 1))

    assert (lower.path, higher.path, lower.sock, higher.sock) == ("store", "store", None, None)
    assert lower.store_keys == higher.store_keys[::-1]
    assert all(key.startswith("runs/a/fmi/") and key.endswith("/") for key in lower.store_keys)


def test_a_store_is_no_way_where_it_is_not_one_of_the_paths(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "GLANCE_S", 0.0)
    shelf = Shelf()

    with pytest.raises(FmiTimeout, match=r"Rank 0 did not meet rank 1 .* the rendezvous server .* cannot be reached"):
        meet(venue(closed_port, shelf, "direct"), 0, within_s=0.1)

    assert (shelf.objects, shelf.num_listed) == ({}, 0)


def test_a_rank_that_waits_for_the_server_looks_into_the_store_only_now_and_then(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "GLANCE_S", 1000.0)
    shelf = Shelf()

    with pytest.raises(FmiTimeout, match="it did not come to the rendezvous"):
        meet(venue(silent_port, shelf, "direct", "store"), 0, within_s=0.1)

    assert (shelf.objects, shelf.num_listed) == ({}, 0)

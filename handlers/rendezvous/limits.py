"""What one address may take of the server: connections at the same time, and how fast new ones may come."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of the server, above what a whole run behind one NAT address needs and below what would hurt.

    64 ranks that all know each other open 4,032 connections at once, 1,000 ranks that meet along a tree 1,998.
    """

    max_connections: int = 16_384
    """Connections at the same time; each takes one file descriptor."""

    max_waiting: int = 12_288
    """Connections that wait for a partner."""

    max_connections_per_address: int = 12_288

    burst_per_address: int = 20_000
    """New connections of one address before `rate_per_address_per_s` counts."""

    rate_per_address_per_s: float = 1_000.0

    greeting_timeout_s: float = 5.0
    """From the connection to the end of the request."""

    wait_timeout_s: float = 300.0
    """For a partner. Below the 350 s after which AWS cuts a silent connection."""

    relay_idle_timeout_s: float = 300.0
    """Without a byte in either direction."""

    relay_max_bytes: int = 2**30
    """Of one relayed pair, both directions together."""

    drain_timeout_s: float = 60.0
    """For the relayed pairs to end, after SIGTERM."""


@dataclass(slots=True)
class _Guest:
    """What is known of one address."""

    num_connections: int
    allowance: float
    seen_at_s: float


class Admission:
    """Counts the connections of every address; pure, the caller says what time it is."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._guests: dict[str, _Guest] = {}
        self._forget_at = 4096

    def enter(self, host: str, now_s: float) -> str | None:
        """Count a connection of an address; return why it must go, None when it may stay and must `leave` later."""
        limits = self._limits
        guest = self._guests.get(host)
        if guest is None:
            self._forget(now_s)
            guest = self._guests[host] = _Guest(0, limits.burst_per_address, now_s)
        guest.allowance = self._allowance(guest, now_s)
        guest.seen_at_s = now_s
        if guest.num_connections >= limits.max_connections_per_address:
            return "address_connections"
        if guest.allowance < 1:
            return "address_rate"
        guest.allowance -= 1
        guest.num_connections += 1
        return None

    def leave(self, host: str) -> None:
        """Count a connection of an address that `enter` let in and that has ended."""
        self._guests[host].num_connections -= 1

    def __len__(self) -> int:
        return len(self._guests)

    def _allowance(self, guest: _Guest, now_s: float) -> float:
        gained = (now_s - guest.seen_at_s) * self._limits.rate_per_address_per_s
        return min(self._limits.burst_per_address, guest.allowance + gained)

    def _forget(self, now_s: float) -> None:
        """Drop addresses of which nothing is left to know, now and then: as often as their number doubles."""
        if len(self._guests) < self._forget_at:
            return
        self._guests = {
            host: guest
            for host, guest in self._guests.items()
            if guest.num_connections or self._allowance(guest, now_s) < self._limits.burst_per_address
        }
        self._forget_at = max(4096, 2 * len(self._guests))

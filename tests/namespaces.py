"""Networks of namespaces on this machine: a server in public, ranks behind NATs of every kind, and lossy lines."""

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator

CLONE_NEWNET = 0x4000_0000

# What a router does with what comes from outside uninvited: drop it, or (without this) answer with RST.
DROP = """
add chain ip nat input { type filter hook input priority 0; policy accept; }
add rule ip nat input iifname "outside" ct state new drop
"""
TRANSLATE = """
add table ip nat
add chain ip nat out { type nat hook postrouting priority 100; }
add rule ip nat out oifname "outside" RULE
add chain ip nat through { type filter hook forward priority 0; policy accept; }
add rule ip nat through iifname "outside" ct state new drop
"""
NATS = {
    "keeps ports, drops": TRANSLATE.replace("RULE", "masquerade") + DROP,
    "keeps ports, resets": TRANSLATE.replace("RULE", "masquerade"),
    "another port, the same for all": TRANSLATE.replace("RULE", "ip protocol tcp snat to ADDRESS:20000") + DROP,
    "another port for everyone": TRANSLATE.replace("RULE", "masquerade fully-random") + DROP,
}
"""Kind of NAT to the rules of nft that make it."""


def why_not() -> str:
    """Return why there can be no such network here; nothing when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "nft") if not shutil.which(program)]
    if missing:
        return f"{' and '.join(missing)} not installed (Debian: iproute2, nftables)"
    name = f"fmi{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    try:
        # In there, never here: this machine's own rules are its own.
        command = ["ip", "netns", "exec", name, "nft", "add", "table", "ip", "nat"]
        tried = subprocess.run(command, capture_output=True, text=True)
        return "" if tried.returncode == 0 else f"nft does not work here: {tried.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


class Network:
    """Namespaces around a bridge; they go with the block that opened it.

    Parameters
    ----------
    name : str
        Of at most ten characters, no other network's.
    """

    def __init__(self, name: str) -> None:
        self._name = f"fmi{os.getpid()}{name}"
        self._spaces: list[str] = []
        self.server = self._space("s")
        self._do(self.server, "link add public type bridge", "addr add 10.77.0.1/24 dev public")
        self._do(self.server, "link set public up")

    def nat(self, label: str, number: int, kind: str) -> str:
        """Add a router with the address 10.77.0.`number`; return its namespace."""
        space, address = self._space(label), f"10.77.0.{number}"
        self._join(space, "outside", self.server, f"o{number}")
        self._do(self.server, f"link set o{number} master public")
        self._do(
            space,
            f"addr add {address}/24 dev outside",
        )
        forward = ["ip", "netns", "exec", space, "sysctl", "-q", "net.ipv4.ip_forward=1"]
        subprocess.run(forward, check=True)
        self._rules(space, NATS[kind].replace("ADDRESS", address))
        return space

    def behind(self, router: str, label: str, number: int) -> str:
        """Add a host behind a router, in 192.168.`number`.0; return its namespace."""
        space = self._space(label)
        self._join(space, "eth", router, f"i{number}")
        self._do(router, f"addr add 192.168.{number}.1/24 dev i{number}")
        self._do(space, f"addr add 192.168.{number}.2/24 dev eth", f"route add default via 192.168.{number}.1")
        return space

    def public(self, label: str, number: int, *, lost_of: int) -> str:
        """Add a host with the address 10.77.0.`number`, to which one packet of so many is lost; return its namespace.

        Each so manieth, not one by chance: what is alone on the line, as a packet that is sent for the second time,
        is not lost twice in a row, and so the waiting has a bound.
        """
        space = self._space(label)
        self._join(space, "eth", self.server, f"o{number}")
        self._do(self.server, f"link set o{number} master public")
        self._do(space, f"addr add 10.77.0.{number}/24 dev eth")
        lossy = f"add rule ip line in iifname eth numgen inc mod {lost_of} == 0 drop"
        chain = "add chain ip line in { type filter hook input priority 0; policy accept; }"
        self._rules(space, f"add table ip line\n{chain}\n{lossy}\n")
        return space

    def close(self) -> None:
        """Take everything away."""
        for space in self._spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)

    def _space(self, label: str) -> str:
        space = self._name + label
        subprocess.run(["ip", "netns", "add", space], check=True)
        self._spaces.append(space)
        self._do(space, "link set lo up")
        return space

    def _join(self, one: str, name: str, other: str, other_name: str) -> None:
        self._do(one, f"link add {name} type veth peer name {other_name} netns {other}", f"link set {name} up")
        self._do(other, f"link set {other_name} up")

    def _do(self, space: str, *commands: str) -> None:
        subprocess.run(["ip", "-n", space, "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def _rules(self, space: str, rules: str) -> None:
        subprocess.run(["ip", "netns", "exec", space, "nft", "-f", "-"], input=rules, text=True, check=True)


def enter(space: str) -> None:
    """Have all sockets that this thread opens from now on in a namespace; no other thread is moved."""
    # os.setns came with Python 3.12.
    library = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{space}") as handle:
        if library.setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), space)


@contextlib.contextmanager
def network(name: str) -> Iterator[Network]:
    """Make a network that goes with the block."""
    made = Network(name)
    try:
        yield made
    finally:
        made.close()

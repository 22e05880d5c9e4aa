"""Where a communicator meets and how patient it is: in our words, or in the JSON file of FMI."""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import FmiError
from inference.fmi import meeting, wire
from inference.fmi.meeting import Store, Venue
from inference.fmi.tokens import RunToken

PORT = 10000


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where and how the ranks of a communicator meet."""

    host: str
    """Name or IPv4 address of the rendezvous server."""

    port: int = PORT
    """Its TCP port."""

    token: RunToken | None = None
    """What the ranks of the run share; without it a stranger who guesses the name can pass for a rank. A token serves
    one communicator at a time: names are signed for pairs of ranks."""

    timeout_s: float = 60.0
    """How long a call waits at most, for a meeting and for a message each [s]."""

    max_message_bytes: int = 2**30
    """Largest payload of one message [bytes]."""

    paths: tuple[meeting.Path, ...] = ("direct", "relay", "store")
    """Kinds of connection to try, in this order."""

    store: Store | None = None
    """An object store that all ranks can use, as the last resort."""

    store_prefix: str = ""
    """Where the messages go in it, ending in ``/``."""

    def venue(self, comm_name: str) -> Venue:
        """Return where the ranks of the communicator `comm_name` meet."""
        token = self.token
        # Of two communicators of one run neither meets ranks of the other.
        key = hmac.digest(token.peer_key() if token else b"", comm_name.encode(), "sha256")
        return Venue(
            host=self.host,
            port=self.port,
            name=token.name if token else lambda rank, other: wire.open_name(comm_name, rank, other),
            key=key,
            paths=self.paths,
            store=self.store,
            store_prefix=f"{self.store_prefix}{comm_name}/",
        )


def read_config(source: "Config | Mapping[str, Any] | str | Path") -> Config:
    """Read a configuration as FMI's programs name it: a file, or what is in one.

    Of FMI's backends only ``Direct`` has a meaning here; its ``max_timeout`` is in milliseconds. A ``token`` next to
    it, as `RunToken.to_text` gives it, is ours.

    Raises
    ------
    FmiError
        If the file cannot be read, or names no rendezvous server.
    """
    if isinstance(source, Config):
        return source
    try:
        document = dict(source) if isinstance(source, Mapping) else json.loads(Path(source).read_text(encoding="utf-8"))
        direct = document["backends"]["Direct"]
        if str(direct.get("enabled", True)).lower() == "false":
            raise FmiError("backends.Direct is not enabled; it is the one that this communicator has. Enable it.")
        return Config(
            host=str(direct["host"]),
            port=int(direct.get("port", PORT)),
            timeout_s=float(direct.get("max_timeout", 60_000)) / 1000,
            token=RunToken.from_text(str(direct["token"])) if "token" in direct else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FmiError(
            f"{source if isinstance(source, (str, Path)) else 'The configuration'} names no rendezvous server "
            f"({type(error).__name__}: {error}); it needs backends.Direct.host, and port and max_timeout where they "
            "are not 10000 and 60000."
        ) from error

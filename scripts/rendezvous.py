"""`make rendezvous`: the server at which ranks meet, in the foreground."""

import asyncio
from typing import Annotated

from msgspec import Meta

from handlers.rendezvous.server import Settings
from handlers.rendezvous.service import serve
from inference.fmi.tokens import MIN_KEY_BYTES
from inference.fmi.wire import Address
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.command.variables import Variables

Port = Annotated[int, Meta(ge=0, le=65535, description="a port, 0 for a free one")]


class RendezvousVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make rendezvous`."""

    host: Annotated[str, Meta(description="an IPv4 address of this machine, or 0.0.0.0 for all")] = "127.0.0.1"
    port: Port = 10000
    health_port: Port = 10001
    rendezvous_key: Annotated[str, Meta(description=f"a secret of {MIN_KEY_BYTES} characters or more")] = ""
    """Names must be signed with it; without, every name is let in."""


def main(variables: RendezvousVariables) -> None:
    """Let ranks meet until Ctrl-C. Exit status: 0 ended in order, 1 an address is taken, 2 wrong usage."""
    key = variables.rendezvous_key.encode() or None
    if key is not None and len(key) < MIN_KEY_BYTES:
        raise UsageError(f"RENDEZVOUS_KEY has {len(key)} characters; it needs {MIN_KEY_BYTES} or more.")
    settings = Settings(host=variables.host, port=variables.port, key=key)

    def say(address: Address, health: Address) -> None:
        print(f"rendezvous  {address[0]}:{address[1]}, {'signed names only' if key else 'every name is let in'}")
        print(f"health      http://{health[0]}:{health[1]}/readyz")
        print(f"metrics     http://{health[0]}:{health[1]}/metrics", flush=True)

    # Whoever may meet here need not see how the server is: its health stays on this machine.
    asyncio.run(serve(settings, health_host="127.0.0.1", health_port=variables.health_port, on_ready=say))


if __name__ == "__main__":
    start(main)

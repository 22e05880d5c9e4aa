"""``python -m handlers.rendezvous``: the server in a process of its own, as the container runs it."""

import argparse
import asyncio
import logging
import os
import sys

from handlers.rendezvous.server import Settings
from handlers.rendezvous.service import JsonFormatter, serve
from inference.fmi.tokens import MIN_KEY_BYTES

KEY_VARIABLE = "RENDEZVOUS_KEY"


def main() -> int:
    """Serve until SIGTERM. Exit status: 0 drained, 1 an address is taken, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m handlers.rendezvous", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for everyone")
    parser.add_argument("--port", type=int, default=10000, help="0 takes a free one")
    parser.add_argument("--health-host", default="127.0.0.1")
    parser.add_argument("--health-port", type=int, default=10001)
    parser.add_argument("--proxy-protocol", choices=("off", "v2"), default="off", help="v2: a load balancer's header")
    parser.add_argument(
        "--require-token",
        action="store_true",
        help=f"refuse names that are not signed with the key in {KEY_VARIABLE}, {MIN_KEY_BYTES} characters or more",
    )
    options = parser.parse_args()
    key = os.environ.get(KEY_VARIABLE, "").encode() if options.require_token else None
    if key is not None and len(key) < MIN_KEY_BYTES:
        parser.error(f"--require-token needs a key of {MIN_KEY_BYTES} characters or more in {KEY_VARIABLE}.")
    settings = Settings(
        host=options.host, port=options.port, key=key, expects_proxy_header=options.proxy_protocol == "v2"
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        asyncio.run(
            serve(
                settings,
                health_host=options.health_host,
                health_port=options.health_port,
                on_ready=lambda address, health: print(
                    f"{address[0]}:{address[1]} {health[0]}:{health[1]}", flush=True
                ),
            )
        )
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

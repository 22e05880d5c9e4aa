"""A rendezvous server on 127.0.0.1 for the ranks of a run on this machine, as long as the run lasts."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from handlers.rendezvous.server import Rendezvous, Settings

START_TIMEOUT_S = 10


@contextmanager
def serve_rendezvous() -> Iterator[str]:
    """Serve in a thread of this process until the block ends; give ``host:port``."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="rendezvous", daemon=True)
    thread.start()
    server = Rendezvous(Settings(port=0))
    try:
        host, port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(START_TIMEOUT_S)
        yield f"{host}:{port}"
        asyncio.run_coroutine_threadsafe(server.drain(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

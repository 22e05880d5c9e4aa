"""The server as a service: from its start to the end of the process."""

import asyncio
import json
import logging
import signal
from collections.abc import Callable

from handlers.rendezvous.health import Health
from handlers.rendezvous.server import Rendezvous, Settings
from inference.fmi.wire import Address

logger = logging.getLogger(__name__)

_PLAIN_RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, as Lambda's runtime writes it: what `extra` carries stands at the root."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        facts = {name: value for name, value in vars(record).items() if name not in _PLAIN_RECORD}
        line = {"timestamp": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | facts)


async def serve(
    settings: Settings, *, health_host: str, health_port: int, on_ready: Callable[[Address, Address], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Parameters
    ----------
    settings : Settings
    health_host, health_port
        Where ``/livez``, ``/readyz`` and ``/metrics`` are; port 0 takes a free one.
    on_ready : callable
        Called once, with the addresses of the server and of its health.

    Raises
    ------
    OSError
        If an address cannot be had.
    """
    rendezvous = Rendezvous(settings)
    health = Health(rendezvous)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    address = await rendezvous.start()
    health_address = await health.start(health_host, health_port)
    logger.info("ready", extra={"port": address[1], "health_port": health_address[1], "signed": bool(settings.key)})
    on_ready(address, health_address)
    await stop.wait()
    logger.info("draining", extra=rendezvous.gauges())
    await rendezvous.drain()
    health.close()
    logger.info("ended", extra={"pairs": dict(rendezvous.metrics.pairs), "rejected": dict(rendezvous.metrics.rejected)})

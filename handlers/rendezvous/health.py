"""Health and metrics over HTTP, on a port of their own: a health check must never look like a client."""

import asyncio
from http import HTTPStatus

from handlers.rendezvous.server import Rendezvous, listen

MAX_HEAD_BYTES = 8192
TIMEOUT_S = 5.0
MAX_REQUESTS = 64
"""At the same time; all come from the load balancer and from whoever collects the metrics."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """``/livez``: the loop turns. ``/readyz``: it lets clients in. ``/metrics``: Prometheus' text format."""

    def __init__(self, rendezvous: Rendezvous) -> None:
        self._rendezvous = rendezvous
        self._server: asyncio.Server | None = None
        self._num_requests = 0

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return where; port 0 takes a free one."""
        listener = listen(host, port)
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=MAX_HEAD_BYTES)
        where: tuple[str, int] = listener.getsockname()
        return where

    def close(self) -> None:
        """Stop listening."""
        assert self._server
        self._server.close()

    def answer(self, method: str, path: str) -> tuple[HTTPStatus, str, str]:
        """Return status, content type and content for a request."""
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", "GET or HEAD\n"
        match path.partition("?")[0]:
            case "/livez":
                return HTTPStatus.OK, "text/plain", "alive\n"
            case "/readyz" | "/health":
                if self._rendezvous.is_closing:
                    return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", "closing\n"
                return HTTPStatus.OK, "text/plain", "ready\n"
            case "/metrics":
                return HTTPStatus.OK, METRICS_TYPE, self._rendezvous.metrics.to_text(self._rendezvous.gauges())
        return HTTPStatus.NOT_FOUND, "text/plain", "/livez, /readyz or /metrics\n"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._num_requests += 1
        try:
            if self._num_requests <= MAX_REQUESTS:
                await asyncio.wait_for(self._respond(reader, writer), TIMEOUT_S)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._num_requests -= 1
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, *_ = [*head.partition(b"\r\n")[0].decode("latin-1").split(" "), ""]
        status, content_type, text = self.answer(method, path)
        content = text.encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(content)}",
            "Connection: close",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else content))
        await writer.drain()

"""An S3 that answers what a test tells it, over real connections: what no emulator does on request."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """One answer of the server."""

    status: int = 200
    body: bytes = b"content"
    headers: dict[str, str] = {}  # noqa: RUF012 -- never changed
    after_s: float = 0.0
    cut: int | None = None
    """Close the connection behind so many bytes of the body, 0 before any answer."""


class Asked(NamedTuple):
    """One request to the server."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Number of its connection: two requests with the same one came over the same."""


def refusal(status: int, code: str, more: str = "", **headers: str) -> Answer:
    """Return an error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message>{more}</Error>"
    return Answer(status, body.encode(), {name.replace("_", "-"): value for name, value in headers.items()})


class FakeS3:
    """Gives the answers of `script`, one per request, then `otherwise`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: list[Answer] = []
        self.otherwise: Callable[[Asked], Answer] = lambda _: Answer()
        self.asked: list[Asked] = []
        self.idle_s = 30.0
        """How long a connection may be idle before the server closes it."""
        self.closed = threading.Event()
        """Set when the server has closed a connection."""


@contextmanager
def serve(certificate: tuple[Path, Path] | None = None) -> Iterator[FakeS3]:
    """Serve on a free port of 127.0.0.1, over TLS with a certificate and its key."""
    numbers = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            self.number = next(numbers)
            self.connection.settimeout(fake.idle_s)

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body, self.number)
            fake.asked.append(asked)
            answer = fake.script.pop(0) if fake.script else fake.otherwise(asked)
            time.sleep(answer.after_s)
            if answer.cut == 0:
                self.close_connection = True
                return
            self.send_response(answer.status)
            usual = {"Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT", "ETag": '"etag"'}
            for name, value in ({"Content-Length": str(len(answer.body))} | usual | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut])
            self.close_connection = self.close_connection or answer.cut is not None

        do_GET = do_POST = do_PUT = do_HEAD = do_CONNECT = answer  # noqa: N815 -- http.server's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            fake.closed.set()

        def handle_error(self, *_: Any) -> None:
            """Say nothing: clients that leave are part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        fake = FakeS3(f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


def signed_region(asked: Asked) -> str:
    """Return the region for which a request was signed; empty where it was not."""
    signed = re.search(r"/(\d{8})/(?P<region>[a-z0-9-]+)/s3/aws4_request", asked.headers.get("authorization", ""))
    return signed["region"] if signed else ""

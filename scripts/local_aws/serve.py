"""The server process: moto behind the Lambda front, on one port of 127.0.0.1, until its parent goes.

Run as ``python -m scripts.local_aws.serve`` by `server.LocalAws`, which holds the other end of its stdin.
"""

import gc
import importlib
import importlib.util
import io
import json
import logging
import os
import socket
import sys
import threading
import types
from pathlib import Path
from typing import Any

import msgspec

from scripts.local_aws.calls import CallLog
from scripts.local_aws.rudeness import NO_ANSWER, RefusedError, Rude, Rudeness
from scripts.local_aws.server import REGION, client_environment, stop_signals

HOST = "127.0.0.1"
BACKLOG = 256
STRANGER_TIMEOUT_S = 10

CERTIFICATES = "cryptography.x509"
"""Module that moto's IAM imports for server certificates."""


def main() -> None:
    """Serve until SIGTERM, SIGINT or the end of stdin, whichever comes first."""
    # What is imported stays: looking through it for garbage, again and again, would take a quarter of the start.
    gc.disable()
    settings = json.loads(sys.argv[1])
    stop = stop_signals()
    # The parent holds the other end: the pipe closes when it ends, however it ends.
    threading.Thread(target=_set_with_parents_end, args=(stop,), daemon=True).start()

    # Bound before moto is imported, because its interpreter reads the port at import, and handed over as it is: no
    # other program can take the port in between.
    threading.excepthook = _end_without_threads
    listener = socket.create_server((HOST, settings["port"]), backlog=BACKLOG)
    port = listener.getsockname()[1]
    os.environ["MOTO_PORT"] = str(port)
    endpoint = f"http://{HOST}:{port}"
    rudeness = msgspec.convert(settings["rudeness"], Rudeness)
    calls = CallLog(Path(settings["call_log"]) if settings["call_log"] else None)
    server, pool = _build(listener, endpoint, Path(settings["log_dir"]), settings["workers"], rudeness, calls)
    gc.freeze()
    gc.enable()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"endpoint_url": endpoint, "pid": os.getpid()}), flush=True)

    stop.wait()
    pool.close()
    os._exit(0)  # executions still running are threads that would wait for their workers


def _end_without_threads(failed: threading.ExceptHookArgs) -> None:
    """End the server when a thread of it could not start another one: its run would wait for ever."""
    threading.__excepthook__(failed)
    if isinstance(failed.exc_value, RuntimeError) and "start new thread" in str(failed.exc_value):
        print("No more threads can be started here: see `ulimit -u` and `ulimit -v`.", file=sys.stderr)
        os._exit(1)


def _set_with_parents_end(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def _build(
    listener: socket.socket, endpoint: str, log_dir: Path, workers: int, rudeness: Rudeness, calls: CallLog
) -> tuple[Any, Any]:
    # Imported here because moto must see MOTO_PORT.
    _import_when_used(CERTIFICATES)
    _import_interpreter()
    from moto.core.config import default_user_config
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    from scripts.local_aws import patches
    from scripts.local_aws.admission import refusal
    from scripts.local_aws.lambda_variables import worker_environment
    from scripts.local_aws.middleware import LambdaFront
    from scripts.local_aws.objects import plain_get, plain_put
    from scripts.local_aws.pool import Pool

    # In the environment and not among the arguments, which every user of the machine can read.
    key, port = os.environ["AWS_ACCESS_KEY_ID"], listener.getsockname()[1]
    rude = Rude(rudeness)

    class Handler(WSGIRequestHandler):
        """Answers plain GETs and PUTs of objects itself, over connections that it keeps; the application the rest."""

        protocol_version = "HTTP/1.1"
        # For who has shown no key yet: any user of the machine could hold threads until there are no more.
        timeout = STRANGER_TIMEOUT_S
        # The end of an answer would wait 40 ms for the client to confirm its begin.
        disable_nagle_algorithm = True

        def run_wsgi(self) -> None:
            """Answer one request."""
            refused = refusal(self.path, self.headers, key=key, port=port)
            if refused is not None:
                self.close_connection = True  # its body is not read
                self._answer(403, {"Content-Type": refused.content_type, "Connection": "close"}, refused.body)
                return
            self.connection.settimeout(None)
            is_s3 = "/s3/aws4_request" in self.headers.get("authorization", "")
            if calls:
                self._record(is_s3=is_s3)
            try:
                if self.headers.get("x-amz-security-token") == key:
                    rude.answer_session()
                if is_s3:
                    rude.answer_s3()
            except RefusedError as error:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                if error.status == NO_ANSWER:
                    self.close_connection = True
                    return
                kind, body = error.as_xml() if is_s3 else error.as_json()
                self._answer(error.status, {"Content-Type": kind, "Content-Length": str(len(body))}, body)
                return
            found = None
            if self.command == "GET":
                found = plain_get(self.path, self.headers)
            elif self.command == "PUT" and (found := plain_put(self.path, self.headers, self.rfile)) is not None:
                app.keep(self.path)
            if found is None:
                super().run_wsgi()  # werkzeug closes the connection behind it
                return
            self._answer(found.status, found.headers, found.body)

        def _record(self, *, is_s3: bool) -> None:
            """Record the request; its body is read for it where it can say what is asked."""
            body = b""
            if not is_s3:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.rfile = io.BytesIO(body)
            calls.request(self.command, self.path, self.headers, body)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def handle_expect_100(self) -> bool:
            """Leave it to werkzeug, which says it too."""
            return True

        def log_request(self, *_: object, **__: object) -> None:
            """Say nothing."""

    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    # Its parser warns of what patches.py corrects, and prints whole definitions for every task that fails.
    logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
    patches.apply_all()
    pool = Pool(
        environment=worker_environment(client_environment(endpoint, REGION, key)),
        log_dir=log_dir,
        workers_per_function=workers,
        all_cold=rudeness.all_cold,
    )
    app = LambdaFront(DomainDispatcherApplication(create_backend_app), pool, region=REGION, rude=rude, calls=calls)
    patches.invoke_lambda_directly(app.invoke_task)
    patches.start_ranks_in_turn(rude.start_rank)
    if rudeness.list_keys:
        patches.shorten_lists(rudeness.list_keys)
    server = make_server(HOST, port, app, threaded=True, request_handler=Handler, fd=listener.fileno())
    return server, pool


def _import_when_used(name: str) -> None:
    """Let a module of a package be imported by whoever first uses something in it, not by who only names it."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"there is no {name} any more"
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    package, _, own_name = name.rpartition(".")
    setattr(sys.modules[package], own_name, module)


def _import_interpreter() -> None:
    """Import moto's interpreter without EC2, which takes twice as long as all the rest of the start.

    The interpreter wants one enumeration of ``moto.batch``, whose package imports EC2. A package that imports nothing
    stands in meanwhile; whoever calls Batch or EC2 later gets the real ones.
    """
    import moto

    stand_in = types.ModuleType("moto.batch")
    stand_in.__path__ = [str(Path(moto.__path__[0]) / "batch")]
    sys.modules["moto.batch"] = stand_in
    try:
        importlib.import_module("moto.stepfunctions.parser.models")
    finally:
        del sys.modules["moto.batch"]


if __name__ == "__main__":
    main()

"""The record of what the local AWS was asked for and by whom, so that policies can be held against it."""

import json
import threading
from email.message import Message
from pathlib import Path

STATES = "states"
"""The principal of what the state machine asks for itself; a function is its name, and everyone else the operator."""


class CallLog:
    """One line of JSON per request, as it came.

    The session token says who asks: no one checks it here, so every function and the state machine has its own.

    Parameters
    ----------
    path : Path, optional
        File to append to; nothing is recorded when absent.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8", buffering=1) if path else None

    def __bool__(self) -> bool:
        """Return whether anything is recorded."""
        return self._file is not None

    def request(self, method: str, target: str, headers: "Message[str, str]", body: bytes) -> None:
        """Record an HTTP request."""
        # Credential=KEY/DAY/REGION/SERVICE/aws4_request
        scope = headers.get("authorization", "").partition("Credential=")[2].split("/")
        self._write(
            principal=headers.get("x-amz-security-token", ""),
            service=scope[3] if len(scope) > 4 else "",
            operation=headers.get("x-amz-target", ""),
            method=method,
            target=target,
            body=body.decode(errors="replace"),
        )

    def invocation(self, function: str) -> None:
        """Record that the state machine invokes a function, which is a call and no request here."""
        self._write(principal=STATES, action="lambda:InvokeFunction", resource=function)

    def _write(self, **call: object) -> None:
        if self._file is not None:
            with self._lock:
                self._file.write(json.dumps(call) + "\n")

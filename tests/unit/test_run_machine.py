import os
import platform
from pathlib import Path

import pytest

from scripts.command.machine import machine_in_words, num_cores, processor_facts


def test_a_machine_is_described_without_its_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Fast 9000 @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Fast 9000 @ 3 GHz\n"
    )

    assert machine_in_words(cpuinfo).startswith("Fast 9000 @ 3 GHz, ")
    assert " CPUs, " in machine_in_words(tmp_path / "nothing")


def test_what_the_system_says_of_its_last_processor_is_known(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t: a\n\nflags\t: b c: d\n")

    assert processor_facts(cpuinfo)["flags"] == "b c: d"
    assert processor_facts(tmp_path / "nothing") == {}


@pytest.mark.parametrize(
    ("processor", "said"), [("Fast 9000", "Fast 9000, arm64, 4 CPUs, Darwin"), ("", "arm64, 4 CPUs, Darwin")]
)
def test_a_system_without_such_a_file_is_asked_itself(
    processor: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, answer in (("processor", processor), ("machine", "arm64"), ("system", "Darwin")):
        monkeypatch.setattr(platform, name, lambda answer=answer: answer)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)

    assert machine_in_words(tmp_path / "nothing") == said


def test_cores_are_those_that_this_process_may_use_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7} if pid == 0 else set(), raising=False)
    assert num_cores() == 3

    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert num_cores() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cores() == 1

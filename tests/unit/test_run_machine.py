from pathlib import Path

from scripts.command.machine import machine_in_words


def test_a_machine_is_described_without_its_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Fast 9000 @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Fast 9000 @ 3 GHz\n"
    )

    assert machine_in_words(cpuinfo).startswith("Fast 9000 @ 3 GHz, ")
    assert " CPUs, " in machine_in_words(tmp_path / "nothing")

"""A run as large as the largest published one becomes a page that opens."""

import time
from pathlib import Path

from scripts.report import ReportVariables
from scripts.report import main as write_report
from tests.run_folders import write_run

NUM_RANKS = 10_240
MAX_S = 20
MAX_BYTES = 5_000_000


def test_10240_ranks_are_reported_within_twenty_seconds_of_cpu_and_five_megabytes(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "run-a", world_size=NUM_RANKS, rows=16)

    # Time of this process: what else the machine does is not the report's.
    began_s = time.process_time()
    write_report(ReportVariables(run="run-a"), root=tmp_path)
    took_s = time.process_time() - began_s

    page = tmp_path / "runs" / "run-a" / "report.html"
    assert took_s < MAX_S
    assert page.stat().st_size < MAX_BYTES
    assert f"All {NUM_RANKS:,}" in page.read_text() or f"of {NUM_RANKS:,} ranks" in page.read_text()

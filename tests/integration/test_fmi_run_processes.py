"""`make run FMI=1` as a user starts it: every rank is a process, and they meet."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from inference import comm, contract
from inference.fmi import tree
from tests.commands import run_command
from tests.integration.test_run import environment, files, make_dataset, run_folder
from tests.rendezvous import nowhere

WITHOUT_SERVER = """
from contextlib import nullcontext
from scripts import run
from scripts.command.program import start
from scripts.runs import target
target.serve_rendezvous = lambda: nullcontext("{host}:{port}")
start(run.main)
"""


def test_eight_processes_meet_and_their_sums_are_those_of_their_records(tmp_path: Path) -> None:
    make_dataset(tmp_path)

    done = run_command("run", cwd=tmp_path, env=environment(WORLD="8", BATCH="8", FMI="1"))

    assert done.returncode == 0, done.stdout + done.stderr
    folder = run_folder(tmp_path)
    met = msgspec.json.decode((folder / "fmi.json").read_bytes(), type=contract.RunComm)
    summary = json.loads((folder / "summary.json").read_text())
    records = [
        msgspec.json.decode((folder / f"ranks/{rank:05d}.json").read_bytes(), type=contract.RankRecord)
        for rank in range(8)
    ]
    assert (met.summary.status, met.summary.num_met, met.summary.why) == ("ok", 8, None)
    assert met.summary.paths == {"direct": 7}
    assert summary["comm"] == contract.to_builtins(met.summary)
    assert [one.report for one in met.ranks] == [record.comm for record in records]
    totals = tree.fold([comm.contribution(record) for record in records], added)
    assert {name: value.by_ranks for name, value in met.summary.reduced.items()} == dict(
        zip(comm.REDUCED, totals, strict=True)
    )
    assert met.summary.reduced["num_samples"].by_ranks == summary["num_samples"] == 60


def added(one: list[float], other: list[float]) -> list[float]:
    return [first + second for first, second in zip(one, other, strict=True)]


def test_without_a_server_no_rank_is_started_and_one_line_says_why(tmp_path: Path) -> None:
    make_dataset(tmp_path)

    with nowhere() as (host, port):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_SERVER.format(host=host, port=port)],
            cwd=tmp_path,
            env=environment(WORLD="2", FMI="1", COLUMNS="400"),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    said = [line for line in done.stdout.splitlines() if "RendezvousError" in line]
    assert done.returncode == 1
    assert len(said) == 1, done.stdout
    assert f"{host}:{port} does not answer" in said[0]
    assert not [name for name in files(run_folder(tmp_path)) if name.startswith(("ranks/", "predictions/"))]
    assert "Traceback" not in done.stderr

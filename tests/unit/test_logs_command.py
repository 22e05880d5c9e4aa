"""`make logs` of a run on AWS, which moto plays, and of files: what is fetched, kept, and refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import scripts.logs
import scripts.runs.logs.of_run
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.deployment.stack import Stack, StageSettings
from scripts.runs import journal
from tests.unit.test_log_invocations import START_S, cloudwatch, put, report
from tests.unit.test_run_receipt import REQUEST_IDS, write_run

__all__ = ["cloudwatch"]

GROUP = "/aws/lambda/x-infer"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cloudwatch: Any) -> Path:
    """A run of three ranks in a deployment, whose CloudWatch is moto's."""
    folder = write_run(tmp_path).path
    stack = Stack(
        name="x",
        region="us-east-1",
        account_id="1",
        bucket="b",
        state_machine_arn="arn",
        function_names={"infer": "x-infer"},
        stages={"infer": StageSettings(memory_mb=1769, timeout_s=900)},
        max_concurrency=10,
    )
    entry = journal.read(folder)
    assert entry is not None
    journal.write(folder, msgspec.structs.replace(entry, target="aws", stack=stack, started_at_s=START_S))
    target = SimpleNamespace(account=SimpleNamespace(client=lambda _: cloudwatch))
    monkeypatch.setattr(scripts.runs.logs.of_run, "connect_aws", lambda _: target)
    return tmp_path


def logs(root: Path, *, rank: str = "", file: str = "", run: str = "run-a") -> None:
    asked = read_variables(scripts.logs.LogsVariables, {"RUN": run, "RANK": rank, "FILE": file})
    scripts.logs.main(asked, root=root)


def test_what_cloudwatch_has_is_fetched_and_kept(root: Path, cloudwatch: Any, capsys: Any) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:3]])

    logs(root)
    cloudwatch.delete_log_group(logGroupName=GROUP)
    logs(root)

    said = capsys.readouterr()
    assert said.err.count("collected  3 events of 3 invocations from CloudWatch") == 1
    assert said.out.count("3 invocations, 0 cold, 0 failed; billed 0.3 s") == 2
    assert (root / "runs" / "run-a" / "logs" / "infer.jsonl").exists()


def test_a_log_that_came_late_is_fetched_again(root: Path, cloudwatch: Any, capsys: Any) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:2]])
    logs(root)
    put(cloudwatch, GROUP, "t", [report(REQUEST_IDS[2])])

    logs(root)

    assert "3 invocations" in capsys.readouterr().out


def test_what_was_kept_outlives_cloudwatchs_retention(root: Path, cloudwatch: Any, capsys: Any) -> None:
    put(cloudwatch, GROUP, "s", [report(name) for name in REQUEST_IDS[:2]])
    logs(root)
    cloudwatch.delete_log_group(logGroupName=GROUP)

    logs(root)

    assert capsys.readouterr().out.count("2 invocations") == 2


def test_without_a_single_line_nothing_is_written(root: Path) -> None:
    with pytest.raises(UsageError, match=r"run-a: no invocation of this run is in the log; nothing was written"):
        logs(root)
    assert not (root / "runs" / "run-a" / "logs.csv").exists()


def test_an_export_is_joined_to_the_ranks_of_its_run(root: Path, capsys: Any) -> None:
    export = root / "export.csv"
    export.write_text(f'timestamp,message\n1,"{report(REQUEST_IDS[2])}"\n2,"{report(REQUEST_IDS[4])}"\n')

    logs(root, file=str(export))

    assert "1 invocations" in capsys.readouterr().out
    assert f",2,,{REQUEST_IDS[2]}," in (root / "runs" / "run-a" / "logs.csv").read_text()


def test_an_export_needs_no_run(root: Path, capsys: Any) -> None:
    export = root / "export.csv"
    export.write_text(f'timestamp,message\n1,"{report(REQUEST_IDS[2])}"\n2,what is this\n')

    logs(root, file=str(export), run="")

    assert "1 line is in another format: 'what is this' (1)" in capsys.readouterr().out
    assert (root / "export.invocations.csv").exists()


@pytest.mark.parametrize("rank", ["seven", "-1", "1.5"])
def test_a_rank_that_is_no_number_is_refused_by_name(rank: str, root: Path) -> None:
    with pytest.raises(UsageError, match=rf"RANK={rank} is not valid: RANK is a whole number from 0"):
        logs(root, rank=rank)


def test_many_invocations_are_shown_by_their_slowest(root: Path, capsys: Any) -> None:
    export = root / "export.csv"
    lines = [f'{number},"{report(f"{number:08d}-0", duration=float(number))}"' for number in range(100)]
    export.write_text("timestamp,message\n" + "\n".join(lines) + "\n")

    logs(root, file=str(export), run="")

    # The width of the table is ours; how long the name of the file is, the user's.
    shown = capsys.readouterr().out.replace(str(export.parent), "")
    assert "the 20 slowest of 100" in shown
    assert max(map(len, shown.splitlines()[:24])) <= 80
    assert "300 of 1769" in shown
    assert "00000099" in shown
    assert "00000001" not in shown

"""What the run makes of its ranks' reports, and how a reader sees it."""

import io
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs
from rich.console import Console

from inference import comm, contract
from inference.contract import AccuracySums, CommReport, PeerReport, RankRecord, RankTask, RunComm
from inference.errors import InvalidRequestError, PlanError
from inference.fmi import tokens, tree
from inference.fmi.communicator import Communicator
from inference.plan import Limits, meet_by_s
from scripts.command.errors import UsageError
from scripts.reports.evidence import read_run
from scripts.reports.sections.talking import talking_sections
from scripts.runs.logs.invocations import Log
from scripts.runs.present import _comm, print_result
from scripts.runs.request import draft_request, meet_here
from scripts.runs.run_folder import Run
from scripts.runs.story import Story, print_story
from scripts.runs.target import count_talking
from scripts.runs.variables import RequestVariables
from tests.factories import make_record_for, make_task
from tests.run_folders import write_run
from tests.unit.test_fmi_meeting import Shelf
from tests.unit.test_run_present import SUCCEEDED


def make_peer(peer: int, path: str = "direct") -> PeerReport:
    return PeerReport(
        peer=peer, path=path, wait_s=0.5, meet_s=0.002 * peer, num_bytes_sent=100, num_bytes_received=60,
        num_messages_sent=2, num_messages_received=1,
    )  # fmt: skip


def make_records(size: int = 4, **changes: object) -> list[RankRecord]:
    """Return records of ranks that met, each a second after the one before."""
    rng = np.random.default_rng(0)
    records = []
    for rank in range(size):
        report = CommReport(
            status="ok",
            arrived_at_s=100.0 + rank,
            meeting_s=0.25,
            barrier_s=3.0 - rank,
            total_s=3.5 - rank,
            peers=tuple(make_peer(peer) for peer in tree.neighbours(rank, size)),
        )
        record = make_record_for(make_task(rank=rank, world_size=size), comm=report)
        sums = structs.replace(record.accuracy, sum_dz=float(rng.normal() * 10.0 ** (rank % 3)))
        records.append(structs.replace(record, accuracy=sums))
    total = tree.fold([np.array(comm.contribution(record)) for record in records], np.add)
    reduced = dict(zip(comm.REDUCED, total.tolist(), strict=True))
    records[0] = structs.replace(records[0], comm=structs.replace(records[0].comm, reduced=reduced))
    return records


def meeting_task(rank: int, world_size: int, port: int, *, in_s: float = 60.0) -> RankTask:
    """A rank that waits for the others at a port until so many seconds from now."""
    token = tokens.mint(b"k" * 32, "run", expires_at_s=int(time.time()) + 100)
    how = contract.CommTask(endpoint=f"127.0.0.1:{port}", token=token.to_text(), meet_by_s=time.time() + in_s)
    return make_task(rank=rank, world_size=world_size, comm=how)


def test_ranks_meet_wait_for_each_other_and_the_first_has_the_sums() -> None:
    # No one listens there: they meet in the store.
    tasks = [meeting_task(rank, 2, 1) for rank in range(2)]
    records = [make_record_for(tasks[0]), make_record_for(tasks[1], accuracy=AccuracySums(num_within_95=None))]
    shelf, began_s = Shelf(), time.time()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda pair: comm.talk(*pair, shelf, latest_s=began_s + 60), zip(tasks, records, strict=True)
        )

    took_s = time.time() - began_s
    for report, other in ((first, 1), (second, 0)):
        assert (report.status, report.why) == ("ok", None)
        (peer,) = report.peers
        assert (peer.peer, peer.path) == (other, "store")
        assert min(peer.num_bytes_sent, peer.num_bytes_received, peer.num_messages_sent) > 0
        assert began_s <= report.arrived_at_s <= began_s + took_s
        assert 0 < report.meeting_s <= report.total_s <= took_s
        assert 0 < report.barrier_s <= report.total_s
    assert (first.peers[0].num_bytes_sent, first.peers[0].num_messages_sent) == (
        second.peers[0].num_bytes_received,
        second.peers[0].num_messages_received,
    )
    assert all(key.startswith(f"{tasks[0].run_prefix}fmi/") for key in shelf.objects)
    assert second.reduced is None
    assert first.reduced is not None
    assert set(comm.REDUCED) - set(first.reduced) == {"num_within_95"}
    assert first.reduced["num_samples"] == 6
    assert first.reduced["total_cpu_time_s"] == sum(record.total_cpu_time_s for record in records)


@pytest.mark.parametrize(("in_s", "latest_s"), [(-5.0, 60.0), (60.0, -5.0)])
def test_a_rank_that_comes_too_late_reports_it_and_waits_for_no_one(in_s: float, latest_s: float) -> None:
    task = meeting_task(1, 2, 1, in_s=in_s)

    report = comm.talk(task, make_record_for(task), Shelf(), latest_s=time.time() + latest_s)

    assert (report.status, report.peers, report.reduced) == ("failed", (), None)
    assert re.fullmatch(r"FmiTimeout: Rank 1 came \d+\.\d s after the others had stopped to wait\.", str(report.why))
    assert (report.meeting_s, report.barrier_s) == (0.0, 0.0)


@pytest.mark.parametrize(("meet_by_s", "wait_s"), [(160.0, 59.5), (101.0, 1.0)])
def test_after_the_meeting_a_rank_waits_for_what_is_left_of_the_time_and_a_second_at_least(
    meet_by_s: float, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s: list[float] = []
    task = meeting_task(0, 1, 1)
    task = structs.replace(task, comm=structs.replace(task.comm, meet_by_s=meet_by_s))
    monkeypatch.setattr(Communicator, "barrier", lambda self: waited_s.append(self.timeout_s))
    monkeypatch.setattr(comm, "time", SimpleNamespace(time=iter([100.0, 100.5, 100.5, 100.75, 100.875]).__next__))

    report = comm.talk(task, make_record_for(task), Shelf(), latest_s=200.0)

    assert (report.status, waited_s) == ("ok", [wait_s])
    assert (report.arrived_at_s, report.meeting_s, report.barrier_s, report.total_s) == (100.0, 0.5, 0.25, 0.875)


def test_a_meeting_is_summed_up() -> None:
    met = comm.merge("run", 4, make_records()).summary

    assert (met.status, met.why, met.num_met, met.paths) == ("ok", None, 4, {"direct": 3})
    assert (met.last_rank, met.skew_s, met.waited_s) == (3, 3.0, 3.0 + 2.0 + 1.0)
    assert (met.meet_s, met.total_s) == (0.006, 3.5)
    assert (met.num_messages, met.num_bytes) == (12, 600)
    assert all(value.is_equal for value in met.reduced.values())


def test_records_are_added_up_in_the_order_of_the_ranks_own_sum() -> None:
    # Eleven: of a power of two the reverse order gives the same bits.
    reduced = comm.merge("run", 11, make_records(11)).summary.reduced

    assert all(value.is_equal for value in reduced.values())


def test_a_sum_that_differs_in_the_last_bit_is_found() -> None:
    records = make_records()
    report = records[0].comm
    assert report is not None
    assert report.reduced is not None
    wrong = report.reduced | {"sum_dz": float(np.nextafter(report.reduced["sum_dz"], np.inf))}
    records[0] = structs.replace(records[0], comm=structs.replace(report, reduced=wrong))

    reduced = comm.merge("run", 4, records).summary.reduced

    assert [name for name, value in reduced.items() if not value.is_equal] == ["sum_dz"]


def test_what_a_rank_does_not_know_is_no_number() -> None:
    record = make_records()[1]
    unknown = structs.replace(record, accuracy=structs.replace(record.accuracy, num_within_95=None))

    added = dict(zip(comm.REDUCED, comm.contribution(unknown), strict=True))

    assert [name for name, value in added.items() if np.isnan(value)] == ["num_within_95"]


def test_a_rank_that_failed_is_the_reason() -> None:
    records = make_records()
    report = records[2].comm
    assert report is not None
    records[2] = structs.replace(records[2], comm=structs.replace(report, status="failed", why="PeerLost: gone"))

    met = comm.merge("run", 4, records).summary

    assert (met.status, met.why, met.num_met) == ("failed", "PeerLost: gone", 3)


@pytest.mark.parametrize(
    ("kept", "why"), [(3, "Ranks without a record: 3."), (4, "Ranks without a report of their meeting: 3.")]
)
def test_ranks_without_a_report_are_named(kept: int, why: str) -> None:
    records = make_records()
    records[3] = structs.replace(records[3], comm=None)

    assert comm.merge("run", 4, records[:kept]).summary.why == why


def test_no_report_at_all_is_a_failed_meeting() -> None:
    met = comm.merge("run", 2, []).summary

    assert (met.status, met.num_met, met.last_rank, met.reduced) == ("failed", 0, None, {})
    assert (met.paths, met.meet_s, met.skew_s, met.waited_s, met.total_s) == ({}, 0.0, 0.0, 0.0, 0.0)
    assert met.why == "Ranks without a record: 0, 1."
    assert comm.merge("run", 9, []).summary.why == "Ranks without a record: 0, 1, 2, 3, 4, 5, 6, 7."


def test_ranks_wait_as_long_as_the_plan_takes() -> None:
    limits = Limits(memory_mb=1769, timeout_s=900)
    tasks = [make_task(rank=rank, world_size=200, num_samples=100 * (rank + 1)) for rank in range(200)]

    # All are started after 2 s; the slowest starts its process in 20 s, computes for 200 s and has 10 s for the others.
    assert meet_by_s(tasks, limits, now_s=1000.0) == 1000.0 + 2.0 + 20.0 + 200.0 + 10.0
    exactly = Limits(memory_mb=1769, timeout_s=900, max_concurrency=200, starts_per_s=50)
    assert meet_by_s(tasks, exactly, now_s=1000.0) == 1234.0


def test_ranks_that_cannot_be_alive_at_once_are_refused() -> None:
    limits = Limits(memory_mb=1769, timeout_s=900, max_concurrency=1)

    with pytest.raises(PlanError, match="needs all 2 ranks alive at the same time, and at most 1 can be"):
        meet_by_s([make_task(), make_task()], limits, now_s=0.0)


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [("example.org:10001", ("example.org", 10001)), ("10.0.0.1", ("10.0.0.1", 10000)), (" a:1 ", ("a", 1))],
)
def test_an_endpoint_is_a_host_and_a_port(endpoint: str, found: tuple[str, int]) -> None:
    assert contract.split_endpoint(endpoint) == found


@pytest.mark.parametrize("endpoint", ["", ":1", "a:", "a:b", "https://a:1", "a b:1", "::1", "a:²"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequestError, match="host:port"):
        contract.split_endpoint(endpoint)


# --------------------------------------------------------------------------------------------- on this machine


def test_more_ranks_than_this_machine_holds_are_refused() -> None:
    assert count_talking(64) == 64
    with pytest.raises(UsageError, match=r"FMI=1 needs all 65 ranks alive .* Use WORLD=64 or less"):
        count_talking(65)


def test_here_ranks_meet_here_whatever_the_payload_names(tmp_path: Path) -> None:
    payload = tmp_path / "request.json"
    payload.write_text('{"fmi_enabled": "true", "rendezvous_endpoint": "rendezvous.example.org:10000"}')
    draft = draft_request(RequestVariables(payload=str(payload)), root=tmp_path)

    here = meet_here(draft)

    assert here.request.fmi_enabled
    assert "rendezvous_endpoint" not in here.payload
    assert "rendezvous.example.org:10000" in here.notes[-1]
    assert meet_here(here) is here


# --------------------------------------------------------------------------------------------- what a reader sees


def printed(result: RunComm, tmp_path: Path) -> str:
    summary = write_run(tmp_path, world_size=4)
    console = Console(file=io.StringIO(), width=100)
    print_result(console, "run", structs.replace(summary, comm=result.summary), SUCCEEDED, tmp_path)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_result_says_who_waited_for_whom(tmp_path: Path) -> None:
    text = " ".join(printed(comm.merge("run", 4, make_records()), tmp_path).split())

    assert "met 4 of 4 3 direct" in text
    assert "barrier skew 3.00 s all waited for rank 3" in text
    assert "equal sums 13 of 13" in text


@pytest.mark.parametrize(("world_size", "last_rank", "is_told"), [(2, 1, True), (1, 0, False), (2, None, False)])
def test_only_where_several_ranks_met_one_waited_for_another(
    world_size: int, last_rank: int | None, is_told: bool
) -> None:
    met = structs.replace(comm.merge("run", 4, make_records()).summary, last_rank=last_rank)

    labels = [label for label, _, _ in _comm(met, world_size)]

    assert (labels[0], "barrier skew" in labels, "connecting" in labels) == ("met", is_told, is_told)


def test_the_result_says_why_ranks_did_not_meet(tmp_path: Path) -> None:
    text = " ".join(printed(comm.merge("run", 4, make_records()[:3]), tmp_path).split())

    assert "met 3 of 4 Ranks without a record: 3." in text
    assert "equal sums" not in text


def test_the_report_has_connections_and_sums(tmp_path: Path) -> None:
    write_run(tmp_path, world_size=4)
    run = read_run(tmp_path)
    assert talking_sections(run) == ()
    (tmp_path / contract.FMI_KEY).write_bytes(contract.encode(comm.merge("run", 4, make_records())))

    (section,) = talking_sections(run)

    assert section.lead.startswith("All 4 ranks met. Connections: 3 direct; the slowest took 6.00 ms once")
    ranks, sums = section.blocks
    assert [row[0] for row in ranks.rows] == ["3", "2", "1", "0"]  # type: ignore[union-attr]
    assert ranks.rows[-1][4] == "1 direct, 2 direct"  # type: ignore[union-attr]
    assert {row[3] for row in sums.rows} == {"yes"}  # type: ignore[union-attr]


def test_a_broken_file_is_one_sentence_of_the_report(tmp_path: Path) -> None:
    write_run(tmp_path, world_size=4)
    (tmp_path / contract.FMI_KEY).write_text("{")

    (section,) = talking_sections(read_run(tmp_path))

    assert "fmi.json cannot be read" in section.lead


def test_the_story_of_a_rank_has_its_connections(tmp_path: Path) -> None:
    tasks = [make_task(rank=rank, world_size=4) for rank in range(4)]
    (tmp_path / "manifest.json").write_bytes(contract.encode(tasks))
    (tmp_path / "combined_data.json").write_bytes(contract.encode(make_records()))
    console = Console(file=io.StringIO(), width=200)

    print_story(console, Story(Run(tmp_path, tmp_path.name, None), Log({}, ()), 2))

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0.250 s to connect, 1.000 s in the barrier, 1.500 s in all" in text
    assert "rank 3     direct waited 0.500 s, connected in 6.0 ms; sent 2 messages, 100 bytes" in text
    assert "came 2.000 s after the first rank, 1.000 s before the last" in text

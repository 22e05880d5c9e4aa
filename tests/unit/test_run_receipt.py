"""The receipt of a run from its folder, and what BUDGET lets start."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from inference import contract, summary
from inference.contract import DatasetCard, ShardEntry
from inference.errors import RunFolderError
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.cost import outlook, receipt
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.deployment.account import Account
from scripts.deployment.stages import read_stages
from scripts.forecast import ForecastVariables, Place, setting_of
from scripts.forecasts.system import DEFAULT_CONCURRENCY
from scripts.local_aws.deploy import DEFINITION_PATH
from scripts.pricing.cost import billed_ms
from scripts.pricing.prices import PriceError, read_prices
from scripts.reports.document import Table
from scripts.reports.sections.cost import cost_section
from scripts.runs import budget, journal
from scripts.runs import outlook as ahead
from scripts.runs.budget import before_start, forecast, refuse_above
from scripts.runs.journal import Entry
from scripts.runs.receipt import receipt_of, write_receipt
from scripts.runs.run_folder import Run, local_rates, open_run
from scripts.runs.target import AwsTarget
from scripts.runs.variables import RequestVariables, RunVariables, StackVariables
from tests.factories import make_plan, make_record_for, make_request
from tests.unit.test_doctor import StubbedAccount
from tests.unit.test_log_invocations import report
from tests.unit.test_run_clock import make_clock
from tests.unit.test_run_stack import make_stack, write_outputs
from tests.unit.test_summary import TIMES, make_tasks

REQUEST_IDS = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(5)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_run(tmp_path)


def write_run(root: Path, *, name: str = "run-a", seconds: float = 10.0) -> Run:
    """A local run of three ranks, `seconds` each."""
    folder = root / "runs" / name
    (folder / "logs").mkdir(parents=True)
    tasks = make_tasks(3)
    records = [
        make_record_for(task, clock=make_clock(seconds), request_id=REQUEST_IDS[task.rank], total_cpu_time_s=seconds)
        for task in tasks
    ]
    proof = summary.Proof(tuple(records), (), ())
    made = summary.summarize(make_plan(9, request=make_request(world_size=3)), tasks, proof, TIMES)
    (folder / "summary.json").write_bytes(contract.encode(made))
    (folder / "combined_data.json").write_bytes(summary.combine(records))
    (folder / "manifest.json").write_bytes(contract.encode(tasks))
    entry = Entry(run_id=name, target="local", execution_arn="a", bucket="b", run_prefix="r/", started_at_s=0.0)
    journal.write(folder, msgspec.structs.replace(entry, status="SUCCEEDED"))
    return open_run(name, StackVariables(), root=root)


def log_stage(folder: Run, stage: str, *messages: str) -> None:
    (folder.path / "logs" / f"{stage}-0.log").write_text("\n".join(messages) + "\n")


def test_without_a_log_every_rank_is_billed_by_its_clock_rounded_up(run: Run) -> None:
    found = receipt_of(run, read_prices())

    assert found.usage.billed_ms["infer"] == 3 * billed_ms(10.0)
    assert found.basis == "from the clocks of 3 records"


def test_with_a_whole_log_lambdas_own_numbers_count_failed_attempts_included(run: Run) -> None:
    infer = [report(name, billed=1000) for name in REQUEST_IDS[:4]]
    cut_off = "START RequestId: cccccccc-0 Version: $LATEST"
    log_stage(run, "infer", *infer, cut_off)
    log_stage(run, "initialize", report("aaaaaaaa-0", billed=500))
    log_stage(run, "summarize", report("bbbbbbbb-0", billed=250))

    found = receipt_of(run, read_prices())

    assert found.usage.billed_ms == {"initialize": 500, "infer": 4000, "summarize": 250}
    assert found.basis == "from the REPORT lines of 7 invocations"
    lines = [*infer, cut_off, report("aaaaaaaa-0"), report("bbbbbbbb-0")]
    assert found.usage.log_bytes == sum(len(line) + 26 for line in lines)


def test_a_log_that_lacks_a_rank_is_not_believed(run: Run) -> None:
    log_stage(run, "infer", *[report(name, billed=1) for name in REQUEST_IDS[:2]])
    log_stage(run, "initialize", report("aaaaaaaa-0"))
    log_stage(run, "summarize", report("bbbbbbbb-0"))

    assert receipt_of(run, read_prices()).usage.billed_ms["infer"] == 3 * 10_000


def test_the_receipt_stands_beside_what_the_published_method_gives(run: Run) -> None:
    found = receipt_of(run, read_prices())

    # 30 s of inference in 256 MiB used, against 30 s and more of 1,769 MB configured.
    assert found.published_usd == pytest.approx(30 * 0.25 * 0.00001667)
    assert found.bill.usd > 5 * found.published_usd


def test_the_published_efficiency_is_gigabytes_over_seconds_and_dollars(run: Run) -> None:
    found = receipt_of(run, read_prices())

    # Nine galaxies of 20,520 bytes.
    gb_per_s = 9 * 20_520 / 2**30 / run.summary.clock.end_to_end
    assert found.gb_per_s_per_usd == pytest.approx(gb_per_s / found.bill.usd)
    assert replace(found, end_to_end_s=0.0).gb_per_s_per_usd == 0.0


def test_a_local_run_is_priced_as_the_table_of_stages_deploys_it(run: Run) -> None:
    stages = read_stages()

    assert run.rates().ephemeral_mb == {stage: settings["ephemeral_mb"] for stage, settings in stages.items()}
    assert run.rates().memory_mb["summarize"] == stages["summarize"]["memory_mb"]


def test_the_receipt_is_written_whole(run: Run, tmp_path: Path) -> None:
    write_receipt(tmp_path / "cost.json", run.run_id, receipt_of(run, read_prices()))

    document = json.loads((tmp_path / "cost.json").read_text())
    assert document["usd"] == pytest.approx(sum(item["usd"] for item in document["items"]))
    assert document["is_paid"] is False
    assert [row["memory_mb"] for row in document["what_if"] if row["is_own"]] == [1769]
    assert document["what_if"][2]["rank_s"] == dict.fromkeys(("low", "expected", "high"), pytest.approx(10.0))
    assert document["what_if"][2]["usd"]["x86_64"]["expected"] == pytest.approx(document["usd"])
    assert (document["run_id"], document["basis"]) == (run.run_id, "from the clocks of 3 records")
    assert (document["deployment"]["region"], document["resumed"]) == ("us-east-1", "")
    assert document["usage"]["num_invocations"] == 5
    assert not list(tmp_path.glob(".*"))


def on_stack(run: Run) -> Run:
    """Return a run as one on AWS."""
    assert run.entry is not None
    entry = msgspec.structs.replace(run.entry, target="aws", stack=make_stack(run.path.parents[1]))
    journal.write(run.path, entry)
    return open_run(run.run_id, StackVariables(), root=run.path.parents[1])


RECEIPT = """\
run-a: 0.001147 USD on AWS, nothing here
  List prices of us-east-1, January 2026, without free tier

  Receipt, from the clocks of 3 records
  Lambda time         0.000921 USD   55.3 GB-s, x86_64
  Lambda requests     0.000001 USD   5 invocations
  Step Functions      0.000150 USD   6 transitions
  S3 requests         0.000069 USD   13 PUT and LIST, 9 GET
  S3 storage          0.000000 USD   0.0 MB for a month
  Logs                0.000006 USD   12 kB
  together            0.001147 USD   127.453 USD per million galaxies
  as published        0.000125 USD   used memory · inference: 9.2 times less

  The same run with other memory or another processor, by the memory model
   memory  vCPU       rank [s]      x86_64 [USD]       arm64 [USD]
   512 MB  0.29          34.55           0.00115           0.00096
 1,024 MB  0.58          17.28           0.00115           0.00096
 1,769 MB  1.00          10.00           0.00115           0.00096  as run
 3,008 MB  1.70          10.00           0.00175           0.00145
 5,307 MB  3.00      3.33-5.53   0.00115-0.00172   0.00096-0.00142
10,240 MB  5.79      2.00-4.64   0.00128-0.00260   0.00107-0.00213

  A rank is faster with a larger share of a vCPU, up to 1,769 MB. Above, further threads speed up all but 0% to 33% of
    inference. arm64 is assumed to be as fast, which was not measured.
"""


def test_a_receipt_is_printed_item_by_item_with_what_other_settings_would_have_cost(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")

    receipt(run.run_id, read_prices(), StackVariables(), root=run.path.parents[1])

    shown, _, path = capsys.readouterr().out.rpartition("\n  ")
    assert shown == RECEIPT
    assert "".join(path.split()) == str(run.path / "cost.json")


def test_a_run_without_records_has_no_other_settings(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = receipt_of(run, read_prices())
    monkeypatch.setattr("scripts.cost.receipt_of", lambda *_: replace(known, settings=(), published_usd=0.0))

    receipt(run.run_id, read_prices(), StackVariables(), root=run.path.parents[1])

    shown = capsys.readouterr().out
    assert "as published        0.000000 USD   used memory · inference: 0.0 times less" in shown
    assert "memory model" not in shown


def test_a_run_on_aws_was_paid_and_says_how_to_know_its_price_better(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    paid = on_stack(run)
    edited = json.loads((run.path / "summary.json").read_text())
    edited["resumptions"] = [{"execution_name": f"again-{num}", "num_ranks": num} for num in (2, 1)]
    (run.path / "summary.json").write_text(json.dumps(edited))

    found = receipt_of(paid, read_prices())
    receipt(run.run_id, read_prices(), StackVariables(), root=run.path.parents[1])

    assert (found.is_paid, found.region) == (True, "us-east-1")
    assert found.basis == "from the clocks of 3 records; `make logs RUN=run-a` fetches what Lambda reported"
    assert found.resumed == "Resumed with 2, then 1 of 3 ranks left: of these, what had begun is paid twice"
    shown = capsys.readouterr().out
    assert shown.startswith(f"run-a: {found.bill.usd:.6f} USD\n")
    assert "Resumed with 2, then 1 of 3 ranks left" in shown
    assert cost_section(found).lead == (
        f"{found.bill.usd:.5f} USD at list prices of us-east-1, January 2026, without free tier. Billed time from the "
        "clocks of 3 records; `make logs RUN=run-a` fetches what Lambda reported."
    )


def test_a_report_has_the_receipt_and_the_other_settings(run: Run) -> None:
    section = cost_section(receipt_of(run, read_prices()))

    table, settings, _ = section.blocks
    assert section.lead == (
        "Nothing was paid: the run was local. On AWS, with these times and this memory: 0.00115 USD at list prices of "
        "us-east-1, January 2026, without free tier. Billed time from the clocks of 3 records."
    )
    assert isinstance(table, Table)
    assert isinstance(settings, Table)
    assert table.rows[0] == ("Lambda time", "0.000921", "80.3 %", "55.3 GB-s, x86_64")
    assert [row[:3] for row in table.rows[-2:]] == [
        ("together", "0.001147", "100.0 %"),
        ("as published", "0.000125", ""),
    ]
    assert table.rows[-2][3] == "127 USD per million galaxies"
    assert table.rows[-1][3].endswith(": 9.2 times less")
    assert settings.rows[2] == ("1,769", "1.00", "10.00", "0.00115", "0.00096", "as run")
    assert settings.rows[4] == ("5,307", "3.00", "3.33 to 5.53", "0.00115 to 0.00172", "0.00096 to 0.00142", "")


def test_a_memory_that_the_ranks_would_not_fit_into_is_marked(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = receipt_of(run, read_prices())
    settings = [replace(one, is_large_enough=one.memory_mb > 1769) for one in known.settings]
    tight = replace(known, settings=settings)
    monkeypatch.setattr("scripts.cost.receipt_of", lambda *_: tight)

    receipt(run.run_id, read_prices(), StackVariables(), root=run.path.parents[1])

    marks = re.findall(r"^ *([\d,]+) MB .*\d(?:  (as run|too small))?$", capsys.readouterr().out, re.MULTILINE)
    assert marks[:4] == [("512", "too small"), ("1,024", "too small"), ("1,769", "as run"), ("3,008", "")]
    table = cost_section(tight).blocks[1]
    assert isinstance(table, Table)
    assert [row[-1] for row in table.rows[:4]] == ["too small", "too small", "as run", ""]


def test_requests_of_older_summaries_are_counted_from_their_records(run: Run) -> None:
    document = json.loads((run.path / "summary.json").read_text())
    del document["num_s3_requests"]
    before = receipt_of(run, read_prices()).usage.num_s3_gets
    (run.path / "summary.json").write_text(json.dumps(document))

    assert receipt_of(Run(run.path, run.run_id, run.entry), read_prices()).usage.num_s3_gets == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("summary.json", None, r"summary\.json is missing: `make status RUN=run-a`"),
        ("summary.json", "{", r"summary\.json cannot be read .*cut off"),
        ("combined_data.json", '[{"rank": 0}]', r"combined_data\.json cannot be read .*another version"),
    ],
)
def test_a_folder_that_lacks_or_damages_a_file_is_refused_in_one_line(
    name: str, content: str | None, message: str, run: Run
) -> None:
    if content is None:
        (run.path / name).unlink()
    else:
        (run.path / name).write_text(content)

    with pytest.raises(RunFolderError, match=message) as caught:
        receipt_of(run, read_prices())
    assert "\n" not in str(caught.value)


def test_an_unknown_run_is_answered_with_similar_names(run: Run) -> None:
    with pytest.raises(UsageError, match=r"RUN=run-b: there is no such run\. Similar: run-a\."):
        open_run("run-b", StackVariables(), root=run.path.parents[1])


# ----------------------------------------------------------------------------------------------------- BUDGET


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[int], LocalDataset]:
    def make(num_rows: int) -> LocalDataset:
        folder = tmp_path / "datasets" / f"d{num_rows}"
        folder.mkdir(parents=True)
        with (folder / "0.safetensors").open("wb") as file:
            file.truncate(num_rows * 20_520)
        return LocalDataset(folder, "datasets/d/")

    return make


@pytest.mark.parametrize("text", ["two", "2,00", "-1", "nan", "inf", "$2"])
def test_a_budget_that_is_no_amount_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"BUDGET=.* is not valid: BUDGET is an amount in USD"):
        read_variables(RunVariables, {"BUDGET": text})


def test_a_budget_is_an_amount_or_nothing() -> None:
    assert read_variables(RunVariables, {"BUDGET": " 2.00 "}).budget == 2.0
    assert RunVariables().budget is None


def test_a_run_that_may_cost_more_than_the_budget_is_refused(make_dataset: Any, tmp_path: Path) -> None:
    found = forecast(make_request(world_size=8), make_dataset(3000), None, root=tmp_path)
    assert found is not None
    high = found.forecast.usd[-1]

    refuse_above(high, found)
    refuse_above(None, found)
    with pytest.raises(UsageError, match=r"the run may cost 0\.\d+ USD on AWS in 95 of 100 runs .*Nothing was started"):
        refuse_above(high * 0.99, found)


@pytest.mark.parametrize(("backup", "times"), [(True, 3), (False, 1)])
def test_the_worst_case_is_said_next_to_the_expected_one(
    backup: bool, times: int, make_dataset: Any, tmp_path: Path
) -> None:
    found = forecast(make_request(world_size=8, backup=backup), make_dataset(3000), None, root=tmp_path)

    assert found is not None
    # 1,769 MB for 900 s at 0.0000166667 USD per GB and second: 0.0259 USD an invocation, and those of the two ends.
    assert found.worst_usd == pytest.approx(0.02591 * (8 * times + 2), rel=0.01)
    assert f"{found.worst_usd:.2f} if every rank ran into its time limit" in found.words


def test_the_worst_case_is_of_the_memory_that_is_asked_for(make_dataset: Any, tmp_path: Path) -> None:
    dataset = make_dataset(3000)

    usual, twice = (
        forecast(make_request(world_size=8, memory_mb=memory_mb), dataset, None, root=tmp_path)
        for memory_mb in (None, 2 * 1769)
    )

    assert usual is not None
    assert twice is not None
    assert twice.worst_usd == pytest.approx(usual.worst_usd * (2 * 24 + 2) / (24 + 2), rel=0.01)


def test_the_worst_case_counts_every_invocation_that_the_state_machine_makes() -> None:
    states = json.loads(DEFINITION_PATH.read_text())["States"]["InferRanks"]["ItemProcessor"]["States"]
    again = [one["MaxAttempts"] for one in states["Infer"]["Retry"] if "States.Timeout" in one["ErrorEquals"]]
    at_last = [one["MaxAttempts"] for one in states["InferAtLast"]["Retry"] if "States.Timeout" in one["ErrorEquals"]]

    assert (1 + sum(again)) + (1 + sum(at_last)) == budget.MOST_INVOCATIONS


def test_a_cost_nobody_can_estimate_is_above_every_budget() -> None:
    with pytest.raises(UsageError, match="cannot be estimated"):
        refuse_above(2.0, None)


def test_a_line_about_the_price_is_printed_where_something_is_paid_or_a_budget_given(
    make_dataset: Any, tmp_path: Path
) -> None:
    request, dataset = make_request(world_size=8), make_dataset(3000)

    assert before_start(None, request, dataset, None, root=tmp_path) == []
    (here,) = before_start(100.0, request, dataset, None, root=tmp_path)
    (there,) = before_start(None, request, dataset, on_aws(tmp_path), root=tmp_path)

    assert "USD on AWS in 95 of 100 runs" in here
    assert "USD in 95 of 100 runs" in there


def survey(root: Path, content: bytes | None, *, is_denied: bool = False) -> Any:
    """A stack that reads one dataset of another bucket."""

    def read(key: str) -> bytes | None:
        if is_denied:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")
        return content if key == "sky/dataset.json" else None

    aws = on_aws(root)
    aws.bucket_named = lambda name: {"survey": SimpleNamespace(read=read)}[name]
    return aws


def card_of(*nums_rows: int) -> bytes:
    shards = tuple(
        ShardEntry(name=f"{number}.safetensors", num_rows=num_rows, size_bytes=1, sha256="0" * 64)
        for number, num_rows in enumerate(nums_rows)
    )
    card = DatasetCard(
        name="d", partition="10MB", num_rows=sum(nums_rows), shards=shards, arrays={}, seed=0, provenance="p"
    )
    return contract.encode(card)


def test_the_size_of_a_dataset_in_s3_is_read_from_its_card(tmp_path: Path) -> None:
    dataset = RemoteDataset("survey", "sky/")

    found = budget.setting_of(make_request(), dataset, survey(tmp_path, card_of(100, 50)))
    first = budget.setting_of(make_request(file_limit=1), dataset, survey(tmp_path, card_of(100, 50)))

    assert found is not None
    assert (found.num_rows, found.num_shards) == (150, 2)
    assert first is not None
    assert (first.num_rows, first.num_shards) == (100, 1)


@pytest.mark.parametrize(
    ("content", "is_denied"), [(None, False), (b"{", False), (card_of(7), True)], ids=["absent", "damaged", "denied"]
)
def test_a_dataset_in_s3_without_a_card_that_can_be_read_has_an_unknown_price(
    content: bytes | None, is_denied: bool, tmp_path: Path
) -> None:
    dataset, aws = RemoteDataset("survey", "sky/"), survey(tmp_path, content, is_denied=is_denied)

    assert before_start(None, make_request(), dataset, aws, root=tmp_path) == [
        "unknown: the dataset has no dataset.json"
    ]
    assert budget.setting_of(make_request(), dataset, None) is None


def test_a_card_says_more_of_a_dataset_here_than_its_files(make_dataset: Any) -> None:
    dataset = make_dataset(3000)
    alone = budget.setting_of(make_request(), dataset, None)
    (dataset.folder / "dataset.json").write_bytes(card_of(7))
    described = budget.setting_of(make_request(), dataset, None)
    least = budget.setting_of(make_request(), make_dataset(1), None)

    assert [one.num_rows for one in (alone, described, least) if one] == [3000, 7, 1]


def test_the_worst_case_ends_at_the_time_limit_of_the_stack(make_dataset: Any, tmp_path: Path) -> None:
    stages = make_stack(tmp_path).stages
    half = {name: msgspec.structs.replace(one, timeout_s=one.timeout_s // 2) for name, one in stages.items()}
    dataset = make_dataset(3000)

    usual, shorter = (
        forecast(make_request(world_size=8), dataset, on_aws(tmp_path, stages=given), root=tmp_path)
        for given in (stages, half)
    )

    assert usual is not None
    assert shorter is not None
    assert shorter.worst_usd == pytest.approx(usual.worst_usd / 2, rel=0.01)


def test_without_earlier_runs_the_speed_that_the_model_states_decides(
    make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, usd = make_dataset(3000), []
    for rows_per_s in (1.0, 100.0):
        monkeypatch.setattr(budget, "stated_speed", lambda *_, stated=rows_per_s: stated)
        found = forecast(make_request(world_size=8), dataset, None, root=tmp_path)
        assert found is not None
        usd.append(found.forecast.usd[2])

    assert usd[0] > 10 * usd[1]


def test_a_run_is_forecast_where_it_is_to_run(
    make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "num_cores", lambda: 2)
    dataset, aws, request = make_dataset(3000), on_aws(tmp_path), make_request(world_size=8)

    here = ahead.look_ahead(request, dataset, None, root=tmp_path)
    one = ahead.look_ahead(make_request(world_size=1), dataset, None, root=tmp_path)
    there = ahead.look_ahead(request, dataset, aws, root=tmp_path)

    assert (here.setting.is_local, here.setting.num_cores, here.setting.max_concurrency) == (True, 2, 2)
    assert one.setting.max_concurrency == 1
    priced = forecast(request, dataset, aws, root=tmp_path)
    assert priced is not None
    assert (there.usd, there.seconds, there.setting) == (
        priced.forecast.usd,
        priced.forecast.seconds,
        priced.forecast.setting,
    )
    times = r"\d+\.\d s end to end \(90 %: \d+\.\d to \d+\.\d s\), "
    assert re.fullmatch(times + re.escape(here.source), ahead.in_words(here))
    usd = r"(0\.\d{4}) USD \(90 %: (0\.\d{4}) to (0\.\d{4})\), "
    found = re.fullmatch(times + usd + re.escape(there.source), ahead.in_words(there))
    assert found is not None
    assert [float(value) for value in found.groups()] == [round(there.usd[place], 4) for place in (2, 0, 4)]


def test_a_forecast_here_is_calibrated_on_the_runs_here_and_on_what_the_model_states(
    make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, request, seconds = make_dataset(3000), make_request(world_size=3), []
    for rows_per_s in (1.0, 100.0):
        monkeypatch.setattr(budget, "stated_speed", lambda *_, stated=rows_per_s: stated)
        seconds.append(ahead.look_ahead(request, dataset, None, root=tmp_path).seconds["end_to_end"][2])
    write_run(tmp_path, seconds=900.0)
    found = ahead.look_ahead(request, dataset, None, root=tmp_path)

    assert seconds[0] > 10 * seconds[1]
    assert found.source == "calibrated on 1 earlier run"
    assert found.seconds["end_to_end"][2] > 10 * seconds[1]


def test_a_run_of_unknown_size_cannot_be_forecast(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FORECAST=1 needs the number of galaxies"):
        ahead.look_ahead(make_request(), RemoteDataset("survey", "sky/"), survey(tmp_path, None), root=tmp_path)


def test_runs_here_of_another_model_teach_nothing(tmp_path: Path) -> None:
    made = write_run(tmp_path)
    assert made.entry is not None
    path = made.path / "summary.json"
    found = made.summary
    mine = msgspec.structs.replace(found, request=msgspec.structs.replace(found.request, model="mine"))
    path.write_bytes(contract.encode(mine))

    def num_found(target: str, model: str | None) -> int:
        return len(budget.earlier_runs(tmp_path, target, local_rates(), model))

    assert [num_found("local", model) for model in (None, "mine", "theirs")] == [0, 1, 0]
    journal.write(made.path, msgspec.structs.replace(made.entry, target="aws"))
    assert [num_found("aws", model) for model in (None, "mine", "theirs")] == [1, 1, 0]


def test_a_region_without_prices_stops_only_who_gave_a_budget(
    make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "LOCAL_REGION", "mars-1")

    assert before_start(None, make_request(), make_dataset(9), None, root=tmp_path) == []
    with pytest.raises(PriceError, match="no prices of mars-1"):
        before_start(2.0, make_request(), make_dataset(90), None, root=tmp_path)


def test_without_a_run_its_cost_is_told_item_by_item_and_nothing_starts(
    make_dataset: Any, tmp_path: Path, capsys: Any
) -> None:
    make_dataset(3000)

    outlook(RequestVariables(dataset="d3000", world=8), read_prices(), root=tmp_path)

    shown = capsys.readouterr().out
    assert re.match(r"0\.\d{4} to 0\.\d{4} USD on AWS, nothing here\n  3,000 galaxies in 1 shard by 8 ranks", shown)
    together = [float(value) for value in re.findall(r"together +([\d.]+) +([\d.]+) +([\d.]+)", shown)[0]]
    columns = re.findall(r"^  \w.{16} +(\d\.\d+) +(\d\.\d+) +(\d\.\d+)   ", shown, re.MULTILINE)
    assert [sum(float(row[case]) for row in columns) for case in range(3)] == pytest.approx(together, abs=4e-6)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("region", "shown"), [("us-east-1", "33.14 USD a month"), ("mars-1", "no table `standing`")])
def test_a_deployed_rendezvous_is_told_by_the_hour(
    region: str, shown: str, make_dataset: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(3000)
    server = {"host": "meet.example.org", "port": 10000, "secret_arn": "arn", "log_group": "/ecs/x"}
    outputs = write_outputs(tmp_path, rendezvous=server, region=region)
    account = Account("us-east-1")
    monkeypatch.setattr("scripts.cost.connect_aws", lambda stack: AwsTarget(stack, account))
    monkeypatch.setattr("scripts.cost.find_remote", lambda *_, **__: None)
    known = read_prices()
    without = msgspec.structs.replace(known.of("us-east-1"), standing=None)
    prices = msgspec.structs.replace(known, regions=known.regions | {"mars-1": without})

    outlook(RequestVariables(dataset="d3000", world=8, target="aws", outputs=outputs), prices, root=tmp_path)

    assert shown in capsys.readouterr().out


def test_only_the_rows_that_are_asked_for_count(make_dataset: Any, tmp_path: Path) -> None:
    dataset = make_dataset(3_000)
    (dataset.folder / "1.safetensors").write_bytes((dataset.folder / "0.safetensors").read_bytes())

    sizes = []
    for row_limit in (None, 3_500, 3_000, 100):
        setting = budget.setting_of(make_request(row_limit=row_limit), dataset, None)
        assert setting is not None
        sizes.append((setting.num_rows, setting.num_shards))

    assert sizes == [(6_000, 2), (3_500, 2), (3_000, 1), (100, 1)]


@pytest.mark.parametrize("profile", [True, False])
def test_a_request_is_priced_as_the_stack_runs_it(profile: bool, make_dataset: Any, tmp_path: Path) -> None:
    deployed = make_stack(tmp_path)
    stack = msgspec.structs.replace(deployed, architecture="arm64", map_child_type="EXPRESS", max_concurrency=7)
    request = make_request(memory_mb=512, engine="onnxruntime", precision="int8", profile=profile)
    dataset = make_dataset(90)

    there = budget.setting_of(request, dataset, AwsTarget(stack, StubbedAccount()))
    here = budget.setting_of(make_request(world_size=3), dataset, None)

    assert there is not None
    assert here is not None
    assert (there.architecture, there.child_type, there.max_concurrency) == ("arm64", "EXPRESS", 7)
    assert (there.memory_mb, there.precision) == (512, "int8")
    assert there.engine == ("torch" if profile else "onnxruntime")
    assert (there.world_size, here.world_size) == (1, 3)
    assert (here.memory_mb, here.max_concurrency) == (local_rates().memory_mb["infer"], DEFAULT_CONCURRENCY)


def test_only_the_shards_that_are_read_count(make_dataset: Any, tmp_path: Path) -> None:
    few, many = (forecast(make_request(), make_dataset(rows), None, root=tmp_path) for rows in (1_000, 100_000))

    assert few is not None
    assert many is not None
    assert many.forecast.usd[2] > 10 * few.forecast.usd[2]


def test_a_price_is_learnt_from_runs_on_aws_and_from_none_here(make_dataset: Any, tmp_path: Path) -> None:
    made = write_run(tmp_path, seconds=900.0)
    assert made.entry is not None
    here = forecast(make_request(world_size=3), make_dataset(9), None, root=tmp_path)
    journal.write(made.path, msgspec.structs.replace(made.entry, target="aws", stack=make_stack(tmp_path)))

    there = forecast(make_request(world_size=3), make_dataset(90), None, root=tmp_path)

    assert here is not None
    assert there is not None
    assert here.forecast.source.startswith("defaults")
    assert there.forecast.source == "calibrated on 1 earlier run"
    assert there.forecast.usd[2] > 100 * here.forecast.usd[2]


def test_a_request_costs_the_same_whoever_is_asked(make_dataset: Any, tmp_path: Path) -> None:
    dataset = make_dataset(3000)
    rates = local_rates()
    asked = ForecastVariables(n=3000, shard_mb=100, world=8)

    found = forecast(make_request(world_size=8), dataset, None, root=tmp_path)
    ahead = setting_of(asked, Place("us-east-1", rates, DEFAULT_CONCURRENCY), tmp_path)

    assert found is not None
    assert found.forecast.setting == ahead
    dear = forecast(make_request(world_size=8, profile=True), dataset, None, root=tmp_path)
    assert dear is not None
    assert dear.forecast.usd[2] > found.forecast.usd[2]


def test_runs_of_another_target_and_damaged_ones_teach_nothing(tmp_path: Path) -> None:
    damaged = write_run(tmp_path, name="run-b")
    (damaged.path / "summary.json").write_text("{")
    write_run(tmp_path)

    assert len(budget.earlier_runs(tmp_path, "local", write_run(tmp_path, name="run-c").rates())) == 2
    assert budget.earlier_runs(tmp_path, "aws", write_run(tmp_path, name="run-d").rates()) == []


def on_aws(root: Path, **changes: Any) -> Any:
    return SimpleNamespace(stack=msgspec.structs.replace(make_stack(root), **changes))


def test_ranks_that_wait_for_others_start_warm_in_the_forecast(make_dataset: Any, tmp_path: Path) -> None:
    dataset = make_dataset(3000)

    narrow, wide = (
        forecast(make_request(world_size=100), dataset, on_aws(tmp_path, max_concurrency=num), root=tmp_path)
        for num in (10, 100)
    )

    assert narrow is not None
    assert wide is not None
    assert narrow.forecast.setting.max_concurrency == 10
    assert narrow.forecast.usd[2] < 0.7 * wide.forecast.usd[2]


def test_runs_of_another_processor_teach_nothing(tmp_path: Path) -> None:
    for name, architecture in (("run-a", "arm64"), ("run-b", "x86_64"), ("run-c", "arm64")):
        made = write_run(tmp_path, name=name)
        assert made.entry is not None
        stack = msgspec.structs.replace(make_stack(tmp_path), architecture=architecture)
        journal.write(made.path, msgspec.structs.replace(made.entry, target="aws", stack=stack))

    learnt = {
        architecture: len(budget.earlier_runs(tmp_path, "aws", replace(local_rates(), architecture=architecture)))
        for architecture in ("arm64", "x86_64")
    }

    assert learnt == {"arm64": 2, "x86_64": 1}


def test_only_the_newest_complete_runs_are_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "NUM_EARLIER", 2)
    for number in range(4):
        write_run(tmp_path, name=f"run-{number}", seconds=10.0 + number)
    incomplete = tmp_path / "runs" / "run-3" / "summary.json"
    incomplete.write_text(incomplete.read_text().replace('"complete": true', '"complete": false'))

    found = budget.earlier_runs(tmp_path, "local", local_rates())

    assert [round(one.clock.ranks.total / 3) for one in found] == [12, 11]

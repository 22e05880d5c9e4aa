import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.stub import Stubber
from rich.console import Console

import scripts.runs.fit
from inference import contract
from inference.contract import DatasetCard
from inference.plan import START_S, Demand, Limits
from scripts import doctor
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.deployment import account_checks as account
from scripts.deployment.finding import Finding, looked
from scripts.deployment.stack import Stack
from scripts.deployment.waking import wake, waking_note
from scripts.local_aws import machine_checks as machine
from scripts.runs.fit import Ceiling, _dispatch, _payload, _time, fit_findings
from scripts.runs.variables import RequestVariables
from tests.factories import make_shard_bytes, make_task, write_model
from tests.unit.test_run_stack import VALUES

DIGEST = "sha256:" + "a" * 64
LIMITS = Limits(memory_mb=1769, timeout_s=900)


def asked(variables: dict[str, str]) -> RequestVariables:
    return read_variables(RequestVariables, {"DATASET": "tiny", **variables})


def make_stack(**changes: Any) -> Stack:
    image_uri = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift@{DIGEST}"
    return msgspec.convert({**VALUES, "image_uri": image_uri, **changes}, Stack)


class StubbedAccount:
    """An account whose answers a test wrote down."""

    region = "us-east-1"

    def __init__(self) -> None:
        self._clients: dict[str, Any] = {}
        self.stubs: dict[str, Stubber] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
            self._clients[service] = boto3.client(service, **keys)
            self.stubs[service] = Stubber(self._clients[service])
            self.stubs[service].activate()
        return self._clients[service]

    def answers(self, service: str, operation: str, answer: dict[str, Any]) -> "StubbedAccount":
        self.client(service)
        self.stubs[service].add_response(operation, answer)
        return self

    def refuses(self, service: str, operation: str, code: str, status: int = 400) -> "StubbedAccount":
        self.client(service)
        self.stubs[service].add_client_error(operation, code, "it said no", http_status_code=status)
        return self


def concurrency(limit: int) -> dict[str, Any]:
    return {"AccountLimit": {"UnreservedConcurrentExecutions": limit, "ConcurrentExecutions": limit}}


def finding(name: str, look: Callable[[], Finding | list[Finding]]) -> Finding:
    (found,) = looked(name, look)
    return found


# --------------------------------------------------------------------------------------------- account


@pytest.mark.parametrize(
    ("limit", "world_size", "verdict", "text"),
    [
        (1000, 8, "ok", "1,000 invocations at the same time"),
        (10, 8, "warn", "1,000 are usual"),
        (10, 64, "warn", "64 ranks wait in turns"),
        (1000, 1000, "ok", "1,000"),
        (2000, 2001, "warn", "2,000 invocations at the same time: 2,001 ranks"),
        (999, None, "warn", "1,000 are usual"),
        (1000, None, "ok", "1,000"),
    ],
)
def test_a_reduced_quota_is_told_with_what_raises_it(
    limit: int, world_size: int | None, verdict: str, text: str
) -> None:
    there = StubbedAccount().answers("lambda", "get_account_settings", concurrency(limit))

    found = finding("concurrency", lambda: account._concurrency(there, None, world_size))

    assert found.verdict == verdict
    assert text in found.text
    assert ("Service Quotas" in found.fix) == (verdict == "warn")


@pytest.mark.parametrize(("world_size", "verdict"), [(50, "ok"), (51, "warn"), (None, "ok")])
def test_what_is_reserved_for_ranks_is_all_that_they_have(world_size: int | None, verdict: str) -> None:
    there = StubbedAccount().answers("lambda", "get_function_concurrency", {"ReservedConcurrentExecutions": 50})

    found = finding("concurrency", lambda: account._concurrency(there, make_stack(), world_size))

    assert (found.verdict, found.text.startswith("50 invocations at the same time, reserved")) == (verdict, True)
    assert ("infer_reserved_concurrency" in found.fix) == (verdict == "warn")


def test_before_the_first_deployment_the_doctor_says_where_and_how_large_it_would_be() -> None:
    there: Any = StubbedAccount()

    assert account._region(there, None).text == "us-east-1, where `make apply` would deploy"
    assert account._memory_cap(None).text == "stages.json stays below the 3,008 MB of a new account"
    assert account._memory_cap(make_stack()).text == "the largest function has 1,769 MB and was accepted"


def test_a_region_that_is_not_the_stacks_is_told_with_what_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there: Any = StubbedAccount()
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert account._region(there, make_stack()) == Finding("region", "ok", "us-east-1")

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    found = account._region(there, make_stack())
    assert (found.verdict, found.fix) == ("warn", "export AWS_REGION=us-east-1")
    assert found.text == "AWS_DEFAULT_REGION=eu-west-1 is not where the stack is: us-east-1 is used."


@pytest.mark.parametrize(
    ("programs", "verdicts"),
    [
        ({"terraform", "docker", "podman"}, ["ok: terraform is installed", "ok: docker is installed"]),
        ({"podman"}, ["warn: terraform is not installed", "ok: podman is installed"]),
        (set[str](), ["warn: terraform is not installed", "warn: docker or podman is not installed"]),
    ],
)
def test_what_deploying_needs_is_looked_for(
    programs: set[str], verdicts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account.shutil, "which", lambda name: name if name in programs else None)

    found = list(account.tool_findings())

    assert [f"{one.verdict}: {one.text}" for one in found] == verdicts
    assert [one.fix for one in found] == ["Deploying needs it." if one.verdict == "warn" else "" for one in found]


def asked_findings(
    stack: Stack | None, monkeypatch: pytest.MonkeyPatch, *, account_id: str = "123456789012"
) -> dict[str, Finding]:
    """Return the findings of an account whose every check has an answer of one word."""

    class Answering:
        region = "us-east-1"

        def __init__(self, region: str | None) -> None:
            assert region == (stack.region if stack else None)

        def identity(self) -> tuple[str, str]:
            return account_id, "arn:me"

    monkeypatch.setattr(account, "Account", Answering)
    for check in ("permissions", "_concurrency", "_bucket", "_data_bucket", "_state_machine", "_image"):
        monkeypatch.setattr(account, check, lambda *asked, check=check: Finding(check, "ok", str(asked[-1])))
    monkeypatch.setattr(account, "_function", lambda there, stack, stage: Finding(stage, "ok", stage))
    monkeypatch.setattr(account, "rendezvous_findings", lambda *_: iter([Finding("rendezvous", "ok", "")]))
    return {one.name: one for one in account.account_findings(stack, world_size=8)}


def test_the_account_is_asked_of_itself_and_then_of_everything_that_is_deployed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = ["credentials", "permissions", "region", "_concurrency", "memory cap"]
    whole = ["_bucket", "_state_machine", "initialize", "infer", "summarize", "_image", "rendezvous"]

    before, after = (asked_findings(stack, monkeypatch) for stack in (None, make_stack()))

    assert [*before] == alone
    assert before["credentials"].text == "arn:me of account 123456789012"
    assert before["_concurrency"].text == "8"
    assert [*after] == [*alone, *whole]
    assert "_data_bucket" in asked_findings(make_stack(data_bucket="sky"), monkeypatch)


def test_nothing_is_asked_of_the_stack_of_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked_findings(make_stack(), monkeypatch, account_id="7")

    assert [*found][-1] == "stack"
    assert (found["stack"].verdict, "belong to account 7" in found["stack"].text) == ("fail", True)


@pytest.mark.parametrize(
    ("refused", "worst", "verdict"),
    [("AccessDenied", "fail", "warn"), ("InternalError", "fail", "fail"), ("InternalError", "warn", "warn")],
)
def test_what_aws_does_not_say_is_as_bad_as_a_run_depends_on_it(refused: str, worst: Any, verdict: str) -> None:
    there = StubbedAccount().refuses("s3", "head_bucket", refused, 500)

    (found,) = looked("bucket", lambda: account._bucket(there, make_stack()), worst=worst)

    assert found.verdict == verdict


def test_a_stack_that_cannot_be_looked_at_fails_whatever_depends_on_it() -> None:
    def look() -> Finding:
        raise account.StackError("no stack")

    (found,) = looked("bucket", look, worst="warn")

    assert (found.verdict, found.text) == ("fail", "no stack")


def test_what_is_there_is_named() -> None:
    there = StubbedAccount().answers("s3", "head_bucket", {}).answers("s3", "head_bucket", {})
    machine = {
        "status": "ACTIVE",
        "name": "x",
        "definition": "{}",
        "roleArn": "x",
        "type": "STANDARD",
        "creationDate": 0,
    }
    there.answers("stepfunctions", "describe_state_machine", {**machine, "stateMachineArn": "arn"})

    stack = make_stack(data_bucket="sky")

    assert account._bucket(there, stack) == Finding("bucket", "ok", "redshift-data")
    # AWS does not always say where a bucket is.
    assert account._data_bucket(there, stack) == Finding("data bucket", "ok", "sky")
    assert account._state_machine(there, stack) == Finding("state machine", "ok", "redshift")


def test_a_permission_that_only_the_doctor_needs_is_no_failure() -> None:
    there = StubbedAccount().refuses("lambda", "get_account_settings", "AccessDeniedException", 403)

    found = finding("concurrency", lambda: account._concurrency(there, None, 8))

    assert found.verdict == "warn"
    assert "lack a permission: GetAccountSettings" in found.text


def test_a_quota_that_cannot_be_read_is_no_failure() -> None:
    there = StubbedAccount().refuses("lambda", "get_account_settings", "404", 404)

    (found,) = looked("concurrency", lambda: account._concurrency(there, None, 8), worst="warn")

    assert found.verdict == "warn"


def test_an_image_that_is_in_the_registry_is_told_with_its_size() -> None:
    image = {"imageDigest": DIGEST, "imageSizeInBytes": 240_000_000, "imageManifestMediaType": "application/x+json"}
    there = StubbedAccount()
    asked = {"registryId": "123456789012", "repositoryName": "redshift", "imageIds": [{"imageDigest": DIGEST}]}
    there.client("ecr")
    there.stubs["ecr"].add_response("describe_images", {"imageDetails": [image]}, asked)

    found = account._image(there, make_stack())

    assert (found.verdict, found.text) == ("ok", "sha256:aaaaaaaaaaaa… in redshift, 240 MB")


def test_an_image_index_is_refused_before_lambda_does() -> None:
    image = {"imageDigest": DIGEST, "imageManifestMediaType": "application/vnd.oci.image.index.v1+json"}
    there = StubbedAccount().answers("ecr", "describe_images", {"imageDetails": [image]})

    assert account._image(there, make_stack()).verdict == "fail"


@pytest.mark.parametrize("image_uri", [None, "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift:latest"])
def test_an_image_without_a_digest_is_none(image_uri: str | None) -> None:
    found = account._image(StubbedAccount(), make_stack(image_uri=image_uri))

    assert found.verdict == "fail"
    assert "make build push apply" in found.fix


def test_an_image_that_is_gone_says_how_to_push_it() -> None:
    there = StubbedAccount().refuses("ecr", "describe_images", "ImageNotFoundException")

    found = finding("image", lambda: account._image(there, make_stack()))

    assert found.verdict == "fail"
    assert "make build push apply" in found.fix


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        ({}, "ok", ""),
        ({"State": "Active", "LastUpdateStatus": "Successful"}, "ok", ""),
        ({"State": "Pending", "LastUpdateStatus": "Successful"}, "warn", ": Pending, last update Successful"),
        ({"State": "Active", "LastUpdateStatus": "InProgress"}, "warn", ": Active, last update InProgress"),
        ({"State": "Failed", "StateReason": "no image"}, "fail", ": Failed, last update Successful. no image"),
        ({"LastUpdateStatus": "Failed"}, "fail", ": Active, last update Failed."),
        (
            {"State": "Active", "LastUpdateStatus": "Failed", "LastUpdateStatusReason": "no image"},
            "fail",
            ": Active, last update Failed. no image",
        ),
        ({"State": "Active", "MemorySize": 512}, "warn", "; Terraform says 1,769 MB, 900 s"),
        ({"State": "Active", "Timeout": 60}, "warn", "; Terraform says 1,769 MB, 900 s"),
    ],
    ids=str,
)
def test_a_function_that_cannot_be_invoked_is_told(answer: dict[str, Any], verdict: str, said: str) -> None:
    there = StubbedAccount().answers(
        "lambda", "get_function_configuration", {"MemorySize": 1769, "Timeout": 900, **answer}
    )

    found = account._function(there, make_stack(), "infer")

    size = f"{answer.get('MemorySize', 1769):,} MB, {answer.get('Timeout', 900)} s"
    assert (found.verdict, found.text) == (verdict, f"redshift-infer, {size}{said}")


def test_a_function_that_is_asleep_is_woken() -> None:
    there = StubbedAccount()
    for state in ("Inactive", "Active"):
        there.answers("lambda", "get_function_configuration", {"MemorySize": 1769, "Timeout": 900, "State": state})
        if state == "Inactive":
            there.refuses("lambda", "invoke", "CodeArtifactUserPendingException", 409)

    asleep, awake = (account._function(there, make_stack(), "infer") for _ in range(2))

    assert (asleep.verdict, awake.verdict) == ("warn", "ok")
    assert "asleep, no one called it for weeks" in asleep.text
    there.stubs["lambda"].assert_no_pending_responses()


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["Active"], []),
        (["Inactive"], ["f0 was asleep and wakes"]),
        (["Active", "Inactive", "Inactive"], ["f1, f2 were asleep and wake"]),
    ],
)
def test_a_run_wakes_functions_that_no_one_called_for_weeks(states: list[str], said: list[str]) -> None:
    clients = [StubbedAccount() for _ in states]
    for there, state in zip(clients, states, strict=True):
        there.answers("lambda", "get_function_configuration", {"State": state})
        if state == "Inactive":
            there.refuses("lambda", "invoke", "CodeArtifactUserPendingException", 409)

    woken = [name for number, there in enumerate(clients) for name in wake(there, [f"f{number}"])]

    assert [note.partition(":")[0] for note in waking_note(woken)] == said
    for there in clients:
        there.stubs["lambda"].assert_no_pending_responses()


def test_a_function_that_may_not_be_looked_at_is_left_alone() -> None:
    assert wake(StubbedAccount().refuses("lambda", "get_function_configuration", "AccessDenied", 403), ["f"]) == []


@pytest.mark.parametrize(("status", "verdict"), [(404, "fail"), (403, "warn"), (301, "fail")])
def test_a_bucket_that_cannot_be_reached_is_told(status: int, verdict: str) -> None:
    there = StubbedAccount().refuses("s3", "head_bucket", str(status), status)

    assert finding("bucket", lambda: account._bucket(there, make_stack())).verdict == verdict


@pytest.mark.parametrize(("status", "verdict"), [(404, "fail"), (403, "warn")])
def test_a_data_bucket_that_is_not_there_is_told(status: int, verdict: str) -> None:
    there = StubbedAccount().refuses("s3", "head_bucket", str(status), status)

    (found,) = looked("data bucket", lambda: account._data_bucket(there, make_stack(data_bucket="sky")), worst="warn")

    assert found.verdict == verdict


@pytest.mark.parametrize(("region", "verdict"), [("us-east-1", "ok"), ("eu-west-1", "warn")])
def test_a_data_bucket_of_another_region_is_told(region: str, verdict: str) -> None:
    there = StubbedAccount().answers("s3", "head_bucket", {"BucketRegion": region})

    found = account._data_bucket(there, make_stack(data_bucket="sky"))

    assert found.verdict == verdict
    assert (f"sky is in {region}" in found.text) == (verdict == "warn")


def test_a_state_machine_that_is_being_deleted_is_told() -> None:
    stack = make_stack()
    answer = {
        "stateMachineArn": stack.state_machine_arn,
        "name": "redshift",
        "status": "DELETING",
        "definition": "{}",
        "roleArn": "arn:aws:iam::123456789012:role/x",
        "type": "STANDARD",
        "creationDate": 0,
    }
    there = StubbedAccount().answers("stepfunctions", "describe_state_machine", answer)

    assert account._state_machine(there, stack).verdict == "fail"


def test_without_credentials_nothing_else_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    found = list(account.account_findings(make_stack(), world_size=8))

    assert [(one.name, one.verdict) for one in found] == [("credentials", "fail"), ("account", "skip")]
    assert "There are no AWS credentials here" in found[0].text


# -------------------------------------------------------------------------------------------- the run


def make_dataset(root: Path, *, num_rows: int = 30) -> None:
    folder = root / "datasets" / "tiny" / "1MB"
    folder.mkdir(parents=True)
    (folder / "0.safetensors").write_bytes(make_shard_bytes(num_rows))


def fit(root: Path, limits: Limits = LIMITS, **variables: str) -> dict[str, Finding]:
    ceiling = Ceiling(limits, "STANDARD", max_concurrency=5)
    return {found.name: found for found in fit_findings(asked(variables), ceiling, root=root)}


def test_a_run_that_fits_is_told_with_its_numbers(tmp_path: Path) -> None:
    make_dataset(tmp_path)

    found = fit(tmp_path, WORLD="3")

    assert {one.verdict for one in found.values()} == {"ok"}
    assert "30 galaxies for 3 ranks" in found["dataset"].text
    assert "10 rows, at most 20 s of 900 s" in found["timeout"].text


@pytest.mark.parametrize(
    ("limits", "variables", "said"),
    [
        (Limits(memory_mb=512, timeout_s=900), {}, "the function has 512 MB"),
        (Limits(memory_mb=1769, timeout_s=20), {}, "stops after 20 s"),
        (LIMITS, {"WORLD": "31"}, "more than the 30 rows"),
    ],
    ids=["memory", "timeout", "ranks"],
)
def test_a_run_that_does_not_fit_fails_with_the_words_of_the_plan(
    limits: Limits, variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    make_dataset(tmp_path)

    found = fit(tmp_path, limits, **variables)

    assert found["plan"].verdict == "fail"
    assert said in found["plan"].text


def test_the_longest_time_of_a_rank_is_its_start_and_its_rows(tmp_path: Path) -> None:
    make_dataset(tmp_path, num_rows=1_000)

    found = fit(tmp_path, WORLD="1")["timeout"]

    # 100 galaxies a second, or what the card of the model says, after 20 s.
    assert 20 < float(found.text.split("at most ")[1].split(" s")[0]) <= 30


def test_a_timeout_that_is_near_is_a_warning(tmp_path: Path) -> None:
    make_dataset(tmp_path)

    assert fit(tmp_path, Limits(memory_mb=1769, timeout_s=22))["timeout"].verdict == "warn"


def test_more_ranks_than_run_at_a_time_are_a_warning(tmp_path: Path) -> None:
    make_dataset(tmp_path)

    found = fit(tmp_path, WORLD="6")["dispatch"]

    assert found.verdict == "warn"
    assert "5 run at the same time" in found.text


def test_ranks_that_end_before_the_last_one_starts_are_a_warning(tmp_path: Path) -> None:
    make_dataset(tmp_path, num_rows=30)
    ceiling = Ceiling(LIMITS, "STANDARD")

    found = {one.name: one for one in fit_findings(RequestVariables(dataset="tiny", world=30), ceiling, root=tmp_path)}

    assert found["dispatch"].verdict == "warn"
    assert "lower WORLD" in found["dispatch"].fix


def test_a_named_model_says_what_it_reads_and_how_fast_it_is(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    model = write_model(tmp_path / "models" / "slow", rows_per_s=1.0).card
    longest_s = START_S + 30 / Demand.of(model).rows_per_s

    assert f"30 rows, at most {longest_s:.0f} s of 900 s" in fit(tmp_path, MODEL="slow", WORLD="1")["timeout"].text
    too_short = Limits(memory_mb=1769, timeout_s=int(longest_s) - 1)
    assert fit(tmp_path, too_short, MODEL="slow", WORLD="1")["plan"].verdict == "fail"
    card = DatasetCard(
        name="d", partition="1MB", num_rows=0, shards=(), arrays={}, seed=0, provenance="p", bands=("g", "r")
    )
    (tmp_path / "datasets" / "tiny" / "1MB" / "dataset.json").write_bytes(contract.encode(card))
    assert "has the bands g r; the model slow reads" in fit(tmp_path, MODEL="slow")["plan"].text


@pytest.mark.parametrize(("timeout_s", "verdict"), [(100, "ok"), (99, "warn")])
def test_the_largest_rank_decides_whether_the_time_limit_is_near(timeout_s: int, verdict: str) -> None:
    tasks = [make_task(rank=rank, world_size=2, num_samples=rows) for rank, rows in enumerate((12_000, 100))]

    # Two vCPUs: 20 s and 60 s more, 80 % of the limit.
    found = _time(tasks, Limits(memory_mb=2 * 1769, timeout_s=timeout_s), Demand(rows_per_s=100.0))

    assert found.verdict == verdict
    assert found.text == f"the largest rank has 12,000 rows, at most 80 s of {timeout_s} s"


@pytest.mark.parametrize(("spare_bytes", "verdict"), [(0, "ok"), (-1, "warn")])
def test_the_longest_task_decides_whether_the_payload_is_near_its_limit(
    spare_bytes: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_task().rows
    tasks = [make_task(rank=rank, world_size=2, rows=rows * num) for rank, num in enumerate((50, 1))]
    longest = len(contract.encode_compact(tasks[0]))
    monkeypatch.setattr(scripts.runs.fit, "NEAR", 0.5)
    monkeypatch.setattr(scripts.runs.fit, "MAX_TASK_BYTES", 2 * longest + spare_bytes)

    found = _payload(tasks)

    assert found.verdict == verdict
    assert f"largest task {longest / 1e3:.1f} of {2 * longest / 1e3:.0f} kB" in found.text
    assert f"manifest {len(contract.encode(tasks)) / 1e3:.0f} kB" in found.text


@pytest.mark.parametrize(
    ("largest", "max_concurrency", "fix"),
    [(100, 100, ""), (99, 100, "lower WORLD"), (100, 99, "Terraform's max_concurrency raises it, up to 10,000.")],
    ids=["fits", "ends before the last starts", "waits"],
)
def test_ranks_fit_when_all_run_at_a_time_and_none_ends_before_the_last_starts(
    largest: int, max_concurrency: int, fix: str
) -> None:
    tasks = [make_task(rank=rank, world_size=100, num_samples=largest if rank == 7 else 1) for rank in range(100)]

    found = _dispatch(tasks, 100, max_concurrency, Demand(rows_per_s=100.0))

    assert found.text.startswith("100 ranks start within 1.0 s, 100 per second")
    assert (found.verdict, fix in found.fix) == ("warn" if fix else "ok", True)


@pytest.mark.parametrize(
    ("variables", "name", "verdict"),
    [
        ({"DATASET": "missing"}, "request", "fail"),
        ({"DATASET": "s3://bucket/data"}, "dataset", "skip"),
        ({"DATASET": "sdss"}, "dataset", "skip"),
    ],
    ids=str,
)
def test_what_cannot_be_planned_is_told(variables: dict[str, str], name: str, verdict: str, tmp_path: Path) -> None:
    assert fit(tmp_path, **variables)[name].verdict == verdict


# ---------------------------------------------------------------------------------------- this machine


def test_a_checkpoint_that_is_not_there_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "shipped", lambda: write_model(tmp_path, name="m"))
    assert machine._checkpoint().verdict == "fail"

    (tmp_path / "astromae.safetensors").write_text("half a download")
    assert "cannot be read" in machine._checkpoint().text

    (tmp_path / "astromae.safetensors").write_bytes(make_shard_bytes(1))
    assert machine._checkpoint().verdict == "ok"


@pytest.mark.parametrize(("free", "verdict"), [(10**10, "ok"), (10**9, "warn"), (10**8, "fail")])
def test_little_disk_is_told(free: int, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))

    assert machine._disk(tmp_path).verdict == verdict


# ---------------------------------------------------------------------------------------------- report


def report(root: Path, monkeypatch: pytest.MonkeyPatch, *findings: Finding, **variables: str) -> tuple[int, list[str]]:
    """Return exit status and report when this machine gives `findings`."""
    monkeypatch.setattr(doctor, "machine_findings", lambda *_, **__: iter(findings))
    console = Console(file=io.StringIO(), width=80, color_system=None, highlight=False)
    # A path in pieces could not be copied: here it is short enough for the line.
    monkeypatch.chdir(root)
    monkeypatch.setattr(doctor, "Console", lambda **_: console)
    status = doctor.main(asked(variables))
    return status, console.file.getvalue().splitlines()


def test_a_warning_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path)

    status, lines = report(tmp_path, monkeypatch, Finding("disk", "warn", "little"))

    assert status == 0
    assert lines[-1] == "5 ok, 1 warn, 0 fail, 1 skipped"


def test_a_failure_is_told_with_its_fix_and_sets_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path)

    status, lines = report(tmp_path, monkeypatch, Finding("disk", "fail", "full " * 40, "Delete something. " * 9))

    assert status == 1
    assert any("→ Delete something." in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_before_the_first_deployment_the_account_is_looked_at_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path)
    monkeypatch.setattr(doctor, "account_findings", lambda *_, **__: iter([Finding("credentials", "ok", "mine")]))
    monkeypatch.setattr(doctor, "tool_findings", lambda: iter([Finding("tools", "warn", "none is installed")]))

    status, lines = report(tmp_path, monkeypatch, TARGET="aws")

    assert status == 1
    assert any("warn  tools" in line for line in lines)
    assert any("fail  stack" in line for line in lines)
    assert any("ok    credentials" in line for line in lines)


def test_a_run_is_held_against_what_is_deployed_or_would_be() -> None:
    infer = doctor.read_stages()["infer"]
    would_be = Limits(memory_mb=infer["memory_mb"], timeout_s=infer["timeout_s"])
    deployed = {"memory_mb": 3008, "timeout_s": 77, "ephemeral_mb": 512}
    stack = make_stack(stages={"infer": deployed}, map_child_type="EXPRESS", max_concurrency=9)

    found = doctor._ceiling(stack, is_aws=True)

    assert found == Ceiling(Limits(memory_mb=3008, timeout_s=77), "EXPRESS", 9)
    assert doctor._ceiling(None, is_aws=True) == Ceiling(would_be)
    assert doctor._ceiling(None, is_aws=False) == Ceiling(would_be, child_type=None)


def test_an_unknown_target_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="TARGET=moon"):
        report(tmp_path, monkeypatch, TARGET="moon")


def test_stages_json_of_this_clone_fits_a_new_account() -> None:
    stages = doctor.read_stages()

    assert max(stage["memory_mb"] for stage in stages.values()) <= account.MEMORY_CAP_MB

"""Where a run goes: what a local AWS and a deployment say of themselves, and how they are reached again."""

import os
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from scripts.command.errors import UsageError
from scripts.command.machine import machine_in_words
from scripts.deployment.stack import StackError
from scripts.runs import target
from scripts.runs.journal import Entry
from scripts.runs.map_run import MapRunObserver
from scripts.runs.observe import Invocations, Observer
from scripts.runs.target import AwsTarget, LocalTarget
from tests.fake_s3 import Answer, serve
from tests.unit.test_doctor import StubbedAccount, make_stack
from tests.unit.test_run_present import make_summary


def make_local(endpoint_url: str = "http://127.0.0.1:1", **changes: Any) -> LocalTarget:
    bucket: Any = SimpleNamespace(name="b")
    return LocalTarget(endpoint_url, "secret", bucket, None, **changes)


def make_entry(**changes: Any) -> Entry:
    fields = {"run_id": "run-a", "target": "aws", "execution_arn": "arn", "bucket": "b", "run_prefix": "runs/run-a/"}
    return Entry(**{**fields, "started_at_s": 5.0, **changes})


# ------------------------------------------------------------------------------------------ on this machine


def test_a_local_aws_says_where_it_is_and_shows_its_key_to_no_log() -> None:
    there = make_local(workers=3)

    assert there.entry == {"endpoint_url": "http://127.0.0.1:1", "key": "secret", "machine": machine_in_words()}
    assert there.facts() == "http://127.0.0.1:1, 3 workers"
    assert make_local().facts() == "http://127.0.0.1:1, 0 workers"
    assert "secret" not in repr(there)
    assert there.bill(make_summary()) is None


def test_a_local_run_is_watched_by_its_keys_and_the_counts_of_its_server() -> None:
    with serve() as server:
        server.script = [Answer(body=b'{"infer": {"running": 2, "failed": 3}}')]
        entry = make_entry(started_at_s=time.time() - 100.0, pending_key="runs/run-a/pending/1.json")

        watcher = make_local(server.url).watch(entry)

        assert isinstance(watcher, Observer)
        assert watcher.invocations() == Invocations(running=2, failed=3)
    assert (watcher.store.name, watcher.run_prefix) == ("b", "runs/run-a/")  # type: ignore[attr-defined]
    assert watcher.items_key == "runs/run-a/pending/1.json"
    assert watcher.elapsed_s == pytest.approx(100.0, abs=50.0)
    assert watcher.now is time.monotonic


def test_a_local_aws_keeps_the_results_of_a_run_in_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(target, "keep_results", lambda *where, **what: asked.append((*where, what)))

    make_local().keep("runs/run-a/", Path("runs/run-a"))

    what = {"bucket": "b", "prefix": "runs/run-a/", "folder": Path("runs/run-a")}
    assert asked == [("http://127.0.0.1:1", "secret", what)]


@pytest.mark.parametrize(("num_talking", "workers"), [(0, 4), (3, 4), (9, 9)])
def test_a_local_aws_has_a_worker_for_every_core_and_for_every_rank_that_talks(
    num_talking: int, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed: list[dict[str, Any]] = []
    made = SimpleNamespace(bucket="local", state_machine_arn="machine")

    def start(*, log_dir: Path, workers: int) -> Any:
        credentials = {"endpoint_url": "http://127.0.0.1:1"}
        here = SimpleNamespace(endpoint_url="http://127.0.0.1:1", key="k", workers=workers, credentials=credentials)
        return nullcontext(here)

    monkeypatch.setattr(target, "forget_aws_settings", lambda: None)
    monkeypatch.setattr(target, "num_cores", lambda: 4)
    monkeypatch.setattr(target, "serve_rendezvous", lambda: nullcontext("127.0.0.1:9"))
    monkeypatch.setattr(target, "LocalAws", start)
    monkeypatch.setattr(target, "deploy", lambda aws, **asked: deployed.append(asked) or made)
    monkeypatch.setattr(target, "new_client", lambda name, **_: name)
    monkeypatch.setattr(target, "Bucket", lambda s3, name, **_: (s3, name))

    with target.start_local(tmp_path, Path("models/mine"), num_talking=num_talking) as there:
        assert isinstance(there, LocalTarget)
        assert (there.endpoint_url, there.key, there.workers) == ("http://127.0.0.1:1", "k", workers)
        assert (there.bucket, there.states, there.state_machine_arn) == (("s3", "local"), "stepfunctions", "machine")
        assert there.log == tmp_path / "server.log"
    assert deployed == [{"model": Path("models/mine"), "rendezvous": "127.0.0.1:9" if num_talking else ""}]


def test_as_many_ranks_may_talk_as_this_machine_holds() -> None:
    assert target.count_talking(64) == 64
    with pytest.raises(UsageError, match=r"FMI=1 needs all 65 ranks .* WORLD=64 or less"):
        target.count_talking(65)


def test_a_local_aws_is_asked_without_the_users_settings_and_past_the_users_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target.os, "environ", {"AWS_PROFILE": "mine", "PATH": "/bin", "no_proxy": "example.org"})

    target.forget_aws_settings()

    assert target.os.environ == {
        "PATH": "/bin",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "example.org,127.0.0.1,localhost",
    }


def test_a_bucket_of_a_local_aws_is_read_with_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(target, "quick_store", lambda s3, name, **keys: asked.append((s3, name, keys)))
    s3 = SimpleNamespace(meta=SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None)))

    target._bucket(s3, "b", "k")._make_store()  # type: ignore[misc]

    assert asked == [(s3, "b", {"access_key_id": "k", "secret_access_key": "k"})]


# ------------------------------------------------------------------------------------------ on AWS


def test_a_deployment_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, account = make_stack(), StubbedAccount()
    there = AwsTarget(stack, account)  # type: ignore[arg-type]
    denied = ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")

    assert there.states is account.client("stepfunctions")
    assert (there.state_machine_arn, there.bucket.name) == (stack.state_machine_arn, stack.bucket)
    assert there.max_concurrency == stack.max_concurrency
    assert there.entry == {"stack": stack}
    assert there.facts() == f"{stack.name} in {stack.region}, account {stack.account_id}"
    assert "lack a permission: GetObject" in there.why(denied)


def test_a_run_on_aws_is_watched_by_its_map_run() -> None:
    there = AwsTarget(make_stack(), StubbedAccount())  # type: ignore[arg-type]

    watcher = there.watch(make_entry(resumed_at_s=9.0))

    assert isinstance(watcher, MapRunObserver)
    assert (watcher.states, watcher.store) == (there.states, there.bucket)
    assert (watcher.execution_arn, watcher.items_key) == ("arn", "runs/run-a/manifest.json")
    assert watcher.started_at_s == 9.0


def test_a_run_on_aws_has_a_price_where_its_region_has_prices() -> None:
    stack = make_stack()
    nowhere = msgspec.structs.replace(stack, region="mars-1")

    bill = AwsTarget(stack, StubbedAccount()).bill(make_summary())  # type: ignore[arg-type]

    assert bill is not None
    assert bill.usd > 0
    assert AwsTarget(nowhere, StubbedAccount()).bill(make_summary()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "is_agreed", "requester_pays"),
    [("sky", True, True), ("sky", False, False), ("other", True, False)],
)
def test_only_for_the_data_bucket_the_requester_agrees_to_pay(
    name: str, is_agreed: bool, requester_pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(target, "quick_store", lambda s3, bucket, **keys: asked.append((s3, bucket, keys)))
    account = StubbedAccount()
    account.credentials = lambda: "keys"  # type: ignore[attr-defined]
    stack = make_stack(data_bucket="sky", data_bucket_requester_pays=is_agreed)

    bucket = AwsTarget(stack, account).bucket_named(name)  # type: ignore[arg-type]
    bucket._make_store()  # type: ignore[misc]

    assert (bucket.name, bool(bucket._agreed)) == (name, requester_pays)
    assert asked == [(account.client("s3"), name, {"credential_provider": "keys"})]


def test_a_stack_is_reached_with_the_credentials_of_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    class Here:
        def __init__(self, region: str) -> None:
            self.region = region

        def identity(self) -> tuple[str, str]:
            if self.region == "mars-1":
                raise NoCredentialsError
            return make_stack().account_id, "arn"

        client = StubbedAccount().client

    monkeypatch.setattr(target, "Account", Here)
    stack = make_stack()

    assert target.connect_aws(stack).account.region == stack.region
    with pytest.raises(StackError, match="account"):
        target.connect_aws(msgspec.structs.replace(stack, account_id="999999999999"))
    with pytest.raises(StackError, match="no AWS credentials here"):
        target.connect_aws(msgspec.structs.replace(stack, region="mars-1"))


def test_a_run_is_asked_again_where_it_runs_and_nowhere_once_its_local_aws_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target, "connect_aws", lambda stack: ("there", stack))
    monkeypatch.setattr(target, "forget_aws_settings", lambda: None)
    monkeypatch.setattr(target, "new_client", lambda name, *, config, **where: (name, where["endpoint_url"]))
    monkeypatch.setattr(target, "Bucket", lambda s3, name, **_: (s3, name))
    here = make_entry(endpoint_url="http://127.0.0.1:9", key="k", pid=os.getpid())

    found = target.rejoin(here)

    assert isinstance(found, LocalTarget)
    assert (found.endpoint_url, found.key) == ("http://127.0.0.1:9", "k")
    assert found.bucket == (("s3", "http://127.0.0.1:9"), "b")
    assert found.states == ("stepfunctions", "http://127.0.0.1:9")
    assert target.rejoin(make_entry(pid=0)) is None
    assert target.rejoin(make_entry(stack=make_stack())) == ("there", make_stack())

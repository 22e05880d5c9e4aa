# ruff: noqa: N803 -- the names are those of AWS
"""Other memory sizes of the deployed function: versions that a sweep publishes, and what a killed one left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from inference.contract import memory_alias
from scripts.command.errors import UsageError
from scripts.command.machine import num_cores
from scripts.deployment.stack import Stack, StageSettings
from scripts.deployment.variants import MemoryVariants
from scripts.runs.target import LocalTarget
from scripts.sweeps import backend as backend_module
from scripts.sweeps.backend import AwsBackend, LocalBackend, rates_of
from scripts.sweeps.plan import Setting

OWN = {"MemorySize": 1769, "Description": "Infer stage."}
ARN = "arn:aws:lambda:us-east-1:123456789012:function:photo-z-infer"


class FakeLambda:
    """A function with its versions and aliases, as far as a sweep uses them."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None))

    def __init__(self, *, refused: str = "") -> None:
        self.versions: dict[str, dict[str, Any]] = {"$LATEST": dict(OWN)}
        self.aliases: dict[str, str] = {}
        self.refused = refused
        self.waited: list[str] = []

    def _check(self, operation: str) -> None:
        if operation == self.refused:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

    def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:
        return {"FunctionName": FunctionName, **self.versions["$LATEST"]}

    def update_function_configuration(self, FunctionName: str, **settings: Any) -> None:
        self._check("UpdateFunctionConfiguration")
        self.versions["$LATEST"].update(settings)

    def publish_version(self, FunctionName: str) -> dict[str, Any]:
        self._check("PublishVersion")
        version = str(len(self.versions))
        self.versions[version] = dict(self.versions["$LATEST"])
        return {"Version": version}

    def create_alias(self, FunctionName: str, Name: str, FunctionVersion: str) -> None:
        self._check("CreateAlias")
        self.aliases[Name] = FunctionVersion

    def delete_alias(self, FunctionName: str, Name: str) -> None:
        del self.aliases[Name]

    def delete_function(self, FunctionName: str, Qualifier: str) -> None:
        assert Qualifier not in self.aliases.values(), "an alias names it"
        del self.versions[Qualifier]

    def get_waiter(self, name: str) -> Any:
        return SimpleNamespace(wait=lambda **_: self.waited.append(name))

    def get_paginator(self, operation: str) -> Any:
        def paginate(FunctionName: str) -> list[dict[str, Any]]:
            if operation == "list_aliases":
                return [{"Aliases": [{"Name": name, "FunctionVersion": v}]} for name, v in self.aliases.items()]
            self._check("ListVersionsByFunction")
            versions = self.versions.items()
            return [{"Versions": [{"FunctionArn": f"{ARN}:{name}", **settings}]} for name, settings in versions]

        return SimpleNamespace(paginate=paginate)


def variants(functions: FakeLambda) -> MemoryVariants:
    return MemoryVariants(functions, "photo-z-infer")


def backend(
    functions: FakeLambda,
    *memories_mb: int,
    running: tuple[list[str], ...] = (),
    sleep: Callable[[float], None] = lambda _: None,
) -> AwsBackend:
    """Return the stack; `running` are the executions at the first looks, none later."""
    looks = iter(running)

    def list_executions(stateMachineArn: str, statusFilter: str, maxResults: int) -> dict[str, Any]:
        assert (stateMachineArn, statusFilter) == ("arn", "RUNNING")
        return {"executions": [{"name": one} for one in next(looks, [])][:maxResults]}

    states = SimpleNamespace(list_executions=list_executions)
    stack = Stack(
        name="photo-z",
        region="us-east-1",
        account_id="1",
        bucket="b",
        state_machine_arn="arn",
        function_names={"infer": "photo-z-infer"},
        stages={"infer": StageSettings(memory_mb=1769, timeout_s=900)},
        max_concurrency=2,
    )
    account = SimpleNamespace(client=lambda _: functions)
    target: Any = SimpleNamespace(stack=stack, account=account, states=states, state_machine_arn="arn")
    return AwsBackend(target, memories_mb, sleep=sleep)


# ---------------------------------------------------------------------------------------------- versions


def test_every_memory_has_a_version_behind_its_alias_and_the_function_its_own_again() -> None:
    functions = FakeLambda()

    variants(functions).make([3008, 512])

    behind = {name: functions.versions[version]["MemorySize"] for name, version in functions.aliases.items()}
    assert behind == {memory_alias(3008): 3008, memory_alias(512): 512}
    assert functions.versions["$LATEST"] == OWN
    assert functions.waited == [*(["function_updated_v2", "published_version_active"] * 2), "function_updated_v2"]


@pytest.mark.parametrize("refused", ["PublishVersion", "CreateAlias"])
def test_what_aws_refuses_leaves_the_function_its_own_memory(refused: str) -> None:
    functions = FakeLambda(refused=refused)

    with pytest.raises(ClientError):
        variants(functions).make([3008])

    assert functions.versions["$LATEST"] == OWN


def test_removing_leaves_versions_and_aliases_of_others() -> None:
    functions = FakeLambda()
    functions.versions["7"] = dict(OWN)
    functions.aliases["live"] = "7"
    variants(functions).make([3008, 512])

    variants(functions).remove()

    assert functions.versions == {"$LATEST": OWN, "7": OWN}
    assert functions.aliases == {"live": "7"}


def test_a_kill_while_the_function_has_another_memory_is_undone() -> None:
    functions = FakeLambda(refused="PublishVersion")
    functions.versions["$LATEST"] = {"MemorySize": 3008, "Description": "Infer stage. [sweep: deployed with 1769 MB]"}

    assert variants(functions).versions() == ["$LATEST"]
    variants(functions).remove()

    assert functions.versions == {"$LATEST": OWN}


# ------------------------------------------------------------------------------------------- the backend


def test_a_sweep_has_its_versions_while_it_goes_on_and_not_longer() -> None:
    functions = FakeLambda()

    with backend(functions, 1769, 3008) as there:
        during = dict(functions.aliases)
        asked = [there.variant(memory_mb) for memory_mb in (None, 1769, 3008)]

    assert list(during) == [memory_alias(3008)]
    assert asked == [None, None, 3008]
    assert (functions.versions, functions.aliases) == ({"$LATEST": OWN}, {})


def test_a_sweep_that_cannot_have_its_versions_leaves_none() -> None:
    functions = FakeLambda(refused="CreateAlias")

    with pytest.raises(ClientError), backend(functions, 3008):
        pass

    assert functions.versions == {"$LATEST": OWN}


def test_a_sweep_without_memory_touches_the_function_only_to_undo_what_a_killed_one_left() -> None:
    untouched, left = FakeLambda(refused="UpdateFunctionConfiguration"), FakeLambda()
    variants(left).make([3008])

    with backend(untouched, running=(["run-a"],) * 100), backend(left):
        assert left.versions == {"$LATEST": OWN}

    assert untouched.waited == []


def test_a_sweep_without_memory_needs_no_right_to_see_the_function() -> None:
    functions = FakeLambda(refused="ListVersionsByFunction")

    with backend(functions) as aws:
        assert functions.waited == []
        assert not aws.is_cold(Setting(world=2))  # cold starts are a part of what Lambda does
    with pytest.raises(ClientError), backend(functions, 3008):
        pass


def test_the_function_of_a_run_that_goes_on_is_never_changed() -> None:
    functions = FakeLambda()

    with pytest.raises(UsageError, match=r"MEMORY: run-a runs in this stack[^\n]*$"):
        backend(functions, 3008, running=(["run-a"],) * 100).__enter__()
    with backend(functions, 3008, running=(["run-a"],)):
        assert functions.aliases

    assert functions.versions == {"$LATEST": OWN}


def test_a_stopped_run_is_waited_for_as_long_as_it_takes_to_end() -> None:
    at_once, later, waited_s = [], [], []

    with backend(FakeLambda(), 3008, sleep=at_once.append):
        pass
    with backend(FakeLambda(), 3008, running=(["run-a"],) * 2, sleep=later.append):
        pass
    with pytest.raises(UsageError):
        backend(FakeLambda(), 3008, running=(["run-a"],) * 100, sleep=waited_s.append).__enter__()

    assert (at_once, later) == ([], [backend_module.POLL_S] * 2)
    assert sum(waited_s) == backend_module.SETTLE_S - backend_module.POLL_S


def test_a_stack_says_where_it_is_what_it_bears_and_what_it_reads() -> None:
    there = backend(FakeLambda())

    assert (there.name, there.region, there.max_concurrency, there.buckets[0]) == ("aws", "us-east-1", 2, "b")


def test_what_else_aws_refuses_stops_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    def throttled(_: MemoryVariants) -> list[str]:
        raise ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "later"}}, "ListVersions")

    monkeypatch.setattr(MemoryVariants, "versions", throttled)

    with pytest.raises(ClientError, match="later"):
        backend(FakeLambda()).__enter__()


def test_a_run_with_another_memory_is_billed_for_it() -> None:
    there = backend(FakeLambda(), 3008)

    assert there.target(3008).stack.stages["infer"].memory_mb == 3008
    assert there.target(None).stack.stages["infer"].memory_mb == 1769
    assert [there.rates(memory_mb).memory_mb["infer"] for memory_mb in (None, 3008)] == [1769, 3008]


def test_a_local_run_is_priced_as_it_would_be_deployed(tmp_path: Path) -> None:
    local = LocalBackend(tmp_path, (3538,))

    assert (local.rates(3538), local.rates(None)) == (rates_of(None, 3538), rates_of(None, 1769))
    assert local.rates(None).memory_mb["summarize"] > 0
    assert [local.variant(memory_mb) for memory_mb in (None, 1769, 3538)] == [None, None, 3538]


# --------------------------------------------------------------------------------------------------- here


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeLambda]:
    """The local AWSes that were started; one that has ended has no versions any more."""
    found: list[FakeLambda] = []

    @contextmanager
    def start_local(log_dir: Path, model: Path | None) -> Iterator[LocalTarget]:
        found.append(FakeLambda())
        yield LocalTarget("http://127.0.0.1:1", "key", bucket=SimpleNamespace(), states=None)
        found[-1].versions.clear()

    monkeypatch.setattr(backend_module, "start_local", start_local)
    monkeypatch.setattr(backend_module, "new_client", lambda *_, **__: found[-1])
    return found


def test_a_local_aws_is_started_once_with_the_other_memory_sizes(started: list[FakeLambda], tmp_path: Path) -> None:
    with LocalBackend(tmp_path / "logs", (1769, 3538)) as local:
        first, second = local.target(3538), local.target(None)
        during = dict(started[0].aliases)

    assert first is second
    assert (local.name, local.region, local.max_concurrency, local.buckets) == ("local", "us-east-1", num_cores(), ())
    assert list(during) == [memory_alias(3538)]
    assert [one.versions for one in started] == [{}]


def test_a_setting_is_cold_until_its_memory_and_its_engine_were_asked_for(
    started: list[FakeLambda], tmp_path: Path
) -> None:
    settings = [
        Setting(memory=memory_mb, engine=engine, world=world)
        for memory_mb, engine, world in [
            (1769, "torch", 1),
            (1769, "torch", 2),
            (1769, "auto", 2),
            (None, "auto", 2),
            (3538, "auto", 2),
            (1769, "auto", 2),
        ]
    ]
    local = LocalBackend(tmp_path / "logs", (1769, 3538))

    assert [local.is_cold(setting) for setting in settings] == [True, False, True, False, True, True]
    local.renew()
    assert local.is_cold(settings[-1])
    assert len(started) == 2
    local.renew()


def test_the_logs_of_a_run_are_what_was_logged_since_it_began(started: list[FakeLambda], tmp_path: Path) -> None:
    local = LocalBackend(tmp_path / "logs", ())
    (tmp_path / "logs").mkdir()
    for name in ("infer-0.log", "infer-1.log"):
        (tmp_path / "logs" / name).write_text("before\n")
    with local:
        local.target(None)
        with (tmp_path / "logs" / "infer-0.log").open("a") as log:
            log.write("during\n")
        (tmp_path / "run").mkdir()

        local.after(tmp_path / "run")
        local.after(tmp_path / "run")
        local.after(tmp_path / "gone")

    found = {path.name: path.read_text() for path in (tmp_path / "run" / "logs").iterdir()}
    assert found == {"infer-0.log": "during\n"}
    assert not (tmp_path / "gone").exists()

"""`make smoke` says its price, makes nothing without a yes, and destroys what it made however it ends.

What it asks of an account is rehearsed in tests/integration/test_terraform_deployment.py.
"""

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from inference.models import shipped
from scripts import deploy, smoke
from scripts.command.aws_errors import explain
from scripts.command.errors import COMPLETE, FAILED, INTERRUPTED
from scripts.command.program import exit_status
from scripts.command.repository import REPOSITORY
from scripts.deployment import working_copy
from scripts.deployment.image.engine import EngineError
from scripts.deployment.terraform import FOLDER, IMAGE_FILE, DeployError, Terraform
from scripts.pricing.prices import read_prices
from scripts.runs.first_account import Trial
from scripts.runs.smoke_report import SmokeAnswer, answer_table
from tests.iam import Call, is_allowed
from tests.unit.test_image_parts import make_image

ACCOUNT = "123456789012"
BUCKET = {"mode": "managed", "module": "module.storage", "type": "aws_s3_bucket", "name": "this"}
LOOKED_UP = {"mode": "data", "type": "aws_region", "name": "current"}


class FakeTerraform(Terraform):
    def __init__(self, folder: Path) -> None:
        self.folder = folder


class FakeAccount:
    region = "us-east-1"

    def identity(self) -> tuple[str, str]:
        return ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/me"


def answer(*, is_expected: bool = True) -> SmokeAnswer:
    evidence = (f"arn:aws:states:us-east-1:{ACCOUNT}:mapRun:x",)
    return SmokeAnswer(question="Q?", expected="yes", seen="yes", is_expected=is_expected, evidence=evidence)


def record(folder: Path, *resources: dict[str, str]) -> None:
    (folder / "terraform.tfstate").write_text(json.dumps({"resources": [LOOKED_UP, *resources]}))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An account where all goes well; a test changes one thing."""
    monkeypatch.setattr(smoke, "Account", FakeAccount)
    monkeypatch.setattr(smoke, "read_stack", lambda folder: None)
    monkeypatch.setattr(smoke, "connect_aws", lambda stack: None)
    monkeypatch.setattr(smoke, "settle", lambda trial, snap_start: iter([answer()]))
    monkeypatch.setattr(deploy, "ensure_registry", lambda terraform: "repository")
    monkeypatch.setattr(deploy, "apply", lambda terraform, confirm: record(terraform.folder, BUCKET))
    monkeypatch.setattr(deploy, "destroy", lambda terraform, confirm: record(terraform.folder))
    return monkeypatch


def run(root: Path, *, confirm: Callable[[str], bool] = lambda _: True, snap_start: bool = False) -> int:
    def push(repository: str) -> smoke.Pushed:
        return smoke.Pushed(f"{repository}@sha256:{'a' * 64}", "v1")

    return smoke.smoke(root, "x86_64", push, snap_start=snap_start, confirm=confirm, open_terraform=FakeTerraform)


def report(root: Path) -> dict[str, Any]:
    (path,) = (root / "smoke").glob("report-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def test_what_was_seen_is_written_and_nothing_is_left(
    cloud: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == COMPLETE

    found = report(tmp_path)
    assert next((tmp_path / "smoke").glob("report-*.json")).read_text().startswith('{\n  "began_at": "')
    assert (found["code_version"], found["stopped_by"], found["left_behind"]) == ("v1", "", [])
    assert found["answers"][0]["evidence"] == ["arn:aws:states:us-east-1:000000000000:mapRun:x"]
    assert not (tmp_path / "smoke" / "terraform").exists()
    assert "as expected" in capsys.readouterr().out


@pytest.mark.parametrize("snap_start", [True, False])
def test_the_image_that_was_pushed_is_deployed_asked_and_destroyed_and_nothing_else_is(
    snap_start: bool, cloud: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, seen = tmp_path / "smoke", dict[str, Any]()
    (home / "work" / "runs").mkdir(parents=True)  # of an earlier one

    def apply(terraform: Terraform, *, confirm: Callable[[str], bool]) -> None:
        recorded = json.loads((terraform.folder / IMAGE_FILE).read_text())
        seen.update(recorded=recorded, may_delete_data=confirm("?"), earlier=(home / "work").exists())
        record(terraform.folder, BUCKET)

    def destroy(terraform: Terraform, *, confirm: Callable[[str], bool]) -> None:
        seen["may_destroy"] = confirm("?")
        record(terraform.folder)

    def settle(trial: Trial, *, snap_start: bool) -> list[SmokeAnswer]:
        trial.console.print("3 ranks")
        seen.update(aws=trial.aws, folders=(trial.terraform.folder, trial.root), snap_start=snap_start)
        return [answer()]

    cloud.setenv("COLUMNS", "300")
    cloud.setenv("FORCE_COLOR", "1")
    cloud.setattr(smoke, "read_stack", lambda folder: f"the stack of {folder.name}")
    cloud.setattr(smoke, "connect_aws", lambda stack: stack)
    cloud.setattr(smoke, "settle", settle)
    cloud.setattr(deploy, "apply", apply)
    cloud.setattr(deploy, "destroy", destroy)

    assert run(tmp_path, snap_start=snap_start) == COMPLETE

    assert seen == {
        "recorded": {"image_uri": f"repository@sha256:{'a' * 64}", "code_version": "v1"},
        "may_delete_data": False,
        "earlier": False,
        "may_destroy": True,
        "aws": "the stack of terraform",
        "folders": (home / "terraform", home / "work"),
        "snap_start": snap_start,
    }
    found = report(tmp_path)
    assert (found["region"], found["architecture"]) == ("us-east-1", "x86_64")
    assert found["estimated_usd"] == smoke.most_usd("us-east-1", "x86_64")
    assert 0 <= found["total_s"] == round(found["total_s"], 1)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["began_at"])
    (path,) = home.glob("report-*.json")
    assert re.fullmatch(r"report-20\d{6}T\d{6}Z\.json", path.name)
    said = capsys.readouterr()
    assert said.out.endswith(f"{path}: please send it to the authors; the account's number is not in it.\n")
    assert "ended early" not in said.out
    assert said.err == "3 ranks\n"


@pytest.mark.parametrize(
    ("given", "architecture", "engine"),
    [
        ({}, "x86_64", ""),
        ({"ARCH": "arm64", "CONTAINER_ENGINE": "docker", "SNAP_START": "1", "YES": "1"}, "arm64", "docker"),
    ],
)
def test_make_smoke_asks_with_the_image_that_was_built(
    given: dict[str, str], architecture: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    built = make_image(model=shipped().in_words, size_bytes=500_000_000)

    def ask(root: Path, architecture: str, push: Any, *, snap_start: bool, confirm: Callable[[str], bool]) -> int:
        seen.update(root=root, architecture=architecture, snap_start=snap_start, pushed=push("mine"))
        return FAILED if confirm("Shall it?") else INTERRUPTED

    monkeypatch.setattr(smoke, "smoke", ask)
    monkeypatch.setattr(smoke, "forget_terraform_settings", lambda: seen.update(has_forgotten=True))
    monkeypatch.setattr(smoke, "find_engine", lambda wanted: wanted)
    monkeypatch.setattr(smoke.building, "machine_architecture", lambda: "x86_64")
    monkeypatch.setattr(smoke.building, "inspect", lambda engine, name: replace(built, name=name))
    monkeypatch.setattr(smoke.registry, "ecr_login", lambda repository: f"into {repository}")
    monkeypatch.setattr(smoke.registry, "push", lambda *pushed: SimpleNamespace(uri=pushed))
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))

    # Without YES=1 there is no terminal to ask at.
    assert exit_status(smoke.main, given) == FAILED

    image = replace(built, name=smoke.building.image_name(architecture))
    assert seen == {
        "has_forgotten": True,
        "root": Path(),
        "architecture": architecture,
        "snap_start": "SNAP_START" in given,
        "pushed": ((engine, image, "mine", "into mine"), built.revision),
    }


def test_the_question_says_what_is_made_for_how_much_and_what_else_is_paid_for(tmp_path: Path) -> None:
    once = smoke.question(0.01234, "me", "us-east-1", tmp_path, snap_start=False)
    (tmp_path / "terraform").mkdir()
    again = smoke.question(0.01234, "me", "us-east-1", tmp_path, snap_start=True).splitlines()

    assert once.startswith(f"This deploys {working_copy.NAME} in us-east-1 as me, runs {smoke.NUM_RANKS} ranks, and ")
    assert "for 0.0123 USD at most in 95 of 100 cases. Not in it: " in once
    assert again[0] == once
    assert [line[:12] for line in again[1:]] == ["SNAP_START=1", "What an earl"]


def test_an_answer_of_aws_is_explained(
    cloud: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "CreateRole")
    cloud.setenv("COLUMNS", "300")
    cloud.setattr(smoke, "settle", raises(refused))
    cloud.setattr(deploy, "destroy", raises(refused))

    assert run(tmp_path) == FAILED

    assert report(tmp_path)["stopped_by"] == explain(refused) != str(refused)
    said = capsys.readouterr()
    assert said.err == f"{explain(refused)}\n"
    lines = said.out.splitlines()
    assert lines[-4:-1] == [
        f"It ended early: {explain(refused)}",
        "Not destroyed, and paid for until it is; `make smoke` tries again:",
        "  module.storage.aws_s3_bucket.this",
    ]
    assert run(tmp_path) == FAILED
    stopped_by = [json.loads(path.read_text())["stopped_by"] for path in (tmp_path / "smoke").glob("report-*.json")]
    assert "What an earlier one made could not be destroyed: module.storage.aws_s3_bucket.this." in stopped_by


def test_nothing_is_made_without_a_yes_to_the_price(cloud: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    with pytest.raises(DeployError, match="Nothing was made"):
        run(tmp_path, confirm=lambda question: bool(asked.append(question)))

    assert re.search(r"for 0\.0\d+ USD at most", asked[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("region", sorted(read_prices().regions))
def test_it_costs_less_than_two_cents(region: str) -> None:
    assert 0 < smoke.most_usd(region, "x86_64") < 0.02


def test_the_rank_without_memory_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    forecast: list[tuple[int, int, int, str]] = []

    def record(setting: Any, *_: Any, **__: Any) -> Any:
        forecast.append((setting.num_rows, setting.world_size, setting.num_shards, setting.architecture))
        return SimpleNamespace(usd=(0.0, 0.25))

    monkeypatch.setattr(smoke, "forecast", record)

    assert smoke.most_usd("us-east-1", "arm64") == 0.5
    rows = smoke.ROWS_PER_SHARD
    assert forecast == [(smoke.NUM_RANKS * rows, smoke.NUM_RANKS, smoke.NUM_RANKS, "arm64"), (2 * rows, 2, 1, "arm64")]


def test_a_region_without_prices_is_asked_about_without_one(tmp_path: Path) -> None:
    assert smoke.most_usd("xx-none-1", "x86_64") is None
    assert "does not know" in smoke.question(None, "me", "xx-none-1", tmp_path, snap_start=False)


@pytest.mark.parametrize(
    ("at", "error", "status", "said"),
    [
        ((deploy, "apply"), DeployError("refused"), FAILED, "refused"),
        ((smoke, "settle"), KeyboardInterrupt(), INTERRUPTED, "Ctrl-C"),
    ],
    ids=["failure", "Ctrl-C"],
)
def test_what_was_made_is_destroyed_however_it_ends(
    at: tuple[Any, str], error: BaseException, status: int, said: str, cloud: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    destroyed: list[Path] = []

    def make_then_fail(*arguments: Any, **_: object) -> None:
        record(tmp_path / "smoke" / "terraform", BUCKET)
        raise error

    cloud.setattr(*at, make_then_fail)
    cloud.setattr(
        deploy,
        "destroy",
        lambda terraform, confirm: (destroyed.append(terraform.folder), record(terraform.folder)),
    )

    assert run(tmp_path) == status

    assert destroyed == [tmp_path / "smoke" / "terraform"]
    assert (report(tmp_path)["stopped_by"], report(tmp_path)["left_behind"]) == (said, [])


def test_a_fault_of_the_command_itself_destroys_too(cloud: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cloud.setattr(smoke, "settle", raises(ZeroDivisionError()))

    with pytest.raises(ZeroDivisionError):
        run(tmp_path)

    assert report(tmp_path)["left_behind"] == []
    assert not (tmp_path / "smoke" / "terraform").exists()


@pytest.mark.parametrize("error", [DeployError("denied"), KeyboardInterrupt()], ids=["failure", "Ctrl-C"])
def test_what_could_not_be_destroyed_is_named_and_the_next_one_begins_with_it(
    error: BaseException, cloud: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(deploy, "destroy", raises(error))
        assert run(tmp_path) == FAILED
    assert report(tmp_path)["left_behind"] == ["module.storage.aws_s3_bucket.this"]
    assert "module.storage.aws_s3_bucket.this" in capsys.readouterr().out
    next((tmp_path / "smoke").glob("report-*.json")).unlink()
    asked: list[str] = []

    assert run(tmp_path, confirm=lambda question: not asked.append(question)) == COMPLETE

    assert "is destroyed first" in asked[0]


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_whatever_state_the_user_has_elsewhere_this_one_is_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "users"
    users.mkdir()
    (users / "main.tf").write_text('resource "terraform_data" "this" {}')
    (users / "ours.tf").write_text('terraform {\n  backend "s3" {\n    bucket = "users"\n    key = "k"\n  }\n}\n')
    monkeypatch.setattr(working_copy, "FOLDER", users)
    folder = working_copy.prepare(tmp_path / "copy", "eu-west-1", "arm64")
    terraform = Terraform(folder)

    terraform.read("init", "-input=false", "-no-color")
    terraform.read("apply", "-input=false", "-auto-approve", "-no-color")

    assert working_copy.resources(folder) == ("terraform_data.this",)


def test_a_damaged_state_is_never_taken_for_an_empty_one(cloud: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cloud.setattr(deploy, "apply", lambda terraform, confirm: (terraform.folder / "terraform.tfstate").write_text("{"))
    cloud.setattr(deploy, "destroy", raises(DeployError("damaged")))

    assert run(tmp_path) == FAILED

    assert "damaged" in report(tmp_path)["left_behind"][0]
    assert (tmp_path / "smoke" / "terraform").exists()


def test_no_setting_of_the_users_terraform_moves_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_WORKSPACE", "TF_DATA_DIR", "TF_CLI_ARGS_plan", "TF_VAR_role_path"):
        monkeypatch.setenv(name, "mine")

    working_copy.forget_terraform_settings()

    assert [name for name in os.environ if os.environ[name] == "mine"] == ["TF_VAR_role_path"]


def test_something_otherwise_is_a_failure(cloud: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cloud.setattr(smoke, "settle", lambda trial, snap_start: iter([answer(is_expected=False)]))

    assert run(tmp_path) == FAILED


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"model": "mine (000000000000)"}, "holds mine"), ({"size_bytes": 292_000_000}, "SLIM=1")],
    ids=["another model", "without torch"],
)
def test_an_image_that_cannot_be_asked_is_refused_before_anything(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = make_image(model=shipped().in_words, size_bytes=742_000_000)
    monkeypatch.setattr(smoke, "find_engine", lambda wanted: None)
    monkeypatch.setattr(smoke.building, "inspect", lambda engine, name: fit)
    assert smoke._pusher(smoke.SmokeVariables(), "x86_64")
    monkeypatch.setattr(smoke.building, "inspect", lambda engine, name: replace(fit, **changes))

    with pytest.raises(EngineError, match=said):
        smoke._pusher(smoke.SmokeVariables(), "x86_64")


def test_the_working_copy_takes_what_an_organization_prescribes_and_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "users"
    users.mkdir()
    for name in ("main.tf", "terraform.tfvars", "terraform.tfstate", "override.tf", "image.auto.tfvars.json"):
        (users / name).write_text("")
    monkeypatch.setattr(working_copy, "FOLDER", users)

    folder = working_copy.prepare(tmp_path / "copy", "eu-west-1", "arm64")

    assert {path.name for path in folder.iterdir()} == {
        *("main.tf", "terraform.tfvars", working_copy.OWN_VARIABLES, "smoke_override.tf")
    }
    own = json.loads((folder / working_copy.OWN_VARIABLES).read_text())
    assert (own["name"], own["region"], own["architecture"]) == (working_copy.NAME, "eu-west-1", "arm64")
    assert set(own) <= set(re.findall(r'^variable "(\w+)"', (FOLDER / "variables.tf").read_text(), re.MULTILINE))


def test_whoever_may_make_the_users_own_may_make_this_one() -> None:
    policies = json.loads((REPOSITORY / "docs" / "operator-policy.json").read_text())["Statement"]
    arn = f"arn:aws:states:us-east-1:{ACCOUNT}"
    calls = [
        Call("me", "states:CreateStateMachine", f"{arn}:stateMachine:{working_copy.NAME}"),
        Call("me", "states:DescribeMapRun", f"{arn}:mapRun:{working_copy.NAME}/InferRanks:0f8e"),
        Call("me", "lambda:CreateFunction", f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{working_copy.NAME}-infer"),
        Call("me", "s3:CreateBucket", f"arn:aws:s3:::{working_copy.NAME}-{ACCOUNT}-us-east-1"),
        Call("me", "iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/{working_copy.NAME}-infer-us-east-1"),
    ]

    assert [call for call in calls if not is_allowed(call, policies)] == []


def test_answers_are_a_table_of_what_was_asked_expected_and_seen() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    answers = [answer(), SmokeAnswer(question="Why?", expected="2 records", seen="none", is_expected=False)]

    console.print(answer_table(answers))

    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == [  # type: ignore[attr-defined]
        "             question  expected   seen",
        "",
        "as expected  Q?        yes        yes",
        "",
        "otherwise    Why?      2 records  none",
    ]

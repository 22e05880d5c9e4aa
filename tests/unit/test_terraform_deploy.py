"""What `make plan apply destroy` decide without Terraform and without AWS."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest
from botocore.exceptions import ClientError

from scripts import deploy
from scripts.command.program import exit_status, start_one_of
from scripts.command.repository import REPOSITORY
from scripts.deployment import terraform
from scripts.deployment.terraform import DeployError, Terraform

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference@sha256:" + "a" * 64


def test_an_image_is_recorded_for_terraform(tmp_path: Path) -> None:
    assert deploy.record_image(tmp_path, IMAGE, "1.2.3")

    (written,) = tmp_path.iterdir()
    assert written.name == "image.auto.tfvars.json"
    assert json.loads(written.read_text()) == {"image_uri": IMAGE, "code_version": "1.2.3"}


def test_the_same_image_recorded_twice_changes_nothing(tmp_path: Path) -> None:
    deploy.record_image(tmp_path, IMAGE, "1.2.3")

    assert not deploy.record_image(tmp_path, IMAGE, "1.2.3")


@pytest.mark.parametrize("image_uri", ["", "repository:latest", "repository@sha256:abc"])
def test_an_image_that_is_not_by_digest_is_not_recorded(image_uri: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="digest"):
        deploy.record_image(tmp_path, image_uri, "1.2.3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [".", "mirror", "share/mirror"])
def test_a_mirror_of_the_provider_is_found_below_a_root(below: str, tmp_path: Path) -> None:
    mirror = tmp_path / below
    (mirror / terraform.PROVIDER / "5.100.0" / "linux_amd64").mkdir(parents=True)

    assert terraform.find_mirror("5.100.0", (str(tmp_path / "none"), str(tmp_path))) == mirror.resolve()


def test_a_mirror_with_another_version_is_none(tmp_path: Path) -> None:
    (tmp_path / terraform.PROVIDER / "5.99.0").mkdir(parents=True)

    assert terraform.find_mirror("5.100.0", (str(tmp_path),)) is None


def test_a_mirror_that_lies_deeper_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c" / terraform.PROVIDER / "5.100.0").mkdir(parents=True)

    assert terraform.find_mirror("5.100.0", (str(tmp_path),)) is None


def test_the_version_of_the_provider_is_the_pinned_one() -> None:
    assert (
        f'version = "{terraform.provider_version(terraform.FOLDER)}"' in (terraform.FOLDER / "versions.tf").read_text()
    )


@pytest.fixture
def echoing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terraform:
    """A terraform that prints what it was given, and fails where its command is `taint`."""
    script = '#!/bin/sh\necho "$@ $TF_IN_AUTOMATION $TF_CLI_CONFIG_FILE $MINE"; cat; [ "$2" != taint ]\n'
    (tmp_path / "terraform").write_text(script)
    (tmp_path / "terraform").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)
    return Terraform(tmp_path / "here", {"MINE": "mine"})


def test_terraform_works_in_its_folder_and_reads_expressions(echoing: Terraform) -> None:
    assert echoing.evaluate("var.name") == f"-chdir={echoing.folder} console 1  mine\nvar.name"
    with pytest.raises(DeployError, match=r"^terraform taint failed:\n-chdir=.*here taint x 1  mine"):
        echoing.read("taint", "x", expression="")


@pytest.mark.parametrize("is_there", [True, False])
def test_settings_that_do_not_exist_are_not_named_to_terraform(
    is_there: bool, echoing: Terraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = echoing.folder.parent / ("terraform" if is_there else "missing")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(settings))

    printed = Terraform(echoing.folder).evaluate("")

    assert (str(settings) in printed) is is_there


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "plain"), [(True, "", ""), (True, "1", "-no-color "), (False, "", "-no-color ")]
)
def test_what_terraform_shows_is_progress_and_coloured_for_eyes_that_like_colours(
    is_terminal: bool,
    no_color: str,
    plain: str,
    echoing: Terraform,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", no_color)

    echoing.show("apply", "plan.tfplan")
    with pytest.raises(DeployError, match=r"^terraform taint failed; what it said stands above"):
        echoing.show("taint")

    out, err = capfd.readouterr()
    assert out == ""
    assert f"apply {plain}plan.tfplan 1" in err


@pytest.mark.parametrize("is_there", [True, False])
def test_the_provider_comes_from_a_mirror_where_there_is_one(
    is_there: bool, echoing: Terraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(terraform, "find_mirror", lambda version: Path("/mirror") if is_there else None)
    monkeypatch.setattr(Terraform, "read", lambda _, *arguments: asked.append(arguments))

    Terraform(terraform.FOLDER).init("-upgrade")

    mirror = ["-plugin-dir=/mirror"] if is_there else []
    assert asked == [("init", "-input=false", "-no-color", *mirror, "-upgrade")]


SLOW_TO_END = """#!/bin/sh
trap 'exec >&- 2>&-; sleep 0.5; touch "$PWD/saved"; exit 1' INT
echo begun
while :; do sleep 0.02; done
"""
APPLY = "from pathlib import Path; from scripts.deployment.terraform import Terraform; Terraform(Path()).show('apply')"


def test_ctrl_c_lets_terraform_note_what_it_has_made(tmp_path: Path) -> None:
    (tmp_path / "terraform").write_text(SLOW_TO_END)
    (tmp_path / "terraform").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [sys.executable, "-c", APPLY], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"begun\n"

        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)

    assert b"KeyboardInterrupt" in said
    assert (tmp_path / "saved").exists()


def test_without_terraform_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(DeployError, match="not installed"):
        Terraform()


def test_nobody_to_ask_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))

    with pytest.raises(DeployError, match="YES=1"):
        deploy.ask("Delete?", yes=False)


def test_yes_beforehand_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    assert deploy.ask("Delete?", yes=True)


def test_a_command_that_does_not_exist_is_refused_before_anything_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["deploy", "explode"])

    with pytest.raises(SystemExit, match="2"):
        start_one_of(deploy.COMMANDS)

    assert "plan, apply, output, destroy" in capsys.readouterr().err


class FakeTerraform(Terraform):
    """Answers with what it was given and remembers what was asked."""

    def __init__(
        self,
        folder: Path,
        *,
        outputs: dict[str, object],
        planned: dict[str, object] | None = None,
        rendezvous: str = "false",
    ) -> None:
        self.folder = folder
        self.shown: list[str] = []
        self.arguments: list[str] = []
        self._outputs = outputs
        self._rendezvous = rendezvous
        self._planned = planned or {}

    def init(self, *arguments: str) -> None:
        pass

    def show(self, *arguments: str) -> None:
        self.shown.append(arguments[0])
        self.arguments += arguments[1:]
        if "-target=module.registry" in arguments:
            self._outputs = self._outputs | {"repository_url": "made"}

    def evaluate(self, expression: str) -> str:
        assert expression == "var.rendezvous"
        return self._rendezvous

    def read(self, *arguments: str, expression: str | None = None) -> str:
        return json.dumps(self._planned) if arguments[0] == "show" else ""

    def outputs(self) -> dict[str, object]:
        return self._outputs


def planned(kind: str, *actions: str) -> dict[str, object]:
    return {"resource_changes": [{"address": f"{kind}.this", "type": kind, "change": {"actions": list(actions)}}]}


def never(question: str) -> bool:
    raise AssertionError(question)


@pytest.mark.parametrize("actions", [("create",), ("update",), ("no-op",)])
def test_apply_asks_nothing_while_no_data_is_deleted(actions: tuple[str, ...], tmp_path: Path) -> None:
    fake = FakeTerraform(tmp_path, outputs={}, planned=planned("aws_s3_bucket", *actions))

    deploy.apply(fake, confirm=never)

    assert fake.shown == ["plan", "apply"]


def test_apply_does_not_ask_about_what_holds_no_data(tmp_path: Path) -> None:
    fake = FakeTerraform(tmp_path, outputs={}, planned=planned("aws_iam_role", "delete", "create"))

    deploy.apply(fake, confirm=never)

    assert fake.shown == ["plan", "apply"]


def test_apply_changes_nothing_when_the_bucket_may_not_be_replaced(tmp_path: Path) -> None:
    fake = FakeTerraform(tmp_path, outputs={}, planned=planned("aws_s3_bucket", "delete", "create"))

    with pytest.raises(DeployError, match="Nothing was changed"):
        deploy.apply(fake, confirm=lambda question: False)
    assert fake.shown == ["plan"]


def test_a_registry_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    fake = FakeTerraform(tmp_path, outputs={"repository_url": "registry/name"})

    assert deploy.ensure_registry(fake) == "registry/name"
    assert fake.shown == []


@pytest.mark.parametrize(
    ("outputs", "is_on", "made"),
    [
        ({}, "false", ["-target=module.registry", "-target=module.rendezvous_registry"]),
        ({"repository_url": "worker"}, "false", []),
        ({"repository_url": "worker"}, "true", ["-target=module.rendezvous_registry"]),
        ({"repository_url": "worker", "rendezvous_repository_url": "server"}, "true", []),
    ],
)
def test_registries_that_are_wanted_and_missing_are_made_and_nothing_else(
    outputs: dict[str, object], is_on: str, made: list[str], tmp_path: Path
) -> None:
    fake = FakeTerraform(tmp_path, outputs=outputs, rendezvous=is_on)

    deploy.ensure_registry(fake)

    assert [argument for argument in fake.arguments if argument.startswith("-target")] == made


def test_the_image_of_the_rendezvous_is_recorded_next_to_the_workers(tmp_path: Path) -> None:
    server = IMAGE.replace("redshift-inference@", "redshift-inference-rendezvous@")

    deploy.record_image(tmp_path, IMAGE, "1.2.3", server)

    (written,) = tmp_path.iterdir()
    assert json.loads(written.read_text())["rendezvous_image_uri"] == server


def test_destroy_says_when_nothing_is_deployed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeTerraform(tmp_path, outputs={})

    deploy.destroy(fake, confirm=never)

    assert fake.shown == []
    assert "Nothing is deployed" in capsys.readouterr().err


class LateWriters:
    """Holdings of a bucket into which workers write while it is being deleted."""

    def __init__(self, num_late: int) -> None:
        self.num_late = num_late
        self.num_objects = 1
        self.deleted: list[str] = []

    def describe_bucket(self, bucket: str) -> list[str]:
        return [bucket] * self.num_objects

    def describe_images(self, repository: str) -> list[str]:
        return []

    def running_executions(self, arn: str) -> list[str]:
        return []

    def stop(self, executions: list[str]) -> None:
        pass

    def delete_functions(self, arns: Iterable[str]) -> None:
        assert self.num_objects == 1, "before the bucket is emptied"
        self.deleted += arns

    def empty(self, bucket: str) -> None:
        self.num_objects = 0

    def is_empty(self, bucket: str) -> bool:
        return self.num_objects == 0


@pytest.mark.parametrize(("num_late", "num_tries"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_a_bucket_that_late_workers_write_into_is_emptied_again(
    num_late: int, num_tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = LateWriters(num_late)

    class Refusing(FakeTerraform):
        def show(self, *arguments: str) -> None:
            super().show(*arguments)
            bucket.num_objects = int(len(self.shown) <= bucket.num_late)
            if bucket.num_objects:
                raise DeployError("BucketNotEmpty")

    monkeypatch.setattr(deploy, "Holdings", lambda region: bucket)
    fake = Refusing(tmp_path, outputs={"bucket": "mine", "name": "n", "function_arns": {"infer": "arn:infer"}})

    if num_late < 3:
        deploy.destroy(fake, confirm=lambda question: True)
    else:
        with pytest.raises(DeployError, match="BucketNotEmpty"):
            deploy.destroy(fake, confirm=lambda question: True)
    assert fake.shown == ["destroy"] * num_tries
    assert bucket.deleted == ["arn:infer"]


def test_what_stays_behind_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deploy, "Holdings", lambda region: LateWriters(0))

    deploy.destroy(FakeTerraform(tmp_path, outputs={"bucket": "mine"}), confirm=lambda question: True)

    assert "AWSLogDeliveryWrite20150319" in capsys.readouterr().err.splitlines()[-1]


def test_a_destroy_that_fails_for_another_reason_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(FakeTerraform):
        def show(self, *arguments: str) -> None:
            super().show(*arguments)
            raise DeployError("AccessDenied")

    monkeypatch.setattr(deploy, "Holdings", lambda region: LateWriters(0))
    fake = Refusing(tmp_path, outputs={"bucket": "mine", "name": "n"})

    with pytest.raises(DeployError, match="AccessDenied"):
        deploy.destroy(fake, confirm=lambda question: True)
    assert fake.shown == ["destroy"]


@pytest.mark.parametrize("is_refused", [False, True])
def test_images_that_are_deployed_stay_in_their_registry(
    is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[str] = []

    def keep(uri: str) -> None:
        kept.append(uri)
        if is_refused:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutImage")

    server = IMAGE.replace("redshift-inference@", "redshift-inference-rendezvous@")
    deploy.record_image(tmp_path, IMAGE, "1.2.3", server)
    monkeypatch.setattr(deploy, "keep", keep)

    deploy.apply(FakeTerraform(tmp_path, outputs={}), confirm=never)

    assert kept == [IMAGE, server]
    said = f"Deployed, but newer images may push {server} out of the registry: The credentials lack a permission"
    assert (said in capsys.readouterr().err) is is_refused


def test_a_plan_is_applied_as_it_was_shown_once_the_answer_is_yes(tmp_path: Path) -> None:
    asked: list[str] = []
    fake = FakeTerraform(tmp_path, outputs={}, planned=planned("aws_ecr_repository", "delete"))

    deploy.apply(fake, confirm=lambda question: not asked.append(question))  # type: ignore[func-returns-value]

    assert asked == ["This deletes aws_ecr_repository.this and the data in it."]
    assert fake.shown == ["plan", "apply"]
    planning, out, applying, applied = fake.arguments
    assert (planning, applying) == ("-input=false", "-input=false")
    assert out == f"-out={applied}"


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "answer"), [("yes\n", True), (" yes \n", True), ("y\n", False), ("", False)])
def test_a_person_answers_yes_in_full(
    typed: str, answer: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))

    assert deploy.ask("Delete?", yes=False) is answer
    assert capsys.readouterr() == ("", "Delete?\nType yes to continue:\n")


class Full(LateWriters):
    """Holdings of a stack in use."""

    stopped: ClassVar[list[str]] = []

    def describe_images(self, repository: str) -> list[str]:
        return [f"3 images in {repository}"]

    def running_executions(self, arn: str) -> list[str]:
        return [f"{arn}-1", f"{arn}-2"]

    def stop(self, executions: list[str]) -> None:
        self.stopped.extend(executions)


@pytest.mark.parametrize("is_full", [True, False])
def test_what_would_be_deleted_is_said_and_without_a_yes_nothing_is(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[str] = []
    holdings = Full(0) if is_full else LateWriters(0)
    holdings.num_objects = int(is_full)
    names = {"repository_url": "mine/images", "state_machine_arn": "machine", "region": "mars-1"}
    monkeypatch.setattr(deploy, "Holdings", lambda region: holdings if region == "mars-1" else None)
    fake = FakeTerraform(tmp_path, outputs={"bucket": "files of mine", "name": "n", **names})

    with pytest.raises(DeployError, match=r"Nothing was deleted\."):
        deploy.destroy(fake, confirm=lambda question: bool(questions.append(question)))  # type: ignore[func-returns-value]

    data = ["  files of mine", "  3 images in mine/images", "  2 runs in progress"]
    assert questions[0].splitlines() == [
        "This deletes the deployment n and, for good:",
        *(data if is_full else ["  no data: bucket and registry are empty"]),
        "  its logs, its dashboard, its alarms",
    ]
    assert (fake.shown, Full.stopped, holdings.deleted) == ([], [], [])


def test_runs_are_stopped_and_the_record_of_the_image_goes_with_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Full, "stopped", [])
    monkeypatch.setattr(deploy, "Holdings", lambda region: Full(0))
    deploy.record_image(tmp_path, IMAGE, "1.2.3")

    outputs: dict[str, object] = {"bucket": "mine", "state_machine_arn": "machine"}
    fake = FakeTerraform(tmp_path, outputs=outputs)
    deploy.destroy(fake, confirm=lambda question: True)

    assert Full.stopped == ["machine-1", "machine-2"]
    assert fake.arguments == ["-input=false", "-auto-approve"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["plan", "apply", "output", "destroy", "registry"])
def test_every_command_is_about_the_folder_of_terraform(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []

    class Opened(FakeTerraform):
        def __init__(self) -> None:
            super().__init__(
                tmp_path, outputs={"bucket": "mine", "repository_url": "url", "rendezvous_repository_url": 1}
            )

        def init(self, *arguments: str) -> None:
            begun.append("init")

        def read(self, *arguments: str, expression: str | None = None) -> str:
            return "{}" if arguments[0] == "show" else " ".join(arguments)

    monkeypatch.setattr(deploy, "Terraform", Opened)
    monkeypatch.setattr(deploy, "Holdings", lambda region: LateWriters(0))

    assert exit_status(deploy.COMMANDS[command], {"YES": "1"}) == 0

    printed = {"output": "output -json -no-color", "registry": "url\n"}
    assert capsys.readouterr().out == printed.get(command, "")
    assert begun == ["init"]

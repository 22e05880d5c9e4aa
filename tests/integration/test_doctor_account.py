"""`make doctor` against an account, which the local AWS plays, and against none."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from scripts.deployment.stages import read_stages
from scripts.local_aws.deploy import Deployment, deploy
from tests.commands import run_command
from tests.factories import make_shard_bytes
from tests.forked import LocalAws

OURS = re.compile(r"AWS_|WORLD|BATCH|DATASET|FILES|PROFILE|PAYLOAD|TARGET|ENGINE|PRECISION|OUTPUTS|COLUMNS")
LAYER = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 1, "digest": "sha256:" + "b" * 64}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=1) as served:
        yield served


@pytest.fixture(scope="module")
def deployment(aws: LocalAws) -> Deployment:
    return deploy(aws)


@pytest.fixture(scope="module")
def image_uri(aws: LocalAws) -> str:
    """Put an image into the registry; return its URI by digest."""
    ecr = boto3.client("ecr", **aws.credentials)
    ecr.create_repository(repositoryName="redshift")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {**LAYER, "mediaType": "application/json"},
        "layers": [LAYER],
    }
    ecr.put_image(repositoryName="redshift", imageManifest=json.dumps(manifest), imageTag="v1")
    (image,) = ecr.list_images(repositoryName="redshift")["imageIds"]
    return f"123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift@{image['imageDigest']}"


def doctor(
    root: Path, variables: dict[str, str], outputs: dict[str, object] | None
) -> subprocess.CompletedProcess[str]:
    (root / "datasets" / "tiny" / "1MB").mkdir(parents=True)
    (root / "datasets" / "tiny" / "1MB" / "0.safetensors").write_bytes(make_shard_bytes(20))
    named = {"DATASET": "tiny", "COLUMNS": "80"}
    if outputs:
        (root / "outputs.json").write_text(json.dumps({name: {"value": value} for name, value in outputs.items()}))
        named["OUTPUTS"] = "outputs.json"
    inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return run_command("doctor", cwd=root, env=inherited | named | variables)


def outputs_of(deployment: Deployment, image_uri: str) -> dict[str, object]:
    stages = read_stages()
    return {
        "name": "redshift-local",
        "region": "us-east-1",
        "account_id": "123456789012",
        "bucket": deployment.bucket,
        "state_machine_arn": deployment.state_machine_arn,
        "function_names": {stage: stage for stage in stages},
        "stages": stages,
        "max_concurrency": 4,
        "image_uri": image_uri,
    }


def verdicts(report: str) -> dict[str, str]:
    return {
        name.strip(): verdict for verdict, name in re.findall(r"^  (ok|warn|fail|skip) +(.{14})", report, re.MULTILINE)
    }


def test_a_stack_that_is_whole_is_found_so(
    aws: LocalAws, deployment: Deployment, image_uri: str, tmp_path: Path
) -> None:
    done = doctor(tmp_path, aws.environment, outputs_of(deployment, image_uri))

    found = verdicts(done.stdout)
    whole = (
        "credentials",
        "permissions",
        "region",
        "bucket",
        "state machine",
        "initialize",
        "infer",
        "summarize",
        "image",
        "dispatch",
    )
    assert {name: found.get(name) for name in whole} == dict.fromkeys(whole, "ok"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_gone_of_a_stack_is_named_with_its_fix(
    aws: LocalAws, deployment: Deployment, image_uri: str, tmp_path: Path
) -> None:
    outputs = outputs_of(deployment, f"{image_uri.partition('@')[0]}@sha256:{'0' * 64}") | {
        "bucket": "nobody",
        "function_names": {"infer": "nobody"},
        "state_machine_arn": f"{deployment.state_machine_arn}-gone",
    }

    done = doctor(tmp_path, aws.environment, outputs)

    found = verdicts(done.stdout)
    assert done.returncode == 1
    assert {found[name] for name in ("bucket", "state machine", "infer", "image")} == {"fail"}
    assert "make build push apply" in done.stdout


def test_without_an_account_this_machine_and_the_run_are_looked_at(tmp_path: Path) -> None:
    done = doctor(tmp_path, {}, None)

    found = verdicts(done.stdout)
    assert {found[name] for name in ("python", "disk", "ports", "runtime", "dataset", "timeout")} == {"ok"}
    assert found["account"] == "skip"
    assert max(map(len, done.stdout.splitlines())) <= 80

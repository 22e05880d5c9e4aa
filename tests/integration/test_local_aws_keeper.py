"""What a run has finished is on disk as soon as it is stored, whatever ends the local AWS."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from handlers.storage import ObjectStore
from scripts.local_aws.server import keep_results
from tests.forked import LocalAws
from tests.integration.conftest import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_what_is_stored_under_the_prefix_outlives_the_server(tmp_path: Path, folder: Path) -> None:
    with LocalAws(log_dir=tmp_path / "logs", workers=1) as aws:
        s3 = boto3.client("s3", **aws.credentials)
        s3.create_bucket(Bucket="kept")
        keep_results(aws.endpoint_url, aws.key, bucket="kept", prefix="runs/1/", folder=folder)
        for key in ("runs/1/ranks/00000.json", "runs/10/x", "runs/1/ranks/", "other/runs/1/x"):
            s3.put_object(Bucket="kept", Key=key, Body=key.encode())
        s3.put_object(Bucket="kept", Key="runs/1/grün +1 %41.json", Body=b"odd")
        s3.put_object(Bucket="kept", Key="runs/1/ranks/00000.json", Body=b"again")
        os.kill(aws.pid, signal.SIGKILL)
        wait_until(lambda: not aws.is_running(), timeout_s=10)

    kept = {path.relative_to(tmp_path / "run").as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    assert kept == {"ranks/00000.json": b"again", "grün +1 %41.json": b"odd"}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("logs"), workers=1) as aws:
        boto3.client("s3", **aws.credentials).create_bucket(Bucket="kept")
        yield aws


@pytest.mark.parametrize("name", ["../out", "ranks/../../out"])
def test_a_key_never_leads_out_of_the_folder(name: str, aws: LocalAws, tmp_path: Path, folder: Path) -> None:
    s3 = boto3.client("s3", **aws.credentials)
    keep_results(aws.endpoint_url, aws.key, bucket="kept", prefix="runs/1/", folder=folder)
    for key in (name, "in"):
        s3.put_object(Bucket="kept", Key=f"runs/1/{key}", Body=b"x")

    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["in"]


def test_what_a_rank_stores_is_kept(aws: LocalAws, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    keep_results(aws.endpoint_url, aws.key, bucket="kept", prefix="runs/2/", folder=folder)

    ObjectStore("kept").write("runs/2/ranks/00000.json", b"{}")

    assert (folder / "ranks" / "00000.json").read_bytes() == b"{}"


def test_a_folder_that_cannot_be_written_costs_the_run_nothing(aws: LocalAws, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    s3 = boto3.client("s3", **aws.credentials)
    keep_results(aws.endpoint_url, aws.key, bucket="kept", prefix="runs/3/", folder=tmp_path / "file")
    s3.put_object(Bucket="kept", Key="runs/3/x", Body=b"x")

    assert s3.get_object(Bucket="kept", Key="runs/3/x")["Body"].read() == b"x"
    assert "not kept" in (aws.log_dir / "server.log").read_text()

"""What a run has finished is on disk as soon as it is stored, whatever ends the local AWS."""

import os
import signal
from pathlib import Path

import boto3
import pytest

from scripts.local_aws.server import LocalAws, keep_results
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


@pytest.mark.parametrize("name", ["../out", "ranks/../../out"])
def test_a_key_never_leads_out_of_the_folder(name: str, tmp_path: Path, folder: Path) -> None:
    with LocalAws(log_dir=tmp_path / "logs", workers=1) as aws:
        s3 = boto3.client("s3", **aws.credentials)
        s3.create_bucket(Bucket="kept")
        keep_results(aws.endpoint_url, aws.key, bucket="kept", prefix="runs/1/", folder=folder)
        s3.put_object(Bucket="kept", Key=f"runs/1/{name}", Body=b"x")

    assert not list(tmp_path.rglob("out"))


def test_a_folder_that_cannot_be_written_costs_the_run_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with LocalAws(log_dir=tmp_path / "logs", workers=1) as aws:
        s3 = boto3.client("s3", **aws.credentials)
        s3.create_bucket(Bucket="kept")
        keep_results(aws.endpoint_url, aws.key, bucket="kept", prefix="runs/1/", folder=tmp_path / "file")
        s3.put_object(Bucket="kept", Key="runs/1/x", Body=b"x")

        assert s3.get_object(Bucket="kept", Key="runs/1/x")["Body"].read() == b"x"
    assert "not kept" in (tmp_path / "logs" / "server.log").read_text()

"""Infer with SnapStart, as Lambda would run it: one snapshot, two processes restored from it, and nothing shared."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from handlers import initialize, settings
from inference import contract, load_model
from inference.contract import RankRecord, RankTask
from inference.pipeline import Predictions
from scripts.command.repository import REPOSITORY
from scripts.local_aws.lambda_variables import lambda_variables, worker_environment
from scripts.local_aws.runtime_api import Request, RuntimeApi
from tests.factories import STAGE_VARIABLES, make_arrays, make_shard_bytes
from tests.forked import LocalAws

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
ROWS = 6


@contextmanager
def credentials(key: str) -> Iterator[tuple[str, list[str]]]:
    """Serve the keys of the function's role; return where, and the list of tokens that asked for them."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers["Authorization"])
            keys = {"AccessKeyId": key, "SecretAccessKey": key, "Token": asked[-1]}
            body = json.dumps({**keys, "Expiration": "2099-01-01T00:00:00Z"}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/credentials", asked
        server.shutdown()


@contextmanager
def infer_with_snap_start(aws: LocalAws, address: str) -> Iterator[RuntimeApi]:
    """Start Infer as Lambda does when its version is published; return what it and those restored from it ask."""
    api = RuntimeApi()
    environment = {
        **{name: value for name, value in worker_environment(aws.environment).items() if name not in KEYS},
        **STAGE_VARIABLES,
        **lambda_variables("photo-z", memory_mb=1769, log_stream="infer", version="1"),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": address,
        "LAMBDA_TASK_ROOT": str(REPOSITORY),
    }
    command = [sys.executable, "-m", "tests.snapshot", "handlers.infer.handler"]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, start_new_session=True) as process:
        try:
            yield api
            process.wait(timeout=20)
        finally:
            api.close()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def received(api: RuntimeApi, path: str) -> Request:
    """Wait for a request of the runtime; any other than this one is an error."""
    deadline = time.monotonic() + 60
    while (request := api.receive(1)) is None:
        assert time.monotonic() < deadline, f"{path} was not asked for"
    assert request.path.endswith(path), (request.path, request.body)
    return request


def invoke(api: RuntimeApi, task: RankTask, *, request_id: str) -> Any:
    """Let the process that waits run one rank; return its answer."""
    received(api, "/runtime/invocation/next")
    deadline_ms = int(1000 * (time.time() + 60))
    headers = {
        "Lambda-Runtime-Aws-Request-Id": request_id,
        "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:photo-z:1",
        "Content-Type": "application/json",
    }
    event = json.dumps({"task": json.loads(contract.encode(task)), "attempt": 0}).encode()
    api.answer(HTTPStatus.OK, headers, event)
    answer = received(api, f"/runtime/invocation/{request_id}/response").body
    api.answer(HTTPStatus.ACCEPTED)
    return json.loads(answer)


def test_two_processes_of_one_snapshot_predict_the_same_and_share_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = make_arrays(ROWS)
    with LocalAws(log_dir=tmp_path, workers=1) as aws, credentials(aws.key) as (address, asked):
        for name, value in {**aws.environment, **STAGE_VARIABLES}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", **aws.credentials).create_bucket(Bucket="tests")
        bucket = settings.object_store("tests")
        bucket.write("d/0.safetensors", make_shard_bytes(ROWS, **arrays))
        tasks = []
        for run in ("first", "second"):
            planned = initialize.handler(
                {"execution_name": run, "request": {"bucket": "tests", "data_prefix": "d/", "world_size": 1}}, None
            )
            tasks += contract.decode(bucket.read(planned["manifest_key"]), list[RankTask])
        with infer_with_snap_start(aws, address) as api:
            for number, task in enumerate(tasks):
                # Whoever restores it decides when: nothing but the snapshot has happened by then.
                received(api, "/runtime/restore/next")
                assert len(asked) == number
                restored_at_s = time.time()
                api.answer(HTTPStatus.OK)
                for again in ("a", "b"):
                    assert invoke(api, task, request_id=f"{number}{again}")["rank"] == 0
                    record = contract.decode(bucket.read(task.record_key), RankRecord)
                    assert record.request_id == f"{number}{again}"
                    assert record.cold_start == (again == "a")
                    assert (record.clock.init, record.clock.model_load < 0.05) == (0.0, True)
                    assert record.started_at_s >= restored_at_s
                # Its own keys, asked for once.
                assert asked == [f"token-{own}" for own in range(number + 1)]
                received(api, "/runtime/invocation/next")
                api.answer(HTTPStatus.GONE)  # which ends it
        found = [Predictions.from_npz(bucket.read(task.predictions_key)) for task in tasks]
    settings.object_store.cache_clear()

    expected = load_model().predict(arrays["images"], arrays["magnitudes"])
    for predictions in found:
        np.testing.assert_array_equal(predictions.z_phot, expected.redshift)

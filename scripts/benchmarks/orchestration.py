"""Part 3: what surrounds the ranks: the state machine per rank, and Summarize per number of records. As a program."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from inference import contract, summary
from inference.contract import RankRecord
from scripts.benchmarks.records import make_predictions, make_tasks, record_of
from scripts.deployment.stages import read_stages
from scripts.local_aws.deploy import deploy
from scripts.local_aws.server import LocalAws
from scripts.runs.execution import map_runs

GALAXIES_PER_RANK = 100
BUCKET = "bench"


def main(num_records: list[int], num_stored: list[int], num_ranks: list[int]) -> list[dict[str, Any]]:
    """Measure the merging for `num_records`, the whole handler for `num_stored`, the state machine for `num_ranks`."""
    merge(2)  # what is made once per process is not of the merging
    lines = [merge(count) for count in num_records]
    lines += map_empty_ranks(num_ranks)
    with tempfile.TemporaryDirectory() as logs, LocalAws(log_dir=Path(logs), workers=1) as aws:
        os.environ |= aws.environment
        os.environ["AWS_LAMBDA_FUNCTION_NAME"] = "summarize"
        return lines + [summarize(count) for count in num_stored]


def merge(count: int) -> dict[str, Any]:
    """Prove, merge and combine records that are in memory."""
    plan, tasks, found = _run(count)
    times = summary.RunTimes(started_at_s=1.0, planned_at_s=2.0, mapped_at_s=3.0, summarized_at_s=4.0)
    start = time.perf_counter()
    records = summary.decode_records(found)
    proof = summary.prove(tasks, records, (), _listed(records))
    summary.summarize(plan, tasks, proof, times)
    summary.combine(proof.records)
    return _line("merge in memory", count, time.perf_counter() - start)


def summarize(count: int) -> dict[str, Any]:
    """Run the whole handler against the local S3."""
    from handlers import settings, summarize

    plan, tasks, found = _run(count)
    store = settings.object_store(plan.bucket)
    _make_bucket(plan.bucket)
    store.write(plan.manifest_key, contract.encode(tasks))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.write(*item), found.items()))
        predictions = make_predictions(GALAXIES_PER_RANK).to_npz()
        list(pool.map(lambda task: store.write(task.predictions_key, predictions), tasks))
    start, start_cpu = time.perf_counter(), time.process_time()
    summarize.handler(contract.to_builtins(plan), None)
    line = _line("Summarize, local S3", count, time.perf_counter() - start)
    return {**line, "cpu_s": time.process_time() - start_cpu}


def map_empty_ranks(counts: list[int]) -> list[dict[str, Any]]:
    """Run the state machine over functions that do nothing, through the real Lambda runtime."""
    import boto3

    handlers = {"initialize": "plan", "infer": "nothing", "summarize": "nothing"}
    stages = {
        stage: {**settings, "handler": f"scripts.benchmarks.empty_functions.{handlers[stage]}"}
        for stage, settings in read_stages().items()
    }
    with tempfile.TemporaryDirectory() as logs, LocalAws(log_dir=Path(logs)) as aws:
        deployment = deploy(aws, stages=stages)
        s3, step_functions = (boto3.client(name, **aws.credentials) for name in ("s3", "stepfunctions"))

        def run(name: str, count: int) -> float:
            tasks = [{"rank": rank, "qualifier": "$LATEST", "deadline_s": 60} for rank in range(count)]
            s3.put_object(Bucket=deployment.bucket, Key=name, Body=json.dumps(tasks))
            request = json.dumps(
                {
                    "bucket": deployment.bucket,
                    "items_key": name,
                    "run_prefix": f"runs/{name}/",
                    "max_concurrency": aws.workers,
                }
            )
            start = time.perf_counter()
            arn = step_functions.start_execution(
                stateMachineArn=deployment.state_machine_arn, name=name, input=request
            )["executionArn"]
            while (status := step_functions.describe_execution(executionArn=arn)["status"]) == "RUNNING":
                time.sleep(0.05)
            took_s = time.perf_counter() - start
            # A Map that fails is caught by the state machine, which succeeds: only ranks that answered were measured.
            answered = sum(one["itemCounts"]["succeeded"] for one in map_runs(step_functions, arn).values())
            assert (status, answered) == ("SUCCEEDED", count), f"{status}: {answered} of {count} ranks answered"
            return took_s

        run("warm-up", 2 * aws.workers)
        return [_line("state machine, empty ranks", count, run(f"ranks-{count}", count)) for count in counts]


def _run(count: int) -> tuple[contract.RunPlan, list[contract.RankTask], dict[str, bytes]]:
    run_id = f"bench-{count}"
    tasks = make_tasks(run_id, world_size=count, rank_rows=GALAXIES_PER_RANK)
    # One record stands for all: their numbers do not matter here, their size does.
    one = json.loads(contract.encode(record_of(tasks[0], make_predictions(GALAXIES_PER_RANK))))
    found = {}
    for task in tasks:
        own = {"rank": task.rank, "predictions_key": task.predictions_key, "inputs": msgspec.to_builtins(task.rows)}
        found[task.record_key] = json.dumps({**one, **own}).encode()
    request, _ = contract.parse_request({"bucket": BUCKET, "world_size": count})
    plan = contract.RunPlan(
        run_id=run_id,
        bucket=BUCKET,
        run_prefix=f"runs/{run_id}/",
        manifest_key=f"runs/{run_id}/manifest.json",
        items_key=f"runs/{run_id}/manifest.json",
        request=contract.with_defaults(request, run_id=run_id, num_shards=1),
        notes=(),
        num_samples=count * GALAXIES_PER_RANK,
        max_concurrency=1_000,
        started_at_s=1.0,
        planned_at_s=2.0,
    )
    return plan, tasks, found


def _listed(records: Mapping[str, RankRecord | str]) -> dict[str, summary.StoredObject]:
    """Return a listing of the predictions that the records are about."""
    return {
        one.predictions_key: summary.StoredObject(one.predictions.size_bytes, one.predictions.etag)
        for one in records.values()
        if isinstance(one, RankRecord) and one.predictions
    }


def _make_bucket(name: str) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket=name)


def _line(what: str, count: int, seconds: float) -> dict[str, Any]:
    return {"program": what, "num_records": count, "seconds": seconds, "seconds_per_rank": seconds / count}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))

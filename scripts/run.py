"""`make run`: predict the redshifts of a dataset with the state machine, print the result, leave the run's folder."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import boto3
import msgspec
import typer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from inference import contract
from inference.contract import RunSummary
from scripts.local_aws.deploy import deploy
from scripts.local_aws.rie import EmulatorUnavailableError
from scripts.local_aws.server import LocalAws, LocalAwsError
from scripts.running import execution, variables
from scripts.running.bucket import NUM_CONNECTIONS, Bucket
from scripts.running.execution import Ending
from scripts.running.follow import LiveLine
from scripts.running.observe import Observer, local_invocations
from scripts.running.present import files_in, print_result
from scripts.running.request import Draft, draft_request, make_run_id
from scripts.running.shards import LocalDataset, find_dataset, is_sample
from scripts.running.variables import UsageError

COMPLETE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
CLIENT_CONFIG = Config(max_pool_connections=NUM_CONNECTIONS, retries={"total_max_attempts": 3}, connect_timeout=5)


class RunStoppedError(Exception):
    """Something the run needs could not be had; the message says what. Exit status 1."""


def main(
    world: Annotated[str, typer.Option(envvar="WORLD", help="Ranks; one per shard when absent.")] = "",
    batch: Annotated[str, typer.Option(envvar="BATCH", help="Galaxies per batch.")] = "",
    dataset: Annotated[str, typer.Option(envvar="DATASET", help="Dataset under datasets/, or a folder.")] = "",
    files: Annotated[str, typer.Option(envvar="FILES", help="Only the first n shards.")] = "",
    result: Annotated[str, typer.Option(envvar="RESULT", help="Folder of the results in the bucket.")] = "",
    profile: Annotated[str, typer.Option(envvar="PROFILE", help="1 to measure with torch's profiler.")] = "",
    payload: Annotated[str, typer.Option(envvar="PAYLOAD", help="A request as a JSON file.")] = "",
    target: Annotated[str, typer.Option(envvar="TARGET", help="local or aws.")] = "",
    tolerate: Annotated[str, typer.Option(envvar="TOLERATE", help="Percentage of ranks that may fail.")] = "",
    engine: Annotated[str, typer.Option(envvar="ENGINE", help="Library that computes.")] = "",
) -> None:
    """Run the main job. Exit status: 0 complete, 1 failed or incomplete, 2 wrong usage, 130 interrupted."""
    # Nothing else is local yet: exactly the options, under the names they have behind `make run`.
    options = {name.upper(): value for name, value in locals().items()}
    # SIGTERM ends a run as Ctrl-C does: in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(stderr=True, highlight=False)
    try:
        status = run(variables.given(options), root=Path(), console=console)
    except UsageError as error:
        print(error, file=sys.stderr)
        status = WRONG_USAGE
    except (RunStoppedError, LocalAwsError, EmulatorUnavailableError, OSError) as error:
        print(f"The run stopped: {error}", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        status = INTERRUPTED
    raise typer.Exit(status)


def run(given: Mapping[str, str], *, root: Path, console: Console) -> int:
    """Run the main job as the variables ask, with ``datasets/`` and ``runs/`` in `root`; return the exit status.

    Raises
    ------
    UsageError
        If the variables cannot be followed; nothing has been started then.
    """
    target, why = variables.choose_target(given)
    console.print(f"target     {target}: {why}")
    draft = draft_request(given)
    dataset = _dataset(draft, root, console)
    notes = [*draft.notes, *_prefix_note(draft, dataset)]
    for note in notes:
        console.print(f"note       {note}", markup=False, soft_wrap=True)
    run_id = make_run_id(datetime.now(UTC))
    folder = root / "runs" / run_id
    (folder / "logs").mkdir(parents=True)
    try:
        ending = _run_locally(run_id, draft, dataset, folder, console)
    except (BotoCoreError, ClientError, OSError) as error:
        raise RunStoppedError(f"{error}. What is there lies in {folder}/; logs/server.log may say why.") from error
    except KeyboardInterrupt:
        console.print(f"Interrupted. What is there lies in {folder}/:", markup=False, soft_wrap=True)
        console.print(files_in(folder), markup=False)
        return INTERRUPTED
    print_result(Console(highlight=False), run_id, _read_summary(folder), ending, folder, notes=notes)
    return COMPLETE if ending.succeeded else FAILED


def _dataset(draft: Draft, root: Path, console: Console) -> LocalDataset:
    with _step(console, "dataset") as facts:
        if is_sample(draft.dataset):
            # Imported here because only making the dataset needs it.
            from scripts.dataset import ensure_sample
            from scripts.galaxies.sdss import SourceCatalogError

            try:
                ensure_sample(root)
            except SourceCatalogError as error:
                raise RunStoppedError(f"the sample dataset cannot be made: {error}") from error
        dataset = find_dataset(draft.dataset, asked=draft.dataset_asked, root=root)
        facts.append(dataset.describe())
    return dataset


def _prefix_note(draft: Draft, dataset: LocalDataset) -> list[str]:
    if draft.dataset_is_from_payload and contract.as_prefix(draft.dataset) != dataset.prefix:
        return [f"{draft.dataset_asked} was read as {dataset.prefix}."]
    return []


def _forget_aws_settings() -> None:
    """Keep the user's profile, region and proxy away from the clients of the local AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


def _run_locally(run_id: str, draft: Draft, dataset: LocalDataset, folder: Path, console: Console) -> Ending:
    _forget_aws_settings()
    with ExitStack() as stack:
        with _step(console, "local AWS") as facts:
            aws = stack.enter_context(LocalAws(log_dir=folder / "logs"))
            deployment = deploy(aws)
            s3, states = (
                boto3.client(name, config=CLIENT_CONFIG, **aws.credentials) for name in ("s3", "stepfunctions")
            )
            facts.append(f"{aws.endpoint_url}, {aws.workers} workers")
        bucket = Bucket(s3, deployment.bucket)
        with _step(console, "upload") as facts:
            paths = dataset.files(draft.request.file_limit)
            facts.append(
                f"{len(paths)} files of {dataset.folder}, {bucket.upload(paths, dataset.prefix) / 1e6:,.0f} MB"
            )
        payload = draft.payload_for(deployment.bucket, dataset.prefix)
        (folder / "request.json").write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
        run_prefix = contract.with_defaults(draft.request, run_id=run_id, num_shards=1).result_path
        assert run_prefix is not None, "with_defaults fills it in"
        observer = Observer(
            bucket, run_prefix, invocations=partial(local_invocations, aws.endpoint_url), now=time.monotonic
        )
        with _download_at_exit(bucket, run_prefix, folder, console), _step(console, "run", spinner=False) as facts:
            facts.append(run_id)
            arn = execution.start(states, deployment.state_machine_arn, run_id, payload)
            return _follow(states, arn, observer, console)


def _follow(states: Any, arn: str, observer: Observer, console: Console) -> Ending:
    try:
        with LiveLine(console) as line:
            return execution.follow(states, arn, observer, line)
    except KeyboardInterrupt:
        execution.stop(states, arn)
        raise


@contextmanager
def _download_at_exit(bucket: Bucket, run_prefix: str, folder: Path, console: Console) -> Iterator[None]:
    """Bring the results home however the run ends: what was computed is never lost."""
    try:
        yield
    finally:
        with _step(console, "download") as facts:
            facts.append(f"{bucket.download(run_prefix, folder)} files to {folder}")


@contextmanager
def _step(console: Console, name: str, *, spinner: bool = True) -> Iterator[list[str]]:
    """Say what took how long, in one line; the block may append facts."""
    facts: list[str] = []
    began_s = time.monotonic()
    with console.status(name) if spinner else nullcontext():
        yield facts
    text = f"{name:<10} {' '.join(facts) or 'ready'} ({time.monotonic() - began_s:.1f} s)"
    console.print(text, markup=False, soft_wrap=True)


def _read_summary(folder: Path) -> RunSummary | None:
    path = folder / "summary.json"
    return msgspec.json.decode(path.read_bytes(), type=RunSummary) if path.exists() else None


if __name__ == "__main__":
    typer.run(main)

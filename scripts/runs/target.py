"""Where a run goes: the one thing in which a run here and a run on AWS differ."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from inference.contract import RunSummary
from scripts.command.aws_clients import new_client
from scripts.command.aws_errors import explain
from scripts.command.errors import UsageError
from scripts.command.machine import machine_in_words, num_cores
from scripts.deployment.account import Account, check_owner
from scripts.deployment.quota import room
from scripts.deployment.stack import Stack, StackError
from scripts.local_aws.deploy import deploy
from scripts.local_aws.rendezvous import serve_rendezvous
from scripts.local_aws.server import (
    SERVER_LOG,
    LocalAws,
    LocalAwsError,
    client_arguments,
    keep_results,
    last_reason,
)
from scripts.pricing.cost import Bill
from scripts.pricing.prices import bill_if_known
from scripts.runs.bucket import NUM_CONNECTIONS, Bucket, quick_store
from scripts.runs.journal import Entry
from scripts.runs.map_run import MapRunObserver
from scripts.runs.observe import Observer, Watcher, local_invocations

MAX_LOCAL_TALKING = 64
"""Ranks that can be alive at the same time on this machine."""

LOCAL_CONFIG = Config(max_pool_connections=NUM_CONNECTIONS, retries={"total_max_attempts": 3}, connect_timeout=5)


class Target(Protocol):
    """An AWS with the state machine in it."""

    @property
    def name(self) -> str:
        """``local`` or ``aws``."""

    @property
    def bucket(self) -> Bucket:
        """Bucket of datasets and results."""

    @property
    def states(self) -> Any:
        """Client of Step Functions."""

    @property
    def state_machine_arn(self) -> str:
        """State machine that a run is an execution of."""

    @property
    def entry(self) -> dict[str, Any]:
        """What `journal.Entry` notes about it, for later commands."""

    @property
    def max_concurrency(self) -> int | None:
        """Ranks that a request may have running at the same time; None where it need not say."""

    def facts(self) -> str:
        """Say in a few words where it is."""

    def watch(self, entry: Entry) -> Watcher:
        """Return what looks at a run."""

    def keep(self, run_prefix: str, folder: Path) -> None:
        """Before a run is started: let its results be in `folder` as they are written, where that costs nothing."""

    def bill(self, summary: RunSummary) -> Bill | None:
        """Return what a run cost; None where nothing is paid or the prices are not known."""

    def why(self, error: BotoCoreError | ClientError) -> str:
        """Say in one line what an error means and what to do."""


@dataclass(frozen=True)
class LocalTarget:
    """The local AWS, which lives as long as the command that started it."""

    endpoint_url: str
    key: str = field(repr=False)
    """Its access key."""
    bucket: Bucket
    states: Any
    state_machine_arn: str = ""
    workers: int = 0
    log: Path | None = None
    """What the server prints, if it is this command's."""

    name: str = "local"
    max_concurrency: None = None

    @property
    def entry(self) -> dict[str, Any]:
        """Where another terminal finds it."""
        return {"endpoint_url": self.endpoint_url, "key": self.key, "machine": machine_in_words()}

    def facts(self) -> str:
        """Say where it serves."""
        return f"{self.endpoint_url}, {self.workers} workers"

    def watch(self, entry: Entry) -> Watcher:
        """Return an observer of the run's keys and of the server's statistics."""
        return Observer(
            self.bucket,
            entry.run_prefix,
            invocations=partial(local_invocations, self.endpoint_url, self.key),
            now=time.monotonic,
            elapsed_s=time.time() - entry.began_at_s,
            items_key=entry.items_key,
        )

    def keep(self, run_prefix: str, folder: Path) -> None:
        """Let the server write the results there too: its own memory goes with it."""
        keep_results(self.endpoint_url, self.key, bucket=self.bucket.name, prefix=run_prefix, folder=folder)

    def bill(self, summary: RunSummary) -> Bill | None:  # noqa: ARG002
        """Return nothing."""
        return None

    def why(self, error: BotoCoreError | ClientError) -> str:
        """Say what the server ran out of, or where to look."""
        reason = last_reason(self.log) if self.log else ""
        return f"{error}. {f'The local AWS said: {reason}.' if reason else 'logs/server.log may say why.'}"


@dataclass(frozen=True)
class AwsTarget:
    """The stack in the user's account."""

    stack: Stack
    account: Account
    name: str = "aws"
    bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bucket", self.bucket_named(self.stack.bucket))

    @property
    def states(self) -> Any:
        """Client of Step Functions."""
        return self.account.client("stepfunctions")

    @property
    def state_machine_arn(self) -> str:
        """State machine that a run is an execution of."""
        return self.stack.state_machine_arn

    @property
    def entry(self) -> dict[str, Any]:
        """The stack, so that the run is found again without Terraform."""
        return {"stack": self.stack}

    @property
    def max_concurrency(self) -> int:
        """As many as deployed, or fewer where the account has no room for them."""
        return self.stack.max_concurrency

    def within_account(self) -> Self:
        """Return the stack with no more ranks at the same time than the account runs."""
        found = room(self.account, self.stack.function_names["infer"])
        if found is None or found >= self.stack.max_concurrency:
            return self
        return type(self)(msgspec.structs.replace(self.stack, max_concurrency=max(1, found)), self.account)

    def bucket_named(self, name: str) -> Bucket:
        """Return another bucket, which the user may read."""
        s3 = self.account.client("s3")
        return Bucket(
            s3,
            name,
            store=lambda: quick_store(s3, name, credential_provider=self.account.credentials()),
            requester_pays=name == self.stack.data_bucket and self.stack.data_bucket_requester_pays,
        )

    def facts(self) -> str:
        """Say which stack of which account it is."""
        return f"{self.stack.name} in {self.stack.region}, account {self.stack.account_id}"

    def watch(self, entry: Entry) -> Watcher:
        """Return an observer of the Map Run."""
        return MapRunObserver(
            self.states, entry.execution_arn, self.bucket, entry.items_key, started_at_s=entry.began_at_s
        )

    def keep(self, run_prefix: str, folder: Path) -> None:
        """Do nothing: the bucket outlives this machine."""

    def bill(self, summary: RunSummary) -> Bill | None:
        """Return what a run cost, where the price file knows the region."""
        return bill_if_known(summary, self.stack.rates, self.stack.region)

    def why(self, error: BotoCoreError | ClientError) -> str:
        """Say what AWS meant."""
        return explain(error)


def count_talking(world_size: int | None) -> int:
    """Return how many ranks must be alive at the same time on this machine.

    Raises
    ------
    UsageError
        If there are more than it can hold.
    """
    assert world_size is not None, "a local run knows its ranks"
    if world_size > MAX_LOCAL_TALKING:
        raise UsageError(
            f"FMI=1 needs all {world_size} ranks alive at the same time, each a process: this machine holds "
            f"{MAX_LOCAL_TALKING}. Use WORLD={MAX_LOCAL_TALKING} or less, or run on AWS."
        )
    return world_size


def _bucket(s3: Any, name: str, key: str) -> Bucket:
    """Return a bucket of a local AWS, which wants its own key."""
    return Bucket(s3, name, store=lambda: quick_store(s3, name, access_key_id=key, secret_access_key=key))


@contextmanager
def start_local(log_dir: Path, model: Path | None = None, *, num_talking: int = 0) -> Iterator[Target]:
    """Serve a local AWS with the state machine and a model deployed in it; it ends with the block.

    Parameters
    ----------
    log_dir : Path
        Folder for the logs of its server and workers.
    model : Path, optional
        Folder of the model; the shipped one when absent.
    num_talking : int
        Ranks that must be alive at the same time because they talk to each other; then there is also a server where
        they meet.
    """
    forget_aws_settings()
    with ExitStack() as stack:
        rendezvous = stack.enter_context(serve_rendezvous()) if num_talking else ""
        aws = stack.enter_context(LocalAws(log_dir=log_dir, workers=max(num_talking, num_cores())))
        try:
            deployment = deploy(aws, model=model, rendezvous=rendezvous)
        except BotoCoreError as error:
            raise LocalAwsError(
                f"The local AWS cannot be reached: {error}. This machine lets no program talk to itself over 127.0.0.1 "
                f"or {log_dir}/server.log says why it ended."
            ) from error
        s3, states = (new_client(name, config=LOCAL_CONFIG, **aws.credentials) for name in ("s3", "stepfunctions"))
        yield LocalTarget(
            aws.endpoint_url,
            aws.key,
            _bucket(s3, deployment.bucket, aws.key),
            states,
            deployment.state_machine_arn,
            aws.workers,
            log_dir / SERVER_LOG,
        )


def forget_aws_settings() -> None:
    """Keep the user's profile, region and proxy away from the clients of the local AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


def connect_aws(stack: Stack) -> AwsTarget:
    """Reach the stack with the user's credentials, before anything is made or sent.

    Raises
    ------
    StackError
        If there are no credentials, or they are not the stack's.
    """
    try:
        account = Account(stack.region)
        check_owner(stack, account.identity()[0])
    except (BotoCoreError, ClientError) as error:
        raise StackError(explain(error)) from error
    return AwsTarget(stack, account)


def rejoin(entry: Entry) -> Target | None:
    """Return the target a run is running in, or None when it was a local one that has ended.

    Raises
    ------
    StackError
        As `connect_aws`.
    """
    if entry.stack is not None:
        return connect_aws(entry.stack)
    if not entry.is_served:
        return None
    forget_aws_settings()
    arguments = client_arguments(entry.endpoint_url, entry.key)
    s3, states = (new_client(name, config=LOCAL_CONFIG, **arguments) for name in ("s3", "stepfunctions"))
    return LocalTarget(entry.endpoint_url, entry.key, _bucket(s3, entry.bucket, entry.key), states)

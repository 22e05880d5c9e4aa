"""Checks of the account: credentials, region, quotas, and whether the stack is there and whole."""

import re
import shutil
from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from scripts.command.aws_errors import explain
from scripts.deployment.account import Account, check_owner, other_region
from scripts.deployment.finding import Finding, looked
from scripts.deployment.permissions import permissions
from scripts.deployment.quota import (
    RAISE_CONCURRENCY,
    RAISE_RESERVATION,
    USUAL_CONCURRENCY,
    concurrency,
    reservation,
)
from scripts.deployment.rendezvous_checks import rendezvous_findings
from scripts.deployment.stack import Stack, StackError
from scripts.deployment.waking import INACTIVE, call

MEMORY_CAP_MB = 3008
IMAGE_URI = re.compile(r"(?P<account>\d+)\.dkr\.ecr\.[^/]+/(?P<repository>[^@:]+)@(?P<digest>sha256:[0-9a-f]{64})")
INDEX_TYPES = ("image.index", "manifest.list")
PUSH = "`make build push apply` puts it there."


def tool_findings() -> Iterator[Finding]:
    """Look for the programs that deploying needs; running needs none but Terraform."""
    for name, programs in {"terraform": ["terraform"], "container": ["docker", "podman"]}.items():
        found = [program for program in programs if shutil.which(program)]
        if found:
            yield Finding(name, "ok", f"{found[0]} is installed")
        else:
            yield Finding(name, "warn", f"{' or '.join(programs)} is not installed", "Deploying needs it.")


def account_findings(stack: Stack | None, *, world_size: int | None) -> Iterator[Finding]:
    """Check the account, and the stack in it where there is one.

    Parameters
    ----------
    stack : Stack or None
        None before the first `make apply`.
    world_size : int or None
        Ranks of the run, when that is known.
    """
    try:
        account = Account(stack.region if stack else None)
        account_id, arn = account.identity()
    except (BotoCoreError, ClientError) as error:
        yield Finding("credentials", "fail", explain(error))
        yield Finding("account", "skip", "nothing else can be asked without credentials")
        return
    yield Finding("credentials", "ok", f"{arn} of account {account_id}")
    yield from looked("permissions", lambda: permissions(account, arn, stack), worst="warn")
    yield _region(account, stack)
    yield from looked("concurrency", lambda: _concurrency(account, stack, world_size), worst="warn")
    yield _memory_cap(stack)
    if stack:
        yield from _stack_findings(account, stack, account_id)


def _region(account: Account, stack: Stack | None) -> Finding:
    if stack is None:
        return Finding("region", "ok", f"{account.region}, where `make apply` would deploy")
    if other := other_region(stack):
        return Finding("region", "warn", other, f"export AWS_REGION={stack.region}")
    return Finding("region", "ok", stack.region)


def _concurrency(account: Account, stack: Stack | None, world_size: int | None) -> Finding:
    reserved = reservation(account, stack.function_names["infer"]) if stack else None
    if reserved is not None:
        text = f"{reserved:,} invocations at the same time, reserved for ranks"
        if world_size is not None and world_size > reserved:
            return Finding("concurrency", "warn", f"{text}: {world_size:,} ranks wait in turns", RAISE_RESERVATION)
        return Finding("concurrency", "ok", text)
    limit = concurrency(account)
    text = f"{limit:,} invocations at the same time"
    if world_size is not None and world_size > limit:
        return Finding("concurrency", "warn", f"{text}: {world_size:,} ranks wait in turns", RAISE_CONCURRENCY)
    if limit < USUAL_CONCURRENCY:
        return Finding("concurrency", "warn", f"{text}; {USUAL_CONCURRENCY:,} are usual", RAISE_CONCURRENCY)
    return Finding("concurrency", "ok", text)


def _memory_cap(stack: Stack | None) -> Finding:
    if stack is None:
        return Finding("memory cap", "ok", f"stages.json stays below the {MEMORY_CAP_MB:,} MB of a new account")
    largest = max(settings.memory_mb for settings in stack.stages.values())
    # AWS refuses a function above the cap of its account: a stack that is there has passed.
    return Finding("memory cap", "ok", f"the largest function has {largest:,} MB and was accepted")


def _stack_findings(account: Account, stack: Stack, account_id: str) -> Iterator[Finding]:
    try:
        check_owner(stack, account_id)
    except StackError as error:
        yield Finding("stack", "fail", str(error))
        return
    yield from looked("bucket", lambda: _bucket(account, stack))
    if stack.data_bucket:
        yield from looked("data bucket", lambda: _data_bucket(account, stack), worst="warn")
    yield from looked("state machine", lambda: _state_machine(account, stack))
    for stage in stack.function_names:
        yield from looked(stage, lambda stage=stage: _function(account, stack, stage))  # type: ignore[misc]
    yield from looked("image", lambda: _image(account, stack))
    yield from rendezvous_findings(account, stack)


def _bucket(account: Account, stack: Stack) -> Finding:
    try:
        account.client("s3").head_bucket(Bucket=stack.bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return Finding("bucket", "fail", f"{stack.bucket} does not exist", "`make apply` makes it.")
    return Finding("bucket", "ok", stack.bucket)


def _data_bucket(account: Account, stack: Stack) -> Finding:
    """Look whether it is there, which the functions may be able to see where the user is not."""
    name = stack.data_bucket or ""
    try:
        region = account.client("s3").head_bucket(Bucket=name).get("BucketRegion", stack.region)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return Finding("data bucket", "fail", f"{name} does not exist", "Correct data_bucket, then `make apply`.")
    if region != stack.region:
        return Finding("data bucket", "warn", f"{name} is in {region}: what is read from there costs transfer")
    return Finding("data bucket", "ok", name)


def _state_machine(account: Account, stack: Stack) -> Finding:
    found = account.client("stepfunctions").describe_state_machine(stateMachineArn=stack.state_machine_arn)
    name = stack.state_machine_arn.rsplit(":", maxsplit=1)[-1]
    if found["status"] != "ACTIVE":
        return Finding("state machine", "fail", f"{name} is {found['status']}", "`make apply` makes it again.")
    return Finding("state machine", "ok", name)


def _function(account: Account, stack: Stack, stage: str) -> Finding:
    name, planned = stack.function_names[stage], stack.stages[stage]
    found = account.client("lambda").get_function_configuration(FunctionName=name)
    text = f"{name}, {found['MemorySize']:,} MB, {found['Timeout']} s"
    state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
    if state == "Failed" or update == "Failed":
        reason = found.get("StateReason") or found.get("LastUpdateStatusReason") or ""
        return Finding(stage, "fail", f"{text}: {state}, last update {update}. {reason}".strip(), PUSH)
    if state == INACTIVE:
        call(account, name)
        return Finding(
            stage, "warn", f"{text}: asleep, no one called it for weeks", "It was woken and is ready in two minutes."
        )
    if state != "Active" or update != "Successful":
        return Finding(
            stage, "warn", f"{text}: {state}, last update {update}", "Wait a minute: Lambda is preparing it."
        )
    if (found["MemorySize"], found["Timeout"]) != (planned.memory_mb, planned.timeout_s):
        applied = f"Terraform says {planned.memory_mb:,} MB, {planned.timeout_s} s"
        return Finding(stage, "warn", f"{text}; {applied}", "`make plan` shows who changed it, `make apply` undoes it.")
    return Finding(stage, "ok", text)


def _image(account: Account, stack: Stack) -> Finding:
    named = IMAGE_URI.match(stack.image_uri or "")
    if named is None:
        return Finding("image", "fail", "no image by digest is recorded", PUSH)
    ecr = account.client("ecr")
    try:
        answer = ecr.describe_images(
            registryId=named["account"],
            repositoryName=named["repository"],
            imageIds=[{"imageDigest": named["digest"]}],
        )
    except ecr.exceptions.ImageNotFoundException:
        return Finding("image", "fail", f"{named['digest'][:19]}… is not in {named['repository']}", PUSH)
    (image,) = answer["imageDetails"]
    if any(kind in image.get("imageManifestMediaType", "") for kind in INDEX_TYPES):
        return Finding("image", "fail", f"{named['digest'][:19]}… is an image index, which Lambda refuses", PUSH)
    size_mb = image.get("imageSizeInBytes", 0) / 1e6
    return Finding("image", "ok", f"{named['digest'][:19]}… in {named['repository']}, {size_mb:,.0f} MB")

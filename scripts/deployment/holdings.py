"""The data a deployment holds, and how they are deleted."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from scripts.command.aws_clients import new_client
from scripts.deployment.terraform import DeployError


class Holdings:
    """Data, images and runs of a deployment in one region."""

    def __init__(self, region: str | None) -> None:
        self._s3 = new_client("s3", region_name=region)
        self._ecr = new_client("ecr", region_name=region)
        self._states = new_client("stepfunctions", region_name=region)
        self._functions = new_client("lambda", region_name=region)

    def describe_bucket(self, bucket: str | None) -> Iterator[str]:
        """Yield one line per folder of the bucket."""
        folders: dict[str, list[int]] = {}
        for page in self._versions(bucket):
            for version in page.get("Versions", ()):
                folders.setdefault(version["Key"].split("/")[0] + "/", []).append(version["Size"])
        for folder, sizes in sorted(folders.items()):
            yield f"s3://{bucket}/{folder}: {len(sizes):,} objects with their versions, {sum(sizes) / 1e6:,.1f} MB"

    def is_empty(self, bucket: str | None) -> bool:
        """Return whether AWS would delete the bucket: it holds neither versions nor the marks of deleted objects."""
        return not any(page.get("Versions") or page.get("DeleteMarkers") for page in self._versions(bucket))

    def describe_images(self, repository_url: str | None) -> Iterator[str]:
        """Yield one line if the registry holds images."""
        if repository_url is None:
            return
        try:
            pages = self._ecr.get_paginator("list_images").paginate(repositoryName=repository_url.split("/", 1)[1])
            num_images = sum(len(page["imageIds"]) for page in pages)
        except self._ecr.exceptions.RepositoryNotFoundException:
            return
        if num_images:
            yield f"{repository_url}: {num_images} images"

    def running_executions(self, state_machine_arn: str | None) -> list[str]:
        """Return the executions that are running."""
        if state_machine_arn is None:
            return []
        try:
            pages = self._states.get_paginator("list_executions").paginate(
                stateMachineArn=state_machine_arn, statusFilter="RUNNING"
            )
            return [execution["executionArn"] for page in pages for execution in page["executions"]]
        except self._states.exceptions.StateMachineDoesNotExist:
            return []

    def stop(self, executions: list[str]) -> None:
        """Stop executions."""
        for arn in executions:
            self._states.stop_execution(executionArn=arn, cause="The deployment is being destroyed.")

    def delete_functions(self, arns: Iterable[str]) -> None:
        """Delete functions with all their versions: what is under way still ends, and nothing new begins."""
        for arn in arns:
            with suppress(self._functions.exceptions.ResourceNotFoundException):
                self._functions.delete_function(FunctionName=arn)

    def empty(self, bucket: str | None) -> None:
        """Delete every version of every object: AWS deletes empty buckets only."""
        for page in self._versions(bucket):
            doomed = [
                {"Key": entry["Key"], "VersionId": entry["VersionId"]}
                for entry in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            ]
            if doomed:
                answer = self._s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True})
                for error in answer.get("Errors", ()):
                    raise DeployError(f"s3://{bucket}/{error['Key']} could not be deleted: {error['Message']}.")

    def _versions(self, bucket: str | None) -> Iterator[dict[str, Any]]:
        if bucket is None:
            return
        try:
            yield from self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchBucket":
                raise

"""Reads and writes objects of one S3 bucket, and says in the run's own errors what went wrong."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple, TypeVar

from inference.errors import AccessDeniedError, ObjectMissingError, ShardChangedError, StorageUnavailableError

NUM_CONNECTIONS = 32
"""Requests in flight when many objects are read."""

T = TypeVar("T")


class ObjectInfo(NamedTuple):
    """One line of a listing."""

    key: str
    size_bytes: int
    etag: str


class ObjectExistsError(Exception):
    """`write_new` found an object under its key."""


class _PreconditionError(Exception):
    """S3 answered 412: the object is not in the state the request named."""


@cache
def _client() -> Any:
    """Make the S3 client, once per process and only where one is needed: importing boto3 takes 0.25 s."""
    import boto3
    from botocore.config import Config

    # At INFO botocore says where it found credentials, once per process: noise in every rank's log.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    retries = {"mode": "standard", "max_attempts": 8}
    return boto3.client(
        "s3", config=Config(retries=retries, max_pool_connections=NUM_CONNECTIONS, connect_timeout=5, read_timeout=60)
    )


class ObjectStore:
    """The objects of one bucket."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.request_times_s: list[float] = []
        """Duration of every request since the last `start_counting` [s]."""

    def start_counting(self) -> None:
        """Forget earlier requests."""
        self.request_times_s = []

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object under `prefix`; listings come in pages of 1,000 and all of them are read."""
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        pages_left = iter(pages)
        while True:
            page = self._request(lambda: next(pages_left, None), prefix)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                yield ObjectInfo(entry["Key"], entry["Size"], entry["ETag"])

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        """Return the whole object."""
        return self._get(key, etag, {})

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return bytes start … stop-1 of the object, fewer at its end."""
        return self._get(key, etag, {"Range": f"bytes={start}-{stop - 1}"})

    def read_many(self, keys: list[str]) -> dict[str, bytes]:
        """Return many objects, read concurrently, in the order of `keys`."""
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            return dict(zip(keys, pool.map(self.read, keys), strict=True))

    def write(self, key: str, content: bytes) -> None:
        """Write the whole object or nothing."""
        self._request(lambda: _client().put_object(Bucket=self.bucket, Key=key, Body=content), key)

    def write_new(self, key: str, content: bytes) -> None:
        """Write the object unless one is there.

        Raises
        ------
        ObjectExistsError
            If there is; S3 decides, so that of two writers at once one loses.
        """
        try:
            self._request(lambda: _client().put_object(Bucket=self.bucket, Key=key, Body=content, IfNoneMatch="*"), key)
        except _PreconditionError as error:
            raise ObjectExistsError(key) from error

    def _get(self, key: str, etag: str | None, extra: dict[str, str]) -> bytes:
        condition = {"IfMatch": etag} if etag else {}

        def get() -> bytes:
            body: bytes = _client().get_object(Bucket=self.bucket, Key=key, **condition, **extra)["Body"].read()
            return body

        try:
            return self._request(get, key)
        except _PreconditionError as error:
            raise ShardChangedError(f"{key} was replaced after the run was planned. Run again to plan anew.") from error
        except ObjectMissingError as error:
            if etag:
                raise ShardChangedError(f"{key} was deleted after the run was planned. Upload it again.") from error
            raise

    def _request(self, call: Callable[[], T], key: str) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        start = time.perf_counter()
        try:
            return call()
        except ClientError as error:
            raise self._translate(error, key) from error
        except BotoCoreError as error:
            raise StorageUnavailableError(f"S3 did not answer for s3://{self.bucket}/{key}: {error}") from error
        finally:
            self.request_times_s.append(time.perf_counter() - start)

    def _translate(self, error: Any, key: str) -> Exception:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        where = f"s3://{self.bucket}/{key}"
        if code == "NoSuchBucket":
            return ObjectMissingError(f"The bucket {self.bucket} does not exist. Check `bucket` and `data_bucket`.")
        if status == 404:
            return ObjectMissingError(f"{where} does not exist.")
        if status == 412:
            return _PreconditionError(where)
        if status == 416:
            return ObjectMissingError(f"{where} is shorter than the range that was asked for. Upload it again.")
        if status == 403:
            # To a role that may not list the bucket S3 also answers 403 for what does not exist.
            return AccessDeniedError(
                f"{where} does not exist, or this stage may not access it ({code}); check its role."
            )
        return StorageUnavailableError(f"S3 answered {status} {code} for {where}.")

"""The bucket of a run, from outside: list, read, and copy the run's folder to this machine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NUM_CONNECTIONS = 8


class Bucket:
    """One bucket, through one boto3 client."""

    def __init__(self, s3: Any, name: str) -> None:
        self._s3 = s3
        self._name = name

    def list_keys(self, prefix: str) -> list[str]:
        """Return every key under `prefix`."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes | None:
        """Return an object, or None when it does not exist."""
        try:
            content: bytes = self._s3.get_object(Bucket=self._name, Key=key)["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return None
        return content

    def upload(self, files: Sequence[Path], prefix: str) -> int:
        """Put files under `prefix`; return their bytes."""
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            # list() so that the first failure is raised here.
            list(pool.map(lambda path: self._s3.upload_file(str(path), self._name, prefix + path.name), files))
        return sum(path.stat().st_size for path in files)

    def download(self, prefix: str, folder: Path) -> int:
        """Copy everything under `prefix` into `folder`; return the number of files."""
        keys = self.list_keys(prefix)
        targets = [folder / key.removeprefix(prefix) for key in keys]
        for parent in {target.parent for target in targets}:
            parent.mkdir(parents=True, exist_ok=True)
        pool = ThreadPoolExecutor(NUM_CONNECTIONS)
        try:
            for target, content in zip(targets, pool.map(self.read, keys), strict=True):
                if content is not None:
                    target.write_bytes(content)
        finally:
            # An interrupt must not wait for what is still queued.
            pool.shutdown(cancel_futures=True)
        return len(keys)

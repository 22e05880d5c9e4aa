"""The bucket of a run, from outside: list, read, upload what is missing, copy the run's folder to this machine."""

import hashlib
import re
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from inference.contract import SUMMARY_KEY
from scripts.command.whole_file import leaves, write_whole

if TYPE_CHECKING:
    from obstore.store import S3Store

NUM_CONNECTIONS = 8
NUM_READERS = 32
"""Results that are read at the same time. They are small: what each costs is the way to S3 and back."""

WRITTEN_AT = re.compile(rb"<LastModified>[^<]*</LastModified>")
PLAIN_KEY = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*")
"""Keys that every client spells in the same way."""

OF_A_RUN = re.compile(
    r"(manifest|plan|summary|combined_data|fmi)\.json|(ranks|predictions|failures|pending|fmi)/.+", re.DOTALL
)
"""What a run stores under its prefix. Other files of its folder are of this machine, and are believed: execution.json
says where the run is, report.html is a page."""

SHA256_KEY = "sha256"
"""Metadata of an uploaded object: the checksum of the whole file. S3's own ETag and composite checksums depend on how
the upload was cut into parts."""

# Eight files at a time, each in the parts of one thread: the connections are used and none waits for another.
TRANSFER = TransferConfig(use_threads=False)


@dataclass(frozen=True)
class Upload:
    """What an upload did."""

    num_files: int
    """Files sent."""

    num_bytes: int
    """Their size [bytes]."""

    num_present: int
    """Files that the bucket had already."""


class _UploadStoppedError(Exception):
    """Another file failed, or the user interrupted: no more parts are sent."""


class Bucket:
    """One bucket, through one boto3 client.

    Parameters
    ----------
    s3 : client
        Of boto3.
    name : str
        Name of the bucket.
    store : callable, optional
        Makes obstore's client of it, which reads many small objects in a tenth of the time.
    requester_pays : bool
        Whether to agree to pay for what is read of another account's bucket.
    """

    def __init__(
        self, s3: Any, name: str, *, store: "Callable[[], S3Store] | None" = None, requester_pays: bool = False
    ) -> None:
        self._s3 = s3
        if store:
            # By name: buckets share a client, and each would take them out once more.
            s3.meta.events.register("before-parse.s3.ListObjectsV2", _forget_times, unique_id="no dates")
        self._agreed = {"RequestPayer": "requester"} if requester_pays else {}
        self.name = name
        self._make_store = store

    def list_keys(self, prefix: str) -> list[str]:
        """Return every key under `prefix`."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes | None:
        """Return an object, or None when it does not exist."""
        try:
            content: bytes = self._s3.get_object(Bucket=self.name, Key=key, **self._agreed)["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return None
        return content

    def write(self, key: str, content: bytes) -> None:
        """Put one object."""
        self._s3.put_object(Bucket=self.name, Key=key, Body=content)

    def upload(self, files: Mapping[str, Path]) -> None:
        """Put files under their keys, several at a time."""
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            # list() so that the first failure is raised here.
            list(pool.map(lambda key: self.write(key, files[key].read_bytes()), files))

    def tags(self, keys: Collection[str]) -> dict[str, str | None]:
        """Return key to entity tag; None of an object that is not there."""
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            return dict(zip(keys, pool.map(self._tag, keys), strict=True))

    def _tag(self, key: str) -> str | None:
        head = self._head(key)
        return head["ETag"] if head else None

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            head: dict[str, Any] = self._s3.head_object(Bucket=self.name, Key=key, **self._agreed)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        return head

    def upload_missing(
        self, files: Mapping[Path, str], prefix: str, *, begin: Callable[[int], None], tick: Callable[[int], None]
    ) -> Upload:
        """Put those files under `prefix` that are not there, or whose content is another one.

        Parameters
        ----------
        files : mapping of Path to str
            File to the sha256 of its content. The last one is sent when all others are there: a list of the others
            never names what does not exist.
        prefix : str
            Folder in the bucket, ending in ``/``.
        begin, tick : callable
            Called with the bytes to send, and with every piece that was sent, from several threads.
        """
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            # list() so that the first failure is raised here.
            present = list(pool.map(lambda path: self._holds(path, prefix, files[path]), files))
        missing = [path for path, is_there in zip(files, present, strict=True) if not is_there]
        num_bytes = sum(path.stat().st_size for path in missing)
        begin(num_bytes)
        last = missing[-1:] if missing and missing[-1] == list(files)[-1] else []
        for together in (missing[: len(missing) - len(last)], last):
            self._upload(together, prefix, files, tick)
        return Upload(len(missing), num_bytes, len(files) - len(missing))

    def _holds(self, path: Path, prefix: str, sha256: str) -> bool:
        head = self._head(prefix + path.name)
        return bool(
            head and head["Metadata"].get(SHA256_KEY) == sha256 and head["ContentLength"] == path.stat().st_size
        )

    def _upload(
        self, files: list[Path], prefix: str, sha256_of: Mapping[Path, str], tick: Callable[[int], None]
    ) -> None:
        stopped = threading.Event()

        def sent(num_bytes: int) -> None:
            if stopped.is_set():
                raise _UploadStoppedError
            tick(num_bytes)

        def put(path: Path) -> None:
            if stopped.is_set():
                return
            try:
                self._s3.upload_file(
                    str(path),
                    self.name,
                    prefix + path.name,
                    ExtraArgs={"Metadata": {SHA256_KEY: sha256_of[path]}},
                    Callback=sent,
                    Config=TRANSFER,
                )
            except S3UploadFailedError as error:
                # boto3 hides in it what S3 answered.
                raise error.__cause__ or error.__context__ or error from error

        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            uploads = [pool.submit(put, path) for path in files]
            try:
                for upload in wait(uploads, return_when=FIRST_EXCEPTION).done:
                    upload.result()
            finally:
                # All are there, or one failed, or the user interrupted: no thread sends any more.
                stopped.set()

    def download(self, prefix: str, folder: Path) -> int:
        """Copy everything under `prefix` into `folder`; return the number of files.

        What is in the folder already is not sent again, and the summary comes last: with it, everything is there. Keys
        that end in ``/`` are not files, and what no run stores stays where it is, above all what leads out of `folder`.
        """
        found = self._list(prefix)
        names = {key: key.removeprefix(prefix) for key in found}
        strange = [key for key, name in names.items() if not OF_A_RUN.fullmatch(name) or leaves(name)]
        # What the Map stores of its iterations repeats the manifest: it is for the console.
        if named := [key for key in strange if not names[key].startswith("map/")]:
            more = f" and {len(named) - 1} more" if len(named) > 1 else ""
            print(f"not copied {named[0]!a}{more}: no run stores that", file=sys.stderr)
        for key in strange:
            del found[key]
        targets = {key: folder / key.removeprefix(prefix) for key in found}
        for parent in {target.parent for target in targets.values()}:
            parent.mkdir(parents=True, exist_ok=True)
        missing = [key for key, target in targets.items() if not _is_copy(target, *found[key])]
        fetch = self._fetcher() if missing else self.read

        def copy(key: str) -> None:
            content = fetch(key)
            if content is not None:
                write_whole(targets[key], content)

        last = [key for key in missing if key == prefix + SUMMARY_KEY]
        pool = ThreadPoolExecutor(NUM_READERS)
        try:
            for keys in ([key for key in missing if key not in last], last):
                # list() so that the first failure is raised here.
                list(pool.map(copy, keys))
        finally:
            # An interrupt must not wait for what is still queued.
            pool.shutdown(cancel_futures=True)
        return len(found)

    def _fetcher(self) -> Callable[[str], bytes | None]:
        """Return what reads as `read` does, by obstore where it can; whatever goes wrong is for boto3 to say."""
        if self._make_store is None:
            return self.read
        # Imported here: only what comes home needs it.
        import obstore
        from obstore.exceptions import BaseError

        store = self._make_store()

        def fetch(key: str) -> bytes | None:
            # obstore knows some odd keys under other names.
            if PLAIN_KEY.fullmatch(key):
                with suppress(BaseError, OSError, ValueError):
                    return bytes(obstore.get(store, key).bytes())
            return self.read(key)

        return fetch

    def _list(self, prefix: str) -> dict[str, tuple[int, str]]:
        """Return key to size [bytes] and entity tag of every file under `prefix`."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
        return {entry["Key"]: (entry["Size"], entry["ETag"].strip('"')) for entry in entries}


def quick_store(s3: Any, name: str, **credentials: Any) -> "S3Store":
    """Return obstore's client of a bucket, at the address and with the region of boto3's."""
    from obstore.store import S3Store

    address = s3.meta.endpoint_url.rstrip("/")
    return S3Store(
        name,
        region=s3.meta.region_name,
        # Beats the variables of the environment, which lack the bucket.
        aws_endpoint_url_s3=f"{address}/{name}",
        virtual_hosted_style_request=True,
        client_options={"allow_http": address.startswith("http://")},
        **credentials,
    )


def _forget_times(response_dict: dict[str, Any], **_: object) -> None:
    """Take out of a list what no one asks for: botocore takes three quarters of its time to read the dates in it."""
    response_dict["body"] = WRITTEN_AT.sub(b"", response_dict["body"])


def _is_copy(path: Path, size_bytes: int, etag: str) -> bool:
    """Tell whether a file has the content of an object: S3's tag of one that was sent whole is its MD5."""
    try:
        is_as_large = path.stat().st_size == size_bytes
        return is_as_large and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == etag
    except OSError:
        return False

"""Reads and writes objects of one S3 bucket, and says in the run's own errors what went wrong."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import obstore
from obstore.exceptions import BaseError, InvalidPathError

from handlers import bucket_access
from inference.errors import (
    AccessDeniedError,
    InvalidRequestError,
    ObjectArchivedError,
    ObjectMissingError,
    ShardChangedError,
    ShardFormatError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions
    from obstore.store import S3Store

logger = logging.getLogger(__name__)

NUM_CONNECTIONS = 32
"""Requests in flight when many objects are read."""

LARGE_BYTES, PART_BYTES = 2**26, 2**23
"""From which size on an object is written in parts, and the size of these."""

ELSEWHERE = (
    "redirect without LOCATION",
    "AuthorizationHeaderMalformed",
    "<Code>IllegalLocationConstraintException</Code>",
    "<Code>InvalidToken</Code>",
)
"""How S3 answers for a bucket of another region: 301 without an address, or 400; the last two where it is one that an
account enables first. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

REFUSED_KEYS = {
    "ExpiredToken": "are no longer valid",
    "InvalidToken": "are not valid there: the account has not enabled the bucket's region",
}
"""What is wrong with this function's keys where S3 answers 400 for them; asking again would not help."""

ANSWER = re.compile(r"status code: (?P<status>\d{3})(?:.*?<Code>(?P<code>\w+)</Code>)?", re.DOTALL)
"""What S3 answered, in the text of an error."""

CAUSE = re.compile(r'(?<=")[^"\n]+(?=")|\b[A-Z]\w*[a-z][A-Z]\w+\b')
"""In the debugging part of an error: the last one is the innermost cause."""

PATH = re.compile(r'(?<=Path )"[^"]*"')
"""Which path an error of obstore is about."""

KEY_RULE = "no part of a key may be empty, `.` or `..`, or hold a control character"

T = TypeVar("T")


class ObjectInfo(NamedTuple):
    """One line of a listing."""

    key: str
    size_bytes: int
    etag: str


class Folder(NamedTuple):
    """The objects and subfolders directly under a prefix."""

    objects: list[ObjectInfo]
    subfolders: list[str]
    """Their prefixes, ending in ``/``."""


class ObjectExistsError(Exception):
    """`write_new` found an object under its key."""


class _RangeError(Exception):
    """S3 answered 416: the object is there, and ends before the range begins."""


class _PreconditionError(Exception):
    """S3 answered 412: the object is not in the state the request named."""


class ObjectStore:
    """The objects of one bucket; any number of threads may use it.

    Parameters
    ----------
    bucket : str
        Its name.
    requester_pays : bool
        Whether this account agrees to pay for what it reads of another account's bucket.
    """

    def __init__(self, bucket: str, *, requester_pays: bool = False) -> None:
        self.bucket = bucket
        self._requester_pays = requester_pays
        self.request_times_s: list[float] = []
        """Duration of every request since the last `start_counting` [s]."""
        self._region = bucket_access.own_region()
        self._moving = threading.Lock()

    def start_counting(self) -> None:
        """Forget earlier requests."""
        self.request_times_s = []

    def list_folder(self, prefix: str) -> Folder:
        """Return what is directly under `prefix`, which ends in ``/``; listings come in pages and all are read.

        Keys are as they are stored, and the folder's own placeholder, as S3's console makes it, is left out.

        Raises
        ------
        InvalidRequestError
            If something in it has a name that obstore cannot express, like ``a//b``.
        """
        return self._request(lambda client: self._list(client, prefix), prefix)

    def read(self, key: str, *, etag: str | None = None) -> bytes:
        """Return the whole object."""
        return bytes(self._get(key, etag))

    def read_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> memoryview:
        """Return bytes start … stop-1 of the object, fewer at its end; a view, because blocks are large."""
        return memoryview(self._get(key, etag, (start, stop)))

    def read_many(self, keys: list[str]) -> dict[str, bytes]:
        """Return many objects, read concurrently, in the order of `keys`."""
        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            return dict(zip(keys, pool.map(self.read, keys), strict=True))

    def read_at_most(self, keys: Mapping[str, int]) -> dict[str, bytes | None]:
        """Return objects of at most so many bytes each, read concurrently; None for one that is not there.

        Parameters
        ----------
        keys : mapping of str to int
            Key to the bytes that are believed; one more is returned of a larger object, and no more are read.
        """

        def read(key: str) -> bytes | None:
            try:
                return bytes(self._get(key, None, (0, keys[key] + 1)))
            except ObjectMissingError:
                return None

        with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
            return dict(zip(keys, pool.map(read, keys), strict=True))

    def write(self, key: str, content: bytes) -> str:
        """Write the whole object or nothing; return its entity tag."""
        # In one part: an upload that is killed leaves nothing behind.
        put = self._request(lambda client: obstore.put(client, _named(key), content, use_multipart=False), key)
        return put["e_tag"] or ""

    def write_parts(self, key: str, parts: Iterable[bytes], *, size_bytes: int) -> None:
        """Write an object whole or not at all, holding no more than a few of its parts; `parts` can be iterated again.

        Parameters
        ----------
        key : str
        parts : iterable of bytes
        size_bytes : int
            Size of all of them, about: up to `LARGE_BYTES` they are written at once [bytes].
        """
        if size_bytes < LARGE_BYTES:
            self.write(key, b"".join(parts))
            return
        self._request(
            lambda client: obstore.put(client, _named(key), iter(parts), chunk_size=PART_BYTES, max_concurrency=2), key
        )

    def write_new(self, key: str, content: bytes) -> None:
        """Write the object unless one is there.

        Raises
        ------
        ObjectExistsError
            If there is; S3 decides, so that of two writers at once one loses.
        """
        try:
            self._request(lambda client: obstore.put(client, _named(key), content, mode="create"), key)
        except _PreconditionError as error:
            raise ObjectExistsError(key) from error

    @cached_property
    def _client(self) -> "S3Store":
        return bucket_access.connect(self.bucket, self._region, requester_pays=self._requester_pays)

    def _get(self, key: str, etag: str | None, span: tuple[int, int] | None = None) -> "Bytes":
        options: GetOptions = {}
        if span:
            options["range"] = span
        if etag:
            options["if_match"] = etag

        def get(client: "S3Store") -> "Bytes":
            found = obstore.get(client, _named(key), options=options)
            # A server may ignore what was asked, and say so only here.
            if etag and found.meta["e_tag"] != etag:
                raise _PreconditionError(key)
            content = found.bytes()
            if span and len(content) > span[1] - span[0]:
                raise StorageUnavailableError(
                    f"s3://{self.bucket}/{key} was answered with {len(content)} bytes where {span[1] - span[0]} were "
                    "asked for: something else than S3 answers, such as a proxy. Check the network."
                )
            return content

        try:
            return self._request(get, key)
        except _PreconditionError as error:
            raise ShardChangedError(f"{key} was replaced after the run was planned. Start the run again.") from error
        except _RangeError as error:
            if etag:
                raise ShardFormatError(f"{key} ends before the data that its header names. Upload it again.") from error
            raise ObjectMissingError(str(error)) from error
        except ObjectMissingError as error:
            if etag:
                raise ShardChangedError(f"{key} was deleted after the run was planned. Upload it again.") from error
            raise

    def _list(self, client: "S3Store", prefix: str) -> Folder:
        try:
            found = obstore.list_with_delimiter(client, prefix.strip("/"))
        except InvalidPathError as error:
            named = PATH.search(str(error))
            raise InvalidRequestError(
                f"s3://{self.bucket}/{prefix} cannot be listed: {named[0] if named else 'something'} in it has a name "
                f"that cannot be used; {KEY_RULE}. Remove it, or put the data into another folder."
            ) from error
        # obstore drops the outer slashes: the placeholder is then called like the folder, and "/" is the whole bucket.
        objects = [ObjectInfo(entry["path"], entry["size"], entry["e_tag"] or "") for entry in found["objects"]]
        subfolders = [f"{path}/" for path in found["common_prefixes"]]
        return Folder(
            [info for info in objects if info.key.startswith(prefix) and info.key != prefix],
            [path for path in subfolders if path.startswith(prefix)],
        )

    def _request(self, call: "Callable[[S3Store], T]", key: str) -> T:
        start = time.perf_counter()
        try:
            client = self._client
            try:
                return call(client)
            except BaseError as error:
                if not any(answer in str(error) for answer in ELSEWHERE):
                    raise
                self._follow(client, error)
                return call(self._client)
        except (BaseError, OSError) as error:
            raise self._translate(error, key) from error
        except ValueError as error:
            raise InvalidRequestError(
                f"s3://{self.bucket}/{key} cannot be used: {KEY_RULE}. Rename it or choose another path."
            ) from error
        finally:
            self.request_times_s.append(time.perf_counter() - start)

    def _follow(self, client: "S3Store", error: BaseError) -> None:
        """Go on in the region where the bucket is.

        Raises
        ------
        BaseError
            The error itself, if S3 says that the bucket is here.
        StorageUnavailableError
            If S3 does not say where it is.
        """
        with self._moving:
            if client is not self._client:
                return  # another thread went ahead
            found = bucket_access.find_region(self.bucket, self._region)
            if found == self._region:
                raise error
            if found is None:
                raise StorageUnavailableError(
                    f"The bucket {self.bucket} is not in {self._region}, where this function runs, and S3 does not say "
                    "where it is. Copy the data to a bucket of this region."
                )
            logger.warning(
                "bucket of another region: slower, and its transfer is billed",
                extra={"bucket": self.bucket, "bucket_region": found, "function_region": self._region},
            )
            self._region = found
            self._client = bucket_access.connect(self.bucket, found, requester_pays=self._requester_pays)

    def _translate(self, error: Exception, key: str) -> Exception:
        text, _, source = str(error).partition("\n\nDebug source")
        where = f"s3://{self.bucket}/{key}"
        answer = ANSWER.search(text)
        if answer is None:
            causes = [match[0] for match in CAUSE.finditer(source)]
            return StorageUnavailableError(
                f"S3 did not answer for {where}: {text} ({causes[-1] if causes else error!r})."
            )
        status, code = int(answer["status"]), answer["code"] or ""
        if code in REFUSED_KEYS:
            return AccessDeniedError(f"{where} cannot be asked for: this stage's keys {REFUSED_KEYS[code]} ({code}).")
        if code == "InvalidObjectState":
            return ObjectArchivedError(
                f"{where} is archived in a Glacier storage class. Restore it first: `aws s3api restore-object`, or the "
                "console of S3."
            )
        if code == "NoSuchBucket":
            return ObjectMissingError(bucket_access.no_such_bucket(self.bucket))
        if status == 404:
            return ObjectMissingError(f"{where} does not exist.")
        if status == 412:
            return _PreconditionError(where)
        if status == 416:
            return _RangeError(f"{where} is shorter than the range that was asked for. Upload it again.")
        if status in (401, 403):
            # To a role that may not list the bucket S3 also answers 403 for what does not exist.
            return AccessDeniedError(
                f"{where} does not exist, or this stage may not access it ({code or status}); check its role."
            )
        return StorageUnavailableError(f"S3 answered {status} {code} for {where}.")


def _named(key: str) -> str:
    """Return the key if obstore knows the object under this very name: it drops outer slashes without a word.

    Raises
    ------
    ValueError
        If it does not; obstore itself rejects the remaining invalid names.
    """
    if not key or key != key.strip("/"):
        raise ValueError(f"{key!r} is empty, or begins or ends with a slash")
    return key

"""The local AWS answers plain GETs and PUTs by a way of its own: as moto does, and only where they are plain."""

import contextlib
import hashlib
import http.client
import random
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from tests.forked import LocalAws

Answer = tuple[int, dict[str, str], bytes, bool]
BUCKET = "plain"
CREDENTIAL = "AWS4-HMAC-SHA256 Credential={}/20260101/{}/s3/aws4_request, SignedHeaders=host, Signature=0"
# Ours differ from one answer to the next, or say whether the connection stays.
OWN = {"date", "x-amzn-requestid", "connection"}
TO_MOTO = {"x-not-plain": "1"}
OBJECTS: dict[str, dict[str, Any]] = {
    "empty": {"Body": b""},
    "one": {"Body": b"x"},
    "small.json": {"Body": b"{}", "ContentType": "application/json", "ContentEncoding": "utf-8"},
    "with/metadata": {"Body": b"0123456789", "Metadata": {"answer": "42"}, "CacheControl": "no-cache"},
    "tagged": {"Body": b"0123456789", "Tagging": "a=b&c=d"},
    "encrypted": {"Body": b"0123456789", "ServerSideEncryption": "AES256"},
    "checked": {"Body": b"0123456789", "ChecksumAlgorithm": "SHA256"},
    "redirecting": {"Body": b"0123456789", "WebsiteRedirectLocation": "/else"},
    "cold": {"Body": b"0123456789", "StorageClass": "GLACIER"},
    "rare": {"Body": b"0123456789", "StorageClass": "STANDARD_IA"},
    "big": {"Body": random.Random(1).randbytes(3_000_000)},
}


class Caller:
    """Asks the server word for word."""

    def __init__(self, aws: LocalAws) -> None:
        self.address = urlsplit(aws.endpoint_url)
        self.s3 = boto3.client("s3", **aws.credentials)
        self.key = aws.key
        assert self.address.port
        self.silent = socket.create_connection(("127.0.0.1", self.address.port), timeout=30)
        self.signed = {
            "authorization": CREDENTIAL.format(aws.key, "us-east-1"),
            "x-amz-date": "20260101T000000Z",
            "x-amz-content-sha256": "e3b0",
        }

    def get(self, target: str, **headers: str) -> Answer:
        """Return status, headers, body and whether the connection stays, which it does behind plain answers only."""
        return self.ask("GET", target, None, headers)

    def put(self, target: str, content: bytes, **headers: str) -> Answer:
        """Return the same of a PUT, without the time."""
        digest = {"x-amz-content-sha256": hashlib.sha256(content).hexdigest()}
        status, found, body, is_plain = self.ask("PUT", target, content, digest | headers)
        return status, {name: value for name, value in found.items() if name != "last-modified"}, body, is_plain

    def ask(self, method: str, target: str, content: bytes | None, headers: dict[str, str]) -> Answer:
        assert self.address.hostname
        with contextlib.closing(http.client.HTTPConnection(self.address.hostname, self.address.port)) as connection:
            connection.request(method, target, content, headers=self.signed | headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in OWN}
            # An error names its request.
            body = re.sub(rb"<RequestId>\w+", b"<RequestId>", answer.read())
            return answer.status, found, body, not answer.will_close

    def both(self, target: str, **headers: str) -> tuple[Any, Any, bool]:
        """Return our answer, moto's, and whether ours was plain."""
        ours, moto = self.get(target, **headers), self.get(target, **headers, **TO_MOTO)
        assert not moto[3]
        return ours[:3], moto[:3], ours[3]


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("aws"), workers=1) as aws:
        caller = Caller(aws)
        with contextlib.closing(caller.s3), caller.silent:
            for bucket in (BUCKET, "versioned"):
                caller.s3.create_bucket(Bucket=bucket)
            for key, content in OBJECTS.items():
                caller.s3.put_object(Bucket=BUCKET, Key=key, **content)
            yield caller


@pytest.mark.parametrize("key", OBJECTS)
def test_an_object_is_answered_as_moto_does(caller: Caller, key: str) -> None:
    ours, moto, is_plain = caller.both(f"/{BUCKET}/{key}")

    assert ours == moto
    assert is_plain == (key not in ("cold", "rare"))


@pytest.mark.parametrize("key", ["empty", "one", "with/metadata", "checked", "big"])
def test_any_range_and_any_condition_are_answered_as_moto_does(caller: Caller, key: str) -> None:
    etag = caller.s3.head_object(Bucket=BUCKET, Key=key)["ETag"]
    size = len(OBJECTS[key]["Body"])
    draw = random.Random(key)
    edges = [0, 1, size - 2, size - 1, size, size + 1, 2 * size, draw.randrange(size + 1), draw.randrange(size + 1)]
    ranges = [f"bytes={start}-{last}" for start in edges for last in draw.sample(edges, 3)]
    ranges += ["bytes=-5", "bytes=3-", "bytes=0-1,3-4", "bytes=a-b", "bytes=-0", "bytes= 1-2"]
    num_plain = 0
    for wanted in ranges:
        for condition in ({}, {"if-match": etag}, {"if-match": etag.strip('"')}, {"if-match": '"other"'}):
            ours, moto, is_plain = caller.both(f"/{BUCKET}/{key}", range=wanted, **condition)
            assert ours == moto, (wanted, condition)
            num_plain += is_plain

    assert num_plain > 0 or key == "empty"


@pytest.mark.parametrize(
    "target",
    [
        f"/{BUCKET}/gone",
        "/nowhere/one",
        f"/{BUCKET}",
        f"/{BUCKET}/",
        "/",
        f"/{BUCKET}/one?tagging",
        f"/{BUCKET}/one?versionId=null",
        f"/{BUCKET}/one?",
        f"/{BUCKET}/%6fne",
        f"/{BUCKET}//one",
        f"/{BUCKET}/./one",
        f"/{BUCKET}/with/../one",
        "/2015-03-31/functions",
    ],
)
def test_what_is_not_plain_is_motos_to_answer(caller: Caller, target: str) -> None:
    ours, moto, is_plain = caller.both(target)

    assert ours == moto
    assert not is_plain


@pytest.mark.parametrize(
    ("query", "is_plain"),
    [
        ("list-type=2&prefix=with", True),
        ("list-type=2&prefix=with/&encoding-type=url", True),
        ("prefix=with%2F&list-type=2&max-keys=1", True),
        ("list-type=2&prefix=checked", True),
        ("list-type=2&prefix=nothing", True),
        ("list-type=2&prefix=&max-keys=2", False),
        ("list-type=2", False),
        ("prefix=with", False),
        ("list-type=2&prefix=with&prefix=one", False),
        ("list-type=2&prefix=with&max-keys=0", False),
        ("list-type=2&prefix=with&delimiter=/", False),
        ("list-type=2&prefix=with&start-after=with/a", False),
        ("list-type=2&prefix=with&fetch-owner=true", False),
        ("list-type=2&prefix=odd/", False),
    ],
)
def test_a_list_is_answered_as_moto_does(caller: Caller, query: str, is_plain: bool) -> None:
    caller.s3.put_object(Bucket=BUCKET, Key="odd/ü<&", Body=b"x")

    for target in (f"/{BUCKET}?{query}", f"/{BUCKET}/?{query}"):
        assert caller.both(target) == (*[caller.get(target, **TO_MOTO)[:3]] * 2, is_plain)


def test_a_list_of_many_pages_goes_on_with_either(caller: Caller) -> None:
    for number in (3, 1, 2, 4, 0):
        caller.s3.put_object(Bucket=BUCKET, Key=f"many/{number}", Body=b"x" * number)
    target, found = f"/{BUCKET}?list-type=2&prefix=many/&max-keys=2", b""
    for _ in range(3):
        ours, moto, is_plain = caller.both(target)
        assert (ours, is_plain) == (moto, True)
        found += ours[2]
        token = re.search(rb"<NextContinuationToken>(\w+)", ours[2])
        target = f"{target.partition('&continuation')[0]}&continuation-token={token[1].decode() if token else ''}"

    assert re.findall(rb"<Key>many/(\d)", found) == [b"0", b"1", b"2", b"3", b"4"]
    assert token is None


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": CREDENTIAL.format("{key}", "cn-north-1")},
        {"if-none-match": '"x"'},
        {"x-amz-checksum-mode": "ENABLED"},
        {"content-length": "0"},
    ],
)
def test_any_other_header_makes_it_motos(caller: Caller, headers: dict[str, str]) -> None:
    headers = {name: value.replace("{key}", caller.key) for name, value in headers.items()}
    assert caller.get(f"/{BUCKET}/one", **headers)[3] is False


def test_versions_are_motos(caller: Caller) -> None:
    caller.s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    caller.s3.put_object(Bucket="versioned", Key="k", Body=b"x")
    caller.s3.put_object(Bucket="versioned", Key="deleted", Body=b"x")
    caller.s3.delete_object(Bucket="versioned", Key="deleted")

    for target in ("/versioned/k", "/versioned/deleted", "/versioned?list-type=2&prefix=d"):
        ours, moto, is_plain = caller.both(target)
        assert ours == moto
        assert not is_plain


@pytest.mark.parametrize("content", [b"", b"{}", random.Random(2).randbytes(1_000_000)], ids=["empty", "small", "big"])
def test_an_object_is_stored_as_moto_does(caller: Caller, content: bytes) -> None:
    target = f"/{BUCKET}/new/stored"
    stored = []
    for way in ({}, TO_MOTO):
        # What was there before leaves nothing behind.
        caller.s3.put_object(Bucket=BUCKET, Key="new/stored", Body=b"before", Tagging="a=b", Metadata={"old": "1"})
        answer = caller.put(target, content, **way)
        found = caller.get(target, **TO_MOTO)
        tags = caller.s3.get_object_tagging(Bucket=BUCKET, Key="new/stored")["TagSet"]
        stored.append((answer[:3], {**found[1], "last-modified": ""}, found[2], tags))
        assert answer[3] == (way == {})

    assert stored[0] == stored[1]
    assert stored[0][2] == content


@pytest.mark.parametrize(
    "headers",
    [
        {"if-none-match": "*"},
        {"x-amz-tagging": "a=b"},
        {"x-amz-meta-answer": "42"},
        {"x-amz-storage-class": "STANDARD_IA"},
        {"x-amz-server-side-encryption": "AES256"},
        {"x-amz-copy-source": f"/{BUCKET}/one"},
        {"content-type": "text/plain"},
        {"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"},
    ],
)
def test_a_put_that_says_more_is_motos(caller: Caller, headers: dict[str, str]) -> None:
    # The length of a piece in front, as a stream has it.
    assert caller.put(f"/{BUCKET}/more{next(iter(headers))}", b"2\r\nab\r\n0\r\n", **headers)[3] is False


@pytest.mark.parametrize("target", ["/nowhere/one", "/versioned/put", "/sealed/put", f"/{BUCKET}/odd%20name"])
def test_a_put_elsewhere_is_motos(caller: Caller, target: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    caller.s3.create_bucket(Bucket="sealed")
    caller.s3.put_bucket_encryption(Bucket="sealed", ServerSideEncryptionConfiguration={"Rules": [rule]})
    caller.s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})

    assert caller.put(target, b"x")[3] is False


def test_an_object_whose_sender_goes_away_is_not_stored(caller: Caller) -> None:
    head = caller.signed | {"Host": caller.address.netloc, "Content-Length": "5", "x-amz-content-sha256": "0" * 64}
    lines = [f"PUT /{BUCKET}/broken HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    assert caller.address.port
    with socket.create_connection(("127.0.0.1", caller.address.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"abc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""

    assert caller.get(f"/{BUCKET}/broken")[0] == 404


def test_an_object_is_never_answered_as_it_was(caller: Caller) -> None:
    for content in (b"first", b"second"):
        caller.s3.put_object(Bucket=BUCKET, Key="changing", Body=content)
        assert caller.get(f"/{BUCKET}/changing")[2] == content
    caller.s3.delete_object(Bucket=BUCKET, Key="changing")
    assert caller.get(f"/{BUCKET}/changing")[0] == 404


def test_plain_and_other_requests_share_a_connection(caller: Caller) -> None:
    assert caller.address.hostname
    with contextlib.closing(http.client.HTTPConnection(caller.address.hostname, caller.address.port)) as connection:
        for key, content in list(OBJECTS.items())[:3] * 2:
            connection.request("GET", f"/{BUCKET}/{key}", headers=caller.signed)
            assert connection.getresponse().read() == content["Body"]
        for key in ("one", "small.json"):
            digest = {"x-amz-content-sha256": hashlib.sha256(OBJECTS[key]["Body"]).hexdigest()}
            connection.request("PUT", f"/{BUCKET}/again/{key}", OBJECTS[key]["Body"], caller.signed | digest)
            answer = connection.getresponse()
            assert (answer.status, answer.read(), answer.will_close) == (200, b"", False)
        connection.request("PUT", f"/{BUCKET}/put", body=b"content", headers=caller.signed)
        answer = connection.getresponse()
        assert (answer.status, answer.will_close) == (200, True)


def test_one_who_asks_before_sending_is_told_once_to_go_on(caller: Caller) -> None:
    assert caller.address.port
    with socket.create_connection(("127.0.0.1", caller.address.port), timeout=10) as connection:
        headers = "".join(f"{name}: {value}\r\n" for name, value in caller.signed.items())
        names = f"Host: {caller.address.netloc}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        head = f"PUT /{BUCKET}/expected HTTP/1.1\r\n{names}"
        connection.sendall(f"{head}{headers}\r\n".encode())
        connection.sendall(b"ok")
        said = b"".join(iter(lambda: connection.recv(65536), b""))

    assert said.count(b"100 Continue") == 1
    assert b"HTTP/1.1 200" in said


def test_one_who_says_nothing_is_sent_away(caller: Caller) -> None:
    assert caller.silent.recv(1) == b""

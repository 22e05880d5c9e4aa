"""What the handlers make of S3's answers: values, retries, the run's own errors. Against a server that misbehaves."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers import bucket_access, settings
from handlers.storage import LARGE_BYTES, NUM_CONNECTIONS, PART_BYTES, ObjectExistsError, ObjectStore
from inference.errors import (
    AccessDeniedError,
    InvalidRequestError,
    ObjectArchivedError,
    ObjectMissingError,
    RunError,
    ShardChangedError,
    StorageUnavailableError,
)
from tests.certificates import make_certificates
from tests.fake_s3 import Answer, Asked, FakeS3, refusal, serve, signed_region

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_SESSION_TOKEN": "session"}
RANGE = {"Content-Range": "bytes 0-4/7"}
LISTING = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</ListBucketResult>'
ENTRY = '<Contents><Key>{}</Key><Size>3</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>'  # noqa: E501


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_REGION": "eu-west-1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    with serve() as fake:
        monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
        yield fake


def read(store: ObjectStore) -> bytes:
    return store.read("k")


def write(store: ObjectStore) -> None:
    store.write("k", b"content")


def write_new(store: ObjectStore) -> None:
    store.write_new("k", b"content")


def list_folder(store: ObjectStore) -> object:
    return store.list_folder("p/")


# -------------------------------------------------------------------------------------------------- what is asked


def test_a_request_is_signed_for_the_function_and_its_region(s3: FakeS3) -> None:
    assert read(ObjectStore("data")) == b"content"

    (asked,) = s3.asked
    assert (asked.method, asked.path) == ("GET", "/data/k")
    assert asked.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert asked.headers["x-amz-security-token"] == "session"
    assert signed_region(asked) == "eu-west-1"


@pytest.mark.parametrize("call", [read, list_folder])
def test_a_bucket_whose_requesters_pay_is_given_the_agreement_and_no_other(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch, call: Callable[[ObjectStore], Any]
) -> None:
    monkeypatch.setenv("REQUESTER_PAYS_BUCKET", "survey")
    s3.otherwise = lambda asked: Answer(body=LISTING.format("").encode()) if "list-type" in asked.path else Answer()

    for bucket in ("survey", "own"):
        call(settings.object_store.__wrapped__(bucket))

    agreed, not_asked = (asked.headers.get("x-amz-request-payer") for asked in s3.asked)
    assert (agreed, not_asked) == ("requester", None)


def test_a_range_names_its_last_byte_and_the_version_it_wants(s3: FakeS3) -> None:
    s3.script = [Answer(206, b"nte", {"Content-Range": "bytes 2-4/7"})]

    assert ObjectStore("data").read_range("k", 2, 5, etag='"etag"') == b"nte"
    assert (s3.asked[0].headers["range"], s3.asked[0].headers["if-match"]) == ("bytes=2-4", '"etag"')


def test_an_object_is_written_in_one_part_whatever_its_size(s3: FakeS3) -> None:
    ObjectStore("data").write("k", bytes(6 * 2**20))

    assert [(asked.method, len(asked.body)) for asked in s3.asked] == [("PUT", 6 * 2**20)]


def test_a_new_object_is_written_on_condition(s3: FakeS3) -> None:
    write_new(ObjectStore("data"))

    assert s3.asked[0].headers["if-none-match"] == "*"


def test_requests_are_timed_until_counting_starts_anew(s3: FakeS3) -> None:
    store = ObjectStore("data")
    s3.script = [Answer(after_s=0.05), refusal(404, "NoSuchKey")]
    read(store)
    with pytest.raises(ObjectMissingError):
        read(store)

    assert len(store.request_times_s) == 2
    assert store.request_times_s[0] >= 0.05
    store.start_counting()
    assert store.request_times_s == []


def test_a_server_that_ignores_the_entity_tag_is_not_believed(s3: FakeS3) -> None:
    for body, read_it in ((b"content", lambda store: store.read("k", etag='"planned"')), (b"nte", _read_range)):
        s3.script = [Answer(206 if body == b"nte" else 200, body, {"Content-Range": "bytes 2-4/7", "ETag": '"other"'})]
        with pytest.raises(ShardChangedError, match="k was replaced after the run was planned"):
            read_it(ObjectStore("data"))


def _read_range(store: ObjectStore) -> object:
    return store.read_range("k", 2, 5, etag='"planned"')


@pytest.mark.parametrize("content_range", ["bytes 0-2/7", "bytes 2-5/7", "bytes 3-5/7"])
def test_another_range_than_was_asked_for_is_not_believed(
    s3: FakeS3, content_range: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_access, "MAX_RETRIES", 0)
    s3.otherwise = lambda _: Answer(206, b"nte", {"Content-Range": content_range})

    with pytest.raises(StorageUnavailableError):
        ObjectStore("data").read_range("k", 2, 5, etag='"etag"')


def test_of_an_object_larger_than_believed_one_byte_more_is_read(s3: FakeS3) -> None:
    s3.otherwise = lambda asked: refusal(404, "NoSuchKey") if "none" in asked.path else Answer(206, b"conte", RANGE)

    assert ObjectStore("data").read_at_most({"k": 4, "none": 9}) == {"k": b"conte", "none": None}
    assert sorted(asked.headers["range"] for asked in s3.asked) == ["bytes=0-4", "bytes=0-9"]


def test_parts_are_such_as_s3_takes() -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    assert 5 * 2**20 <= PART_BYTES <= LARGE_BYTES <= 5 * 2**30


def test_many_objects_are_read_at_once_but_not_all(s3: FakeS3) -> None:
    now, most, lock = [0], [0], threading.Lock()
    together = threading.Event()

    def answer(asked: Asked) -> Answer:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == NUM_CONNECTIONS:
                together.set()
        together.wait(5)
        with lock:
            now[0] -= 1
        return Answer(body=asked.path.encode())

    s3.otherwise = answer
    keys = [f"k{number}" for number in range(3 * NUM_CONNECTIONS)]

    found = ObjectStore("data").read_many(keys)

    assert list(found) == keys
    assert all(content.endswith(key.encode()) for key, content in found.items())
    assert most[0] == NUM_CONNECTIONS


@pytest.mark.parametrize(
    ("bucket", "region", "host"),
    [
        ("data", "eu-west-3", "data.s3.eu-west-3.amazonaws.com"),
        ("my.data", "us-east-1", "s3.us-east-1.amazonaws.com"),
        ("data", "us-isob-east-1", "data.s3.us-isob-east-1.sc2s.sgov.gov"),
        ("data", "cn-north-1", "data.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_aws_is_asked_over_tls_at_the_address_of_the_bucket(
    monkeypatch: pytest.MonkeyPatch, bucket: str, region: str, host: str
) -> None:
    with serve() as proxy:
        proxy.otherwise = lambda _: Answer(status=502)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("AWS_REGION", region)
        monkeypatch.setattr(bucket_access, "MAX_RETRIES", 0)

        with pytest.raises(StorageUnavailableError):
            read(ObjectStore(bucket))

    assert [asked.path for asked in proxy.asked] == [f"{host}:443"]


def test_no_proxy_is_respected(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")

    assert read(ObjectStore("data")) == b"content"


# -------------------------------------------------------------------------------------------------- retries


@pytest.mark.parametrize("call", [read, write, write_new, lambda store: store.read_range("k", 0, 7)])
@pytest.mark.parametrize("failure", [refusal(503, "SlowDown"), refusal(500, "InternalError"), refusal(429, "Slow")])
def test_a_throttled_request_is_asked_again(s3: FakeS3, call: Callable[[ObjectStore], Any], failure: Answer) -> None:
    good = {"Content-Range": "bytes 0-6/7"}
    s3.script = [failure, failure, Answer(206 if call not in (read, write, write_new) else 200, headers=good)]

    assert call(ObjectStore("data")) in (b"content", None)
    assert len(s3.asked) == 3


@pytest.mark.parametrize("call", [read, list_folder])
def test_eight_attempts_are_enough(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch, call: Callable[[ObjectStore], Any]
) -> None:
    s3.otherwise = lambda _: refusal(503, "SlowDown")
    # The waiting between attempts is obstore's own; here only their number counts.
    monkeypatch.setattr(bucket_access, "FIRST_WAIT_S", 0.001)

    with pytest.raises(StorageUnavailableError, match="S3 answered 503 SlowDown for s3://data/"):
        call(ObjectStore("data"))
    assert len(s3.asked) == 8


def test_a_silent_server_is_asked_again(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_access, "READ_TIMEOUT_S", 0.2)
    s3.script = [Answer(after_s=1.0)]

    assert read(ObjectStore("data")) == b"content"
    assert len(s3.asked) == 2


def test_a_connection_that_died_while_it_was_idle_costs_no_request(s3: FakeS3) -> None:
    # What happens to the pool of a frozen function: the server closes its end, the client hears of it after the thaw.
    s3.idle_s = 0.1
    store = ObjectStore("data")
    read(store)
    assert s3.closed.wait(30)

    assert read(store) == b"content"
    assert len({asked.connection for asked in s3.asked}) == 2


def test_connections_are_kept(s3: FakeS3) -> None:
    store = ObjectStore("data")
    for _ in range(20):
        read(store)

    # On a busy machine about one request in a hundred comes before the connection of the last one was given back.
    assert len({asked.connection for asked in s3.asked}) < 10


@pytest.mark.parametrize("call", [read, write, write_new])
def test_a_connection_that_breaks_is_made_anew(s3: FakeS3, call: Callable[[ObjectStore], Any]) -> None:
    s3.script = [Answer(cut=0)]

    call(ObjectStore("data"))

    assert len(s3.asked) == 2


def test_an_answer_that_breaks_off_goes_on_where_it_ended_and_with_the_same_object(s3: FakeS3) -> None:
    s3.script = [Answer(cut=3), Answer(206, b"tent", {"Content-Range": "bytes 3-6/7"})]

    assert ObjectStore("data").read("k", etag='"etag"') == b"content"
    assert (s3.asked[1].headers["range"], s3.asked[1].headers["if-match"]) == ("bytes=3-6", '"etag"')


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("call", [read, write, write_new, list_folder])
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (refusal(404, "NoSuchBucket"), ObjectMissingError, "The bucket data does not exist. Check `bucket`"),
        (refusal(403, "AccessDenied"), AccessDeniedError, r"s3://data/.* may not access it \(AccessDenied\)"),
        (refusal(403, "InvalidAccessKeyId"), AccessDeniedError, r"\(InvalidAccessKeyId\); check its role"),
        # Neither is retried: the state machine's retries are for StorageUnavailableError.
        (refusal(400, "ExpiredToken"), AccessDeniedError, r"keys are no longer valid \(ExpiredToken\)"),
        (refusal(403, "InvalidObjectState"), ObjectArchivedError, r"s3://data/.* is archived .* Restore it first"),
        (refusal(409, "ConditionalRequestConflict"), StorageUnavailableError, "409 ConditionalRequestConflict"),
        (Answer(418, b""), StorageUnavailableError, "S3 answered 418"),
    ],
)
def test_a_refusal_is_an_error_of_the_run(
    s3: FakeS3, call: Callable[[ObjectStore], Any], answer: Answer, error: type[RunError], message: str
) -> None:
    s3.otherwise = lambda _: answer

    with pytest.raises(error, match=message):
        call(ObjectStore("data"))
    assert len(s3.asked) == 1


def test_what_is_missing_is_named(s3: FakeS3) -> None:
    s3.otherwise = lambda _: refusal(404, "NoSuchKey")

    with pytest.raises(ObjectMissingError, match=r"^s3://data/k does not exist\.$"):
        read(ObjectStore("data"))


def test_a_range_behind_the_end_is_an_object_too_short(s3: FakeS3) -> None:
    s3.otherwise = lambda _: refusal(416, "InvalidRange")

    with pytest.raises(ObjectMissingError, match="s3://data/k is shorter than the range"):
        ObjectStore("data").read_range("k", 10, 20)


@pytest.mark.parametrize(("status", "said"), [(412, "was replaced"), (404, "was deleted")])
def test_a_shard_of_another_version_is_refused(s3: FakeS3, status: int, said: str) -> None:
    s3.otherwise = lambda _: refusal(status, "Whatever")

    with pytest.raises(ShardChangedError, match=f"k {said} after the run was planned"):
        ObjectStore("data").read_range("k", 0, 5, etag='"old"')


def test_an_object_that_is_there_is_not_written_anew(s3: FakeS3) -> None:
    s3.otherwise = lambda _: refusal(412, "PreconditionFailed")

    with pytest.raises(ObjectExistsError):
        write_new(ObjectStore("data"))


def test_a_range_that_is_ignored_is_an_error_not_other_bytes(s3: FakeS3) -> None:
    with pytest.raises(StorageUnavailableError, match="NotPartial"):
        ObjectStore("data").read_range("k", 2, 4)


# The second is not a name at all, so that no resolver is asked for it.
@pytest.mark.parametrize(
    ("endpoint", "said"),
    [("http://127.0.0.1:9", "Connection refused"), (f"http://{'n' * 64}.invalid", "lookup|resolve")],
)
def test_an_endpoint_out_of_reach_says_why(monkeypatch: pytest.MonkeyPatch, endpoint: str, said: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setattr(bucket_access, "MAX_RETRIES", 1)

    with pytest.raises(StorageUnavailableError, match=f"S3 did not answer for s3://data/k: .*({said})"):
        read(ObjectStore("data"))


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_credentials_nobody_is_asked(s3: FakeS3, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", s3.url)

    with pytest.raises(AccessDeniedError, match=f"The environment has no {name}"):
        read(ObjectStore("data"))
    assert s3.asked == []


@pytest.mark.parametrize("bucket", ["No Bucket", "a/b", "", "s3://data"])
def test_a_name_no_bucket_can_have_is_a_bucket_that_is_missing(s3: FakeS3, bucket: str) -> None:
    with pytest.raises(ObjectMissingError, match="does not exist"):
        read(ObjectStore(bucket))


@pytest.mark.parametrize("key", ["/k", "k/", "a//b", "a/./b", "../b", "a\nb", "a\x01", "", "/"])
@pytest.mark.parametrize("call", ["read", "write", "write_new"])
def test_a_key_that_cannot_be_used_is_named_and_never_another_object(s3: FakeS3, call: str, key: str) -> None:
    arguments = [key] if call == "read" else [key, b"content"]

    with pytest.raises(InvalidRequestError, match=r"(?s)s3://data/.* cannot be used"):
        getattr(ObjectStore("data"), call)(*arguments)
    assert s3.asked == []


def test_nothing_secret_is_said(s3: FakeS3, caplog: pytest.LogCaptureFixture) -> None:
    s3.script = [refusal(503, "SlowDown"), refusal(403, "SignatureDoesNotMatch")]

    with caplog.at_level(logging.DEBUG), pytest.raises(AccessDeniedError) as caught:
        read(ObjectStore("data"))

    said = caplog.text + "".join(str(error) for error in (caught.value, caught.value.__cause__))
    assert not [secret for secret in ("very-secret", "session", "Signature=") if secret in said]


# -------------------------------------------------------------------------------------------------- another region


def in_frankfurt(status: int | str) -> Callable[[Asked], Answer]:
    """Answer as a bucket of eu-central-1 does to those who ask elsewhere."""
    where = {"x_amz_bucket_region": "eu-central-1"}
    wrong = {
        301: refusal(301, "PermanentRedirect", **where),
        400: refusal(400, "AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>", **where),
        # Of a region that an account enables first.
        "opt-in": refusal(400, "IllegalLocationConstraintException", **where),
        "token": refusal(400, "InvalidToken", **where),
    }[status]
    return lambda asked: Answer() if signed_region(asked) == "eu-central-1" else wrong


@pytest.mark.parametrize("status", [301, 400, "opt-in", "token"])
@pytest.mark.parametrize("call", [read, write, write_new])
def test_a_bucket_of_another_region_is_followed_once_and_it_is_said(
    s3: FakeS3, caplog: pytest.LogCaptureFixture, call: Callable[[ObjectStore], Any], status: int | str
) -> None:
    s3.otherwise = in_frankfurt(status)
    store = ObjectStore("data")

    call(store)
    read(store)

    assert [asked.method for asked in s3.asked].count("HEAD") == 1
    assert [signed_region(asked) for asked in s3.asked[-2:]] == ["eu-central-1", "eu-central-1"]
    (line,) = [vars(record) for record in caplog.records]
    assert (line["bucket_region"], line["function_region"]) == ("eu-central-1", "eu-west-1")


def test_a_region_that_the_account_has_not_enabled_is_said(s3: FakeS3) -> None:
    s3.otherwise = lambda _: refusal(400, "InvalidToken", x_amz_bucket_region="af-south-1")

    with pytest.raises(AccessDeniedError, match="has not enabled the bucket's region"):
        read(ObjectStore("data"))
    assert [asked.method for asked in s3.asked] == ["GET", "HEAD", "GET"]


def test_a_bucket_that_refuses_where_it_says_it_is_is_not_followed_again(
    s3: FakeS3, caplog: pytest.LogCaptureFixture
) -> None:
    s3.otherwise = lambda _: refusal(301, "PermanentRedirect", x_amz_bucket_region="eu-central-1")
    store = ObjectStore("data")

    for _ in range(2):
        with pytest.raises(StorageUnavailableError, match="incorrectly configured region"):
            read(store)

    assert len(caplog.records) == 1


def test_many_readers_find_the_region_once(s3: FakeS3) -> None:
    s3.otherwise = in_frankfurt(301)

    ObjectStore("data").read_many([f"k{number}" for number in range(100)])

    assert [asked.method for asked in s3.asked].count("HEAD") == 1


def test_a_region_that_s3_does_not_name_is_an_error_that_says_what_to_do(s3: FakeS3) -> None:
    s3.otherwise = lambda _: refusal(301, "PermanentRedirect")

    with pytest.raises(StorageUnavailableError, match=r"not in eu-west-1, where this function runs.* Copy the data"):
        read(ObjectStore("data"))


@pytest.mark.parametrize("is_silent", [True, False])
def test_an_s3_that_is_out_of_reach_names_no_region(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    monkeypatch.setattr(bucket_access, "CONNECT_TIMEOUT_S", 0.2)
    s3.otherwise = lambda _: Answer(after_s=1.0, headers={"x-amz-bucket-region": "eu-central-1"})
    if not is_silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    assert bucket_access.find_region("data", "eu-west-1") is None


def test_a_region_is_found_whether_s3_allows_the_question_or_not(s3: FakeS3) -> None:
    where = {"x-amz-bucket-region": "eu-central-1"}
    s3.script = [Answer(headers=where), Answer(403, headers=where)]

    assert {bucket_access.find_region("data", "eu-west-1") for _ in range(2)} == {"eu-central-1"}


def test_a_bucket_that_is_here_is_not_looked_for_elsewhere(s3: FakeS3) -> None:
    s3.otherwise = lambda _: refusal(400, "AuthorizationHeaderMalformed", x_amz_bucket_region="eu-west-1")

    with pytest.raises(StorageUnavailableError, match="S3 answered 400 AuthorizationHeaderMalformed"):
        read(ObjectStore("data"))


# -------------------------------------------------------------------------------------------------- listings


def page(*keys: str, folders: tuple[str, ...] = (), token: str = "") -> Answer:
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    inside = "".join(ENTRY.format(key) for key in keys)
    inside += "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders)
    return Answer(body=LISTING.format(inside + more).encode(), headers={"Content-Type": "application/xml"})


def test_all_pages_of_a_folder_are_read_and_its_placeholder_is_left_out(s3: FakeS3) -> None:
    s3.script = [page("p/", "p/1", token="x+/="), page("p/2", folders=("p/more/",))]

    found = ObjectStore("data").list_folder("p/")

    assert [tuple(info) for info in found.objects] == [("p/1", 3, '"e"'), ("p/2", 3, '"e"')]
    assert found.subfolders == ["p/more/"]


@pytest.mark.parametrize("neighbour", ["p//", "p/./", "p/../"])
def test_a_neighbour_without_a_proper_name_is_named(s3: FakeS3, neighbour: str) -> None:
    s3.script = [page("p/0", folders=(neighbour,))]

    with pytest.raises(InvalidRequestError, match=rf's3://data/p/ cannot be listed: "{neighbour}".* another folder'):
        ObjectStore("data").list_folder("p/")


# -------------------------------------------------------------------------------------------------- certificates


def test_a_certificate_counts_if_the_system_trusts_who_signed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, server = make_certificates(tmp_path)
    monkeypatch.setattr(bucket_access, "MAX_RETRIES", 0)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with serve(server) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
        with pytest.raises(StorageUnavailableError, match="UnknownIssuer"):
            read(ObjectStore("data"))
        assert s3.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert read(ObjectStore("data")) == b"content"


def test_an_image_without_certificates_says_so(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)

    with pytest.raises(StorageUnavailableError, match="No CA certificates were loaded from the system"):
        read(ObjectStore("data"))


# -------------------------------------------------------------------------------------------------- the process


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "os.kill(os.getpid(), 15)"])
def test_a_process_that_read_ends_at_once(s3: FakeS3, end: str) -> None:
    program = f"""
import os, time
from handlers.storage import ObjectStore
ObjectStore("data").read_many(["k1", "k2", "k3"])
print(time.time(), flush=True)
{end}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    took_s = time.time() - float(done.stdout)

    assert done.returncode == (-15 if "kill" in end else 0)
    assert done.stderr == ""
    assert took_s < 2

"""Keys as users have them, through the handlers' storage and the local AWS: listed, written and read as they are."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from handlers import initialize, storage
from handlers.storage import LARGE_BYTES, ObjectExistsError, ObjectStore
from inference import contract, shard
from inference.contract import RankTask
from inference.errors import InvalidRequestError, ObjectMissingError
from inference.models import SHIPPED
from tests.factories import make_arrays, make_shard_bytes
from tests.forked import LocalAws

BUCKET = "keys"
ORDINARY = [
    *(
        "plain",
        "with space",
        " around ",
        "per%cent",
        "per%20cent",
        "p%2Fq",
        "pl+us",
        "ha#sh",
        "wh?at",
        "ti~lde",
        "a:b=c",
    ),
    *(
        "am&p",
        "at@",
        "com,ma",
        "semi;colon",
        "st*ar",
        "br[ack]et",
        "cur{ly}",
        "quo\"te'",
        "<less>",
        "pi|pe",
        "do$ll!ar",
    ),
    *(
        "back\\slash",
        "`tick`",
        "car^et",
        "(round)",
        ".hidden",
        "dot.",
        "...",
        "ünï",
        "日本",
        "e\u0301",
        "nbsp\xa0",
        "🌌",
    ),
]
HARMLESS = ["x//y", "x/./y", "x/", "sub/folder/"]
"""Names next to those of our objects that are not listed."""

NAMELESS = ["/", "/x", "./x", "../x", "tab\tx", "control\x01x"]
"""Names that S3 takes and our client has not; the first is what a doubled slash leaves."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(log_dir=tmp_path_factory.mktemp("aws"), workers=1) as aws:
        yield aws


@pytest.fixture(scope="module")
def s3(aws: LocalAws) -> Iterator[Any]:
    with contextlib.closing(boto3.client("s3", **aws.credentials)) as client:
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def store(aws: LocalAws, s3: Any, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    return ObjectStore(BUCKET)


def listed_by_boto3(s3: Any, prefix: str) -> list[tuple[str, int, str]]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix, Delimiter="/")
    found = [entry for page in pages for entry in page.get("Contents", [])]
    return [(entry["Key"], entry["Size"], entry["ETag"]) for entry in found if entry["Key"] != prefix]


def test_ordinary_keys_are_listed_read_and_written_as_they_are(s3: Any, store: ObjectStore) -> None:
    for name in ORDINARY:
        store.write(f"ordinary/{name}", name.encode())

    found = store.list_folder("ordinary/")

    assert {info.key for info in found.objects} == {f"ordinary/{name}" for name in ORDINARY}
    assert [tuple(info) for info in found.objects] == listed_by_boto3(s3, "ordinary/")
    for info in found.objects:
        content = info.key.removeprefix("ordinary/").encode()
        assert store.read(info.key, etag=info.etag) == content
        assert store.read_range(info.key, 1, 3, etag=info.etag) == content[1:3]
        assert s3.get_object(Bucket=BUCKET, Key=info.key)["Body"].read() == content


@pytest.mark.parametrize("neighbour", HARMLESS)
def test_a_neighbour_in_a_subfolder_hides_nothing(s3: Any, store: ObjectStore, neighbour: str) -> None:
    prefix = f"harmless {HARMLESS.index(neighbour)}/"
    for name in ("", "0", "with space+", neighbour):
        s3.put_object(Bucket=BUCKET, Key=prefix + name, Body=b"x")

    found = store.list_folder(prefix)

    assert [tuple(info) for info in found.objects] == listed_by_boto3(s3, prefix)
    assert {f"{prefix}0", f"{prefix}with space+"} <= {info.key for info in found.objects}


@pytest.mark.parametrize("neighbour", NAMELESS)
def test_a_neighbour_that_has_no_name_is_an_error_that_says_what_to_do(
    s3: Any, store: ObjectStore, neighbour: str
) -> None:
    prefix = f"nameless {NAMELESS.index(neighbour)}/"
    for name in ("0", neighbour):
        s3.put_object(Bucket=BUCKET, Key=prefix + name, Body=b"x")

    with pytest.raises(InvalidRequestError, match=f's3://keys/{prefix} cannot be listed: "{prefix[:-1]}.* Remove it'):
        store.list_folder(prefix)


def test_a_folder_is_none_that_only_begins_like_it(s3: Any, store: ObjectStore) -> None:
    for key in ("runs/1/a", "runs/10/a", "runs/1"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    assert [info.key for info in store.list_folder("runs/1/").objects] == ["runs/1/a"]
    assert store.list_folder("runs/").subfolders == ["runs/1/", "runs/10/"]


@pytest.mark.parametrize("prefix", ["/", "nothing/here/"])
def test_nothing_lies_under_a_prefix_that_no_key_has(store: ObjectStore, prefix: str) -> None:
    assert store.list_folder(prefix) == ([], [])


def test_more_than_a_thousand_objects_are_listed_in_pages(store: ObjectStore) -> None:
    for number in range(1001):
        store.write(f"many/{number:04d}", b"")

    assert len(store.list_folder("many/").objects) == 1001


@pytest.mark.parametrize("folder", ["with space", "per%cent", "a+b=c", "ünï/日本"])
def test_a_dataset_is_planned_and_read_whatever_its_folder_is_called(
    s3: Any, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    infer = {"INFER_MEMORY_MB": "1769", "INFER_QUALIFIER": "$LATEST", "INFER_TIMEOUT_S": "900"}
    for name, value in {**infer, "AWS_LAMBDA_FUNCTION_NAME": "x", "MODEL_FOLDER": str(SHIPPED)}.items():
        monkeypatch.setenv(name, value)
    s3.put_object(Bucket=BUCKET, Key=f"{folder}/0.safetensors", Body=make_shard_bytes(5, **make_arrays(5)))
    request = {"bucket": BUCKET, "data_prefix": folder, "result_path": f"results/{folder}"}

    plan = initialize.handler({"execution_name": folder, "request": request}, None)

    (task,) = contract.decode(store.read(plan["manifest_key"]), list[RankTask])
    (block,) = shard.read_blocks(store, task.rows[0])
    assert block.object_id.tolist() == make_arrays(5)["object_id"].tolist()
    assert json.loads(s3.get_object(Bucket=BUCKET, Key=plan["manifest_key"])["Body"].read())


def test_a_folder_with_an_empty_part_is_refused_by_name(store: ObjectStore) -> None:
    with pytest.raises(InvalidRequestError, match="s3://keys/a//b/ cannot be used"):
        store.list_folder("a//b/")


def test_of_two_writers_one_loses(store: ObjectStore) -> None:
    store.write_new("claim", b"first")

    with pytest.raises(ObjectExistsError):
        store.write_new("claim", b"second")
    assert store.read("claim") == b"first"


def test_an_object_whose_parts_end_early_stays_what_it_was(store: ObjectStore) -> None:
    store.write("large", b"before")

    def broken() -> Iterator[bytes]:
        yield bytes(9 * 2**20)
        raise ConnectionError("the function ends")

    with pytest.raises(Exception, match="the function ends"):
        store.write_parts("large", broken(), size_bytes=LARGE_BYTES)
    assert store.read("large") == b"before"


def test_an_object_that_is_gone_is_named(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissingError, match="s3://keys/gone does not exist"):
        store.read("gone")


def test_a_range_ends_with_the_object_and_never_begins_behind_it(store: ObjectStore) -> None:
    store.write("ranged", b"0123456789")

    assert store.read_range("ranged", 4, 100) == b"456789"
    with pytest.raises(ObjectMissingError, match="shorter than the range"):
        store.read_range("ranged", 10, 20)


def test_an_object_that_is_written_in_parts_is_whole(
    store: ObjectStore, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * 2**20)
    parts = [bytes([number]) * 2**20 for number in range(11)]
    monkeypatch.setattr(storage, "LARGE_BYTES", 12 * 2**20)
    store.write_parts("parts/one", parts, size_bytes=11 * 2**20)
    monkeypatch.setattr(storage, "LARGE_BYTES", 11 * 2**20)
    store.write_parts("parts/three", parts, size_bytes=11 * 2**20)

    assert s3.get_object(Bucket=BUCKET, Key="parts/one")["Body"].read() == b"".join(parts)
    assert s3.get_object(Bucket=BUCKET, Key="parts/three")["Body"].read() == b"".join(parts)
    assert "-" not in s3.head_object(Bucket=BUCKET, Key="parts/one")["ETag"]
    assert s3.head_object(Bucket=BUCKET, Key="parts/three")["ETag"].endswith('-3"')

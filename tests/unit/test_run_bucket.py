import hashlib
import io
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import obstore
import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from obstore.store import MemoryStore

from inference import contract
from scripts.runs import bucket as bucket_module
from scripts.runs.bucket import NUM_CONNECTIONS, Bucket, Upload, quick_store
from tests.fake_s3 import serve, signed_region


def refusal(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "HeadObject")


class FakeS3:
    """S3 in memory; remembers the order of what came in."""

    def __init__(self, *, denied: str = "") -> None:
        self.objects: dict[str, tuple[int, str]] = {}
        self.order: list[str] = []
        self.denied = denied

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 -- boto3's names
        if Key not in self.objects:
            raise refusal(404, "404")
        size_bytes, sha256 = self.objects[Key]
        return {"ContentLength": size_bytes, "Metadata": {"sha256": sha256} if sha256 else {}, "ETag": f'"{sha256}"'}

    def upload_file(self, path: str, _: str, key: str, **rest: Any) -> None:
        if key == self.denied:
            answer = refusal(403, "AccessDenied")
            raise S3UploadFailedError(f"Failed to upload {path}: {answer}") from answer
        size_bytes = Path(path).stat().st_size
        rest["Callback"](size_bytes)
        self.objects[key] = (size_bytes, rest["ExtraArgs"]["Metadata"]["sha256"])
        self.order.append(key)


def make_files(folder: Path) -> dict[Path, str]:
    files = {folder / f"{number}.safetensors": f"sha-{number}" for number in range(20)} | {folder / "dataset.json": "c"}
    for path in files:
        path.write_bytes(b"rows")
    return files


def upload(s3: FakeS3, files: dict[Path, str]) -> tuple[Upload, int, int]:
    announced: list[int] = []
    sent: list[int] = []
    done = Bucket(s3, "b").upload_missing(files, "d/", begin=announced.append, tick=sent.append)
    return done, sum(announced), sum(sent)


@pytest.mark.parametrize(
    ("options", "agreed"), [({"requester_pays": True}, {"RequestPayer": "requester"}), ({}, {})], ids=["pays", "not"]
)
def test_what_is_read_is_paid_for_where_the_requester_pays(options: dict[str, bool], agreed: dict[str, str]) -> None:
    asked: list[dict[str, Any]] = []
    s3 = SimpleNamespace(
        get_object=lambda **request: asked.append(request) or {"Body": io.BytesIO(b"card")},
        head_object=lambda **request: asked.append(request) or {"ETag": "e"},
    )
    bucket = Bucket(s3, "survey", **options)

    assert bucket.read("d/dataset.json") == b"card"
    assert bucket.tags(["d/0"]) == {"d/0": "e"}

    assert asked == [{"Bucket": "survey", "Key": key, **agreed} for key in ("d/dataset.json", "d/0")]


def test_files_are_put_under_their_keys(tmp_path: Path) -> None:
    put: list[dict[str, Any]] = []
    s3 = SimpleNamespace(put_object=lambda **request: put.append(request))
    (tmp_path / "plan.json").write_bytes(b"plan")

    Bucket(s3, "b").upload({"runs/r/plan.json": tmp_path / "plan.json"})

    assert put == [{"Bucket": "b", "Key": "runs/r/plan.json", "Body": b"plan"}]


def test_what_is_not_there_has_no_tag() -> None:
    s3 = FakeS3()
    s3.objects["d/0"] = (4, "a")

    assert Bucket(s3, "b").tags(["d/0", "d/1"]) == {"d/0": '"a"', "d/1": None}


def test_an_empty_bucket_gets_everything_the_card_last(tmp_path: Path) -> None:
    card_began = threading.Event()

    class SlowS3(FakeS3):
        def upload_file(self, path: str, bucket: str, key: str, **rest: Any) -> None:
            if key == "d/dataset.json":
                card_began.set()
            if key == "d/19.safetensors":
                card_began.wait(0.1)  # in vain: it begins when this one is there
            super().upload_file(path, bucket, key, **rest)

    s3 = SlowS3()

    done, announced, sent = upload(s3, make_files(tmp_path))

    assert done == Upload(num_files=21, num_bytes=84, num_present=0)
    assert (announced, sent) == (84, 84)
    assert s3.order[-1] == "d/dataset.json"


def test_a_second_upload_sends_nothing(tmp_path: Path) -> None:
    s3, files = FakeS3(), make_files(tmp_path)
    upload(s3, files)

    assert upload(s3, files)[0] == Upload(num_files=0, num_bytes=0, num_present=21)


@pytest.mark.parametrize("there", [(4, "other"), (5, "sha-3"), (4, "")], ids=["content", "size", "no checksum"])
def test_an_object_that_is_not_this_file_is_replaced(there: tuple[int, str], tmp_path: Path) -> None:
    s3, files = FakeS3(), make_files(tmp_path)
    upload(s3, files)
    s3.objects["d/3.safetensors"] = there

    assert upload(s3, files)[0].num_files == 1
    assert s3.objects["d/3.safetensors"] == (4, "sha-3")


@pytest.mark.parametrize("is_named", [True, False], ids=["cause", "context"])
def test_a_refused_upload_raises_what_s3_answered_and_leaves_the_card_out(is_named: bool, tmp_path: Path) -> None:
    class RefusingS3(FakeS3):
        def upload_file(self, path: str, bucket: str, key: str, **rest: Any) -> None:
            try:
                super().upload_file(path, bucket, key, **rest)
            except S3UploadFailedError as error:
                if is_named:
                    raise
                try:
                    raise error.__cause__ or error
                except ClientError:
                    raise S3UploadFailedError("Failed")  # noqa: B904 -- as boto3 does

    s3 = RefusingS3(denied="d/3.safetensors")

    with pytest.raises(ClientError, match="AccessDenied"):
        upload(s3, make_files(tmp_path))

    assert "d/dataset.json" not in s3.objects


def test_an_upload_that_boto3_gave_up_itself_raises_what_it_said(tmp_path: Path) -> None:
    def give_up(*_: Any, **__: Any) -> None:
        raise S3UploadFailedError("the disk is gone")

    s3 = FakeS3()
    s3.upload_file = give_up  # type: ignore[method-assign]

    with pytest.raises(S3UploadFailedError, match="the disk is gone"):
        upload(s3, make_files(tmp_path))


def test_a_failure_stops_the_files_under_way_and_is_the_error_that_is_told(tmp_path: Path) -> None:
    began: list[str] = []
    pieces: list[str] = []

    class EndlessS3(FakeS3):
        def upload_file(self, path: str, bucket: str, key: str, **rest: Any) -> None:
            began.append(key)
            if key == self.denied:
                super().upload_file(path, bucket, key, **rest)
            while True:
                rest["Callback"](1)
                pieces.append(key)
                time.sleep(0.001)

    with pytest.raises(ClientError, match="AccessDenied"):
        upload(EndlessS3(denied="d/3.safetensors"), make_files(tmp_path))

    assert pieces, "others were under way"
    # One of them in place of the refused one, before its failure was seen.
    assert len(began) <= NUM_CONNECTIONS + 1


def test_an_error_other_than_missing_is_not_taken_for_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = FakeS3()

    def denied(**_: str) -> dict[str, Any]:
        raise refusal(403, "403")

    monkeypatch.setattr(s3, "head_object", denied)

    with pytest.raises(ClientError):
        upload(s3, make_files(tmp_path))
    assert s3.order == []


class Listing:
    """A bucket of small objects, whatever their keys."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None))

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.exceptions = SimpleNamespace(NoSuchKey=KeyError)
        self.read: list[str] = []
        self.fails_at = ""

    def get_paginator(self, _: str) -> Any:
        entries = [
            {"Key": key, "Size": len(key.encode()), "ETag": f'"{hashlib.md5(key.encode()).hexdigest()}"'}
            for key in self.keys
        ]

        def paginate(*, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803 -- boto3's names
            assert Bucket == "b"
            return [{"Contents": [entry for entry in entries if str(entry["Key"]).startswith(Prefix)]}, {}]

        return SimpleNamespace(paginate=paginate)

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 -- boto3's names
        if Key == self.fails_at:
            raise KeyboardInterrupt
        self.read.append(Key)
        return {"Body": io.BytesIO(Key.encode())}


def test_what_no_run_stores_is_not_copied_above_all_not_out_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = [
        "runs/r/execution.json",
        "runs/r/report.html",
        "runs/r/logs/server.log",
        "runs/r/ranks",
        "runs/r/../../x",
        f"runs/r/{tmp_path}/absolute",
        "runs/r/ranks/../../../y",
        "runs/r/nul\0",
    ]
    folder = tmp_path / "runs" / "r"

    there = Listing("runs/r/summary.json", *outside, "runs/r/ranks/0.json", "runs/r2/summary.json")

    assert Bucket(there, "b").download("runs/r/", folder) == 2
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        "runs/r/summary.json",
        "runs/r/ranks/0.json",
    }
    assert capsys.readouterr().err == "not copied 'runs/r/execution.json' and 7 more: no run stores that\n"


@pytest.mark.parametrize(
    "name", [*contract.rank_keys("", 12_345).values(), "manifest.json", "plan.json", "summary.json"]
)
def test_what_a_run_stores_is_copied(name: str, tmp_path: Path) -> None:
    assert Bucket(Listing(f"runs/r/{name}"), "b").download("runs/r/", tmp_path) == 1
    assert (tmp_path / name).read_text() == f"runs/r/{name}"


def test_a_placeholder_of_a_folder_is_no_file(tmp_path: Path) -> None:
    assert Bucket(Listing("runs/r/ranks/", "runs/r/ranks/0.json"), "b").download("runs/r/", tmp_path) == 1
    assert (tmp_path / "ranks" / "0.json").read_text() == "runs/r/ranks/0.json"


def test_a_download_that_was_interrupted_goes_on_and_ends_with_the_summary(tmp_path: Path) -> None:
    keys = [f"runs/r/{name}" for name in ("summary.json", *(f"ranks/{number}.json" for number in range(30)))]
    there = Listing(*keys)
    there.fails_at = keys[20]
    with pytest.raises(KeyboardInterrupt):
        Bucket(there, "b").download("runs/r/", tmp_path)
    sent = set(there.read)
    assert "runs/r/summary.json" not in sent
    (tmp_path / "ranks" / "0.json").write_text("runs/r/ranks/X.json")  # as long as it was
    (tmp_path / "ranks" / "1.json").write_text("runs/r/ranks/1.js")

    there.fails_at, there.read = "", []
    assert Bucket(there, "b").download("runs/r/", tmp_path) == 31

    home = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.json")}
    assert home == {key.removeprefix("runs/r/"): key for key in keys}
    assert there.read[-1] == "runs/r/summary.json"
    # Nothing is sent twice but what is another file here, or was under way when the other one failed.
    assert set(there.read) & sent <= {"runs/r/ranks/0.json", "runs/r/ranks/1.json"} | {
        key for key in sent if key > keys[12]
    }
    assert len(there.read) < 31

    def refuse() -> Any:
        raise AssertionError("nothing is left to read")

    assert Bucket(there, "b", store=refuse).download("runs/r/", tmp_path) == 31


def test_what_comes_home_is_read_by_the_quick_client_and_by_boto3_where_that_one_cannot(tmp_path: Path) -> None:
    keys = ["runs/r/ranks/0.json", "runs/r/ranks/1.json", "runs/r/ranks/a b/ü.json"]
    there, store = Listing(*keys), MemoryStore()
    store.put(keys[0], keys[0].encode())

    assert Bucket(there, "b", store=lambda: store).download("runs/r/", tmp_path) == 3

    # The second one the quick client does not find, the third has a name that clients spell in different ways.
    assert sorted(there.read) == sorted(keys[1:])
    assert (tmp_path / "ranks/0.json").read_text() == keys[0]


def test_a_list_is_read_without_its_dates_which_are_taken_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    forget = bucket_module._forget_times
    monkeypatch.setattr(bucket_module, "_forget_times", lambda **page: (taken.append(1), forget(**page))[1])
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="k")
    about = "<LastModified>never</LastModified><ETag>&quot;e&quot;</ETag><Size>2</Size>"
    page = f"<ListBucketResult><Contents><Key>runs/r/a</Key>{about}</Contents></ListBucketResult>".encode()
    answer = AWSResponse("https://s3", 200, {}, None)
    answer._content = page
    s3.meta.events.register("before-send.s3.ListObjectsV2", lambda **_: answer)

    Bucket(s3, "another", store=MemoryStore)
    assert Bucket(s3, "b", store=MemoryStore).list_keys("runs/r/") == ["runs/r/a"]
    assert taken == [1]


def test_a_list_has_what_is_under_its_prefix() -> None:
    assert Bucket(Listing("runs/r/a", "runs/r2/a"), "b").list_keys("runs/r/") == ["runs/r/a"]


@pytest.mark.parametrize("end", ["", "/"])
def test_the_quick_client_asks_where_boto3_asks_and_signs_for_its_region(end: str) -> None:
    with serve() as server:
        s3 = SimpleNamespace(meta=SimpleNamespace(endpoint_url=server.url + end, region_name="eu-west-1"))
        store = quick_store(s3, "survey", access_key_id="k", secret_access_key="s")

        assert bytes(obstore.get(store, "runs/r/a").bytes()) == b"content"

    assert [(asked.path, signed_region(asked)) for asked in server.asked] == [("/survey/runs/r/a", "eu-west-1")]

import hashlib
import json
import os
import re
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from rich.console import Console

from inference import contract
from inference.contract import DatasetCard, ShardEntry
from inference.errors import DatasetError
from scripts import run as run_command
from scripts.command.errors import CommandError, UsageError
from scripts.command.variables import read_variables
from scripts.data.location import RemoteDataset, find_dataset, find_remote, is_sample
from scripts.local_aws.server import LocalAwsError
from scripts.runs import target
from scripts.runs.perform import find_data, run_in
from scripts.runs.request import draft_request, make_run_id, result_here
from scripts.runs.variables import RunVariables, choose_target

EVENTS = Path(__file__).parents[1] / "events"


def asked(**given: str) -> RunVariables:
    """Read variables of `make run` as they stand behind make."""
    return read_variables(RunVariables, given)


def write_payload(folder: Path, **keys: object) -> str:
    path = folder / "payload.json"
    path.write_text(json.dumps(keys))
    return str(path)


def make_dataset(root: Path, name: str, shards: tuple[str, ...] = ("0.safetensors",)) -> Path:
    folder = root / "datasets" / name
    folder.mkdir(parents=True)
    for shard in shards:
        (folder / shard).write_bytes(b"rows")
    return folder


# --------------------------------------------------------------------------------------- variables


def test_an_empty_variable_counts_as_not_given() -> None:
    assert asked(WORLD="8", BATCH="", FILES="  ", HOME="/root").given == {"WORLD": 8}


def test_a_precision_that_every_rank_would_refuse_is_refused_before_the_start() -> None:
    with pytest.raises(UsageError, match=r"PRECISION=bf16 cannot be used: .*Use fp32"):
        run_command._refuse_precision(draft_request(asked(PRECISION="bf16")))
    for precision in ("fp32", "int8"):
        run_command._refuse_precision(draft_request(asked(PRECISION=precision)))


@pytest.mark.parametrize("rows", ["huge", "0"])
def test_a_number_of_rows_is_said_in_full(rows: str) -> None:
    with pytest.raises(UsageError, match=f"ROWS={rows} is not valid: ROWS is a whole number of rows from 1, or small"):
        asked(ROWS=rows)


@pytest.mark.parametrize(("result", "key"), [("a/b", "a/b"), ("../x", None), ("/data/x", None), ("~/x", None)])
def test_a_folder_of_this_machine_alone_is_none_of_the_bucket(result: str, key: str | None) -> None:
    draft = result_here(draft_request(asked(RESULT=result)), result)

    assert (draft.request.result_path, draft.payload.get("result_path")) == (key, key)


def test_the_variables_become_keys_of_the_request() -> None:
    variables = {"WORLD": "8", "BATCH": "64", "FILES": "2", "RESULT": "a b/$c", "PROFILE": "1", "TOLERATE": "20"}

    request = draft_request(asked(**variables, ROWS="medium")).request

    assert (request.world_size, request.batch_size, request.file_limit, request.row_limit) == (8, 64, 2, 626)
    assert (request.result_path, request.profile, request.tolerated_failure_percentage) == ("a b/$c", True, 20.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD", "0"),
        ("WORLD", "-3"),
        ("WORLD", "abc"),
        ("WORLD", "1.5"),
        ("BATCH", "-1"),
        ("BATCH", "70000"),
        ("FILES", "0"),
        ("RESULT", "/"),
        ("PROFILE", "maybe"),
        ("TOLERATE", "101"),
        ("ENGINE", "abacus"),
        ("PRECISION", "fp16"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name}={re.escape(value)} is not valid: {name} is [^\n]+$"):
        asked(**{name: value})


def apply(terraform: Path, outputs: dict[str, object]) -> None:
    terraform.mkdir()
    (terraform / "terraform.tfstate").write_text(json.dumps({"version": 4, "outputs": outputs}))


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TARGET=moon"):
        choose_target(asked(TARGET="moon"), terraform=tmp_path)


@pytest.mark.parametrize(
    ("name", "taken", "refused", "is_what"),
    [
        ("WORLD", ["1"], ["0"], "a whole number of ranks from 1"),
        ("BATCH", ["1", "65536"], ["0", "65537"], "a whole number of galaxies from 1 to 65536"),
        ("FILES", ["1"], ["0"], "a whole number of shards from 1"),
        ("TOLERATE", ["0", "100"], ["-0.1", "100.1"], "a percentage from 0 to 100"),
        ("BUDGET", ["0", "1e9"], ["-0.1", "1000000001"], "an amount in USD, such as 2.00"),
        ("RESULT", ["my/run"], ["/", " / "], "a folder in the bucket, such as experiments/7"),
        ("ENGINE", ["native"], ["pytorch"], "native"),
        ("PRECISION", ["int8"], ["fp64"], "fp32, bf16 or int8"),
    ],
)
def test_a_variable_is_taken_up_to_its_limits_and_says_what_it_is(
    name: str, taken: list[str], refused: list[str], is_what: str
) -> None:
    assert [name.lower() in {key.lower() for key in asked(**{name: text}).given} for text in taken] == [True] * len(
        taken
    )
    for text in refused:
        with pytest.raises(UsageError, match=rf"{name} is .*{re.escape(is_what)}"):
            asked(**{name: text})


def test_without_variables_nothing_is_asked_for() -> None:
    nothing = asked()

    assert (nothing.request_keys, nothing.yes, nothing.forecast, nothing.source, nothing.fields) == (
        {},
        False,
        False,
        "",
        "",
    )


def test_aws_is_refused_while_nothing_is_deployed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is deployed from this working copy"):
        choose_target(asked(TARGET="aws"), terraform=tmp_path)


def test_without_a_target_the_run_is_local_and_says_why(tmp_path: Path) -> None:
    assert choose_target(asked(), terraform=tmp_path) == ("local", "nothing is deployed from this working copy")


def test_once_this_working_copy_is_deployed_the_run_goes_there(tmp_path: Path) -> None:
    apply(tmp_path / "terraform", {"state_machine_arn": {"value": "arn"}})

    assert choose_target(asked(), terraform=tmp_path / "terraform") == (
        "aws",
        "this working copy is deployed; TARGET=local runs here",
    )
    assert choose_target(asked(TARGET="aws"), terraform=tmp_path / "terraform") == ("aws", "TARGET=aws says so")
    assert choose_target(asked(TARGET="local"), terraform=tmp_path / "terraform") == ("local", "TARGET=local says so")


@pytest.mark.parametrize("outputs", [{}, {"repository_url": {"value": "registry"}}], ids=["destroyed", "registry only"])
def test_a_state_without_a_state_machine_is_no_deployment(outputs: dict[str, object], tmp_path: Path) -> None:
    apply(tmp_path / "terraform", outputs)

    assert choose_target(asked(), terraform=tmp_path / "terraform")[0] == "local"


def test_the_state_of_the_chosen_workspace_counts(tmp_path: Path) -> None:
    apply(tmp_path / "terraform", {"state_machine_arn": {"value": "arn"}})
    (tmp_path / "terraform" / ".terraform").mkdir()
    (tmp_path / "terraform" / ".terraform" / "environment").write_text("trial")

    assert choose_target(asked(), terraform=tmp_path / "terraform")[0] == "local"


def test_a_remote_state_counts_as_deployed(tmp_path: Path) -> None:
    (tmp_path / ".terraform").mkdir()
    (tmp_path / ".terraform" / "terraform.tfstate").write_text('{"backend": {"type": "s3"}}')

    assert choose_target(asked(), terraform=tmp_path)[0] == "aws"


def test_a_file_of_outputs_names_the_stack(tmp_path: Path) -> None:
    assert choose_target(asked(OUTPUTS="a.json"), terraform=tmp_path) == ("aws", "OUTPUTS=a.json names a stack")
    assert choose_target(asked(OUTPUTS="a.json", TARGET="local"), terraform=tmp_path)[0] == "local"


# ----------------------------------------------------------------------------------------- payload


@pytest.mark.parametrize("path", sorted(EVENTS.glob("published_*.json")), ids=lambda path: path.stem)
def test_a_published_payload_is_accepted_with_the_local_bucket(path: Path) -> None:
    draft = draft_request(asked(PAYLOAD=str(path)))

    request, _ = contract.parse_request(draft.payload_for("redshift-local", "datasets/tiny/1MB/"))

    assert (request.bucket, request.data_bucket) == ("redshift-local", None)
    assert request.data_prefix == "datasets/tiny/1MB/"
    assert any("was replaced by the local bucket" in note for note in draft.notes)


def test_a_dataset_in_another_bucket_is_named_in_the_payload() -> None:
    draft = draft_request(asked(DATASET="s3://survey/dr17"))

    assert draft.payload_for("results", "dr17/", data_bucket="survey")["data_bucket"] == "survey"
    assert "data_bucket" not in draft.payload_for("results", "dr17/", data_bucket="results")


def test_a_variable_overrides_the_payload_and_says_so(tmp_path: Path) -> None:
    source = write_payload(tmp_path, bucket="b", world_size="2", batch_size=32)

    draft = draft_request(asked(PAYLOAD=source, WORLD="8"))

    assert (draft.request.world_size, draft.request.batch_size) == (8, 32)
    assert f'`world_size` "2" of {source} was replaced by WORLD=8.' in draft.notes
    assert not draft.dataset_is_from_payload


def test_a_bucket_that_is_none_is_replaced_without_a_word(tmp_path: Path) -> None:
    assert draft_request(asked(PAYLOAD=write_payload(tmp_path, bucket="", data_bucket=None))).notes == ()


@pytest.mark.parametrize(
    ("key", "name", "value"), [("profile", "PROFILE", "1"), ("tolerated_failure_percentage", "TOLERATE", "5")]
)
def test_what_wins_is_told_as_one_types_it(key: str, name: str, value: str, tmp_path: Path) -> None:
    source = tmp_path / "request.json"
    source.write_text(json.dumps({key: 0}))

    draft = draft_request(asked(PAYLOAD=str(source), **{name: value}))

    assert draft.notes == (f"`{key}` 0 of {source} was replaced by {name}={value}.",)


def test_the_prefix_of_the_payload_names_the_dataset(tmp_path: Path) -> None:
    draft = draft_request(asked(PAYLOAD=write_payload(tmp_path, bucket="b", dataset_path="10MB")))

    assert draft.dataset == "10MB"


def test_dataset_overrides_the_prefix_of_the_payload_and_says_so(tmp_path: Path) -> None:
    source = write_payload(tmp_path, bucket="b", data_prefix="100MB")

    draft = draft_request(asked(PAYLOAD=source, DATASET="sdss"))

    assert draft.dataset == "sdss"
    assert f'`data_prefix` "100MB" of {source} was replaced by DATASET=sdss.' in draft.notes


def test_without_payload_and_dataset_the_sample_is_read() -> None:
    assert is_sample(draft_request(asked()).dataset)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        ("{", "is not JSON"),
        ("[1]", "holds a list"),
        ('{"bucket": "b", "wrld": 2}', "`wrld`"),
        ('{"bucket": "b", "world_size": "abc"}', "world_size"),
        ('{"bucket": "b", "data_prefix": ""}', "names no dataset"),
        ('{"bucket": "b", "data_prefix": 7}', "names no dataset"),
    ],
)
def test_a_payload_that_cannot_be_used_is_refused_by_name(content: str | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "payload.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UsageError) as refusal:
        draft_request(asked(PAYLOAD=str(path)))

    assert str(path) in str(refusal.value)
    assert reason in str(refusal.value)


def test_a_run_id_is_a_valid_execution_name() -> None:
    run_id = make_run_id(datetime(2026, 11, 21, 23, 14, 55, tzinfo=UTC))

    assert re.fullmatch(r"run-20261121T231455Z-[0-9a-f]{4}", run_id)


# ----------------------------------------------------------------------------------------- dataset


@pytest.mark.parametrize("name", ["sdss", "sdss/10MB", "sdss/10MB/", "datasets/sdss/10MB/"])
def test_every_spelling_of_the_sample_is_known(name: str) -> None:
    assert is_sample(name)


@pytest.mark.parametrize("name", ["tiny", "tiny/1MB", "tiny/1MB/", "datasets/tiny/1MB/"])
def test_a_dataset_keeps_the_keys_it_has_in_a_deployment(name: str, tmp_path: Path) -> None:
    make_dataset(tmp_path, "tiny/1MB")

    assert find_dataset(name, asked="DATASET", root=tmp_path).prefix == "datasets/tiny/1MB/"


def test_a_folder_anywhere_can_be_the_dataset(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "elsewhere", "mine")

    found = find_dataset(str(folder), asked="DATASET", root=tmp_path)

    assert (found.folder, found.prefix) == (folder, "datasets/mine/")


def test_an_unknown_dataset_lists_what_is_there(tmp_path: Path) -> None:
    make_dataset(tmp_path, "tiny/1MB")
    make_dataset(tmp_path, "sdss/10MB")

    with pytest.raises(UsageError, match=r"DATASET=big: .*Present: sdss/10MB, tiny/1MB\."):
        find_dataset("big", asked="DATASET=big", root=tmp_path)


def test_an_unknown_dataset_of_a_payload_says_how_to_override_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="DATASET=name reads another one instead"):
        find_dataset("100MB", asked='`data_prefix` "100MB" of payload.json', root=tmp_path)


def test_a_dataset_of_several_partitions_must_be_named_in_full(tmp_path: Path) -> None:
    make_dataset(tmp_path, "tiny/1MB")
    make_dataset(tmp_path, "tiny/25MB")

    with pytest.raises(UsageError, match=r"1MB, 25MB"):
        find_dataset("tiny", asked="DATASET=tiny", root=tmp_path)


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, "empty/1MB", shards=("notes.txt",))

    with pytest.raises(UsageError, match="holds no shard"):
        find_dataset("empty/1MB", asked="DATASET=empty/1MB", root=tmp_path)


def test_another_account_is_no_local_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TARGET=local"):
        find_dataset("s3://bucket/prefix", asked="DATASET=s3://bucket/prefix", root=tmp_path)


@pytest.mark.parametrize(
    ("address", "refusal"),
    [("s3://other/data", "reads mine and shared only"), ("s3://mine", "names no folder"), ("s3://mine//", "no folder")],
)
def test_a_dataset_in_s3_must_be_readable_by_the_stack(address: str, refusal: str) -> None:
    with pytest.raises(UsageError, match=refusal):
        find_remote(address, asked=f"DATASET={address}", buckets=("mine", "shared"))


def test_a_dataset_in_s3_is_read_where_it_lies() -> None:
    assert find_remote("s3://shared/a/b", asked="DATASET", buckets=("mine", "shared")) == RemoteDataset(
        "shared", "a/b/"
    )
    assert find_remote("sdss", asked="DATASET", buckets=("mine",)) is None


def test_a_run_names_the_bucket_of_its_dataset_where_it_is_another_one(tmp_path: Path) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "StartExecution")

    there: Any = SimpleNamespace(
        name="aws",
        max_concurrency=7,
        bucket=SimpleNamespace(name="results"),
        states=SimpleNamespace(start_execution=refuse),
        state_machine_arn="arn:aws:states:us-east-1:123456789012:stateMachine:s",
        keep=lambda run_prefix, folder: None,
        why=lambda error: "Refused.",
    )
    draft = draft_request(asked(DATASET="s3://survey/dr17"))

    with pytest.raises(CommandError, match=r"^Refused\. Its files are in "):
        run_in(there, "run-a", draft, RemoteDataset("survey", "dr17/"), tmp_path, Console(quiet=True))

    sent = json.loads((tmp_path / "request.json").read_text())
    assert sent == {"bucket": "results", "data_prefix": "dr17/", "data_bucket": "survey", "max_concurrency": 7}


def test_a_local_aws_that_ends_while_a_run_begins_is_named_with_where_to_look(tmp_path: Path) -> None:
    def end(*_: Any) -> None:
        raise ConnectionResetError("Remote end closed connection without response")

    there: Any = SimpleNamespace(name="local", max_concurrency=None, bucket=SimpleNamespace(name="results"), keep=end)

    with pytest.raises(CommandError, match=r"The local AWS ended while it was asked: Remote end .*ulimit -v"):
        run_in(there, "run-a", draft_request(asked()), RemoteDataset("survey", "d/"), tmp_path, Console(quiet=True))


def test_a_local_aws_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(target, "deploy", refuse)
    monkeypatch.setattr(target, "LocalAws", lambda **_: nullcontext())
    monkeypatch.setattr(target, "forget_aws_settings", lambda: None)

    with (
        pytest.raises(LocalAwsError, match=r"cannot be reached: .*127\.0\.0\.1:1.*server\.log says why"),
        target.start_local(tmp_path),
    ):
        pass


def make_tiny(root: Path, *sizes: int, **changes: Any) -> Path:
    """A folder with three shards of four bytes, and a card that says these sizes."""
    folder = make_dataset(root, "tiny/1MB", shards=("0.safetensors", "1.safetensors", "2.safetensors"))
    sha256 = hashlib.sha256(b"rows").hexdigest()
    entries = tuple(
        ShardEntry(name=f"{number}.safetensors", num_rows=1, size_bytes=size, sha256=sha256)
        for number, size in enumerate(sizes)
    )
    fields: dict[str, Any] = {
        "name": "tiny",
        "partition": "1MB",
        "num_rows": len(sizes),
        "shards": entries,
        "arrays": {},
        "seed": 0,
        "provenance": "",
    }
    (folder / "dataset.json").write_bytes(contract.encode(DatasetCard(**{**fields, **changes})))
    return folder


def test_a_shard_with_another_content_is_refused_however_old_it_is(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, 4, 4, 4)
    dataset = find_dataset("tiny", asked="DATASET", root=tmp_path)
    paths = dataset.files(None)
    assert list(dataset.checksums(paths)) == paths
    facts = (folder / "1.safetensors").stat()

    (folder / "1.safetensors").write_bytes(b"sort")
    os.utime(folder / "1.safetensors", ns=(facts.st_atime_ns, facts.st_mtime_ns))

    with pytest.raises(DatasetError, match=r"tiny/1MB is not the dataset of its dataset\.json: the content of 1\.safe"):
        dataset.checksums(paths)


@pytest.mark.parametrize(
    ("sizes", "num_rows", "problem"),
    [
        ((4, 4, 4, 4), 4, "3.safetensors is missing"),
        ((4, 4), 2, "2.safetensors is not in dataset.json"),
        ((4, 9, 4), 3, "1.safetensors has 4 bytes, dataset.json says 9"),
        ((4, 4, 4), 5, "dataset.json says 5 galaxies, its shards add up to 3"),
    ],
)
def test_a_folder_that_is_not_what_its_card_says_is_refused(
    sizes: tuple[int, ...], num_rows: int, problem: str, tmp_path: Path
) -> None:
    folder = make_tiny(tmp_path, *sizes)
    card = contract.decode((folder / "dataset.json").read_bytes(), DatasetCard)
    (folder / "dataset.json").write_bytes(contract.encode(msgspec.structs.replace(card, num_rows=num_rows)))

    with pytest.raises(DatasetError, match=f"datasets/tiny/1MB is not the dataset .*: {re.escape(problem)}"):
        find_data("tiny", asked="DATASET", root=tmp_path)


def test_a_shard_described_twice_is_refused(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path, 4, 4, 4)
    card = contract.decode((folder / "dataset.json").read_bytes(), DatasetCard)
    twice = msgspec.structs.replace(card, shards=(*card.shards, card.shards[1]), num_rows=4)
    (folder / "dataset.json").write_bytes(contract.encode(twice))

    with pytest.raises(DatasetError, match=r"describes 1\.safetensors 2 times"):
        find_data("tiny", asked="DATASET", root=tmp_path)


def test_an_unfinished_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, "tiny/1MB", shards=("0.safetensors",))
    (folder / ".unfinished").touch()

    with pytest.raises(DatasetError, match="datasets/tiny/1MB is unfinished"):
        find_data("tiny", asked="DATASET", root=tmp_path)


@pytest.mark.parametrize("name", ["1.safetensors", "table.csv"])
def test_a_symbolic_link_is_not_followed_and_named(name: str, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, "tiny/1MB", shards=("0.safetensors", "2.safetensors"))
    (tmp_path / "secret").write_bytes(b"rows")
    (folder / name).symlink_to(tmp_path / "secret")

    with pytest.raises(DatasetError, match=f"{name} is a symbolic link, which is not followed"):
        find_data("tiny", asked="DATASET", root=tmp_path)


def test_only_the_shards_that_a_run_reads_are_judged(tmp_path: Path) -> None:
    make_tiny(tmp_path, 4, 4, 9)
    dataset = find_dataset("tiny", asked="DATASET", root=tmp_path)

    dataset.refuse_unfinished(2)

    with pytest.raises(DatasetError, match=r"2\.safetensors has 4 bytes"):
        dataset.refuse_unfinished(3)


def test_a_file_limit_takes_the_first_shards_in_natural_order_the_table_and_last_the_card(tmp_path: Path) -> None:
    others = ("dataset.json", "cleaning.json", "table.csv", "table.parquet", "notes.txt")
    make_dataset(tmp_path, "tiny/1MB", shards=("10.safetensors", "2.safetensors", "1.safetensors", *others))

    dataset = find_dataset("tiny", asked="DATASET", root=tmp_path)

    shards = ["1.safetensors", "2.safetensors"]
    assert [path.name for path in dataset.shards(2)] == shards
    assert [path.name for path in dataset.files(2)] == [
        *shards,
        "table.parquet",
        "table.csv",
        "cleaning.json",
        "dataset.json",
    ]


@pytest.mark.parametrize("card", [None, "{", '{"name": 7}'], ids=["no card", "no JSON", "another card"])
def test_a_dataset_is_described_whatever_its_card_says(card: str | None, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, "tiny/1MB")
    if card is not None:
        (folder / "dataset.json").write_text(card)

    assert find_dataset("tiny", asked="DATASET", root=tmp_path).describe().endswith("tiny/1MB: 1 shard")


def test_what_no_card_names_and_is_no_shard_is_said_not_to_be_read(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path, "tiny/1MB")
    for name in ("1.SAFETENSORS", "2.h5", ".hidden", "table.parquet"):
        (folder / name).touch()

    said = find_dataset("tiny", asked="DATASET", root=tmp_path).describe()

    assert "1 shard. 1.SAFETENSORS and 1 more was not read: shards are directly in the folder" in said

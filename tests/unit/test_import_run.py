"""Published results are read, checked and made a run; ours are read by tools that know published keys only."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inference import summary
from scripts.command.errors import UsageError
from scripts.command.variables import read_variables
from scripts.import_run import ImportVariables, import_run, print_imported
from scripts.runs.imported.checks import check
from tests.factories import make_record_for, make_task

NUM_ROWS, LOOP_S = 5113, 22.5


def asked(variables: Mapping[str, str]) -> ImportVariables:
    return read_variables(ImportVariables, variables)


def published(**changes: Any) -> dict[str, Any]:
    """One record as the published tool writes it."""
    return {
        "total_cpu_time (seconds)": LOOP_S,
        "total_cpu_memory (MB)": 24_000.0,
        "total_process_memory (MB)": 1_100.5,
        "library_overhead_memory (MB)": 1_029.8,
        "total_image_memory (MB)": 10.01953125,
        "total_model_memory (MB)": 60.66470718383789,
        "execution_time (seconds/batch)": LOOP_S * 512 / NUM_ROWS,
        "num_batches": 10,
        "batch_size": 512,
        "device": "cpu",
        "throughput_bps": 164_160 * NUM_ROWS / LOOP_S,
        "sample_persec": NUM_ROWS / LOOP_S,
        "result_path": "result/12.6GB/",
        "data_path": "/tmp/7.pt",
        **changes,
    }


def write(path: Path, records: object) -> dict[str, str]:
    path.write_text(json.dumps(records))
    return {"FILE": str(path)}


def distinct(num: int) -> list[dict[str, Any]]:
    return [published(data_path=f"/tmp/{rank}.pt") for rank in range(num)]


# ------------------------------------------------------------------------------------------------- import


def test_published_records_become_a_run(tmp_path: Path) -> None:
    found = import_run(asked(write(tmp_path / "combined_data.json", distinct(3))), root=tmp_path)

    folder = tmp_path / "runs" / found.run_id
    assert json.loads((folder / "combined_data.json").read_text()) == distinct(3)
    assert (found.num_records, found.num_samples, found.warnings) == (3, 3 * NUM_ROWS, ())
    assert found.sum_of_rank_rates_bit_per_s == pytest.approx(3 * 164_160 * NUM_ROWS / LOOP_S)


def test_numbers_as_text_become_numbers(tmp_path: Path) -> None:
    records = [published(batch_size="512", sample_persec="227.2")]

    found = import_run(asked(write(tmp_path / "a.json", records)), root=tmp_path)

    (record,) = json.loads((tmp_path / "runs" / found.run_id / "combined_data.json").read_text())
    assert (record["batch_size"], record["sample_persec"]) == (512, 227.2)


def test_a_record_with_few_keys_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    found = import_run(asked(write(tmp_path / "a.json", [{"total_cpu_time (seconds)": 7.0}])), root=tmp_path)

    assert (found.loop_median_s, found.sum_of_rank_rates_per_s, found.num_samples) == (7.0, None, None)


@pytest.mark.parametrize(
    ("keys", "rate"),
    [
        ({"sample_persec": 5.0, "throughput_bps": 164_160 * 7.0}, 5.0),
        ({"throughput_bps": 164_160 * 7.0, "batch_size": 8, "execution_time (seconds/batch)": 4.0}, 7.0),
        ({"batch_size": 8, "execution_time (seconds/batch)": 4.0}, 2.0),
        ({"batch_size": 8}, None),
        ({"execution_time (seconds/batch)": 4.0}, None),
        ({"batch_size": 8, "execution_time (seconds/batch)": 0.0}, None),
    ],
    ids=str,
)
def test_a_rate_is_read_from_whichever_key_states_it(
    keys: dict[str, float], rate: float | None, tmp_path: Path
) -> None:
    found = import_run(asked(write(tmp_path / "a.json", [{"total_cpu_time (seconds)": 7.0, **keys}])), root=tmp_path)

    assert found.sum_of_rank_rates_per_s == rate


@pytest.mark.parametrize(
    ("records", "world", "said"),
    [
        (distinct(8), "130", "Only 8 of 130 ranks have a record"),
        (distinct(3), "2", "3 records of 2 ranks: 1 too many"),
        (distinct(1000), "", "Exactly 1,000 records: the run may have had more ranks."),
        ([*distinct(2), *distinct(1)], "", "1 record is the same as another one"),
        ([published(rank=0, world_size=3), published(rank=2, world_size=3)], "", "No record of rank 1."),
        ([published(rank=4), published(rank=4, device="gpu")], "", "More than one record of rank 4."),
        ([published(), published(result_path="result/1GB/")], "", "2 result paths: result/12.6GB/, result/1GB/."),
        ([published(sample_persec=10.0)], "", "1 record is at odds with themselves"),
    ],
    ids=["missing", "too many", "cut", "twice", "absent rank", "rank twice", "stale", "inconsistent"],
)
def test_what_is_wrong_is_said(records: list[dict[str, Any]], world: str, said: str, tmp_path: Path) -> None:
    found = import_run(
        asked({**write(tmp_path / "a.json", records), **({"WORLD": world} if world else {})}), root=tmp_path
    )

    assert any(said in warning for warning in found.warnings)


def ranks(*numbers: int, world_size: int | None = None, **more: Any) -> list[dict[str, Any]]:
    """Records of ranks that differ in one key at least."""
    stated = {} if world_size is None else {"world_size": world_size}
    return [{"rank": rank, "of": place, **stated, **more} for place, rank in enumerate(numbers)]


ABSENT = "No record of rank 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
SAME = [{"rank": 0}] * 2
ODD = {"sample_persec": 100.0, "throughput_bps": 1.011 * 16_416_000}
EVEN = {"sample_persec": 100.0, "throughput_bps": 1.009 * 16_416_000}


@pytest.mark.parametrize(
    ("records", "expected", "doubts"),
    [
        (ranks(0, 1, world_size=2), None, []),
        (ranks(0, 1), 2, []),
        (ranks(0, 1), None, []),
        (ranks(0), 2, ["Only 1 of 2 ranks have a record; nothing here says why the others have none."]),
        (ranks(0, 1), 1, ["2 records of 1 ranks: 1 too many, of another run or twice."]),
        (ranks(0, 0, 1), None, ["More than one record of rank 0."]),
        (ranks(0, world_size=11)[:1], None, ["Only 1 of 11", f"{ABSENT}."]),
        (ranks(0, world_size=12), None, ["Only 1 of 12", f"{ABSENT} and 1 more."]),
        (ranks(1, 5, world_size=2), None, ["No record of rank 0."]),
        (ranks(-1, 0, world_size=2), None, ["No record of rank 1."]),
        (SAME, None, ["1 record is the same as another one, in every key.", "More than one record of rank 0."]),
        ([{"a": 1}] * 3, None, ["2 records are the same as another one, in every key."]),
        ([{"run_id": "a"}, {"run_id": "b"}], None, ["The records are of 2 runs: a, b."]),
        ([{"batch_size": 1}, {"batch_size": 2}], None, ["The records are of 2 batch sizes: 1, 2."]),
        (
            [{"result_path": f"{number:02d}"} for number in range(11)],
            None,
            ["The records are of 11 result paths: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 1 more."],
        ),
        (
            [{"result_path": f"{number}"} for number in range(10)],
            None,
            ["The records are of 10 result paths: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."],
        ),
        (
            ranks(0, **ODD),
            None,
            ["1 record is at odds with themselves: throughput_bps is not 164,160 bits times sample_persec."],
        ),
        (ranks(0, **EVEN), None, []),
        (ranks(0, sample_persec=100.0), None, []),
    ],
)
def test_every_doubt_about_records_is_a_sentence_and_records_that_fit_have_none(
    records: list[dict[str, Any]], expected: int | None, doubts: list[str]
) -> None:
    found = list(check(records, expected=expected))

    assert len(found) == len(doubts)
    assert all(one.startswith(doubt) for one, doubt in zip(found, doubts, strict=True))


@pytest.mark.parametrize(
    ("num", "expected", "is_doubted"), [(1000, None, True), (1000, 1000, False), (999, 999, False)]
)
def test_exactly_a_page_of_records_may_be_cut(num: int, expected: int | None, is_doubted: bool) -> None:
    found = list(check(ranks(*range(num)), expected=expected))

    assert [one.startswith("Exactly 1,000 records: ") for one in found] == [True] * is_doubted


def test_times_and_memory_are_summed_up_where_records_state_them(tmp_path: Path) -> None:
    records = [
        published(**{"total_cpu_time (seconds)": time_s, "total_process_memory (MB)": memory_mb, "batch_size": batch})
        for time_s, memory_mb, batch in ((1.0, 3.0, 512), (2.0, 5.0, 32), (9.0, 4.0, 512))
    ]

    found = import_run(asked(write(tmp_path / "a.json", records)), root=tmp_path)
    nothing = import_run(asked(write(tmp_path / "b.json", [{"sample_persec": 7.0}])), root=tmp_path)

    assert (found.loop_median_s, found.loop_max_s, found.process_memory_max_mb) == (2.0, 9.0, 5.0)
    assert found.batch_sizes == (32, 512)
    assert (nothing.loop_median_s, nothing.loop_max_s, nothing.process_memory_max_mb) == (None, None, None)
    assert nothing.batch_sizes == ()


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, "many", float("inf")])
def test_what_is_no_number_is_refused_by_its_key(value: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"record 0: `batch_size` is .*, not a number"):
        import_run(asked(write(tmp_path / "a.json", [published(batch_size=value)])), root=tmp_path)


def test_a_thousand_records_of_a_thousand_ranks_are_no_sign_of_a_cut(tmp_path: Path) -> None:
    found = import_run(asked({**write(tmp_path / "a.json", distinct(1000)), "WORLD": "1000"}), root=tmp_path)

    assert found.warnings == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"sample_persec": 200.0}, {"sample_per', "is not whole JSON"),
        ('{"sample_persec": 200.0}', "holds a dict; combined_data.json is a list"),
        ("[]", "holds no record"),
        ("[7]", "record 0, is a int"),
        ('[{"sample_persec": 200.0}, {"device": "cpu"}]', "record 1, has none of the keys"),
        ('[{"sample_persec": "fast"}]', 'record 0: `sample_persec` is "fast", not a number'),
        ('[{"sample_persec": NaN}]', "not a number"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line_and_leaves_nothing(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        import_run(asked({"FILE": str(tmp_path / "a.json")}), root=tmp_path)

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_the_same_file_is_the_same_run_and_another_one_does_not_take_its_name(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.json", distinct(2)), write(tmp_path / "b.json", distinct(3))
    import_run(asked({**first, "NAME": "theirs"}), root=tmp_path)

    again = import_run(asked({**first, "NAME": "theirs"}), root=tmp_path)

    assert again.num_records == 2
    with pytest.raises(UsageError, match="choose another NAME"):
        import_run(asked({**second, "NAME": "theirs"}), root=tmp_path)


# ---------------------------------------------------------------------------- our file in their hands


def published_reader(text: str) -> dict[str, float]:
    """What a tool written for the published format computes; it knows no other keys."""
    records: Sequence[dict[str, Any]] = json.loads(text)
    return {
        "throughput_gbps": sum(record["throughput_bps"] for record in records) / 1e9,
        "samples_per_s": sum(record["sample_persec"] for record in records),
        "mean_batch_s": sum(record["execution_time (seconds/batch)"] for record in records) / len(records),
        "total_s": max(record["total_cpu_time (seconds)"] for record in records),
        "memory_mb": max(record["total_process_memory (MB)"] for record in records),
        "overhead_mb": max(record["library_overhead_memory (MB)"] for record in records),
        "image_mb": records[0]["total_image_memory (MB)"],
        "model_mb": records[0]["total_model_memory (MB)"],
        "batches": sum(record["num_batches"] for record in records),
        "batch_size": records[0]["batch_size"],
        "devices": len({record["device"] for record in records}),
        "paths": len({record["data_path"] for record in records}) + len({record["result_path"] for record in records}),
    }


def test_our_combined_data_is_read_by_tools_that_know_published_keys_only() -> None:
    records = [make_record_for(make_task(rank=rank, world_size=2, num_samples=600, batch_size=512)) for rank in (0, 1)]

    read = published_reader(summary.combine(records).decode())

    assert (read["image_mb"], read["model_mb"]) == (10.01953125, 60.66470718383789)
    assert (read["batches"], read["batch_size"], read["devices"]) == (4, 512, 1)
    assert read["throughput_gbps"] == pytest.approx(read["samples_per_s"] * 164_160 / 1e9)


def test_our_combined_data_is_imported_like_a_published_one(tmp_path: Path) -> None:
    records = [make_record_for(make_task(rank=rank, world_size=3, num_samples=600)) for rank in (0, 1)]
    (tmp_path / "combined_data.json").write_bytes(summary.combine(records))

    found = import_run(asked({"FILE": str(tmp_path / "combined_data.json")}), root=tmp_path)

    assert (found.num_ranks_expected, found.num_samples) == (3, 1200)
    assert any("Only 2 of 3 ranks have a record" in warning for warning in found.warnings)
    assert "No record of rank 2." in found.warnings


def test_a_world_size_is_a_number_and_takes_no_memory(tmp_path: Path) -> None:
    records = [published(rank=1, world_size=2**62), published(rank=3, world_size=2**62)]

    found = import_run(asked(write(tmp_path / "combined_data.json", records)), root=tmp_path)

    assert any(warning.startswith("No record of rank 0, 2, 4, 5, 6,") for warning in found.warnings)
    assert any("and 4,611,686,018,427,387,892 more" in warning for warning in found.warnings)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FILE=/dev/zero is no file"):
        import_run(asked({"FILE": "/dev/zero"}), root=tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 5_000 + "]"])
def test_json_that_no_one_can_read_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(UsageError, match="is not whole JSON"):
        import_run(asked({"FILE": str(tmp_path / "x.json")}), root=tmp_path)


def test_what_was_imported_is_printed_as_far_as_it_is_known(tmp_path: Path) -> None:
    whole = import_run(asked(write(tmp_path / "combined_data.json", distinct(3))), root=tmp_path)
    bare = import_run(asked(write(tmp_path / "a.json", [{"total_cpu_time (seconds)": 7.0}])), root=tmp_path)
    console = Console(file=io.StringIO(), width=200)

    print_imported(console, whole)
    said = console.file.getvalue().splitlines()
    print_imported(console, bare)

    assert said[0] == f"{whole.run_id}: imported from {whole.source}"
    names = ["records", "galaxies", "sum of rank rates", "loop of a rank", "process memory"]
    assert [line[2:21].strip() for line in said[1:]] == [*names, *["warning"] * len(whole.warnings), "report"]
    assert said[1].split() == ["records", "3"]
    assert said[-1].endswith(f"make report RUN={whole.run_id}")
    rest = console.file.getvalue().splitlines()[len(said) :]
    assert "galaxies" not in "".join(rest[1:3])

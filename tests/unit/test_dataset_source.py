"""Which galaxies of a source a dataset holds, and what it says of where they are from."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.cleaning import shipped_limits
from scripts.command.errors import SourceError, UsageError
from scripts.data import plan as plan_module
from scripts.data import selection, subset
from scripts.data.plan import DatasetVariables, plan_dataset
from scripts.data.writer import DatasetPlan

MEAN = shipped_limits().photometry.mean
NUM = 6
ALL = "All rows; what is wrong is flagged."
FOR_TRAINING = "Only clean rows with a label, each identifier once."


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six galaxies, each fainter than the one before by 0.1 mag; the last has no redshift."""
    lines = [
        ",".join([str(number), *(f"{mean + number / 10:.3f}" for mean in MEAN), "" if number == NUM else f"0.{number}"])
        for number in range(1, NUM + 1)
    ]
    path = tmp_path / "my.csv"
    path.write_text("\n".join(["id,u,g,r,i,z,zspec", *lines]) + "\n")
    return path


def plan_of(table: Path, **given: Any) -> tuple[DatasetPlan, list[int], int]:
    """Return the plan, how many galaxies were expected to be read, and how many were."""
    expected: list[int] = []
    read: list[int] = []
    scratch = table.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    variables = DatasetVariables(source=str(table), **given)
    plan = plan_dataset(variables, root=table.parent, scratch=scratch, tick=read.append, expect=expected.append)
    return plan, expected, sum(read)


@pytest.mark.parametrize(
    ("given", "identifiers", "said", "times_read"),
    [
        ({}, [1, 2, 3, 4, 5, 6], ALL, 1),
        ({"rows": 2}, [1, 2], f"{ALL} Only the first 2 rows.", 1),
        ({"rows": 6}, [1, 2, 3, 4, 5, 6], f"{ALL} All 6 rows.", 1),
        ({"rows": 7}, [1, 2, 3, 4, 5, 6], f"{ALL} All 6 rows.", 1),
        ({"where": "z_spec > 0.25"}, [3, 4, 5], f"{ALL} Only galaxies with z_spec > 0.25: 3.", 2),
        (
            {"where": "z_spec > 0.25", "rows": 2},
            [3, 4],
            f"{ALL} Only galaxies with z_spec > 0.25: 3. Only the first 2 of them.",
            2,
        ),
        (
            {"where": "z_spec > 0.25", "rows": 3},
            [3, 4, 5],
            f"{ALL} Only galaxies with z_spec > 0.25: 3. All 3 of them.",
            2,
        ),
        ({"training": True}, [1, 2, 3, 4, 5], FOR_TRAINING, 2),
        (
            {"training": True, "where": "z_spec > 0.15", "rows": 1},
            [2],
            f"{FOR_TRAINING} Only galaxies with z_spec > 0.15: 4. Only the first 1 of them.",
            3,
        ),
    ],
    ids=str,
)
def test_a_dataset_holds_the_galaxies_that_were_asked_for_and_says_which(
    given: dict[str, Any], identifiers: list[int], said: str, times_read: int, table: Path
) -> None:
    plan, expected, num_read = plan_of(table, **given)

    assert plan.galaxies.rows(0, len(plan.galaxies)).object_id.tolist() == identifiers
    assert plan.provenance.endswith(said)
    assert plan.report.outcomes["dropped"] == NUM - len(identifiers)
    assert plan.report.notes == ((said.partition(". ")[2],) if said not in (ALL, FOR_TRAINING) else ())
    assert (expected, num_read) == ([times_read * NUM], times_read * NUM)


def test_a_dataset_says_which_very_file_it_is_of(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    facts = table.stat()

    plan, *_ = plan_of(table, shard_mb=7, seed=5)

    assert plan.provenance.startswith(f"Made from my.csv (sha256 {digest}): magnitude = u to z [mag], as they are; ")
    assert "There are no images. " in plan.provenance
    assert (plan.name, plan.shard_mb, plan.seed, plan.source) == ("my", 7, 5, str(table))
    assert plan.description.startswith("magnitude = u to z")
    monkeypatch.setattr(plan_module, "MAX_HASHED_BYTES", facts.st_size)
    assert plan_of(table)[0].provenance.startswith(f"Made from my.csv (sha256 {digest}): ")
    monkeypatch.setattr(plan_module, "MAX_HASHED_BYTES", facts.st_size - 1)
    assert plan_of(table)[0].provenance.startswith(f"Made from my.csv ({facts.st_size} bytes, {facts.st_mtime_ns}): ")


@pytest.mark.parametrize("given", [{"model": "astromae"}, {"training": True}], ids=str)
def test_images_are_rendered_for_a_model_that_reads_some(given: dict[str, Any], table: Path) -> None:
    plan, *_ = plan_of(table, **given)

    assert (plan.origin.image_origin, plan.origin.side_px) == ("rendered", 32)
    assert "Images are rendered from the photometry. " in plan.provenance


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"where": "z_spec > 5"}, SourceError, r"WHERE=z_spec > 5: none of the 6 galaxies is left"),
        ({"where": "z_spec > 0.45", "training": True}, None, ""),
        ({"n": 3}, UsageError, r"N=3 is the number of synthetic galaxies; SOURCE=.*my\.csv has its own\."),
        ({"name": "sdss"}, UsageError, r"NAME=sdss is the sample of real galaxies: give SOURCE=.*my\.csv another NAME"),
    ],
    ids=str,
)
def test_what_a_source_cannot_give_is_refused(
    given: dict[str, Any], error: type[Exception] | None, said: str, table: Path
) -> None:
    if error is None:
        assert len(plan_of(table, **given)[0].galaxies) == 1
        return
    with pytest.raises(error, match=said):
        plan_of(table, **given)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.csv"):
        plan_of(tmp_path / "gone.csv")


def test_a_condition_that_leaves_none_of_the_galaxies_for_training_is_refused(table: Path) -> None:
    only_the_last = f"r > {MEAN[2] + 0.55:.3f}"

    assert len(plan_of(table, where=only_the_last)[0].galaxies) == 1
    with pytest.raises(SourceError, match=f"^WHERE={only_the_last}: none of the galaxies for training is left"):
        plan_of(table, where=only_the_last, training=True)


@pytest.mark.parametrize(
    ("condition", "identifiers"),
    [
        ("z_spec < 0.2", [1]),
        ("z_spec <= 0.2", [1, 2]),
        ("z_spec > 0.4", [5]),
        ("z_spec >= 0.4", [4, 5]),
        ("z_spec == 0.2", [2]),
        ("z_spec != 0.2", [1, 3, 4, 5]),
        ("0.1 < z_spec < 0.4", [2, 3]),
        ("0.1 < z_spec and z_spec < 0.4", [2, 3]),
        ("z_spec < 0.15 or z_spec > 0.45", [1, 5]),
        ("not z_spec > 0.15", [1]),
        ("not (z_spec > 0.15 and z_spec < 0.35)", [1, 4, 5]),
        ("not (z_spec < 0.15 or not z_spec < 0.35)", [2, 3]),
        ("not 0.15 < z_spec < 0.35 and not object_id == 5", [1, 4]),
        ("not z_spec > 0.15 or object_id == 6", [1, 6]),
        ("object_id * 2 - 1 == 5 or object_id / 2 + 1 == 2", [2, 3]),
        ("-z_spec > -0.15", [1]),
        ("(z_spec - 0.1) * 10 <= 1.01", [1, 2]),
        ("object_id > 5", [6]),
    ],
)
def test_a_condition_compares_the_values_of_a_galaxy(condition: str, identifiers: list[int], table: Path) -> None:
    galaxies = plan_of(table, where=condition)[0].galaxies

    assert galaxies.rows(0, len(galaxies)).object_id.tolist() == identifiers


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two galaxies are judged at a time."""
    for module in (selection, subset):
        monkeypatch.setattr(module, "BLOCK_ROWS", 2)
        monkeypatch.setattr(module, "TABLE_BLOCK_ROWS", 2)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize(
    ("given", "identifiers"),
    [
        ({"where": "z_spec != 0.3"}, [1, 2, 4, 5]),
        ({"where": "object_id > 3"}, [4, 5, 6]),
        ({"training": True}, [1, 2, 3, 4, 5]),
        ({"training": True, "where": "object_id > 1", "rows": 3}, [2, 3, 4]),
    ],
    ids=str,
)
def test_galaxies_are_judged_and_read_block_by_block(
    given: dict[str, Any], identifiers: list[int], table: Path
) -> None:
    galaxies = plan_of(table, **given)[0].galaxies

    assert galaxies.rows(0, len(galaxies)).object_id.tolist() == identifiers
    assert galaxies.rows(1, 3).object_id.tolist() == identifiers[1:3]
    facts = galaxies.facts(0, len(galaxies))
    assert len(facts.quality) == len(facts.ra_deg) == len(identifiers)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("where", ["object_id > 3", "z_spec > 0.3 or object_id == 6"])
def test_a_condition_on_measured_galaxies_is_that_on_a_table(where: str, table: Path) -> None:
    lines = table.read_text().splitlines()
    rows = np.array([[float(cell or "nan") for cell in line.split(",")] for line in lines[1:]])
    images = np.random.default_rng(0).normal(size=(NUM, 5, 32, 32)).astype(np.float32)
    archive = table.parent / "my.npz"
    np.savez(
        archive, images=images, magnitudes=rows[:, 1:6], redshifts=rows[:, 6], object_id=rows[:, 0].astype(np.int64)
    )

    galaxies = plan_of(archive, where=where)[0].galaxies

    block = galaxies.rows(0, len(galaxies))
    assert block.object_id.tolist() == [4, 5, 6]
    assert np.array_equal(block.images, images[3:])


@pytest.mark.parametrize(
    ("condition", "identifiers"),
    [
        ("u > 0", [3, 4, 5, 6]),
        ("u < 99", [3, 4, 5, 6]),
        ("not u > 50", [3, 4, 5, 6]),
        ("dec >= 0.5", [4, 5, 6]),
        ("ra == 2", [2]),
        ("object_id < 9223372036854775808", [1, 2, 3, 4, 5, 6]),
        ("object_id < 1e30 and object_id > 2", [3, 4, 5, 6]),
        ("z_spec > 0.4 and 1 / (object_id - 5) != 7", []),
    ],
)
def test_a_value_that_is_none_fulfils_no_condition(condition: str, identifiers: list[int], table: Path) -> None:
    """The first two galaxies have codes in u; of the fifth 1 / 0 is asked for."""
    header, *lines = table.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    rows[0][1], rows[1][1] = "0", "99"
    lines = [",".join([*row, row[0], str((int(row[0]) - 3) / 2)]) for row in rows]
    table.write_text("\n".join([f"{header},ra,dec", *lines]) + "\n")

    if not identifiers:
        with pytest.raises(SourceError, match="none of the 6 galaxies is left"):
            plan_of(table, where=condition)
        return
    galaxies = plan_of(table, where=condition)[0].galaxies
    assert galaxies.rows(0, len(galaxies)).object_id.tolist() == identifiers


def test_for_training_each_rule_counts_and_an_identifier_is_taken_once(table: Path) -> None:
    header, *lines = table.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    rows[1][0] = "1"
    rows[2][2] = "-9999"
    table.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")

    plan, *_ = plan_of(table, training=True)

    assert plan.galaxies.rows(0, 3).object_id.tolist() == [1, 4, 5]
    assert plan.report.outcomes == {"dropped": 3}
    assert {rule: num for rule, num in plan.report.rules.items() if num} == {
        "object_id repeated": 1,
        "magnitude is -9999": 1,
        "one or two bands missing": 1,
        "no usable redshift": 1,
    }


@pytest.mark.parametrize(
    "condition", ["z_spec", "mag > 1", "r >", "r is 1", "r > 'a'", "f(r) > 1", "r ** 2 > 1", "~r > 1"]
)
def test_what_is_no_condition_is_refused(condition: str, table: Path) -> None:
    with pytest.raises(UsageError, match=r"^WHERE="):
        plan_of(table, where=condition)

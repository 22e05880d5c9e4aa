"""Which galaxies of a further table are new and clean, and which of them teach, choose and test."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.checksum import file_sha256
from inference.cleaning import shipped_limits
from inference.models import shipped
from scripts.command.errors import SourceError
from scripts.models.training import surveys
from scripts.models.training.goals import HELD_OUT, STRIPE_82
from scripts.models.training.surveys import Survey, catalogues, read_surveys

KNOWN = shipped_limits().photometry
assert KNOWN is not None
MEAN = KNOWN.mean
NUM = 400
ARCSEC = 1 / 3600

Columns = dict[str, np.ndarray]


def table(seed: int = 0) -> Columns:
    """Return galaxies in as many patches of sky, with redshifts."""
    rng = np.random.default_rng(seed)
    return {
        "ra": np.linspace(10, 200, NUM),
        "dec": np.tile([0.0, 30.0], NUM // 2),
        "z_spec": np.linspace(0.01, 0.6, NUM),
        **{band: MEAN[number] + rng.normal(0, 0.05, NUM) for number, band in enumerate("ugriz")},
    }


def read(
    folder: Path, change: Callable[[Columns], Any] = lambda _: None, *, sample: Columns | None = None
) -> list[Survey]:
    """Read one table, perhaps with some of its galaxies in the sample; numbers are kept to the last digit."""
    columns = table()
    change(columns)
    path = folder / "my.csv"
    rows = np.column_stack(list(columns.values()))
    np.savetxt(path, rows, delimiter=",", fmt="%.9f", header=",".join(columns), comments="")
    known = sample or {"ra": np.array([300.0]), "dec": np.array([-60.0])}
    (folder / "scratch").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surveys, "load_sources", lambda: SimpleNamespace(ra_deg=known["ra"], dec_deg=known["dec"]))
        return read_surveys([path], folder / "scratch")


def test_every_clean_new_galaxy_is_in_one_part_by_its_patch_of_sky(tmp_path: Path) -> None:
    (found,) = read(tmp_path)

    parts = {name: int((found.part == name).sum()) for name in ("train", "selection", "held_out")}
    assert found.row.tolist() == list(range(NUM))
    assert sum(parts.values()) == NUM
    # Of a small table 18 % are tested on and 8 % choose, give or take what 400 patches leave to chance.
    assert parts["held_out"] == pytest.approx(0.18 * NUM, abs=3.5 * (0.18 * 0.82 * NUM) ** 0.5)
    assert parts["selection"] == pytest.approx(0.08 * NUM, abs=3.5 * (0.08 * 0.92 * NUM) ** 0.5)
    assert found.redshift == pytest.approx(table()["z_spec"])
    assert found.ra_deg == pytest.approx(table()["ra"])
    assert found.magnitudes[:, 2] == pytest.approx(table()["r"])


def test_of_many_galaxies_fewer_are_tested_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (few,) = read(tmp_path)
    (tmp_path / "many").mkdir()
    monkeypatch.setattr(surveys, "FEW_GALAXIES", NUM - 1)
    (many,) = read(tmp_path / "many")

    assert (many.part == "held_out").sum() == pytest.approx(0.08 * NUM, abs=20)
    assert (many.part == "held_out").sum() < (few.part == "held_out").sum()
    monkeypatch.setattr(surveys, "FEW_GALAXIES", NUM)
    (tmp_path / "just").mkdir()
    assert read(tmp_path / "just")[0].part.tolist() == few.part.tolist()


def put(column: str, value: float) -> Callable[[Columns], None]:
    """Give the first galaxy another value."""

    def change(columns: Columns) -> None:
        columns[column][0] = value

    return change


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        (put("z_spec", 0.003), False),
        (put("z_spec", 0.0031), True),
        (put("z_spec", 0.6999), True),
        (put("z_spec", 0.7), False),
        (put("z_spec", np.nan), False),
        (put("z_spec", -1.0), False),
        (put("ra", np.nan), False),
        (put("dec", np.nan), False),
        (put("u", -9999.0), False),
        (put("g", MEAN[1] + 3), False),
    ],
)
def test_only_clean_galaxies_with_a_redshift_and_a_place_are_learned_from(
    change: Callable[[Columns], None], is_kept: bool, tmp_path: Path
) -> None:
    (found,) = read(tmp_path, change)

    assert found.row.tolist() == list(range(0 if is_kept else 1, NUM))


@pytest.mark.parametrize(("offset_arcsec", "is_kept"), [(0.0, False), (1.4, False), (1.6, True)])
@pytest.mark.parametrize("along", ["ra", "dec"])
def test_a_galaxy_of_the_sample_is_left_out(along: str, offset_arcsec: float, is_kept: bool, tmp_path: Path) -> None:
    """The second one, at 30 degrees north, where a degree of right ascension is shorter."""
    sample = {name: table()[name][1:2].copy() for name in ("ra", "dec")}
    sample[along] += offset_arcsec * ARCSEC / (np.cos(np.radians(30)) if along == "ra" else 1)

    (found,) = read(tmp_path, sample=sample)

    assert (1 in found.row) == is_kept
    assert len(found.row) == NUM - (not is_kept)


def test_a_table_with_nothing_new_or_in_few_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"my\.csv has no clean galaxy with a redshift and a position that is not in"):
        read(tmp_path, lambda columns: columns["z_spec"].fill(0.9))
    (tmp_path / "all").mkdir()
    with pytest.raises(SourceError, match=r"my\.csv has no clean galaxy"):
        read(tmp_path / "all", sample=table())
    (tmp_path / "patch").mkdir()
    with pytest.raises(SourceError, match=r"my\.csv has 400 clean galaxies .*: 0 would be left .*; 10 are needed for"):
        read(tmp_path / "patch", lambda columns: (columns["ra"].fill(10.1), columns["dec"].fill(0.1)))


def test_a_table_with_images_or_in_other_bands_is_none(tmp_path: Path) -> None:
    images = np.zeros((2, 5, 32, 32), np.float32)
    np.savez(tmp_path / "my.npz", images=images, magnitudes=np.array([MEAN, MEAN]))
    (tmp_path / "scratch").mkdir()

    with pytest.raises(SourceError, match=r"my\.npz is no table of u, g, r, i, z without images"):
        read_surveys([tmp_path / "my.npz"], tmp_path / "scratch")


def test_a_galaxy_of_two_tables_is_in_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = table(), table(1)
    second["ra"][: NUM // 2] += 0.5
    for name, columns in (("a.csv", first), ("b.csv", second)):
        rows = np.column_stack(list(columns.values()))
        np.savetxt(tmp_path / name, rows, delimiter=",", fmt="%.9f", header=",".join(columns), comments="")
    (tmp_path / "scratch").mkdir()
    far = SimpleNamespace(ra_deg=np.array([300.0]), dec_deg=np.array([-60.0]))
    monkeypatch.setattr(surveys, "load_sources", lambda: far)

    one, other = read_surveys([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "scratch")

    assert (len(one.row), other.row.tolist()) == (NUM, list(range(NUM // 2)))
    assert [survey.name for survey in (one, other)] == ["a.csv", "b.csv"]


def test_a_survey_is_called_what_it_is_known_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = read(tmp_path)
    num_taught = int((found.part == "train").sum())

    assert found.sha256 == file_sha256(tmp_path / "my.csv")
    assert (found.title, found.tests) == ("my.csv", f"my.csv, {HELD_OUT}")
    assert (found.training_data.name, found.training_data.num_rows) == ("my.csv", num_taught)
    monkeypatch.setitem(surveys.KNOWN, found.sha256, (STRIPE_82, "from somewhere"))
    assert (found.title, found.training_data.name) == (STRIPE_82, f"{STRIPE_82}: from somewhere")
    assert found.training_data.sha256 == found.sha256


def test_a_part_is_rendered_in_blocks_from_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = read(tmp_path, put("z_spec", 0.9))
    asked: list[tuple[int, int]] = []

    def images(rows: np.ndarray, seed: int) -> np.ndarray:
        asked.append((len(rows), seed))
        return rows["magnitudes"][:, :, None, None].astype(np.float32)

    monkeypatch.setattr(surveys, "_images", images)
    monkeypatch.setattr(surveys, "ROWS_AT_ONCE", 10)

    rows = found.rendered("selection", 7)

    is_asked = found.part == "selection"
    count = int(is_asked.sum())
    assert (len(rows), rows.num_real) == (count, count)
    assert asked == [(min(10, count - start), 7) for start in range(0, count, 10)]
    assert np.array_equal(rows.images[:, :, 0, 0], rows.magnitudes)
    assert rows.redshifts.numpy() == pytest.approx(found.redshift[is_asked])
    assert rows.magnitudes.numpy() == pytest.approx(found.magnitudes[is_asked])


@pytest.mark.parametrize(("part", "chance"), [("train", 2_001), ("selection", 2_000)])
def test_catalogues_are_the_sample_and_each_survey_with_chances_of_their_own(
    part: Any, chance: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = read(tmp_path)
    sample = SimpleNamespace(photometry=SimpleNamespace(magnitudes=np.ones((3, 5))), redshift=np.ones(3))
    monkeypatch.setattr(surveys, "load_sources", lambda: SimpleNamespace(of=lambda one: sample if one == part else 1))
    monkeypatch.setattr(surveys, "rendered", lambda sources, seed: (sources, seed))
    monkeypatch.setattr(Survey, "rendered", lambda self, part, seed: (part, seed))

    first, second, third = catalogues(part, [found, found], 2)

    assert first.render() == (sample, chance)
    assert [one.render() for one in (second, third)] == [(part, 1_000 + chance), (part, 2_000 + chance)]
    assert (len(first.redshift), len(second.redshift)) == (3, int((found.part == part).sum()))
    assert second.magnitudes == pytest.approx(found.magnitudes[found.part == part])


def test_an_image_is_rendered_from_what_was_measured_and_chances_of_the_identifier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[object, ...]] = []

    def note(name: str, result: Any) -> Callable[..., Any]:
        return lambda *given: told.append((name, *given)) or result

    photometry = SimpleNamespace(object_id="identifiers")
    chances = SimpleNamespace(structure="chance of structure", view="view", pixels="pixels")
    monkeypatch.setattr(surveys, "photometry_of", note("photometry", photometry))
    monkeypatch.setattr(surveys, "draw_chances", note("chances", chances))
    monkeypatch.setattr(surveys, "apparent_structure", note("laws", "by law"))
    monkeypatch.setattr(surveys, "measured_structure", note("measured", "shape"))
    monkeypatch.setattr(surveys.render, "render", note("render", "images"))

    rows: Any = "rows"
    assert surveys._images(rows, 7) == "images"
    assert told == [
        ("photometry", rows),
        ("chances", 7, "identifiers"),
        ("laws", photometry, "chance of structure"),
        ("measured", rows, "by law"),
        ("render", photometry, "shape", "view", "pixels"),
    ]


def test_the_tables_that_the_shipped_weights_learned_from_are_known() -> None:
    of_tables = {one.sha256: one.name for one in shipped().card.knowledge.training[2:]}

    assert of_tables == {sha256: ": ".join(words) for sha256, words in surveys.KNOWN.items()}


@pytest.mark.parametrize(("num", "is_enough"), [(9, False), (10, True)])
def test_ten_galaxies_of_each_part_are_enough(
    num: int, is_enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups are dealt to percents by hand: 18 are for tests and the next 8 to choose by."""
    percent = np.repeat([0, 18, 26, 17, 25, 99], [num, 10, 10, 1, 1, NUM - num - 22])
    seeds: list[tuple[int, int]] = []
    monkeypatch.setattr(surveys, "folds", lambda group, num, seed: seeds.append((num, seed)) or percent)

    if not is_enough:
        percent[percent == 17] = 99
        with pytest.raises(SourceError, match=r"my\.csv has 400 clean galaxies .*: 9 would be left"):
            read(tmp_path)
        return
    (found,) = read(tmp_path)
    names = {0: "held_out", 17: "held_out", 18: "selection", 25: "selection", 26: "train", 99: "train"}
    assert found.part.tolist() == [names[int(one)] for one in percent]
    assert seeds == [(100, 7)]

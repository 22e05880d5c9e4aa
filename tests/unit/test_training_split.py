"""A galaxy, its duplicate and its neighbours on the sky are on one side of a split."""

import hashlib

import numpy as np
import pytest

from scripts.models.training.split import DUPLICATE_ARCSEC, folds, groups


def survey(num: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Galaxies over a thousand square degrees."""
    generator = np.random.default_rng(seed)
    return {
        "object_id": np.arange(num),
        "ra_deg": generator.uniform(100, 130, num),
        "dec_deg": generator.uniform(-10, 25, num),
        "magnitudes": generator.normal(18, 1, (num, 5)),
    }


def test_folds_are_about_equal() -> None:
    shares = np.bincount(folds(groups(**survey(6_000)), 4), minlength=4) / 6_000

    assert np.abs(shares - 0.25).max() < 0.03


def test_a_patch_of_sky_is_one_group() -> None:
    galaxies = survey(6_000)
    names = groups(**galaxies)
    band = np.floor(galaxies["dec_deg"] / 0.5)
    width = 0.5 / np.cos(np.radians((band + 0.5) * 0.5))
    patches = band * 1e4 + np.floor(galaxies["ra_deg"] / width)

    assert len(np.unique(names)) == len(np.unique(patches))
    for patch in np.unique(patches)[:200]:
        assert len(set(names[patches == patch])) == 1


def test_a_duplicate_across_the_border_of_two_patches_joins_them() -> None:
    offset = 0.4 * DUPLICATE_ARCSEC / 3600
    galaxies = survey(80)
    galaxies["dec_deg"] = np.repeat([12.0 + offset, 12.0 - offset], 40)
    galaxies["ra_deg"] = np.tile(np.linspace(100, 160, 40), 2)

    names = groups(**galaxies)

    assert (names[:40] == names[40:]).all()
    assert len(np.unique(names)) == 40


def test_galaxies_without_a_position_are_told_apart_by_identifier_and_light() -> None:
    galaxies = survey(600)
    galaxies["ra_deg"] = np.full(600, np.nan)
    galaxies["magnitudes"][300:400] = galaxies["magnitudes"][:100]
    galaxies["object_id"][500:] = galaxies["object_id"][100:200]

    names = groups(**galaxies)

    assert (names[300:400] == names[:100]).all()
    assert (names[500:] == names[100:200]).all()
    assert len(np.unique(names)) == 400


def test_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    galaxies = survey(1_000)
    shuffled = np.random.default_rng(1).permutation(1_000)

    names = groups(**galaxies)

    assert (groups(**{name: values[shuffled] for name, values in galaxies.items()}) == names[shuffled]).all()
    assert (folds(names, 4) != folds(names, 4, seed=1)).any()


def test_folds_keep_groups_together() -> None:
    names = np.repeat(np.arange(500), 3).astype(str)

    dealt = folds(names, 5)

    assert (dealt.reshape(-1, 3) == dealt[::3, None]).all()
    assert np.bincount(dealt, minlength=5).min() > 200


def test_a_group_is_named_by_its_patch_of_sky_or_its_light() -> None:
    """So that a galaxy is dealt to the same fold whatever galaxies are added."""
    unknown, magnitudes = np.nan, np.full((7, 5), 18.0)
    magnitudes[3] = [17.12344, np.inf, np.nan, 15, 14]
    magnitudes[4] = [17, 16, 15, 14, 13.00006]

    names = groups(
        np.array([1, 2, 3, 4, 5, 1, 7]),
        np.array([0.1, 359.9, 150.2, unknown, unknown, unknown, 200.0]),
        np.array([0.1, -0.1, 60.3, 10.0, unknown, unknown, 90.0]),
        magnitudes,
    )

    # At 60 degrees north a patch is 1.007 degrees of right ascension wide; at the pole there is one.
    assert names.tolist() == [
        *("0 0", "-1 719", "120 149", "171234 990000 990000 150000 140000", "170000 160000 150000 140000 130001"),
        *("0 0", "180 0"),
    ]


@pytest.mark.parametrize("seed", [0, 3])
def test_a_fold_is_the_hash_of_a_name(seed: int) -> None:
    names = np.array(["0 0", "120 149", "180 0", "0 0"])

    dealt = folds(names, 5, seed=seed) if seed else folds(names, 5)

    hashes = [int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:16], 16) for name in names]
    assert dealt.tolist() == [one % 5 for one in hashes]

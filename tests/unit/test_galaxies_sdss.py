"""The real galaxies are the expected ones, clean, and split by source."""

import hashlib

import numpy as np
import pytest

from scripts.simulation import sdss
from scripts.simulation.photometry import Photometry, asinh_magnitudes
from scripts.simulation.sdss import SourceCatalogError, load_sources


def test_clean_galaxies_are_counted() -> None:
    sources = load_sources()

    assert len(sources.photometry) == len(sources.redshift) == 9_934
    assert sources.removed["extinction in r above 0.5 mag"] == 25


def test_the_rows_and_parts_that_the_weights_were_trained_on_never_change() -> None:
    sources = load_sources()
    rows = zip(sources.photometry.object_id.tolist(), sources.part.tolist(), strict=True)

    digest = hashlib.sha256("".join(f"{identifier} {part}\n" for identifier, part in rows).encode()).hexdigest()

    assert {part: len(sources.of(part).redshift) for part in ("train", "selection", "held_out")} == {
        "train": 6_197,
        "selection": 704,
        "held_out": 3_033,
    }
    assert digest == "ca4585b377b11a8dbb7bc33669a4c6ee730e2fe95686663046150abc5c1b5147"


def test_positions_belong_to_their_galaxies() -> None:
    sources = load_sources().of("held_out").first(3)

    digests = [sdss._position_digest(*position) for position in zip(sources.ra_deg, sources.dec_deg, strict=True)]

    assert [sdss.object_id(digest) for digest in digests] == sources.photometry.object_id.tolist()


def test_clean_galaxies_are_plausible() -> None:
    sources = load_sources()
    magnitudes = sources.photometry.magnitudes

    assert np.all((magnitudes > 10) & (magnitudes < 30))
    assert np.all((sources.redshift > 0) & (sources.redshift < 1))


def test_no_source_is_in_two_parts() -> None:
    sources = load_sources()
    identifiers = [set(sources.of(part).photometry.object_id.tolist()) for part in ("train", "selection", "held_out")]

    assert sum(map(len, identifiers)) == len(set.union(*identifiers)) == len(sources.redshift)


def test_part_depends_on_the_position_alone() -> None:
    digest = sdss._position_digest(182.1234567, -1.25)

    assert sdss.part_of(digest) == sdss.part_of(sdss._position_digest(182.1234567, -1.25))
    assert 0 < sdss.object_id(digest) < 2**63


def test_held_out_share_is_thirty_percent() -> None:
    parts = load_sources().part

    # The standard error of a share among 10,000 is half a percent.
    assert np.mean(parts == "held_out") == pytest.approx(0.30, abs=0.02)
    assert np.mean(parts == "selection") == pytest.approx(0.07, abs=0.01)


def test_changed_catalogue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdss, "SHA256", "0" * 64)

    with pytest.raises(SourceCatalogError, match=r"kcorrect 5\.1\.9"):
        load_sources.__wrapped__()


def test_asinh_magnitudes_equal_logarithmic_ones_for_bright_galaxies() -> None:
    assert asinh_magnitudes(np.full(5, 100.0)) == pytest.approx([17.5] * 5, abs=1e-4)


def test_asinh_magnitudes_of_negative_flux_are_finite() -> None:
    assert np.isfinite(asinh_magnitudes(np.full(5, -1.0))).all()


def test_a_band_that_is_faint_takes_the_petrosian_difference_of_r() -> None:
    flux = np.full((2, 5), 20.0)
    error = np.ones((2, 5))
    error[1, 0] = 1.01
    petrosian = flux * np.array([0.9, 1.0, 0.8, 1e-9, 1.0])

    found = Photometry(np.arange(2), flux, error, petrosian, np.zeros((2, 5))).petrosian_minus_model

    own, of_r = -2.5 * np.log10([0.9, 0.8])
    assert found[0] == pytest.approx([own, 0.0, of_r, 0.7, 0.0])
    assert found[1] == pytest.approx([of_r, 0.0, of_r, 0.7, 0.0])


@pytest.mark.parametrize(("model", "petrosian", "difference"), [(0.0, 1.2e-3, -0.198), (1.2e-3, -1.0, 0.198)])
def test_a_flux_that_is_none_counts_as_the_faintest(model: float, petrosian: float, difference: float) -> None:
    whole = np.ones((1, 5))

    found = Photometry(np.arange(1), model * whole, 0 * whole, petrosian * whole, 0 * whole).petrosian_minus_model

    assert found[0] == pytest.approx([difference] * 5, abs=1e-3)

"""Whose a name of a dataset is: it is never taken from another source unasked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inference.contract import DatasetCard, encode
from scripts.command.errors import UsageError
from scripts.data.sample import SAMPLE
from scripts.data.taken import free_name, name_of, refuse_taken


def dataset(root: Path, name: str, provenance: str, *, source: str = "", partition: str = "10MB") -> None:
    folder = root / "datasets" / name / partition
    folder.mkdir(parents=True)
    card = DatasetCard(name=name, partition=partition, num_rows=1, shards=(), arrays={}, seed=0, provenance=provenance)
    (folder / "dataset.json").write_bytes(encode(card))
    if source:
        (folder.parent / "source.txt").write_text(f"{source}\n")


def is_made_from(file: str) -> Callable[[str], bool]:
    return lambda provenance: provenance.startswith(f"Made from {file}:")


@pytest.mark.parametrize("name", ["", "."])
def test_a_folder_is_named_as_it_is_called_even_from_inside(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stamps" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "stamps" / "a")

    assert name_of(Path(name)) == "a"
    assert name_of(Path("..")) == "stamps"
    assert name_of(Path(f"{'x' * 70}.csv")) == "x" * 64


def test_a_number_is_put_behind_a_name_that_another_source_has(tmp_path: Path) -> None:
    for name in ("my", "my-2", "x" * 64):
        dataset(tmp_path, name, "Made from elsewhere (1 bytes): …", source=f"/elsewhere/{name}.csv")

    def name_for(file: str, *, may_replace: bool = False) -> str:
        return free_name(Path(file), root=tmp_path, is_same=lambda _: False, may_replace=may_replace)

    assert name_for("/here/my.csv") == "my-3"
    assert name_for("/elsewhere/my.csv") == "my"
    assert name_for("/here/other.csv") == "other"
    assert name_for(f"/here/{'x' * 70}.csv") == f"{'x' * 60}-2"
    assert name_for("/here/my.csv", may_replace=True) == "my"
    # The sample is never replaced.
    assert name_for(f"/here/{SAMPLE}.csv") == name_for(f"/here/{SAMPLE}.csv", may_replace=True) == f"{SAMPLE}-2"


@pytest.mark.parametrize(
    ("provenances", "whose"),
    [
        ([], ""),
        (["Made from my.csv: u to z"], ""),
        (["Made from your.csv: u to z"], "your.csv"),
        (["Made from my.csv: u to z", "Made from your.csv: u: v"], "your.csv"),
        (["Simulated galaxies"], "Simulated galaxies"),
    ],
)
def test_a_dataset_that_does_not_say_its_source_is_told_by_its_cards(
    provenances: list[str], whose: str, tmp_path: Path
) -> None:
    for number, provenance in enumerate(provenances, start=1):
        dataset(tmp_path, "mine", provenance, partition=f"{number}MB")

    def refuse() -> None:
        refuse_taken("mine", "/here/my.csv", root=tmp_path, is_same=is_made_from("my.csv"))

    if not whose:
        refuse()
        return
    with pytest.raises(UsageError) as caught:
        refuse()
    assert str(caught.value) == (
        f"datasets/mine was made from {whose}, and would be replaced. Give this one another NAME, or say YES=1."
    )


def test_the_sample_is_nobodys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"datasets/{SAMPLE} was made from the sample of real galaxies, and would be"):
        refuse_taken(SAMPLE, "/here/my.csv", root=tmp_path, is_same=lambda _: True)

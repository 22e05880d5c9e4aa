"""A model is a folder: found by its name or one clear error, there whole or not at all."""

import math
import re
from pathlib import Path

import msgspec
import pytest

from inference.checksum import file_sha256
from inference.contract import DatasetCard, ShardEntry
from inference.errors import ModelError
from inference.models import Model, mismatches, read_model, refuse_dataset, settle_model, shipped, without_images
from inference.models.card import (
    MAGNITUDES_OF_ONE,
    BinnedPz,
    EvenEdges,
    Graph,
    Inputs,
    Knowledge,
    ModelCard,
    Quantiles,
    Redshift,
    TrainingData,
    encode_card,
)
from scripts.command.errors import UsageError
from scripts.command.model import astromae, find_model, model_names, new_model
from scripts.command.program import exit_status
from scripts.model import line, main, show
from tests.factories import make_card, make_request, write_model


def test_the_shipped_model_is_what_its_card_says() -> None:
    model = shipped()

    assert file_sha256(model.weights) == model.card.weights_sha256
    assert (model.card.inputs.bands, model.card.inputs.side_px) == (tuple("ugriz"), 32)
    assert model.card.inputs.row_bytes == 20_520
    assert without_images().card.inputs.row_bytes == 5 * 8
    images_and_ebv = msgspec.structs.replace(model.card.inputs, magnitudes=None, columns=("ebv",))
    assert images_and_ebv.row_bytes == 20_480 + 8


def test_a_card_is_written_as_it_is_read() -> None:
    card = make_card(output=BinnedPz(edges=EvenEdges(start=0.0, stop=0.4, num_bins=180)))

    assert msgspec.json.decode(encode_card(card), type=ModelCard) == card
    assert encode_card(shipped().card) == (shipped().folder / "card.json").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": ("g", "r")}, "2 bands; 3 to 12 are read"),
        ({"bands": tuple("abcdefghijklm")}, "13 bands; 3 to 12 are read"),
        ({"bands": ("g", "r", "g")}, "bands names one twice: g r g"),
        ({"side_px": 15}, "cutouts of 15 pixels; 16 to 128 are read"),
        ({"side_px": 129}, "cutouts of 129 pixels; 16 to 128 are read"),
        ({"side_px": 0, "magnitudes": None}, "neither images nor magnitudes"),
        ({"stretch": "asinh"}, "softening belongs to stretch asinh"),
        ({"softening": (1.0,)}, "softening belongs to stretch asinh"),
        ({"stretch": "asinh", "softening": (0.0,)}, "softening is one positive number"),
        ({"stretch": "asinh", "softening": (1.0, 2.0)}, "softening is one positive number for all bands or one per"),
        ({"pixel_unit": "counts"}, "Invalid enum value 'counts'"),
        ({"channels": 5}, "unknown field `channels`"),
    ],
)
def test_inputs_that_contradict_themselves_are_refused(changes: dict[str, object], message: str) -> None:
    stated = {**msgspec.to_builtins(shipped().card.inputs), **changes}

    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(stated, Inputs)


@pytest.mark.parametrize(
    "changes",
    [
        {"bands": ("g", "r", "i")},
        {"bands": tuple("abcdefghijkl")},
        {"side_px": 16},
        {"side_px": 128},
        {"side_px": 0},
        {"magnitudes": None},
        {"stretch": "asinh", "softening": (1.0,)},
        {"stretch": "asinh", "softening": (1.0, 2.0, 3.0, 4.0, 5.0)},
    ],
)
def test_inputs_may_go_to_their_limits(changes: dict[str, object]) -> None:
    stated = {**msgspec.to_builtins(shipped().card.inputs), **changes}

    inputs = msgspec.convert(stated, Inputs)

    assert {name: getattr(inputs, name) for name in changes} == changes


def test_units_of_light_differ_by_their_prefixes() -> None:
    brighter = {unit: 10 ** (0.4 * (MAGNITUDES_OF_ONE["nJy"] - one)) for unit, one in MAGNITUDES_OF_ONE.items()}

    jansky = {"Jy": 1e9, "mJy": 1e6, "uJy": 1e3, "nJy": 1.0}
    # A maggy is 3631 Jy, rounded to a tenth of a magnitude.
    assert brighter == pytest.approx({"maggy": 3631e9, "nanomaggy": 3631.0, **jansky}, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (BinnedPz, {"kind": "binned", "edges": [0.0, 0.2, 0.1]}, "edges does not ascend"),
        (BinnedPz, {"kind": "binned", "edges": [0.0, 0.1, 0.1]}, "edges does not ascend"),
        (BinnedPz, {"kind": "binned", "edges": [0.0, 0.1, math.inf]}, "edges does not ascend"),
        (BinnedPz, {"kind": "binned", "edges": [0.0, 0.2]}, "edges has 2 numbers"),
        (Quantiles, {"kind": "quantiles", "levels": [0.16, 0.84]}, "levels has 2 numbers"),
        (Quantiles, {"kind": "quantiles", "levels": [0.16, 0.5, 0.83]}, "levels do not reach from .16 to .84"),
        (Quantiles, {"kind": "quantiles", "levels": [0.2, 0.5, 0.9]}, "levels do not reach from .16 to .84"),
    ],
)
def test_outputs_that_are_no_distribution_are_refused(kind: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(values, kind)


def test_an_output_says_how_many_numbers_it_is() -> None:
    even = BinnedPz(edges=EvenEdges(start=0.1, stop=0.4, num_bins=3))

    assert even.all_edges == pytest.approx((0.1, 0.2, 0.3, 0.4))
    assert (even.num_values, BinnedPz(edges=(0.0, 0.1, 0.5)).num_values) == (3, 2)
    assert Quantiles(levels=(0.16, 0.5, 0.84)).num_values == 3


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("photometry", {"mean": [1.0, 2.0]}, "photometry.mean has 2 numbers; 5 bands need 5"),
        ("photometry", {"median_colors": [1.0] * 5}, "photometry.median_colors has 5 numbers; 5 bands need 4"),
        ("photometry", {"color_sigma": [1.0] * 5}, "photometry.color_sigma has 5 numbers; 5 bands need 4"),
        ("photometry", {"covariance": [[1.0] * 5] * 4}, "photometry.covariance has 4 numbers; 5 bands need 5"),
        ("photometry", {"covariance": [[1.0] * 5] * 4 + [[1.0]]}, "photometry.covariance[4] has 1 numbers; 5 bands"),
        ("photometry", {"reference_band": "y"}, "photometry.reference_band y is none of the bands u g r i z"),
        ("domain", {"sky_noise": [1.0] * 4}, "domain.sky_noise has 4 numbers for 5 bands"),
        ("domain", {"aperture_px": 16, "core_px": 17}, "the core is inside the aperture"),
        ("domain", {"aperture_px": 33}, "the core is inside the aperture, and this inside the cutout"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(part: str, changes: dict[str, object], message: str) -> None:
    card = msgspec.to_builtins(shipped().card)
    card[part] |= changes

    with pytest.raises(msgspec.ValidationError, match=re.escape(message)):
        msgspec.convert(card, ModelCard)


def test_the_core_may_be_the_whole_cutout() -> None:
    domain = shipped().card.domain

    make_card(domain=msgspec.structs.replace(domain, core_px=32, aperture_px=32))


def test_a_graph_is_of_a_network_as_onnx() -> None:
    with pytest.raises(ValueError, match="graph belongs to the kind onnx, which needs it"):
        make_card(graph=Graph(output="z"))
    with pytest.raises(ValueError, match="graph belongs to the kind onnx, which needs it"):
        make_card(kind="onnx")


def test_what_a_card_leaves_out_is_as_it_was_when_there_was_no_choice() -> None:
    stated = msgspec.to_builtins(shipped().card)
    few = {name: stated[name] for name in ("name", "weights_name", "weights_sha256", "num_parameters", "inputs")}

    card = msgspec.convert({**few, "kind": "onnx", "graph": {"output": "z"}}, ModelCard)

    assert (card.output, card.min_pixel, card.photometry, card.domain) == (Redshift(), -1000.0, None, None)
    assert (card.graph.bands_last, card.graph.images) == (False, "")


def test_a_model_is_found_by_its_name_and_the_shipped_one_without(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "mine")

    assert find_model("", root=tmp_path) is shipped()
    assert find_model("astromae", root=tmp_path) is shipped()
    assert find_model("mine", root=tmp_path).folder == tmp_path / "models" / "mine"
    assert find_model("magnitudes", root=tmp_path) is without_images()
    assert model_names(tmp_path) == ["astromae", "magnitudes", "mine"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mime", "MODEL=mime: there is no such model. Did you mean mine"),
        ("../mine", r"MODEL=\.\./mine is no name"),
        ("a/b", "MODEL=a/b is no name"),
    ],
)
def test_a_name_that_is_no_model_is_refused(tmp_path: Path, name: str, message: str) -> None:
    write_model(tmp_path / "models" / "mine")

    with pytest.raises(UsageError, match=message):
        find_model(name, root=tmp_path)


def test_a_folder_that_was_renamed_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "other", name="mine")

    with pytest.raises(ModelError, match="other holds the model mine"):
        find_model("other", root=tmp_path)


def test_a_card_that_cannot_be_read_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('{"name": "a/b"}')

    with pytest.raises(ModelError, match=r"card\.json is no card of a model \(.*\$\.name"):
        read_model(tmp_path)


def test_a_new_model_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_model("mine", tmp_path) as folder:
        (folder / "half" / "written").touch()
    assert list((tmp_path / "models").iterdir()) == []

    with new_model("mine", tmp_path) as folder:
        assert model_names(tmp_path) == ["astromae", "magnitudes"]
        (folder / "card.json").write_text("whole")
    assert (tmp_path / "models" / "mine" / "card.json").read_text() == "whole"


@pytest.mark.parametrize(
    ("name", "message"),
    [("mine", "is taken"), ("astromae", "is the shipped"), ("magnitudes", "is the shipped"), ("a/b", "no name")],
)
def test_a_new_model_has_a_name_of_its_own(tmp_path: Path, name: str, message: str) -> None:
    write_model(tmp_path / "models" / "mine")

    with pytest.raises(UsageError, match=message), new_model(name, tmp_path):
        pass


def test_a_request_gets_the_deployed_model_and_no_other() -> None:
    card = make_card(name="mine")
    settled = settle_model(make_request(), card)

    assert (settled.model, settled.model_sha256) == ("mine", card.weights_sha256)
    assert settle_model(settled, card) == settled
    with pytest.raises(ModelError, match=r"for the model theirs \(any weights\); deployed is mine"):
        settle_model(make_request(model="theirs"), card)
    with pytest.raises(ModelError, match=r"for the model mine \(bbbb"):
        settle_model(make_request(model="mine", model_sha256="b" * 64), card)


def test_commands_for_weights_refuse_a_network_as_onnx(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "theirs", kind="onnx", graph=Graph(output="pz"))

    with pytest.raises(UsageError, match="MODEL=theirs is a network as ONNX"):
        astromae("theirs", root=tmp_path)


def test_make_model_lists_and_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models" / "mine")
    (tmp_path / "models" / "broken").mkdir()

    assert exit_status(main, {}) == 0
    listed = capsys.readouterr().out
    assert exit_status(main, {"MODEL": "astromae"}) == 0

    assert "astromae" in listed
    assert "32x32 u g r i z, magnitudes u g r i z, shipped" in listed
    assert "models/broken is no model" in listed
    assert "## What it must not be used for" in capsys.readouterr().out


def test_a_line_says_what_a_model_reads_and_whether_it_came_with_the_code(tmp_path: Path) -> None:
    write_model(tmp_path / "mine")
    mine, bare = read_model(tmp_path / "mine"), without_images()
    images = msgspec.structs.replace(mine.card.inputs, magnitudes=None)
    of_images = Model(mine.folder, msgspec.structs.replace(mine.card, inputs=images))

    checksum = mine.card.weights_sha256[:12]
    assert line(mine) == f"mine                 {checksum}  astromae: 32x32 u g r i z, magnitudes u g r i z"
    assert line(of_images) == f"mine                 {checksum}  astromae: 32x32 u g r i z, no magnitudes"
    assert line(bare).endswith(f"  {bare.card.kind}: no images, magnitudes u g r i z, shipped")


@pytest.mark.parametrize("has_text", [True, False])
def test_the_card_of_a_model_is_shown_in_words_where_it_has_any(
    has_text: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "mine")
    (tmp_path / "mine" / "CARD.md").unlink(missing_ok=True)
    if has_text:
        (tmp_path / "mine" / "CARD.md").write_text("for nearby galaxies", encoding="utf-8")
    model = read_model(tmp_path / "mine")

    show(model)

    text = "for nearby galaxies" if has_text else "It has no card in words."
    assert capsys.readouterr().out == f"{line(model)}\n{tmp_path}/mine/\n\n{text}\n"


def test_a_new_model_is_imported_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "scripts.models.importing.import_model", lambda *given, root: asked.append((*given, str(root))) or shipped()
    )

    assert exit_status(main, {"FILE": "a.onnx", "NAME": "theirs", "CARD": "card.toml"}) == 0

    assert asked == [("a.onnx", "theirs", "card.toml", ".")]
    assert capsys.readouterr().out == f"{line(shipped())}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"FILE": "a.onnx", "MODEL": "mine"}, "FILE=a.onnx makes a new model: NAME names it, not MODEL."),
        ({"NAME": "theirs", "CARD": "a.toml"}, "NAME is of a new model, whose network FILE names."),
        ({"CARD": "a.toml"}, "CARD is of a new model, whose network FILE names."),
    ],
)
def test_what_is_of_a_new_model_needs_its_file(
    given: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(main, given) == 2
    assert capsys.readouterr().err == f"{said}\n"


def make_dataset_card(**changes: object) -> DatasetCard:
    facts = {"name": "d", "partition": "10MB", "num_rows": 0, "shards": (), "seed": 0, "provenance": "p"}
    return DatasetCard(**{**facts, "arrays": {"images": "", "magnitudes": ""}, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dataset", "inputs", "message"),
    [
        ({"bands": ("g", "r", "z")}, {}, "has the bands g r z; the model m reads u g r i z: u i is missing"),
        ({"arrays": {"images": ""}}, {}, "holds images; the model m also reads magnitudes"),
        ({}, {"columns": ("ebv",)}, "holds images, magnitudes; the model m also reads ebv"),
        ({"pixel_scale_arcsec": 0.405}, {}, r"pixels of 0\.405 arcsec"),
        ({"pixel_scale_arcsec": 0.262}, {}, r"pixels of 0\.262 arcsec; the model m was trained on 0\.396 arcsec"),
    ],
)
def test_a_dataset_that_a_model_cannot_read_is_refused(
    dataset: dict[str, object], inputs: dict[str, object], message: str
) -> None:
    reads = msgspec.structs.replace(shipped().card.inputs, **inputs)

    refuse_dataset(make_dataset_card(pixel_scale_arcsec=0.398), shipped().card, "d/")
    with pytest.raises(ModelError, match=message):
        refuse_dataset(make_dataset_card(**dataset), make_card(name="m", inputs=reads), "d/")


@pytest.mark.parametrize(
    "dataset",
    [
        {"pixel_scale_arcsec": 0.404},
        {"arrays": {}},
        {"bands": tuple("yzirgu")},
        {"arrays": {"images": "", "magnitudes": "", "ebv": ""}},
    ],
)
def test_a_dataset_may_have_more_and_be_two_percent_off(dataset: dict[str, object]) -> None:
    refuse_dataset(make_dataset_card(**dataset), shipped().card, "d/")


def test_what_a_model_does_not_read_may_be_anything() -> None:
    bare = make_dataset_card(
        arrays={"magnitudes": ""}, dereddened=True, pixel_scale_arcsec=9.0, image_origin="measured"
    )
    of_images = msgspec.structs.replace(shipped().card.inputs, magnitudes=None)

    refuse_dataset(bare, without_images().card, "d/")
    assert mismatches(bare, without_images().card, "d/") == ()
    refuse_dataset(make_dataset_card(arrays={"images": ""}), make_card(inputs=of_images), "d/")
    assert mismatches(make_dataset_card(dereddened=False), make_card(inputs=of_images), "d/") == ()


@pytest.mark.parametrize(
    ("dataset", "note"),
    [
        ({"dereddened": True, "image_origin": "rendered"}, ""),
        ({"dereddened": None}, "Whether the magnitudes of d/ are corrected for Galactic extinction is not known; the"),
        (
            {"dereddened": False},
            "The magnitudes of d/ are not corrected for Galactic extinction; the model astromae was",
        ),
        (
            {"dereddened": True, "image_origin": "measured"},
            "The images of d/ are measured; the model astromae was trained on rendered ones.",
        ),
    ],
)
def test_a_dataset_unlike_what_a_model_was_trained_on_is_named(dataset: dict[str, object], note: str) -> None:
    found = mismatches(make_dataset_card(**dataset), shipped().card, "d/")

    assert len(found) == bool(note)
    assert "".join(found).startswith(note)


def test_a_run_on_what_a_model_was_trained_on_says_so() -> None:
    shards = (ShardEntry(name="0.safetensors", num_rows=1, size_bytes=1, sha256="a" * 64),)
    dataset = make_dataset_card(dereddened=True, shards=shards)
    learned = (TrainingData(name="d", num_rows=1, sha256=dataset.sha256),)
    card = msgspec.structs.replace(shipped().card, knowledge=Knowledge(training=learned))

    assert mismatches(dataset, shipped().card, "d/") == ()
    (note,) = mismatches(dataset, card, "d/")
    assert note.startswith("The model astromae was trained on galaxies of d/: redshifts and accuracy here are better")

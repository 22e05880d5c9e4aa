"""Brings a network of any origin in: checks it against its card, tries it, and makes it a model's folder."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from inference.checksum import file_sha256
from inference.models import CARD_NAME, Model, read_model, shipped
from inference.models.card import (
    DomainLimits,
    Graph,
    Inputs,
    Knowledge,
    ModelCard,
    Output,
    Part,
    PhotometryLimits,
    Redshift,
    encode_card,
)
from inference.pz import num_values
from scripts.command.errors import CommandError, UsageError
from scripts.command.model import new_model, refuse_taken
from scripts.command.repository import REPOSITORY
from scripts.command.variables import read_text
from scripts.models.card_text import write_card

NETWORK_NAME, WEIGHTS_NAME = "network.onnx", "weights.safetensors"
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operators that ONNX Runtime brings."""

PICKLES = (".pt", ".pth", ".pkl", ".ckpt", ".bin")
MAX_BYTES = 2**31 - 2**20
"""Of a file in ONNX's format."""


class CardDraft(Part, frozen=True, kw_only=True):
    """``card.toml``: what the user says of a network; the rest of a card is found."""

    inputs: Inputs
    output: Output = Redshift()
    graph: Graph | None = None
    """Names in the graph, where they cannot be found by shape."""

    photometry: PhotometryLimits | None = None
    min_pixel: float = -1000.0
    max_extinction_r: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    domain: DomainLimits | None = None
    knowledge: Knowledge = Knowledge()


def import_model(file: str, name: str, card: str, *, root: Path) -> Model:
    """Make ``models/<name>/`` from a network as ONNX with its card, or from weights of AstroMAE.

    Parameters
    ----------
    file : str
        ``.onnx``, or ``.safetensors`` with weights of AstroMAE.
    name : str
        Of the new model.
    card : str
        TOML file, see `CardDraft`; weights of AstroMAE need none.
    root : Path
        Folder that holds ``models/``.

    Raises
    ------
    UsageError
        If a variable is missing or wrong, or the card contradicts itself or the network; the message says where.
    CommandError
        If the network does not compute.
    """
    if not name:
        raise UsageError(f"FILE={file} needs a NAME for the model, as in NAME=theirs.")
    refuse_taken(name, root)
    path = Path(file).expanduser()
    if not path.is_file():
        raise UsageError(f"FILE={file}: there is no such file.")
    if path.suffix in PICKLES:
        raise UsageError(
            f"FILE={file} is a pickle, which runs code when it is read. Export the network as ONNX, "
            "`torch.onnx.export` does; `make convert` turns a published AstroMAE into safetensors."
        )
    if path.suffix == ".safetensors":
        return _import_weights(path, name, root)
    if not card:
        raise UsageError(
            f"FILE={file} needs a CARD that says what the network reads and gives: docs/models.md has one."
        )
    return _import_network(path, name, read_card(card), root)


def read_card(source: str) -> CardDraft:
    """Read ``card.toml``.

    Raises
    ------
    UsageError
        Naming the key.
    """
    try:
        return msgspec.toml.decode(read_text("CARD", Path(source)), type=CardDraft)
    except msgspec.DecodeError as error:
        raise UsageError(f"CARD={source} is not valid: {' '.join(str(error).split())}.") from error


def _import_weights(path: Path, name: str, root: Path) -> Model:
    from inference.model.weights import load_astromae

    network = load_astromae(path)
    with new_model(name, root) as folder:
        weights = Path(shutil.copyfile(path, folder / WEIGHTS_NAME))
        like = shipped().card
        card = ModelCard(
            name=name,
            kind="astromae",
            weights_name=WEIGHTS_NAME,
            weights_sha256=file_sha256(weights),
            num_parameters=sum(parameter.numel() for parameter in network.parameters()),
            inputs=like.inputs,
            photometry=like.photometry,
            max_extinction_r=like.max_extinction_r,
            domain=like.domain,
            knowledge=Knowledge(
                description=f"AstroMAE with the weights of {path.name}; inputs as the shipped model's."
            ),
        )
        write_card(folder, card)
    return read_model(root / "models" / name)


def _import_network(path: Path, name: str, draft: CardDraft, root: Path) -> Model:
    network = _load(path)
    graph = _names(network, draft)
    with new_model(name, root) as folder:
        file = folder / NETWORK_NAME
        # In one file, whatever files it came in.
        onnx.save(network, file)
        said = {key: getattr(draft, key) for key in CardDraft.__struct_fields__ if key != "graph"}
        try:
            card = ModelCard(
                name=name,
                kind="onnx",
                weights_name=NETWORK_NAME,
                weights_sha256=file_sha256(file),
                num_parameters=max(1, sum(_size(weight.dims) for weight in network.graph.initializer)),
                graph=graph,
                **said,
            )
        except ValueError as error:
            raise UsageError(f"The card contradicts itself: {error}.") from error
        (folder / CARD_NAME).write_bytes(encode_card(card))
        write_card(folder, msgspec.structs.replace(card, **_try_out(folder)))
    return read_model(root / "models" / name)


# ------------------------------------------------------------------------------------------ what the graph says


def _load(path: Path) -> onnx.ModelProto:
    try:
        network = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise UsageError(f"FILE={path} is no network as ONNX: {_line(error)}.") from error
    unknown = sorted({node.domain for node in network.graph.node if node.domain not in KNOWN_DOMAINS})
    if unknown:
        operators = sorted({node.op_type for node in network.graph.node if node.domain in unknown})
        raise UsageError(
            f"FILE={path} uses operators that ONNX Runtime does not bring: {', '.join(operators)} of "
            f"{', '.join(unknown)}. Export it without them."
        )
    external = sorted(
        {
            entry.value
            for weight in network.graph.initializer
            if uses_external_data(weight)
            for entry in weight.external_data
            if entry.key == "location"
        }
    )
    missing = [name for name in external if not (path.parent / name).is_file()]
    if missing:
        raise UsageError(f"FILE={path} keeps weights in {', '.join(missing)}, which is not next to it.")
    try:
        load_external_data_for_model(network, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UsageError(
            f"FILE={path}: its weights in {', '.join(external)} cannot be read: {_line(error)}."
        ) from error
    if network.ByteSize() > MAX_BYTES:
        raise UsageError(f"FILE={path} has {network.ByteSize() / 1e9:.1f} GB of weights; a model has at most 2 GB.")
    try:
        onnx.checker.check_model(network)
    except onnx.checker.ValidationError as error:
        raise UsageError(f"FILE={path} is no network as ONNX: {_line(error)}.") from error
    return network


def _names(network: onnx.ModelProto, draft: CardDraft) -> Graph:
    """Find which input is which, by the names of the card or by shape, and check every size that the graph states."""
    given = draft.graph
    weights = {weight.name for weight in network.graph.initializer}
    inputs = {one.name: _shape(one) for one in network.graph.input if one.name not in weights}
    outputs = {one.name: _shape(one) for one in network.graph.output}
    wanted = dict(_wanted(draft.inputs))
    found: dict[str, str] = {}
    for kind, shapes in wanted.items():
        named = getattr(given, kind) if given else ""
        fitting = [name for name, shape in inputs.items() if any(_agrees(shape, one) for one in shapes)]
        candidates = (
            [named] if named else [kind] if kind in inputs else [one for one in fitting if one not in found.values()]
        )
        if len(candidates) != 1 or candidates[0] not in fitting:
            raise UsageError(
                f"The card says that {kind} of shape {_text(shapes[0])} are read; the network reads "
                f"{'; '.join(f'{name} {_text(shape)}' for name, shape in inputs.items())}. "
                + ("Name the input under [graph] in the card." if len(candidates) > 1 else "One of them is wrong.")
            )
        found[kind] = candidates[0]
    if unread := [name for name in inputs if name not in found.values()]:
        raise UsageError(f"The network also reads {', '.join(unread)}, of which the card says nothing.")
    if any(shape[0] is not None for shape in inputs.values() if shape):
        raise UsageError(
            "The network takes a fixed number of galaxies at a time. Export it with a first axis of any length "
            "(`dynamic_axes`, `dynamic_shapes`)."
        )
    output = given.output if given and given.output in outputs else next(iter(outputs))
    if len(outputs) > 1 and (given is None or given.output not in outputs):
        raise UsageError(f"The network gives {', '.join(outputs)}: name the one to read as `output` under [graph].")
    size = num_values(draft.output)
    allowed = [(None, size)] + ([(None,)] if size == 1 else [])
    if not any(_agrees(outputs[output], one) for one in allowed):
        raise UsageError(
            f"The card says that the network gives {size} numbers per galaxy; its output {output} has the shape "
            f"{_text(outputs[output])}."
        )
    bands_last = "images" in found and not _agrees(inputs[found["images"]], wanted["images"][0])
    return Graph(**found, bands_last=bands_last, output=output)


def _wanted(inputs: Inputs) -> Iterator[tuple[str, list[tuple[int | None, ...]]]]:
    """Yield what the card says is read, and the shapes it may have."""
    num_bands, side = len(inputs.bands), inputs.side_px
    if side:
        yield "images", [(None, num_bands, side, side), (None, side, side, num_bands)]
    if inputs.magnitudes:
        yield "magnitudes", [(None, num_bands)]
    if inputs.columns:
        yield "columns", [(None, len(inputs.columns))]


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the sizes that a graph states, None where any fits; the checker has seen that it states a shape."""
    sizes = value.type.tensor_type.shape.dim
    return tuple(one.dim_value if one.HasField("dim_value") else None for one in sizes)


def _agrees(stated: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    sizes = zip(stated[1:], wanted[1:], strict=False)
    return len(stated) == len(wanted) and all(one in (None, other) for one, other in sizes)


def _text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('N' if one is None else str(one) for one in shape)})"


def _size(dims: Sequence[int]) -> int:
    size = 1
    for dim in dims:
        size *= dim
    return size


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


# ---------------------------------------------------------------------------------------------- what it computes


def _try_out(folder: Path) -> dict[str, Any]:
    """Predict galaxies with it in a process of its own, which it may end; return what was measured."""
    command = [sys.executable, "-m", "scripts.models.probe", str(folder.resolve())]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise CommandError(f"The network ended the process that tried it, with status {done.returncode}: {said}")
    answer: dict[str, Any] = json.loads(lines[-1])
    if problem := answer.get("problem"):
        raise CommandError(f"The network was tried on galaxies: {problem}")
    return answer

"""What to run: the RunRequest from a payload file and the variables, checked before anything starts."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from inference import contract
from inference.contract import RunRequest
from inference.errors import InvalidRequestError
from inference.models import Model, shipped
from inference.models import without_images as shipped_without_images
from scripts.command.errors import UsageError
from scripts.command.model import find_model
from scripts.command.variables import read_text
from scripts.data.location import LocalDataset, RemoteDataset
from scripts.runs.variables import REQUEST_KEYS, RequestVariables

BUCKET_KEYS = ("bucket", "bucket_name", "data_bucket")
PREFIX_KEYS = ("data_prefix", "dataset_path")
PLACEHOLDER_BUCKET = "the-local-bucket"


@dataclass(frozen=True)
class Draft:
    """A request that is valid but for the bucket, which is known once the deployment is there."""

    payload: dict[str, Any]
    """The execution's input without bucket and data prefix; published keys as the user wrote them."""

    request: RunRequest
    """What it means, with placeholders for bucket and data prefix."""

    dataset: str
    """Name, prefix or folder of the dataset; the sample's prefix when nothing names one."""

    dataset_asked: str
    """Where that name comes from, for messages."""

    notes: tuple[str, ...]
    """What was overridden or replaced, in sentences."""

    dataset_is_from_payload: bool = False
    """True when the payload named it, so that its prefix may be spelled otherwise here."""

    model: Model = field(default_factory=shipped)
    """What predicts on this machine; on AWS that is decided by the deployment, which refuses another that is named."""

    def payload_for(self, bucket: str, data_prefix: str, *, data_bucket: str | None = None) -> dict[str, Any]:
        """Return the execution's input; the data is in `bucket` unless `data_bucket` is another one."""
        payload = {**self.payload, "bucket": bucket, "data_prefix": data_prefix}
        return payload if data_bucket in (None, bucket) else {**payload, "data_bucket": data_bucket}


def without_images(draft: Draft, dataset: LocalDataset | RemoteDataset) -> Draft:
    """Let the model that reads none predict a dataset without images, where no model is named."""
    card = dataset.card if isinstance(dataset, LocalDataset) else None
    if card is None or card.image_origin != "none" or draft.request.model is not None:
        return draft
    model = shipped_without_images()
    named = {"model": model.card.name, "model_sha256": model.card.weights_sha256}
    note = (
        f"{dataset.prefix} holds no images: the model {model.card.name} predicts from its magnitudes. MODEL=name takes "
        "another one; `make dataset SOURCE=… MODEL=astromae` renders images."
    )
    return replace(
        draft,
        payload={**draft.payload, **named},
        request=msgspec.structs.replace(draft.request, **named),
        notes=(*draft.notes, note),
        model=model,
    )


def meet_here(draft: Draft) -> Draft:
    """Let ranks meet at the server that a run on this machine starts, whatever deployment the payload names."""
    endpoint = draft.payload.get("rendezvous_endpoint")
    if endpoint is None:
        return draft
    payload = {key: value for key, value in draft.payload.items() if key != "rendezvous_endpoint"}
    note = f"`rendezvous_endpoint` {json.dumps(endpoint)} is another deployment's and was replaced by this machine's."
    return replace(draft, payload=payload, notes=(*draft.notes, note))


def result_here(draft: Draft, result: str) -> Draft:
    """Let a folder of this machine that is no folder of a bucket, such as ``../x``, be that of the results alone."""
    path = Path(result).expanduser()
    if not path.is_absolute() and ".." not in path.parts:
        return draft
    payload = {key: value for key, value in draft.payload.items() if key != "result_path"}
    return replace(draft, payload=payload, request=msgspec.structs.replace(draft.request, result_path=None))


def make_run_id(now: datetime) -> str:
    """Return a name for an execution: the second it was made, and four digits against twins."""
    return f"run-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def draft_request(variables: RequestVariables, *, root: Path = Path(), bucket_words: str = "the local bucket") -> Draft:
    """Merge the payload file, if there is one, with the variables, which win.

    Parameters
    ----------
    variables : RequestVariables
        What the user asked for.
    root : Path
        Folder that holds ``models/``.
    bucket_words : str
        What replaces a payload's bucket, in words.

    Raises
    ------
    UsageError
        If the payload is not valid; the message names the key. Or if there is no such model.
    """
    source = variables.payload
    payload = _read_payload(source) if source else {}
    notes = _overridden(payload, variables, source)
    payload |= variables.request_keys
    model = _model(payload, variables.model, source, root, notes)
    prefixes = {key: payload.pop(key) for key in PREFIX_KEYS if key in payload}
    buckets = {key: payload.pop(key) for key in BUCKET_KEYS if key in payload}
    notes += [
        f"`{key}` {json.dumps(bucket)} of {source} is another deployment's and was replaced by {bucket_words}."
        for key, bucket in buckets.items()
        if bucket
    ]
    request = _check(payload, source)
    if variables.dataset:
        asked = f"DATASET={variables.dataset}"
        notes += [
            f"`{key}` {json.dumps(prefix)} of {source} was replaced by {asked}." for key, prefix in prefixes.items()
        ]
        return Draft(payload, request, variables.dataset, asked, tuple(notes), model=model)
    for key, prefix in prefixes.items():
        asked = f"`{key}` {json.dumps(prefix)} of {source}"
        if not isinstance(prefix, str) or not prefix.strip(" /"):
            raise UsageError(f"{asked} names no dataset; DATASET=name overrides it.")
        return Draft(payload, request, prefix.strip(), asked, tuple(notes), dataset_is_from_payload=True, model=model)
    return Draft(payload, request, contract.SAMPLE_PREFIX, "the default dataset", tuple(notes), model=model)


def _model(payload: dict[str, Any], name: str, source: str, root: Path, notes: list[str]) -> Model:
    """Return the model that the variables or the payload name; named by a variable, it goes into the payload."""
    stated = payload.get("model")
    if not name:
        return find_model(str(stated or ""), root=root, asked=f"`model` {json.dumps(stated)} of {source}")
    model = find_model(name, root=root)
    if stated not in (None, name):
        notes.append(f"`model` {json.dumps(stated)} of {source} was replaced by MODEL={name}.")
    payload |= {"model": model.card.name, "model_sha256": model.card.weights_sha256}
    return model


def _overridden(payload: Mapping[str, Any], variables: RequestVariables, source: str) -> list[str]:
    values = variables.request_keys
    return [
        f"`{key}` {json.dumps(payload[key])} of {source} was replaced by {name}={_typed(values[key])}."
        for name, key in REQUEST_KEYS.items()
        if key in payload and key in values
    ]


def _typed(value: object) -> str:
    """Return a value as one types it behind make."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(int(value)) if isinstance(value, bool) else str(value)


def _read_payload(source: str) -> dict[str, Any]:
    try:
        content = json.loads(read_text("PAYLOAD", Path(source)))
    except json.JSONDecodeError as error:
        raise UsageError(f"PAYLOAD={source} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"PAYLOAD={source} holds a {type(content).__name__}; a request is a JSON object.")
    return content


def _check(payload: dict[str, Any], source: str) -> RunRequest:
    try:
        request, _ = contract.parse_request({**payload, "bucket": PLACEHOLDER_BUCKET})
    except InvalidRequestError as error:
        raise UsageError(f"PAYLOAD={source}: {error}") from error
    return request

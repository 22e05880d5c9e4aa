"""The input of a run, ours or as it was published, with its defaults."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from inference.contract.dataset import SAMPLE_PREFIX
from inference.contract.payload import NonEmpty, Payload, Positive
from inference.errors import InvalidRequestError

Engine = Literal["auto", "native", "onnxruntime", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "int8"]


class RunRequest(Payload, frozen=True, kw_only=True):
    """The input of one execution of the state machine. Only ``bucket`` is required."""

    bucket: NonEmpty
    """Bucket the results are written to, and the data read from unless `data_bucket` says otherwise."""

    data_bucket: str | None = None
    """Bucket the shards are read from; `bucket` when absent."""

    data_prefix: NonEmpty = SAMPLE_PREFIX
    """Folder of the shards. ``10MB`` and ``10MB/`` mean the same and never match ``100MB/``."""

    world_size: Positive | None = None
    """Number of ranks; the number of shards when absent."""

    file_limit: Positive | None = None
    """Use only the first n shards in natural order (2 before 10); all when absent."""

    row_limit: Positive | None = None
    """Use only the first n galaxies of those shards; all when absent."""

    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 256
    """Galaxies per batch as reported in the metrics; never changes a prediction."""

    result_path: str | None = None
    """Where the results go; ``runs/<execution name>/`` when absent."""

    profile: bool = False
    """Run the inference loop under torch's profiler, as the published runs did."""

    engine: Engine = "auto"
    """What computes the redshifts; ``auto`` takes the native engine. A run says so where another replaced it."""

    precision: Precision = "fp32"
    """Precision of the products; another one is refused where it was not found accurate enough."""

    tolerated_failure_percentage: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Share of ranks that may be lost before the run counts as failed [percent]."""

    model: NonEmpty | None = None
    """Name of the model, which must be the deployed one; that one when absent."""

    model_sha256: str | None = None
    """Checksum of its weights; another one than the deployed model's is refused."""
    fmi_enabled: bool = False
    """Let the ranks meet after their work: a barrier, then sums of loop time, rows and errors at rank 0."""

    rendezvous_endpoint: str | None = None
    """Where they meet, ``host:port``; the deployment's own server when absent."""

    allow_copies: bool = False
    """Read shards that are copies of others by their names too, so that their galaxies count twice."""

    backup: bool = True
    """Invoke a rank again, next to the first invocation, when it has not answered by four times what it should take."""

    max_concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Ranks that run at the same time, where fewer than deployed should; never more than deployed."""

    memory_mb: Annotated[int, Meta(ge=128, le=10_240)] | None = None
    """Memory of a rank [MB]: of the alias `memory_alias` of Infer, which must be there; as deployed when absent."""


def memory_alias(memory_mb: int) -> str:
    """Return the alias of Infer behind which its version with this memory is: ``memory-3008``."""
    return f"memory-{memory_mb}"


PUBLISHED_ALIASES = {"bucket_name": "bucket", "dataset_path": "data_prefix"}
"""Keys of published payloads that mean one of ours under another name."""

PUBLISHED_WITHOUT_MEANING = {
    "object_type": "shards are recognised by their file name",
    "S3_object_name": "the code is in the image and never fetched",
    "script": "the code is in the image and never fetched",
    "inference_script": "the code is in the image and never fetched",
    "model_path": "the weights are in the image",
    "data_path": "every rank streams its rows from data_prefix",
    "data_map": "rows are dealt by the plan",
    "data_size": "the size follows from data_prefix and file_limit",
    "unique_id": "the execution's name identifies the run",
}
"""Keys of published payloads that are accepted, ignored and named in the run's notes, with the reason."""

PUBLISHED_ROWS = {"small": 250, "medium": 626, "large": 1_253}
"""Published values of ``data_size`` that are a number of galaxies."""


def parse_request(raw: object) -> tuple[RunRequest, tuple[str, ...]]:
    """Read a RunRequest, or a payload as the class reports published it.

    Parameters
    ----------
    raw : object
        Decoded JSON. Numbers and booleans may be strings (``"8"``, ``"true"``).

    Returns
    -------
    request : RunRequest
    notes : tuple of str
        One sentence per key that was ignored or read under another name.

    Raises
    ------
    InvalidRequestError
        If a key is unknown or missing, or a value has the wrong type or range; the message names the key.
    """
    if not isinstance(raw, dict):
        raise InvalidRequestError(f"A request is a JSON object, not {type(raw).__name__}. Only `bucket` is required.")
    known: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in raw.items():
        if key == "data_size" and "row_limit" not in raw and str(value).strip().lower() in PUBLISHED_ROWS:
            known["row_limit"] = PUBLISHED_ROWS[str(value).strip().lower()]
            notes.append(f"`data_size` {value} was read as `row_limit` {known['row_limit']}.")
        elif key in PUBLISHED_WITHOUT_MEANING:
            notes.append(f"`{key}` was ignored: {PUBLISHED_WITHOUT_MEANING[key]}.")
        elif key in PUBLISHED_ALIASES and PUBLISHED_ALIASES[key] in raw:
            notes.append(f"`{key}` was ignored: `{PUBLISHED_ALIASES[key]}` is given too.")
        elif key in PUBLISHED_ALIASES:
            known[PUBLISHED_ALIASES[key]] = value
            notes.append(f"`{key}` was read as `{PUBLISHED_ALIASES[key]}`.")
        else:
            known[key] = value
    return _convert(known), tuple(notes)


def _convert(known: dict[str, Any]) -> RunRequest:
    try:
        return msgspec.convert(known, RunRequest, strict=False)
    except msgspec.ValidationError as error:
        accepted = ", ".join(RunRequest.__struct_fields__)
        raise InvalidRequestError(
            f"The request is not valid: {error}. A RunRequest has the keys {accepted}."
        ) from error


def with_defaults(request: RunRequest, *, run_id: str, num_shards: int) -> RunRequest:
    """Return `request` with every default filled in and its prefixes ending in ``/``."""
    return msgspec.structs.replace(
        request,
        data_bucket=request.data_bucket or request.bucket,
        data_prefix=as_prefix(request.data_prefix),
        world_size=request.world_size or num_shards,
        result_path=run_prefix(request, run_id=run_id),
    )


def run_prefix(request: RunRequest, *, run_id: str) -> str:
    """Return where a run stores its results, ending in ``/``."""
    return as_prefix(request.result_path or f"runs/{run_id}")


def as_prefix(path: str) -> str:
    """Return `path` as a folder: no leading slash, exactly one trailing one, so that run 1 never lists run 10."""
    return path.strip("/") + "/"

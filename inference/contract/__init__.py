"""What the stages say to each other: every payload, every object key, and the published names of both.

One module per payload, in the order of a run: `dataset`, `request`, `run`, `record`, `summary`; this one has all names.
"""

from inference.contract.codec import T, decode, encode, encode_compact, to_builtins
from inference.contract.dataset import (
    CLEANING_KEY,
    DATASET_KEY,
    SAMPLE_PREFIX,
    TABLE_CSV_KEY,
    TABLE_KEY,
    TABLE_KEYS,
    DatasetCard,
    ShardEntry,
)
from inference.contract.payload import Count, NonEmpty, Payload, Positive, Seconds
from inference.contract.record import (
    BITS_PER_ROW,
    PUBLISHED_RECORD_KEYS,
    AccuracySums,
    RankClock,
    RankFailure,
    RankRecord,
)
from inference.contract.request import (
    PUBLISHED_ALIASES,
    PUBLISHED_WITHOUT_MEANING,
    Engine,
    Precision,
    RunRequest,
    as_prefix,
    memory_alias,
    parse_request,
    run_prefix,
    with_defaults,
)
from inference.contract.run import (
    MANIFEST_KEY,
    InferEvent,
    InitializeEvent,
    RankTask,
    RendezvousCheck,
    RowRange,
    RunPlan,
    rank_keys,
)
from inference.contract.summary import (
    Accuracy,
    LostRank,
    PhaseSpread,
    RunClock,
    RunResult,
    RunSummary,
    SlowRank,
    Throughput,
)

SCHEMAS: tuple[type[Payload], ...] = (DatasetCard, RunRequest, RankTask, RankRecord, RunSummary)
"""Payloads whose JSON Schema is part of the documentation."""

__all__ = [
    "BITS_PER_ROW",
    "CLEANING_KEY",
    "DATASET_KEY",
    "MANIFEST_KEY",
    "PUBLISHED_ALIASES",
    "PUBLISHED_RECORD_KEYS",
    "PUBLISHED_WITHOUT_MEANING",
    "SAMPLE_PREFIX",
    "SCHEMAS",
    "TABLE_CSV_KEY",
    "TABLE_KEY",
    "TABLE_KEYS",
    "Accuracy",
    "AccuracySums",
    "Count",
    "DatasetCard",
    "Engine",
    "InferEvent",
    "InitializeEvent",
    "LostRank",
    "NonEmpty",
    "Payload",
    "PhaseSpread",
    "Positive",
    "Precision",
    "RankClock",
    "RankFailure",
    "RankRecord",
    "RankTask",
    "RendezvousCheck",
    "RowRange",
    "RunClock",
    "RunPlan",
    "RunRequest",
    "RunResult",
    "RunSummary",
    "Seconds",
    "ShardEntry",
    "SlowRank",
    "T",
    "Throughput",
    "as_prefix",
    "decode",
    "encode",
    "encode_compact",
    "memory_alias",
    "parse_request",
    "rank_keys",
    "run_prefix",
    "to_builtins",
    "with_defaults",
]

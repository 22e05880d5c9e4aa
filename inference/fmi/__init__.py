"""Ranks that talk to each other: where they meet, how they prove who they are, and what they say.

Programs written for FMI change one line, the import, and run::

    from inference import fmi

    comm = fmi.Communicator(rank, num_ranks, "fmi.json", "my-run")
    comm.barrier()
    total = comm.reduce(loop_time_s, 0, fmi.func(fmi.op.sum), fmi.types(fmi.datatypes.double))

Those written for mpi4py find its upper-case calls: ``comm.Allreduce(mine, all_of_it, op=fmi.SUM)``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.errors import AuthError, FmiError, FmiTimeout, MessageMismatchError, PeerLost
    from inference.fmi.communicator import IN_PLACE, Communicator, PeerStats, Stats
    from inference.fmi.config import Config
    from inference.fmi.mesh import ANY_TAG
    from inference.fmi.original import datatypes, func, hints, op, types
    from inference.fmi.reduction import MAX, MIN, PROD, SUM, Operation

_WHERE = {
    "inference.errors": ("AuthError", "FmiError", "FmiTimeout", "MessageMismatchError", "PeerLost"),
    "inference.fmi.communicator": ("IN_PLACE", "Communicator", "PeerStats", "Stats"),
    "inference.fmi.config": ("Config",),
    "inference.fmi.mesh": ("ANY_TAG",),
    "inference.fmi.original": ("datatypes", "func", "hints", "op", "types"),
    "inference.fmi.reduction": ("MAX", "MIN", "PROD", "SUM", "Operation"),
}

__all__ = [  # noqa: RUF022 -- by module
    "AuthError",
    "FmiError",
    "FmiTimeout",
    "MessageMismatchError",
    "PeerLost",
    "IN_PLACE",
    "Communicator",
    "PeerStats",
    "Stats",
    "Config",
    "ANY_TAG",
    "datatypes",
    "func",
    "hints",
    "op",
    "types",
    "MAX",
    "MIN",
    "PROD",
    "SUM",
    "Operation",
]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the server and Initialize use this package without numpy.
    from importlib import import_module

    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

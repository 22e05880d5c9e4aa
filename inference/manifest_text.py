"""``manifest.json`` while it is written: task after task in flat memory, and what proves that it is the plan."""

import hashlib
from collections.abc import Iterator, Sequence

from inference import contract
from inference.contract import RankTask
from inference.errors import PlanError

PART_BYTES = 2**20
"""Tasks are handed on in parts of about this size [bytes]."""


class ManifestText:
    """The tasks of a run as JSON.

    Every iteration yields the whole of it in parts and counts again what it yields.

    Parameters
    ----------
    tasks : sequence of RankTask
        In rank order; at least one.
    """

    def __init__(self, tasks: Sequence[RankTask]) -> None:
        self.tasks = tasks
        self._num_ranks = self._num_samples = 0
        self._sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        self._num_ranks = self._num_samples = 0
        self._sha256 = hashlib.sha256()
        part = bytearray()
        for content in contract.encode_each(self._counted()):
            part += content
            if len(part) >= PART_BYTES:
                yield self._signed(part)
                part.clear()
        yield self._signed(part)

    def prove(self, num_samples: int) -> str:
        """Return the checksum of what was last written, after counting it.

        Parameters
        ----------
        num_samples : int
            Galaxies that were to be dealt.

        Raises
        ------
        PlanError
            If it holds other ranks or another number of galaxies.
        """
        if (self._num_ranks, self._num_samples) != (len(self.tasks), num_samples):
            raise PlanError(
                f"The manifest was written with {self._num_ranks} ranks and {self._num_samples} galaxies; there are "
                f"{len(self.tasks)} and {num_samples}. Nothing was started; run again."
            )
        return self._sha256.hexdigest()

    def _counted(self) -> Iterator[RankTask]:
        for task in self.tasks:
            # A rank that is not the next one ends the count, and so the proof.
            self._num_ranks += task.rank == self._num_ranks
            self._num_samples += task.num_samples
            yield task

    def _signed(self, part: bytearray) -> bytes:
        content = bytes(part)
        self._sha256.update(content)
        return content

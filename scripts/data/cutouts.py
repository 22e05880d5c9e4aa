"""Images that somebody measured, beside a table of the same galaxies."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scripts.data.rendered_table import facts_of
from scripts.data.survey import Survey
from scripts.simulation.cutouts import Rows
from scripts.simulation.facts import Facts


class Cutouts(Protocol):
    """Images of N galaxies."""

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return those from `start` to before `stop`, shape (n, 5, 32, 32) [nanomaggy / pixel]; NaN is missing."""
        ...


@dataclass(frozen=True)
class CutoutsWithTable:
    """Galaxies with measured images; the table has one row for each, in the same order."""

    survey: Survey
    cutouts: Cutouts

    def __len__(self) -> int:
        return self.survey.num_rows

    def rows(self, start: int, stop: int) -> Rows:
        """Read the galaxies from `start` to before `stop`."""
        rows = self.survey.rows(start, stop)
        columns = (rows[name].copy() for name in ("magnitudes", "redshift", "object_id"))
        return Rows(self.cutouts.read(start, stop), *columns)

    def facts(self, start: int, stop: int) -> Facts:
        """Return positions and what is known of the measurements."""
        return facts_of(self.survey.rows(start, stop))

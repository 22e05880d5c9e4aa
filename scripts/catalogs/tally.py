"""What a catalog holds, counted while it is written."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.catalogs.columns import flags_in_words
from scripts.command.console import counted


@dataclass
class Tally:
    """Counts of rows."""

    num_rows: int = 0
    num_redshifts: int = 0
    num_errors: int = 0
    num_pz: int = 0
    num_clean: int = 0
    num_flagged: dict[int, int] = field(default_factory=dict)

    def count(self, rows: NDArray[Any]) -> None:
        """Add rows of dtype `columns.ROW`."""
        self.num_rows += len(rows)
        self.num_redshifts += int(np.isfinite(rows["z_phot"]).sum())
        self.num_errors += int(np.isfinite(rows["z_phot_err"]).sum())
        self.num_pz += int(np.isfinite(rows["z_median"]).sum())
        self.num_clean += int((rows["flags"] == 0).sum())
        for bit in flags_in_words():
            flagged = int((rows["flags"] & np.uint8(bit) != 0).sum())
            if flagged:
                self.num_flagged[bit] = self.num_flagged.get(bit, 0) + flagged

    def in_words(self) -> str:
        """Say how many rows know what, in one line."""
        known = f"{self.num_redshifts:,} with a redshift, {self.num_errors:,} with its error, {self.num_pz:,} with p(z)"
        return f"{counted(self.num_rows, 'galaxy')}, {known}, {self.num_clean:,} clean"

    def flags_in_words(self) -> str:
        """Say how many rows have which flag; empty when none has one."""
        names = {bit: words.partition(":")[0] for bit, words in flags_in_words().items()}
        return ", ".join(f"{count:,} {names[bit]}" for bit, count in sorted(self.num_flagged.items()))

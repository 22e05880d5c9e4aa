"""The report of a run: which sections, in which order."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.run_folder import RunPredictions
from scripts.reports.document import Report
from scripts.reports.evidence import RunEvidence
from scripts.reports.sections import headline
from scripts.reports.sections.accuracy import accuracy_section
from scripts.reports.sections.clock import clock_section
from scripts.reports.sections.cost import cost_section, find_receipt
from scripts.reports.sections.forecast import forecast_sections
from scripts.reports.sections.memory import memory_section
from scripts.reports.sections.provenance import provenance_section, settings_section
from scripts.reports.sections.talking import talking_sections
from scripts.reports.sections.throughput import throughput_section


def run_report(run: RunEvidence, *, root: Path) -> Report:
    """Return the report of a run.

    Parameters
    ----------
    run : RunEvidence
    root : Path
        Folder of ``datasets/``: magnitudes of the galaxies are looked up there.
    """
    receipt = find_receipt(run)
    cost = receipt.bill.usd if receipt else None
    return Report(
        kind="Run",
        name=run.run_id,
        sentence=headline.sentence(run, cost),
        facts=tuple(headline.facts(run, cost)),
        warnings=tuple(headline.warnings(run)),
        sections=(
            accuracy_section(run, _r_magnitude(run, root)),
            clock_section(run),
            *forecast_sections(run, cost),
            throughput_section(run),
            cost_section(receipt),
            memory_section(run),
            *talking_sections(run),
            settings_section(run),
            provenance_section(run),
        ),
    )


def _r_magnitude(run: RunEvidence, root: Path) -> NDArray[np.float64] | None:
    """Return r of every predicted galaxy from the table next to the dataset's shards; None where there is none."""
    noted = run.entry.dataset if run.entry else ""
    folder = Path(noted) if noted else root / str(run.get("request", "data_prefix") or "-")
    path = folder / "table.parquet"
    if run.predictions is None or not path.exists():
        return None
    from pyarrow import parquet

    # Not read_table, which imports pandas where that is installed.
    file = parquet.ParquetFile(path)
    if "mag_r" not in file.schema_arrow.names:
        return None  # a dataset in bands without r
    table: Any = file.read(columns=["object_id", "mag_r"])
    return _looked_up(run.predictions, table["object_id"].to_numpy(), table["mag_r"].to_numpy(zero_copy_only=False))


def _looked_up(
    predictions: RunPredictions, object_id: NDArray[Any], values: NDArray[Any]
) -> NDArray[np.float64] | None:
    order = np.argsort(object_id, kind="stable")
    place = np.searchsorted(object_id[order], predictions.object_id).clip(0, len(order) - 1)
    found = object_id[order][place] == predictions.object_id
    return np.where(found, values[order][place].astype(float), np.nan) if found.any() else None

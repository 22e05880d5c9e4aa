"""`make engines`: export the trained network for the fast engines, and check that they agree with torch."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from scripts.command.console import say_here
from scripts.command.errors import UsageError
from scripts.command.model import ModelName, astromae
from scripts.command.program import start
from scripts.command.variables import Flag, Variables
from scripts.data.sample import ensure_sample
from scripts.models.export.engines import export, exported_already


class EnginesVariables(Variables, frozen=True, kw_only=True):
    """The variables of `make engines`."""

    model: ModelName = ""
    rows: Annotated[Path | None, Meta(description="a folder of safetensors shards")] = None
    force: Flag = False


def main(variables: EnginesVariables) -> None:
    """Export the network of a model into its folder, compare every installed engine with torch, and print the result.

    FORCE=1 exports again what is there already; ROWS names other galaxies than those of the sample dataset.
    """
    weights = astromae(variables.model).weights
    card = None if variables.force else exported_already(weights)
    if card is not None and variables.rows:
        raise UsageError(f"ROWS={variables.rows}: graphs are compared when they are made, and are there: add FORCE=1.")
    if card is None:
        card = export(weights, variables.rows or ensure_sample())
    else:
        say_here("The graphs are there. What was found when they were made (FORCE=1 makes and compares them again):")
    for name, agreement in card.engines.items():
        absent = "" if name == "native" or find_spec(name) else "; not installed here"
        off = f"max {agreement.max_abs:.1e}, mean {agreement.mean_abs:.1e} from torch"
        say_here(f"{name} {agreement.version}: {off}{absent}")
    accuracies = list(card.precisions.items())
    if card.native_int8:
        accuracies.append(("int8", card.native_int8.accuracy))
    for precision, accuracy in accuracies:
        verdict = accuracy.rejected or "accepted"
        say_here(f"{precision} with {accuracy.engine}: NMAD {accuracy.nmad:.5f}, bias {accuracy.bias:+.5f}, {verdict}")
        for galaxies, found in accuracy.differences.items():
            say_here(
                f"  {found.num_rows:,} {galaxies} galaxies: differs from fp32 by {found.rms:.4f} sigma (rms), "
                f"{found.p999:.3f} (99.9 %), {found.largest:.3f} (most)"
            )


if __name__ == "__main__":
    start(main)

"""The comparison as text, in the width there is."""

from rich.console import Console
from rich.text import Text

from inference.contract import BITS_PER_ROW
from scripts.benchmarks.comparison.comparison import Comparison
from scripts.benchmarks.comparison.method import Method
from scripts.benchmarks.comparison.published import DEFINITIONS
from scripts.command.console import Column, fitting_table, say

GBIT = BITS_PER_ROW / 1e9

COLUMNS: tuple[Column[Method], ...] = (
    (0, "", lambda method: method.name),
    (5, "workers", lambda method: str(method.num_workers)),
    (0, "time", lambda method: f"{method.end_to_end_s:.2f} s"),
    (6, "of the Map", lambda method: f"{method.map_s:.2f} s"),
    (2, "rank rates", lambda method: f"{method.sum_of_rank_rates_per_s:,.0f} /s"),
    (3, "Map wall", lambda method: f"{method.map_wall_per_s:,.0f} /s"),
    (1, "end to end", lambda method: f"{method.end_to_end_per_s:,.0f} /s"),
    (2, "peak", lambda method: f"{method.peak_memory_bytes / 2**20:,.0f} MB"),
    (1, "speedup", lambda method: f"{method.speedup:.2f}"),
    (4, "efficiency", lambda method: f"{method.efficiency:.0%}"),
    (7, "list price", lambda method: "" if method.list_price_usd is None else f"{method.list_price_usd:.6f} USD"),
    (0, "max |dz|", lambda method: "" if method.max_abs_difference is None else f"{method.max_abs_difference:.1e}"),
)


def print_comparison(console: Console, found: Comparison, path: str) -> None:
    """Print every way to predict the rows, then our rates and the published ones."""
    title = f"{found.num_samples:,} galaxies of {found.dataset}, batch {found.batch_size}"
    say(console, Text(title, "bold"))
    console.print()
    console.print(fitting_table(COLUMNS, found.methods, console.width))
    for method in found.methods:
        say(console, Text(f"  {method.name}: {method.engine}", "dim"))
    explained = (
        "time: end to end; rank rates: sum of the rates of the loops, the published definition; max |dz|: largest "
        "difference of a redshift to the plain loop's; speedup and efficiency: of the time, against the plain loop and "
        "per worker."
    )
    say(console, f"  {explained}", "dim")
    for definition, meaning in DEFINITIONS.items():
        rates = [one for one in found.published if one.definition == definition]
        if not rates:
            continue
        console.print()
        say(console, Text(f"  {definition.replace('_', ' ')}: {meaning}", "bold"))
        ours = [("here", rates[0].ours, rates[0].ours_per_s, "")]
        theirs = [("published", one.theirs.what, one.theirs_per_s, one.theirs.hardware) for one in rates]
        for where, what, rate, hardware in [*ours, *theirs]:
            amount = f"{rate:>9,.0f} /s {rate * GBIT:>7.3f} Gbit/s"
            say(console, f"  {where:<9}{amount}  {what}" + (f"; {hardware}" if hardware else ""))
    console.print()
    say(console, f"  {found.caveat}", "dim")
    for note in found.notes:
        say(console, f"  {note}", "dim")
    console.print()
    say(console, Text(f"files      {path}"))

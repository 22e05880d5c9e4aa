"""`make cost RUN=…`: the receipt of a run, and of the same with other settings; without RUN, what one would cost."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta
from rich.console import Console
from rich.text import Text

from scripts.command.console import counted, say
from scripts.command.errors import UsageError
from scripts.command.program import start
from scripts.data.location import find_dataset, find_remote
from scripts.deployment.stack import read_stack
from scripts.pricing.cost import StandingPrices
from scripts.pricing.prices import PriceList, read_prices
from scripts.pricing.standing import HOURS_PER_MONTH, rendezvous_items
from scripts.pricing.what_if import SERIAL_SHARE, Range, WhatIf
from scripts.runs.budget import Price, forecast
from scripts.runs.listing import name_runs, runs_here
from scripts.runs.receipt import COST_FILE, Receipt, receipt_of, write_receipt
from scripts.runs.request import draft_request, without_images
from scripts.runs.run_folder import open_run
from scripts.runs.target import connect_aws
from scripts.runs.variables import RequestVariables, RunName, StackVariables, choose_target

COLUMNS = ("memory", "vCPU", "rank [s]", "x86_64 [USD]", "arm64 [USD]")
WIDTHS = (9, 6, 15, 18, 18)


class CostVariables(RequestVariables, frozen=True, kw_only=True):
    """The variables of `make cost`."""

    run: RunName = ""
    prices: Annotated[str, Meta(description="another price file, as TOML")] = ""


def main(variables: CostVariables) -> None:
    """Print what a run cost or would. Exit status: 0 printed, 1 AWS cannot be asked, 2 no such run or no prices."""
    prices = read_prices(Path(variables.prices).expanduser() if variables.prices else None)
    if variables.run:
        receipt(variables.run, prices, variables, root=Path())
    else:
        outlook(variables, prices, root=Path())


def receipt(run: str, prices: PriceList, where: StackVariables, *, root: Path) -> None:
    """Print what a run cost and write ``cost.json`` into its folder."""
    folder = open_run(run, where, root=root)
    found = receipt_of(folder, prices)
    path = folder.path / COST_FILE
    write_receipt(path, folder.run_id, found)
    console = Console(highlight=False)
    _print_receipt(console, folder.run_id, found)
    _print_settings(console, found)
    console.print()
    say(console, f"  {path}")


def outlook(variables: RequestVariables, prices: PriceList, *, root: Path) -> None:
    """Print what a run with these variables may cost, item by item, without starting it."""
    target, _ = choose_target(variables, terraform=root / "terraform")
    aws = (
        connect_aws(read_stack(root / "terraform", outputs=variables.outputs)).within_account()
        if target == "aws"
        else None
    )
    draft = draft_request(variables, root=root)
    buckets = (aws.stack.bucket, aws.stack.data_bucket) if aws else ()
    remote = find_remote(draft.dataset, asked=draft.dataset_asked, buckets=buckets) if aws else None
    dataset = remote or find_dataset(draft.dataset, asked=draft.dataset_asked, root=root)
    draft = without_images(draft, dataset)
    found = forecast(draft.request, dataset, aws, root=root, prices=prices)
    if found is None:
        raise UsageError(
            f"{draft.dataset_asked} has no readable dataset.json: how many galaxies it has is not known before the run."
        )
    console = Console(highlight=False)
    _print_outlook(console, found, root)
    if aws and aws.stack.rendezvous:
        _print_standing(console, prices.of(aws.stack.region).standing, aws.stack.architecture)


def _print_outlook(console: Console, found: Price, root: Path) -> None:
    ahead, setting = found.forecast, found.forecast.setting
    low, _, median, _, high = ahead.bills
    where = "" if found.is_paid else " on AWS, nothing here"
    say(console, Text(f"{low.usd:.4f} to {high.usd:.4f} USD{where}", "bold"))
    size = f"{counted(setting.num_rows, 'galaxy')} in {counted(setting.num_shards, 'shard')}"
    say(console, f"  {size} by {counted(setting.world_size, 'rank')}; not started")
    say(console, f"  List prices of {median.prices_of}")
    console.print()
    say(console, Text(f"  {'':<17}{'5 %':>11}{'median':>11}{'95 %':>11}   median", "dim"))
    for items in zip(low.items, median.items, high.items, strict=True):
        numbers = "".join(f"{item.usd:>11.6f}" for item in items)
        say(console, Text(f"  {items[1].name:<17}{numbers}").append(f"   {items[1].quantity}", "dim"))
    say(console, f"  {'together':<17}" + "".join(f"{bill.usd:>11.6f}" for bill in (low, median, high)))
    console.print()
    say(console, f"  A forecast, as `make forecast` has it: {ahead.source}")
    say(console, f"  RUN=name gives a receipt; the newest run: {name_runs(runs_here(root)[-1:])}")


def _print_standing(console: Console, prices: StandingPrices | None, architecture: str) -> None:
    """Say what the rendezvous costs, run or no run."""
    console.print()
    if prices is None:
        say(console, "  The rendezvous is deployed; the price file has no table `standing` of this region.")
        return
    items = rendezvous_items(prices, architecture)
    hour_usd = sum(item.usd for item in items)
    month_usd = hour_usd * HOURS_PER_MONTH
    say(console, Text("  The rendezvous, by the hour while it is deployed", "bold"))
    for item in items:
        say(console, _line(item.name, item.usd, item.quantity))
    say(console, _line("together", hour_usd, f"{month_usd:.2f} USD a month; traffic is extra"))


def _print_receipt(console: Console, run_id: str, receipt: Receipt) -> None:
    paid = "" if receipt.is_paid else " on AWS, nothing here"
    say(console, Text(f"{run_id}: {receipt.bill.usd:.6f} USD{paid}", "bold"))
    say(console, f"  List prices of {receipt.bill.prices_of}")
    console.print()
    say(console, Text(f"  Receipt, {receipt.basis}", "bold"))
    if receipt.resumed:
        say(console, f"  {receipt.resumed}")
    for item in receipt.bill.items:
        say(console, _line(item.name, item.usd, item.quantity))
    say(console, _line("together", receipt.bill.usd, f"{receipt.usd_per_million_rows:.3f} USD per million galaxies"))
    ratio = receipt.bill.usd / receipt.published_usd if receipt.published_usd else 0.0
    say(console, _line("as published", receipt.published_usd, f"used memory · inference: {ratio:.1f} times less"))


def _line(name: str, usd: float, meaning: str) -> Text:
    return Text(f"  {name:<17} {usd:>10.6f} USD").append(f"   {meaning}", "dim")


def _print_settings(console: Console, receipt: Receipt) -> None:
    if not receipt.settings:
        return
    console.print()
    say(console, Text("  The same run with other memory or another processor, by the memory model", "bold"))
    say(console, Text(_row(COLUMNS), "dim"))
    own_mb = receipt.rates.memory_mb["infer"]
    for setting in receipt.settings:
        say(
            console, Text(_row(_cells(setting)) + _mark(setting, own_mb), "bold" if setting.memory_mb == own_mb else "")
        )
    low, high = SERIAL_SHARE.low, SERIAL_SHARE.high
    console.print()
    say(
        console,
        "  A rank is faster with a larger share of a vCPU, up to 1,769 MB. Above, further threads speed up all but "
        f"{low:.0%} to {high:.0%} of inference. arm64 is assumed to be as fast, which was not measured.",
    )


def _row(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


def _cells(setting: WhatIf) -> tuple[str, ...]:
    prices = tuple(_between(setting.usd[name], 5) for name in ("x86_64", "arm64"))
    return (f"{setting.memory_mb:,} MB", f"{setting.num_vcpus:.2f}", _between(setting.rank_s, 2), *prices)


def _between(values: Range, digits: int) -> str:
    """Return a range in words; one number where both ends look the same."""
    low, high = f"{values.low:.{digits}f}", f"{values.high:.{digits}f}"
    return low if low == high else f"{low}-{high}"


def _mark(setting: WhatIf, own_mb: int) -> str:
    if setting.memory_mb == own_mb:
        return "  as run"
    return "" if setting.is_large_enough else "  too small"


if __name__ == "__main__":
    start(main)

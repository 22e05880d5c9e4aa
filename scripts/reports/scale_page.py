"""``docs/scale.md``: what terabytes take, by the model of a run, as a page with plots."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from inference.branch import EXACT, WAVE_RANKS
from inference.contract import BITS_PER_ROW
from inference.plan import MAX_CHILDREN, MAX_MANIFEST_BYTES
from scripts.command.whole_file import write_whole
from scripts.forecasts import scale
from scripts.forecasts.constants import read_constants
from scripts.forecasts.scale import Plan
from scripts.pricing.prices import LOCAL_REGION, PriceList
from scripts.reports.figures.forecast import Line, draw_lines
from scripts.reports.figures.output import as_png
from scripts.reports.forecast_page import table

PAGE = "scale.md"
TEMPLATE = Path(__file__).with_name("templates") / PAGE
PLOTS = {"seconds": "scale-time.png", "usd": "scale-cost.png"}
LABELS = {"seconds": "end to end [s]", "usd": "list price [USD]"}

TASK_BYTES = 1_403
"""A rank in the manifest, with a gigabyte of rows and their checksums: `scripts.benchmarks.planning`."""

BLOCK_MB = 10
"""What a rank reads with one request, about."""

RESIDUAL_BYTES = 4


def write_scale_page(prices: PriceList, folder: Path) -> list[Path]:
    """Write the page and its plots into a folder that exists: the same prices and constants, the same bytes."""
    region = prices.of(LOCAL_REGION)
    on_lambda, on_spot = list(scale.on_lambda(region)), list(scale.on_fargate(region))
    for which, name in PLOTS.items():
        drawing = draw_lines(list(_lines(on_lambda, on_spot, which)), x_label="data [TB]", y_label=LABELS[which])
        as_png(drawing, folder / name, title=f"{LABELS[which]} by size")
    text = TEMPLATE.read_text(encoding="utf-8").format(
        rows_per_rank=f"{scale.ROWS_PER_RANK:,}",
        lambda_table=table(COLUMNS, (_row(plan) for plan in on_lambda)),
        spot_table=table(COLUMNS[:-1], (_row(plan)[:-1] for plan in on_spot)),
        prices_of=prices.label(LOCAL_REGION),
        task_vcpus=scale.TASK_VCPUS,
        wave_ranks=f"{WAVE_RANKS:,}",
        exact=f"{EXACT:,}",
        most_ranks=f"{MAX_MANIFEST_BYTES // TASK_BYTES // 1_000_000} million",
        max_children=f"{MAX_CHILDREN:,}",
        s3_gets_per_s=f"{read_constants().cloud['s3_gets_per_s'].value:,.0f}",
        verdict=_verdict(on_lambda, on_spot),
        **{
            f"{name}_usd": f"{usd:.3f}" for name, usd in zip(ENGINES, scale.vcpu_hour_usd(region).values(), strict=True)
        },
        **_needs(on_lambda),
    )
    write_whole(folder / PAGE, text.encode())
    return [folder / PAGE, *(folder / name for name in PLOTS.values())]


ENGINES = ("lambda", "fargate", "spot")
COLUMNS = ("data", "galaxies", "vCPUs at a time", "ranks", "end to end", "90 %", "price [USD]", "90 %", "limit")


def _row(plan: Plan) -> Sequence[str]:
    low_s, _, median_s, _, high_s = plan.seconds
    low_usd, _, median_usd, _, high_usd = plan.usd
    return (
        f"{plan.size_tb:g} TB",
        f"{plan.num_rows:,}",
        f"{plan.num_vcpus:,}",
        f"{plan.num_ranks:,}",
        _time(median_s),
        f"{_time(low_s)} to {_time(high_s)}",
        f"{median_usd:,.1f}",
        f"{low_usd:,.1f} to {high_usd:,.1f}",
        plan.limit,
    )


def _time(value_s: float) -> str:
    if value_s < 300:
        return f"{value_s:.0f} s"
    return f"{value_s / 60:.0f} min" if value_s < 7200 else f"{value_s / 3600:.1f} h"


def _lines(on_lambda: Sequence[Plan], on_spot: Sequence[Plan], which: str) -> Iterator[Line]:
    for engine, plans, vcpus in (("Lambda", on_lambda, (1_000, 10_000)), ("spot", on_spot, (1_000, 10_000))):
        for num_vcpus in vcpus:
            these = [plan for plan in plans if plan.num_vcpus == num_vcpus]
            yield Line(f"{engine}, {num_vcpus:,}", *scale.as_arrays(these, which))


def _verdict(on_lambda: Sequence[Plan], on_spot: Sequence[Plan]) -> str:
    from_tb = scale.cheaper_from_tb(on_lambda, on_spot)
    if from_tb is None:
        return "At no size here does spot come within one and a half times of Lambda's time."
    largest = max(scale.SIZES_TB)
    one, other = (
        max((plan for plan in plans if plan.size_tb == largest), key=lambda plan: plan.num_vcpus)
        for plans in (on_lambda, on_spot)
    )
    taken, other_taken = (f"{plan.usd[2]:,.0f} USD and {_time(plan.seconds[2])}" for plan in (one, other))
    return (
        f"With as many vCPUs, spot takes at most one and a half times as long as Lambda from {from_tb:g} TB on, and "
        f"costs less;\nat {largest:g} TB and {one.num_vcpus:,} vCPUs it is {other_taken} against {taken}. Below, and "
        "wherever the answer is\nwanted now, Lambda."
    )


def _needs(on_lambda: Sequence[Plan]) -> dict[str, str]:
    """Return what 10 and 100 TB need of everything but computing, at the highest concurrency."""
    constants, found = read_constants(), dict[str, str]()
    for size_tb in (10.0, 100.0):
        plan = max((plan for plan in on_lambda if plan.size_tb == size_tb), key=lambda plan: plan.num_vcpus)
        num_bytes = plan.num_rows * BITS_PER_ROW / 8
        found |= {
            f"ranks_{size_tb:g}": f"{plan.num_ranks:,}",
            f"shards_{size_tb:g}": f"{num_bytes / 100e6:,.0f}",
            f"gets_{size_tb:g}": f"{num_bytes / (BLOCK_MB * 1e6) / plan.seconds[2]:,.0f}",
            f"manifest_{size_tb:g}": f"{plan.num_ranks * TASK_BYTES / 1e6:,.0f}",
            f"summarize_{size_tb:g}": f"{plan.num_ranks * constants.ours['record_s'].value:,.0f}",
            f"residuals_{size_tb:g}": f"{plan.num_rows * RESIDUAL_BYTES / 1e9:,.0f}",
            f"dispatch_{size_tb:g}": f"{plan.num_ranks / constants.cloud['standard_dispatch_per_s'].value:,.0f}",
        }
    return found | {"rank_s": f"{scale.ROWS_PER_RANK * constants.ours['row_s'].value:.0f}"}

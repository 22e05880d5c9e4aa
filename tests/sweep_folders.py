"""Folders as `make sweep` leaves them, without running anything."""

from itertools import product
from pathlib import Path

import msgspec

from scripts.sweeps.analyse import statistic
from scripts.sweeps.rows import RunRow
from scripts.sweeps.statistics import STATISTICS_KEY, Recommendation, SettingStatistics, SweepStatistics
from scripts.sweeps.table import write_tables

GALAXIES = 3033
COLUMNS = (
    "world_size",
    "batch_size",
    "dataset",
    "shard_mb",
    "file_limit",
    "memory_mb",
    "engine",
    "precision",
    "profile",
)
MEASURED = (
    "end_to_end_s",
    "map_s",
    "rank_median_s",
    "sum_of_rank_rates_per_s",
    "map_wall_per_s",
    "end_to_end_per_s",
    "peak_memory_bytes",
    "rank_seconds",
    "list_price_usd",
)


def write_sweep(folder: Path, *, num_planned: int = 24, with_failure: bool = True) -> SweepStatistics:
    """Write a sweep over four world sizes and three batch sizes, two repeats each; one of its runs failed."""
    settings = list(product((1, 2, 4, 8), (8, 64, 512)))
    rows = [_row(i * len(settings) + j, i, *setting) for i in range(2) for j, setting in enumerate(settings)]
    if with_failure:
        rows[-1] = _failed(rows[-1])
    found = [_statistics([row for row in rows if row.setting == _label(*one)], settings) for one in settings]
    cheapest = min(found, key=lambda one: one.list_price_usd.median)
    fastest = min(found, key=lambda one: one.end_to_end_s.median)
    found = [msgspec.structs.replace(one, is_pareto=one in (cheapest, fastest)) for one in found]
    statistics = SweepStatistics(
        sweep=folder.name,
        target="local",
        varied=("world_size", "batch_size"),
        num_runs=len(rows),
        num_planned=num_planned,
        num_failed=int(with_failure),
        interval="smallest and largest of 2 repeats",
        prices="us-east-1, January 2026, without free tier",
        settings=tuple(found),
        recommendations=tuple(
            Recommendation(goal=goal, setting=one.setting, why=f"it is {goal} <b>by far</b>")
            for goal, one in (("fastest", fastest), ("cheapest", cheapest), ("balanced", fastest))
        ),
        warnings=("Both CPUs were busy.",),
    )
    folder.mkdir(parents=True)
    write_tables(folder, rows, [])
    (folder / STATISTICS_KEY).write_bytes(msgspec.json.encode(statistics))
    return statistics


def _label(world: int, batch: int) -> str:
    return f"WORLD={world} BATCH={batch}"


def _row(position: int, repeat: int, world: int, batch: int) -> RunRow:
    rank_s = (30 + 40 / batch) / world * (1 + 0.05 * repeat)
    end_to_end_s = rank_s * max(1, world / 6) + 2
    return RunRow(
        sweep="s",
        setting=_label(world, batch),
        repeat=repeat,
        position=position,
        run_id=f"run-{position}",
        state="complete",
        target="local",
        started_at_s=1_795_308_908.0 + 60 * position,
        world_size=world,
        batch_size=batch,
        dataset="sdss/10MB",
        shard_mb=10,
        file_limit=None,
        memory_mb=1769,
        engine="auto",
        precision="fp32",
        profile=False,
        max_concurrency=2,
        num_samples=GALAXIES,
        data_bytes=GALAXIES * 20_520,
        num_records=world,
        end_to_end_s=end_to_end_s,
        map_s=end_to_end_s - 1,
        rank_median_s=rank_s,
        rank_seconds=rank_s * world,
        sum_of_rank_rates_per_s=GALAXIES / rank_s,
        map_wall_per_s=GALAXIES / (end_to_end_s - 1),
        end_to_end_per_s=GALAXIES / end_to_end_s,
        peak_memory_bytes=2**28 + batch * 2**15,
        list_price_usd=rank_s * world * 0.00003 + world * 0.0001,
        nmad=0.0138,
        engines_used="onnxruntime 1.31.1",
    )


def _failed(row: RunRow) -> RunRow:
    blank = dict.fromkeys((*MEASURED, "nmad"), None)
    return msgspec.structs.replace(
        row, state="failed", error="IncompleteRunError", message="1 of 8 ranks is lost", data_bytes=0, **blank
    )


def _statistics(rows: list[RunRow], settings: list[tuple[int, int]]) -> SettingStatistics:
    ended = [row for row in rows if row.state == "complete"]
    first = ended[0]
    reference_s = _row(0, 0, settings[0][0], first.batch_size).end_to_end_s
    speedup = reference_s / first.end_to_end_s
    return SettingStatistics(
        setting=first.setting,
        values={column: getattr(first, column) for column in COLUMNS},
        num_samples=GALAXIES,
        num_runs=len(ended),
        num_failed=len(rows) - len(ended),
        num_cold_starts=2,
        num_ranks=first.world_size * len(ended),
        **{name: statistic([getattr(row, name) for row in ended]) for name in MEASURED},
        speedup=speedup,
        speedup_map=speedup,
        parallel_efficiency=speedup / first.world_size,
        parallel_efficiency_map=speedup / first.world_size,
        performance_efficiency=1.0,
    )

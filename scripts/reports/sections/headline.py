"""The sentence that matters, the few numbers on top, and what a reader must be warned of."""

from collections.abc import Iterator

import numpy as np

from scripts.command.console import counted
from scripts.reports.document import Fact
from scripts.reports.evidence import PUBLISHED_PAGE, RunEvidence
from scripts.reports.quantities import count, megabytes, number, percent, seconds
from scripts.reports.ranks import PHASES

STRAGGLER = 2.0
"""A slowest rank above this multiple of the median is worth a warning."""

COLD_SHARE = 0.10
"""Time of starts and model loading above this share of the ranks' time is worth a warning."""

MEMORY_SHARE = 0.9
PHASE_ERROR = 0.02
"""The phases of a rank add up to its duration within this share."""

MAX_LOST_NAMED = 3


def sentence(run: RunEvidence, cost_usd: float | None) -> str:
    """Return how the run went in one sentence."""
    num_ranks = len(run.ranks)
    galaxies = float(np.nansum(run.ranks["num_samples"])) or float(run.get("num_samples") or 0)
    if not run.summary:
        return f"{_without_summary(run)}: {count(galaxies)} galaxies. {_loop_rate(run)}".strip()
    clock, rates, accuracy = run.get("clock") or {}, run.get("throughput") or {}, run.get("accuracy")
    world = run.get("world_size") or num_ranks
    parts = [
        f"{count(run.get('num_samples'))} galaxies in {seconds(clock.get('end_to_end'))} on {counted(world, 'rank')}"
    ]
    if rates.get("end_to_end"):
        parts.append(f"{number(rates['end_to_end'])} galaxies/s end to end")
    if accuracy:
        parts.append(f"NMAD {accuracy['nmad']:.4f}")
    outcome = ", ".join(parts) + (f"; {number(cost_usd, 2)} USD {_paid(run)}." if cost_usd else ".")
    if run.get("complete"):
        return outcome
    return f"Incomplete: {counted(len(run.get('lost_ranks') or ()), 'rank')} of {world:,} lost. {outcome}"


def _without_summary(run: RunEvidence) -> str:
    """Say how a run ended that left no summary, and how far it came."""
    num_ranks = len(run.ranks)
    expected = _world_size(run)
    if run.imported or not expected:
        return f"{counted(num_ranks, 'record')} of ranks without a summary"
    status = run.entry.status if run.entry else ""
    how = {"ABORTED": "Stopped", "FAILED": "Failed", "TIMED_OUT": "Failed"}.get(status, "Cut off")
    return f"{how} when {num_ranks:,} of {counted(expected, 'rank')} had ended"


def _world_size(run: RunEvidence) -> int:
    """Return how many ranks there were to be, as the records say; 0 where they do not."""
    return max((record.world_size or 0 for record in run.ranks.records), default=0)


def facts(run: RunEvidence, cost_usd: float | None) -> Iterator[Fact]:
    """Yield the numbers of the top."""
    accuracy, clock, rates = run.get("accuracy"), run.get("clock"), run.get("throughput")
    planned = run.get("num_samples_planned")
    galaxies = run.get("num_samples") or float(np.nansum(run.ranks["num_samples"]))
    yield Fact("galaxies", count(galaxies), f"of {count(planned)} planned" if planned else "from the records")
    cold = run.get("num_cold_starts")
    yield Fact("ranks", count(run.get("num_records") or len(run.ranks)), "" if cold is None else f"{cold:,} cold")
    if accuracy:
        yield Fact("NMAD", f"{accuracy['nmad']:.4f}", f"bias {accuracy['bias']:+.4f}")
    if clock:
        yield Fact("end to end", seconds(clock["end_to_end"]), f"Map {seconds(clock['map'])}")
    if rates:
        yield Fact("galaxies/s", number(rates["end_to_end"]), "end to end")
    if cost_usd:
        yield Fact("cost [USD]", number(cost_usd, 2), _paid(run))
    peak = run.get("peak_memory_bytes")
    if peak:
        yield Fact("peak memory", megabytes(peak), f"of {count(run.get('function_memory_mb'))} MB")


def warnings(run: RunEvidence) -> Iterator[str]:
    """Yield what limits the numbers of a report, in sentences."""
    yield from _incomplete(run)
    yield from _not_as_planned(run)
    yield from _uneven(run)
    yield from _mixed(run)


def _incomplete(run: RunEvidence) -> Iterator[str]:
    lost = run.get("lost_ranks") or ()
    if lost:
        named = "; ".join(f"rank {one['rank']}: {one['error']}: {one['message']}" for one in lost[:MAX_LOST_NAMED])
        more = f"; and {len(lost) - MAX_LOST_NAMED:,} more" if len(lost) > MAX_LOST_NAMED else ""
        yield (
            f"Incomplete: {counted(len(lost), 'rank')} of {run.get('world_size'):,} gave no valid record. {named}{more}"
        )
    if run.imported:
        yield "Imported: whether every rank reported was not checked, and wall times are unknown."
        yield from run.imported.get("warnings", ())
        return
    if not run.summary:
        yield "There is no summary.json: whether every rank reported was not checked, and wall times are unknown."
    expected = _world_size(run)
    if not run.summary and expected > len(run.ranks):
        yield f"{len(run.ranks):,} of {counted(expected, 'rank')} left a record; {expected - len(run.ranks):,} did not."
    elif not run.summary and len(run.ranks) == PUBLISHED_PAGE:
        yield "Exactly 1,000 records: one page of a listing, so probably cut. Larger published runs lost the others."
    if run.summary and not len(run.ranks):
        yield "The records of the ranks are not in the run's folder: nothing can be said of single ranks."


def _not_as_planned(run: RunEvidence) -> Iterator[str]:
    attempts = run.ranks["attempt"]
    retried = int(np.nansum(attempts > 0))
    if retried:
        yield (
            f"{counted(retried, 'rank')} needed more than one attempt, up to {count(float(np.nanmax(attempts)) + 1)}: "
            "throttled, or failed at first. The time of failed attempts is in no number of a rank."
        )
    for note in run.ranks.texts("engine_note"):
        yield f"{note[:1].upper()}{note[1:]}."
    given = np.nan_to_num(run.ranks["function_memory_mb"])
    full = int(np.nansum(run.ranks["memory_bytes"] / 2**20 > MEMORY_SHARE * given) if given.any() else 0)
    if full:
        yield f"{counted(full, 'rank')} used more than {percent(MEMORY_SHARE, 0)} of the configured memory."


def _uneven(run: RunEvidence) -> Iterator[str]:
    ranks = run.ranks
    times = ranks["seconds"] if ranks.has("seconds") else ranks["total_cpu_time_s"]
    if np.isfinite(times).sum() > 2:
        slowest = int(np.nanargmax(times))
        ratio = float(times[slowest] / np.nanmedian(times))
        if ratio > STRAGGLER:
            above = int((times > STRAGGLER * np.nanmedian(times)).sum())
            yield (
                f"Stragglers: rank {ranks['rank'][slowest]:.0f} took {seconds(float(times[slowest]))}, "
                f"{number(ratio, 2)} times the median; {counted(above, 'rank')} took more than twice the median."
            )
    if ranks.has("seconds"):
        starts = float(np.nansum(ranks["init"]) + np.nansum(ranks["model_load"]))
        share = starts / float(np.nansum(ranks["seconds"]))
        if share > COLD_SHARE:
            yield (
                f"Cold starts: {percent(share, 0)} of the ranks' time went into init and loading the model "
                f"({seconds(starts)})."
            )
        parts = sum(np.nan_to_num(ranks[phase]) for phase in PHASES if phase not in ("queue", "init"))
        off = int((np.abs(parts - ranks["total"]) > PHASE_ERROR * ranks["total"]).sum())
        if off:
            yield f"The phases of {counted(off, 'rank')} do not add up to the duration within 2 %."


def _mixed(run: RunEvidence) -> Iterator[str]:
    for name, what in (
        ("weights_sha256", "weights"),
        ("image_digest", "images"),
        ("code_version", "versions of the code"),
    ):
        values = run.ranks.texts(name)
        if len(values) > 1:
            yield f"{len(values)} different {what} took part: the deployment changed under the run."


def _paid(run: RunEvidence) -> str:
    return "at list prices" if run.entry and run.entry.stack else "had it run on AWS"


def _loop_rate(run: RunEvidence) -> str:
    rates = run.ranks["sample_persec"]
    return (
        f"{number(float(np.nansum(rates)))} galaxies/s, each rank's own rate added." if np.isfinite(rates).any() else ""
    )

"""Checks on measured throughput and memory: every CUDA device, size and batch that two models were timed on."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from bench.report.claims.sources import Sources
from bench.report.claims.terms import SIZE
from bench.report.claims.values import Quantity, absent, leaf
from bench.report.claims.verdict import FAILS, HOLDS, UNDECIDED, Outcome, every
from bench.report.published.names import model_name
from bench.report.tables.missing import Command
from bench.report.tidy import grouped
from bench.report.tidy_costs import Timing, best_modes

OVERLAP = "timed as planned, and the intervals overlap; to time again until they do not is optional stopping"
KERNELS = ("", "mamba_ssm")  # a scan in plain torch is no ground for calling a state-space model slow


def throughput(sources: Sources, model: str, batch_size: int) -> Quantity:
    """Lowest median of images per second at 224 px over the devices timed, each at its fastest way to run."""
    rows = [t for t in _fastest(sources, model) if (t.batch_size, t.img_size) == (batch_size, SIZE)]
    if not rows:
        return absent(_timing_command(model))
    slowest = min(rows, key=_rate)
    where = f"results/timings: {model_name(model)}, {slowest.device}, {SIZE} px, batch {batch_size}"
    return leaf(Fraction(_rate(slowest)), where, unit="images/s")


def faster(sources: Sources, ours: str, theirs: str) -> Outcome:
    """More images per second than another on every CUDA device and batch size timed; intervals must be apart."""

    def judge(first: Timing, second: Timing) -> str:
        if first.ci_low > second.ci_high:
            return HOLDS
        return FAILS if first.ci_high < second.ci_low else UNDECIDED

    expected = f"{model_name(ours)} above {model_name(theirs)} in images per second on every CUDA setting timed"
    return _side_by_side(sources, ours, theirs, _rate, expected, judge)


def smaller_peak(sources: Sources, ours: str, theirs: str) -> Outcome:
    """A lower peak of memory than another on every CUDA device and batch size timed."""

    def judge(first: Timing, second: Timing) -> str:
        return HOLDS if first.peak_memory_mib < second.peak_memory_mib else FAILS

    expected = f"{model_name(ours)} below {model_name(theirs)} in peak MiB on every CUDA setting timed"
    return _side_by_side(sources, ours, theirs, lambda timing: timing.peak_memory_mib, expected, judge)


def batch_gain(sources: Sources, model: str) -> Quantity:
    """Images per second at the largest batch over those one at a time, on the CUDA device where that is smallest."""
    on_cuda = [timing for timing in _fastest(sources, model) if timing.device.startswith("cuda")]
    ratios = []
    for group in grouped(on_cuda, lambda timing: timing.device).values():
        ordered = sorted(group, key=lambda timing: timing.batch_size)
        ratios += [Fraction(_rate(ordered[-1])) / Fraction(_rate(ordered[0]))] if len(ordered) > 1 else []
    if not ratios:
        return absent(_timing_command(model))
    return leaf(min(ratios), f"results/timings: {model_name(model)}, CUDA", unit="times")


def _rate(timing: Timing) -> float:
    return timing.median_images_per_second


def _fastest(sources: Sources, model: str) -> list[Timing]:
    """Finished inference timings, the fastest way to run for each device, size and batch; no scan in plain torch."""
    rows = [t for t in sources.timings if (t.model, t.mode) == (model, "inference") and t.scan_backend in KERNELS]
    return best_modes(rows)


def _side_by_side(
    sources: Sources,
    ours: str,
    theirs: str,
    value: Callable[[Timing], float],
    expected: str,
    judge: Callable[[Timing, Timing], str],
) -> Outcome:
    """Judge two models on every CUDA device, size and batch that both were timed on."""
    first, second = ({timing.comparable: timing for timing in _fastest(sources, model)} for model in (ours, theirs))
    shared = sorted(key for key in first.keys() & second.keys() if first[key].device.startswith("cuda"))
    if not shared:
        scan = ", the scan in mamba-ssm's kernel (extra [gpu])" if "medmamba" in theirs else ""
        observed = f"no timing of both on a CUDA device{scan}"
        return Outcome(UNDECIDED, expected, observed, (), (_timing_command(ours, theirs),))
    outcomes = []
    for key in shared:
        a, b = first[key], second[key]
        observed = f"{a.device}, {a.img_size} px, batch {a.batch_size}: {value(a):.1f} against {value(b):.1f}"
        verdict = judge(a, b)
        where = (f"results/timings: {ours}, {theirs}",)
        outcomes.append(Outcome(verdict, expected, observed, where, why=OVERLAP if verdict == UNDECIDED else ""))
    return every(*outcomes)


def _timing_command(*models: str) -> Command:
    return Command("measure timing", models, end=" --device cuda")

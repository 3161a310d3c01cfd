"""Checks on measured throughput and memory: every CUDA device, size and batch that two models were timed on."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pandas as pd

from bench.report.claims.sources import Sources
from bench.report.claims.terms import SIZE
from bench.report.claims.values import Quantity, absent, leaf
from bench.report.claims.verdict import FAILS, HOLDS, UNDECIDED, Outcome, every

KERNELS = ("", "mamba_ssm")  # a scan in plain torch is no ground for calling a state-space model slow


def throughput(sources: Sources, model: str, batch_size: int) -> Quantity:
    """Lowest median of images a second at 224 px over the devices timed, each at its fastest way to run."""
    rows = _fastest(sources, model)
    rows = rows[(rows["batch_size"] == batch_size) & (rows["img_size"] == SIZE)]
    if rows.empty:
        return absent(_timing_command(model))
    row = rows.sort_values("median_images_per_second", kind="stable").iloc[0]
    where = f"results/timings: {model}, {row['device']}, {SIZE} px, batch {batch_size}"
    return leaf(Fraction(float(row["median_images_per_second"])), where, unit="images/s")


def faster(sources: Sources, ours: str, theirs: str) -> Outcome:
    """More images a second than another on every CUDA device and batch size timed; intervals must be apart."""

    def judge(first: dict[Any, Any], second: dict[Any, Any]) -> str:
        if first["ci_low"] > second["ci_high"]:
            return HOLDS
        return FAILS if first["ci_high"] < second["ci_low"] else UNDECIDED

    expected = f"{ours} above {theirs} in images a second on every CUDA setting timed"
    return _side_by_side(sources, ours, theirs, "median_images_per_second", expected, judge)


def smaller_peak(sources: Sources, ours: str, theirs: str) -> Outcome:
    """A lower peak of memory than another on every CUDA device and batch size timed."""

    def judge(first: dict[Any, Any], second: dict[Any, Any]) -> str:
        return HOLDS if first["peak_memory_mib"] < second["peak_memory_mib"] else FAILS

    expected = f"{ours} below {theirs} in peak MiB on every CUDA setting timed"
    return _side_by_side(sources, ours, theirs, "peak_memory_mib", expected, judge)


def batch_gain(sources: Sources, model: str) -> Quantity:
    """Images a second at the largest batch over those one at a time, on the CUDA device where that is smallest."""
    rows = _fastest(sources, model)
    rows = rows[rows["device"].str.startswith("cuda")]
    ratios = []
    for _, group in rows.groupby("device"):
        ordered = group.sort_values("batch_size", kind="stable")["median_images_per_second"]
        ratios += [Fraction(float(ordered.iloc[-1])) / Fraction(float(ordered.iloc[0]))] if len(ordered) > 1 else []
    if not ratios:
        return absent(_timing_command(model))
    return leaf(min(ratios), f"results/timings: {model}, CUDA", unit="times")


def _fastest(sources: Sources, model: str) -> pd.DataFrame:
    """Finished inference timings, the fastest way to run for each device, size and batch; no scan in plain torch."""
    frame = sources.timings
    scan = frame["scan_backend"].fillna("").isin(KERNELS)
    rows = frame[(frame["model"] == model) & (frame["mode"] == "inference") & (frame["status"] == "done") & scan]
    ordered = rows.sort_values("median_images_per_second", ascending=False, kind="stable")
    return ordered.groupby(["device", "img_size", "batch_size"], sort=True).head(1)


def _side_by_side(
    sources: Sources,
    ours: str,
    theirs: str,
    column: str,
    expected: str,
    judge: Callable[[dict[Any, Any], dict[Any, Any]], str],
) -> Outcome:
    """Judge two models on every CUDA device, size and batch that both were timed on."""
    keys = ["device", "img_size", "batch_size"]
    first, second = (_fastest(sources, model).set_index(keys) for model in (ours, theirs))
    shared = [key for key in first.index if key in second.index and str(key[0]).startswith("cuda")]
    if not shared:
        scan = ", the scan in mamba-ssm's kernel (extra [gpu])" if "medmamba" in theirs else ""
        found = f"no timing of both on a CUDA device{scan}"
        return Outcome(UNDECIDED, expected, found, (), (_timing_command(ours, theirs),))
    outcomes = []
    for key in sorted(shared):
        a, b = first.loc[key].to_dict(), second.loc[key].to_dict()
        found = f"{key[0]}, {key[1]} px, batch {key[2]}: {a[column]:.1f} against {b[column]:.1f}"
        verdict = judge(a, b)
        needs = (_timing_command(ours, theirs) + " --rounds 9 --overwrite",) if verdict == UNDECIDED else ()
        outcomes.append(Outcome(verdict, expected, found, (f"results/timings: {ours}, {theirs}",), needs))
    return every(*outcomes)


def _timing_command(*models: str) -> str:
    return f"medbench measure timing --models {','.join(models)} --device cuda"

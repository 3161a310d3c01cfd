"""What the paper says of speed and memory."""

from __future__ import annotations

from bench.report.analysis_plan import OURS
from bench.report.claims.checks import above, at_least
from bench.report.claims.registry import claim
from bench.report.claims.sources import Sources
from bench.report.claims.timings import batch_gain, faster, smaller_peak, throughput
from bench.report.claims.values import bound
from bench.report.claims.verdict import Check, Parts, sufficient


@claim(
    "C011",
    "MedMamba-T (with the fused scan kernel) has fewer images per second than MedSpectralNet on a GPU; the cause is "
    "not judged.",
)
def sequential_operations_cost_time(sources: Sources) -> Parts:
    """“their sequential operations limit parallelism and increase runtime”."""
    yield Check("timing", faster(sources, OURS, "medmamba_t"))


@claim(
    "C012",
    "Video rate, chosen here, at 224 px on every device timed: enough where it is met, and no ground to call the "
    "claim wrong where it is not.",
)
def real_time(sources: Sources) -> Parts:
    """“well-suited for real-time and resource-constrained classification-based medical applications”."""
    why = (
        "the paper names neither a bound nor a device; 30 images per second, one at a time, on every device timed "
        "would be enough beyond doubt"
    )
    yield Check("timing", sufficient(at_least(throughput(sources, OURS, 1), bound(30, "images/s")), why))


@claim("C018", "More images per second than MedMamba-T on a GPU.")
def faster_inference(sources: Sources) -> Parts:
    """“This enables faster and more parallelizable inference suitable for practical deployments”."""
    yield Check("timing", faster(sources, OURS, "medmamba_t"))


@claim(
    "C019",
    "The one state-space model of the suite, MedMamba-T, has fewer images per second than MedSpectralNet on a GPU.",
)
def state_space_models_are_slower(sources: Sources) -> Parts:
    """“they face challenges in throughput and latency”."""
    yield Check("timing", faster(sources, OURS, "medmamba_t"))


@claim("C160", "More images per second than MedMamba-T on a GPU.")
def faster_on_parallel_hardware(sources: Sources) -> Parts:
    """“resulting in faster inference times critical for real-time diagnostic applications”."""
    yield Check("timing", faster(sources, OURS, "medmamba_t"))


@claim(
    "C161",
    "A lower peak of GPU memory in inference than MedMamba-T's; convergence is not judged, for no other model's "
    "number of epochs is stated.",
)
def less_gpu_memory(sources: Sources) -> Parts:
    """“The reduced GPU memory requirements enable deployment on edge devices”."""
    yield Check("timing", smaller_peak(sources, OURS, "medmamba_t"))


@claim(
    "C164",
    "From one image at a time to the largest batch, throughput on a GPU grows by a larger factor than MedMamba-T's.",
)
def batches_gain_more(sources: Sources) -> Parts:
    """“enables more efficient batch processing capabilities”."""
    yield Check("timing", above(batch_gain(sources, OURS), batch_gain(sources, "medmamba_t")))

"""Which device a run computes on, and how many runs share the machine's."""

from __future__ import annotations

from bench.errors import BenchError


def choose_device(name: str) -> str:
    """`auto` -> `cuda` where there is one, else `cpu`; others as they are.

    Raises:
        BenchError: If a CUDA device is requested that is not there.
    """
    if name == "cpu":
        return name
    import torch

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if available and name in ("cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))):
        return name
    raise BenchError(f"--device {name!r} is not available here; use cpu or auto")


def device_slots(device: str, jobs: int, gpus_per_run: float) -> list[str]:
    """One device for each run that goes on at once: `cuda` means all GPUs, each shared by 1 / gpus_per_run runs.

    Raises:
        BenchError: If the share is none, or more runs are requested than the GPUs take.
    """
    if not 0 < gpus_per_run <= 1:
        raise BenchError(f"--gpus-per-run {gpus_per_run:g} is refused; a run takes one GPU or a share of one")
    if not device.startswith("cuda"):
        return [device] * (jobs or 1)
    import torch

    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if device == "cuda" else [device]
    slots = [gpu for _ in range(int(1 / gpus_per_run + 1e-9)) for gpu in gpus]
    if jobs > len(slots):
        raise BenchError(f"--jobs {jobs} is more than {len(slots)} runs on {len(gpus)} GPUs; lower --gpus-per-run")
    return slots[: jobs or len(slots)]

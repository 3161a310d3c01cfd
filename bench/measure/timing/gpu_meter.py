"""What NVML reports of a GPU: energy, clock, temperature, throttle reasons, driver. Everything is None without NVML."""

from __future__ import annotations

import os
from typing import Any

from bench.records.timing_record import MachineState


def load_average() -> float | None:
    """Processes that wanted a CPU over the last minute, None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


class Meter:
    """The host's load, and one GPU where there is one.

    Args:
        device: `cpu` or `cuda[:i]`.
    """

    def __init__(self, device: str) -> None:
        self.nvml, self.handle = _open(device)

    def state(self) -> MachineState:
        """Load of the host; SM clock in MHz, temperature in degrees Celsius and throttle reasons (NVML's bits)."""
        if self.nvml is None:
            return MachineState(load_average=load_average())
        return MachineState(
            load_average=load_average(),
            sm_clock_mhz=self._query("nvmlDeviceGetClockInfo", self.handle, self.nvml.NVML_CLOCK_SM),
            temperature_c=self._query("nvmlDeviceGetTemperature", self.handle, self.nvml.NVML_TEMPERATURE_GPU),
            throttle_reasons=self._query("nvmlDeviceGetCurrentClocksThrottleReasons", self.handle),
        )

    def _query(self, function: str, *arguments: Any) -> Any:
        """NVML's answer, None where the card or its host does not give it."""
        try:
            return getattr(self.nvml, function)(*arguments)
        except self.nvml.NVMLError:
            return None

    def joules(self) -> float | None:
        """Energy since the driver was loaded, in joules; None where the card does not count it."""
        value = self._query("nvmlDeviceGetTotalEnergyConsumption", self.handle) if self.nvml is not None else None
        return None if value is None else float(value) / 1000

    def driver(self) -> str | None:
        """The driver's version."""
        version = self._query("nvmlSystemGetDriverVersion") if self.nvml is not None else None
        return version.decode() if isinstance(version, bytes) else version


def _open(device: str) -> tuple[Any, Any]:
    """NVML and the handle of the card that torch calls `device`; (None, None) where NVML does not know it."""
    if not device.startswith("cuda"):
        return None, None
    import torch

    try:
        import pynvml
    except ModuleNotFoundError:
        return None, None
    try:
        pynvml.nvmlInit()
        # By UUID: torch's numbers follow CUDA_VISIBLE_DEVICES, NVML's do not.
        uuid = torch.cuda.get_device_properties(torch.device(device)).uuid
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return None, None

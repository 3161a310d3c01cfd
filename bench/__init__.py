"""A reproducible benchmark of MedSpectralNet and the models it was compared with, on MedMNIST.

`bench.api` is the public face. Its names can be had from here too, loaded when they are first used, all but two:
`bench.plan` and `bench.report` are subpackages, the functions are `bench.api.plan` and `bench.api.report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import (
        check_contribution,
        check_model,
        check_report,
        compare,
        doctor,
        explain,
        load_predictions,
        load_results,
        merge,
        run,
        verify,
    )
    from bench.plan.selection import Selection
    from bench.protocols.schema import Protocol
    from bench.records.names import Run
    from bench.records.run_record import Record
    from bench.runs.request import Launch

__version__ = "0.1.0"
__all__ = [
    "Launch",
    "Protocol",
    "Record",
    "Run",
    "Selection",
    "__version__",
    "check_contribution",
    "check_model",
    "check_report",
    "compare",
    "doctor",
    "explain",
    "load_predictions",
    "load_results",
    "merge",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    """A name of the public face, on first use: `import bench` alone loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}; bench.api has the functions")
    from bench import api

    return getattr(api, name)

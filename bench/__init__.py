"""A reproducible benchmark of MedSpectralNet and the models it was compared with, on MedMNIST.

`bench.api` is the public face. Its names can be had from here too, loaded when they are first used, all but two:
`bench.plan` and `bench.report` are subpackages, the functions are `bench.api.plan` and `bench.api.report`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import (
        changes,
        check_contribution,
        check_model,
        check_report,
        compare,
        doctor,
        explain,
        export,
        load_predictions,
        load_results,
        merge,
        run,
        track,
        tune,
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
    "changes",
    "check_contribution",
    "check_model",
    "check_report",
    "compare",
    "doctor",
    "explain",
    "export",
    "load_predictions",
    "load_results",
    "merge",
    "run",
    "track",
    "tune",
    "verify",
]


def _import_own_models() -> None:
    """Make `models` mean the suite's package, whatever else of that name a user's path has first.

    Raises:
        ImportError: If another package of that name is imported already.
    """
    own = Path(__file__).resolve().parents[1] / "models" / "__init__.py"
    known = sys.modules.get("models")
    spec = known.__spec__ if known is not None else importlib.util.find_spec("models")
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == own:
        return
    if known is not None:
        raise ImportError(f"another package named 'models' is imported already ({known}); import bench before it")
    spec = importlib.util.spec_from_file_location("models", own, submodule_search_locations=[str(own.parent)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["models"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["models"])


_import_own_models()


def __getattr__(name: str) -> Any:
    """A name of the public face, on first use: `import bench` alone loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}; bench.api has the functions")
    from bench import api

    return getattr(api, name)

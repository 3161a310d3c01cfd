"""What all tests share: quiet threads, and golden numbers.

Goldens are stored outputs of our own code. After a change that is meant to move them,
`pytest tests/models/test_medspectralnet.py tests/models/test_resnet_small.py --regenerate-goldens` writes them anew;
say so in the commit and bump what depends on them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.machine import cpu_isa

cpu_isa.pin()

import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

GOLDENS = Path(__file__).parent / "goldens"

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-goldens", action="store_true", help="Write the golden numbers anew.")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str, torch.Tensor], None]:
    """Compare a float64 tensor with the one stored as `key` in `goldens/<name>.json`, to a relative 1e-9."""

    def compare(name: str, key: str, actual: torch.Tensor) -> None:
        path = GOLDENS / f"{name}.json"
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if request.config.getoption("--regenerate-goldens"):
            stored[key] = actual.tolist()
            path.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            pytest.skip(f"{key} is written anew to {path.name}")
        assert actual.dtype == torch.float64
        expected = torch.tensor(stored[key], dtype=torch.float64)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())

    return compare

"""What all tests share: quiet threads, golden numbers, and nothing that another test loaded from its own files.

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
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

from bench.data import own  # noqa: E402
from bench.protocols import loading  # noqa: E402
from models import catalog  # noqa: E402

GOLDENS = Path(__file__).parent / "goldens"

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-goldens", action="store_true", help="Write the golden numbers anew.")


@pytest.fixture(autouse=True)
def _forget_what_was_loaded_by_path() -> Iterator[None]:
    """Plugins, protocols and cards of a test's own files are gone when it ends, so that no order of tests matters."""
    registries: tuple[dict, ...] = (catalog._plugins, loading._by_path, own._cards)
    before = [dict(registry) for registry in registries]
    yield
    knows_more = loading._by_path != before[1]
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)
    if knows_more:  # a protocol's name was looked up, and would be found again
        loading.load_protocol.cache_clear()
        loading.load_study.cache_clear()


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

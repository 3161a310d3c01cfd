"""Where runs go: devices of the runs that go on at once, and what travels to a node that has nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import data, engines_ray
from bench.data import data_root, file_name, find_file
from bench.engines_ray import Parcel
from bench.errors import BenchError
from bench.launch import device_slots
from bench.protocol import load_protocol
from bench.records import Run, read_card
from bench.runner import RunRequest
from models import fingerprint, get_spec

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)


@pytest.mark.parametrize(
    ("device", "jobs", "share", "slots"),
    [
        ("cpu", 0, 1.0, ["cpu"]),
        ("cpu", 3, 1.0, ["cpu"] * 3),
        ("cuda", 0, 1.0, ["cuda:0", "cuda:1"]),
        ("cuda", 0, 0.5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        ("cuda", 3, 0.25, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", 0, 1 / 3, ["cuda:1"] * 3),
    ],
)
def test_each_run_has_its_device(two_gpus: None, device: str, jobs: int, share: float, slots: list[str]) -> None:
    """Runs spread over the GPUs first; a share lets several use one."""
    assert device_slots(device, jobs, share) == slots


@pytest.mark.parametrize(("jobs", "share", "says"), [(3, 1.0, "3 is more than 2"), (1, 0.0, "0 is"), (1, 2.0, "2 is")])
def test_more_than_the_gpus_take_is_refused(two_gpus: None, jobs: int, share: float, says: str) -> None:
    """One line that says what would do."""
    with pytest.raises(BenchError, match=says):
        device_slots("cuda", jobs, share)


@pytest.mark.data
def test_a_node_without_data_or_plugins_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official file and the plugin's text travel; the copies stand in a folder named by content."""
    file = data_root(None) / file_name("breastmnist", 28)
    if not file.exists():
        pytest.skip(f"{file.name} is not in {file.parent}")
    monkeypatch.setattr("ray.get", lambda content: content)
    monkeypatch.setattr(engines_ray.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    nowhere: dict[str, Any] = {"data_root": str(tmp_path / "empty"), "plugins": ("/far/away/net.py",)}
    request = RunRequest(run, load_protocol("smoke"), card, **nowhere)
    plugins = (("net.py", "# a plugin"),)
    parcel = Parcel(request, fingerprint(get_spec(run.model)), plugins, file.name, (file.read_bytes(),), None)
    arrived = engines_ray._at_hand(parcel)
    assert find_file("breastmnist", 28, arrived.data_root, download=False).read_bytes() == file.read_bytes()
    assert [Path(path).read_text(encoding="utf-8") for path in arrived.plugins] == ["# a plugin"]
    assert data.load("breastmnist", 28, root=arrived.data_root).md5 == card.md5


def test_a_node_with_another_version_of_the_model_refuses() -> None:
    """Its record would be another model's."""
    card = read_card(RESULTS, "breastmnist")
    assert card is not None
    run = Run("smoke", "resnet18_28", "breastmnist", 0)
    record = engines_ray.do_parcel(
        Parcel(RunRequest(run, load_protocol("smoke"), card), "0" * 64, (), "", (), None)
    ).record
    assert (record.status, record.failure and record.failure.kind) == ("failed", "infra")
    assert "another version of resnet18_28" in str(record.failure)

"""The Ray engine: a lost node loses nothing, and records are those of the local engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.machine import cpu_isa
from bench.records.run_record import read_records
from tests.runs.test_engines import PROTOCOL, SET, environment, leftovers, scores

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)

SLOW_NET = '''
"""A small net that takes its time, so that a node can be lost in the middle of a run."""
import time
from torch import nn
from models import register_model


class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(0.1)
        return super().forward(x)


@register_model(paper="none", source="a test", code_license="MIT")
def slow_net(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    layers = nn.Conv2d(in_chans, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return Slow(*layers, nn.Linear(16, num_classes))
'''
EXITS = """
import os

from torch import nn
from models import register_model


class Net(nn.Linear):
    def forward(self, x):
        os._exit(7)


@register_model(paper="none", source="a test", code_license="MIT")
def exits(*, num_classes, in_chans=3, img_size=28, pretrained=False):
    return Net(1, num_classes)
"""


CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("killed", flush=True)
cluster.shutdown()
"""


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A head without CPUs and two nodes with one each, kept by a process of its own; a line to it kills a node.

    Its environment holds no pin: the nodes learn the arithmetic from the driver.
    """
    native = {name: value for name, value in environment().items() if name not in cpu_isa.VARIABLES}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    keeper = subprocess.Popen([sys.executable, "-c", CLUSTER], env=native, text=True, **pipes)
    yield keeper
    keeper.communicate(timeout=100)


def driver(workshop: Path, results: str, *more: str) -> subprocess.Popen[str]:
    arguments = ["run", "--protocol", "ten.toml", "--datasets", SET, "--results", results, "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "bench.cli", *arguments, "--plugin", "slow.py", "--plugin", "exits.py", *more],
        cwd=workshop,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_node_is_lost_in_mid_run_and_nothing_else(tmp_path: Path, cluster: subprocess.Popen[str]) -> None:
    """One of two nodes is killed: all runs finish, bit-identical to the local engine's; a crash is its run's alone."""
    (tmp_path / "ten.toml").write_text(PROTOCOL, encoding="utf-8")
    (tmp_path / "slow.py").write_text(SLOW_NET, encoding="utf-8")
    (tmp_path / "exits.py").write_text(EXITS, encoding="utf-8")
    assert cluster.stdin
    assert cluster.stdout
    address = cluster.stdout.readline().strip()
    plan = ["--models", "slow_net,exits", "--seeds", "0-2"]
    far = driver(tmp_path, "far", *plan, "--engine", "ray", "--ray-address", address)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "far" / "records").rglob("seed*.json")) and far.poll() is None:
        assert time.monotonic() < deadline, "no run ended on the cluster"
        time.sleep(0.2)
    time.sleep(1.0)
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "killed\n"
    out, err = far.communicate(timeout=400)
    assert far.returncode == 1, (out, err)  # the crashing plugin's runs failed
    near = driver(tmp_path, "near", *plan)
    near.communicate(timeout=400)
    assert "Traceback" not in err
    assert scores(tmp_path / "far") == scores(tmp_path / "near")
    records, _ = read_records(tmp_path / "far")
    ends = {(record.model, record.status, record.failure.kind if record.failure else None) for record in records}
    assert ends == {("slow_net", "done", None), ("exits", "failed", "error")}
    assert len(records) == 6
    assert {record.cpu_isa for record in records if record.status == "done"} == {cpu_isa.in_force()}
    messages = {record.failure.message for record in records if record.failure}
    assert messages == {"the run's process exited with code 7"}
    assert leftovers(tmp_path / "far") == []


def test_no_cluster_is_one_clear_line(tmp_path: Path) -> None:
    """An address where nobody answers ends with exit code 2 and no traceback."""
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "bench.cli",
                "run",
                "--protocol",
                "smoke",
                "--models",
                "resnet18",
                "--datasets",
                SET,
            ),
            *("--results", str(tmp_path / "r"), "--device", "cpu", "--engine", "ray", "--ray-address", "127.0.0.1:1"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "No Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr

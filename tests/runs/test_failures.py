"""A run that failed shows where: the line of the user's own code, the whole traceback beside the records."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.cli import console
from bench.cli import run as commands
from bench.data.card import measure
from bench.errors import BenchError
from bench.protocols.loading import load_protocol
from bench.records.names import Run, log_path
from bench.records.run_record import read_record
from bench.runs import launch
from bench.runs.launch import Outcome
from bench.runs.request import RunBundle, RunRequest
from bench.runs.runner import run_one
from bench.runs.writing import write_bundle
from models import ModelError, catalog, get_spec, load_plugin
from models.catalog import import_builder
from models.loading import in_own_code
from tests.making import make_record

SET = "synthetic-breastmnist"
NET = '''"""A model that fails in its forward pass."""

from torch import nn
from models import register_model


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(5, num_classes)

    def forward(self, x):
        return self.head(x.flatten(1))


@register_model(source="a test", code_license="MIT")
def failing_net(*, num_classes, in_chans=3, img_size=224, pretrained=False):
    return Net(num_classes)
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for plugins that are forgotten afterwards."""
    monkeypatch.setattr(catalog, "_plugins", {})
    return tmp_path


def failed(plugins: Path) -> RunBundle:
    path = plugins / "failing_net.py"
    path.write_text(NET, encoding="utf-8")
    request = RunRequest(
        Run("smoke", "failing_net", SET, 0), load_protocol("smoke"), measure(SET), plugins=(str(path),)
    )
    return run_one(request)


def test_a_failure_names_the_line_of_the_users_code(
    plugins: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the record file and line without a folder, in the log the whole traceback, which --verbose prints."""
    bundle = failed(plugins)
    failure = bundle.record.failure
    assert failure is not None
    line = NET.splitlines().index("        return self.head(x.flatten(1))") + 1
    assert failure.message.endswith(f"(failing_net.py:{line}, in forward)")
    assert "mat1 and mat2 shapes" in failure.message
    assert str(plugins) not in failure.message
    results = plugins / "results"
    write_bundle(bundle, results)
    assert read_record(bundle.record.run.path(results)) == bundle.record
    text = log_path(results, bundle.record.run).read_text(encoding="utf-8")
    assert text.startswith("Traceback (most recent call last)")
    assert "in forward" in text
    for verbose in (True, False):
        console.speak(verbose=verbose)
        commands._print_outcome(Outcome([bundle.record]), results)
        printed = capsys.readouterr().err
        assert ("Traceback (most recent" in printed) is verbose
        assert verbose or f"traceback: {log_path(results, bundle.record.run)}" in printed


def test_a_layer_of_the_librarys_is_named(plugins: Path) -> None:
    """Where no line of the model's own file is in the traceback, as in an nn.Sequential."""
    path = plugins / "failing_net.py"
    built = "return nn.Sequential(nn.Flatten(), nn.Linear(5, num_classes))"
    path.write_text(NET.replace("return Net(num_classes)", built), encoding="utf-8")
    load_plugin(path)
    model = import_builder(get_spec("failing_net"))(num_classes=2)
    with pytest.raises(RuntimeError) as caught:
        model(torch.zeros(1, 3, 8, 8))
    assert in_own_code(caught.value, path) == " (in Linear(in_features=5, out_features=2, bias=True))"


def test_a_run_that_ends_well_removes_the_log_of_an_earlier_failure(tmp_path: Path) -> None:
    """Beside a finished record no old traceback stands."""
    record = make_record()
    log = log_path(tmp_path, record.run)
    log.parent.mkdir(parents=True)
    log.write_text("Traceback", encoding="utf-8")
    write_bundle(RunBundle(record), tmp_path)
    assert not log.exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import notthere", r"failing_net.py imports 'notthere', which is not installed \(failing_net.py:3\): install"),
        ("from torch import nothere", r"failing_net.py: cannot import name 'nothere' .*\(failing_net.py:3\)$"),
    ],
)
def test_a_plugins_import_that_fails_names_plugin_and_package(plugins: Path, line: str, says: str) -> None:
    """One line: the file, its line, the package and what would do."""
    path = plugins / "failing_net.py"
    path.write_text(NET.replace("from torch import nn", line), encoding="utf-8")
    load_plugin(path)
    with pytest.raises(ModelError, match=says) as caught:
        import_builder(get_spec("failing_net"))
    assert "\n" not in str(caught.value)


def test_a_light_set_up_says_what_installs_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch `run` ends before anything runs, with the packages and the command."""
    launch.check_installed()
    monkeypatch.setattr(launch, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(BenchError, match=r"Runs need torch, not installed here: `./run_all.sh setup` installs"):
        launch.check_installed()

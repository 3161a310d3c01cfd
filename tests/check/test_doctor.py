"""`medbench doctor` shows what is there, and what to do about what is not."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from bench.check import doctor
from bench.data.names import PAPER_DATASETS


def row(what: str) -> dict[str, str]:
    (match,) = [candidate for candidate in doctor.examine() if candidate["what"] == what]
    return match


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Other versions of some packages; None is not installed."""
    original = importlib.metadata.version

    def version(name: str) -> str:
        if name in versions:
            if versions[name] is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return str(versions[name])
        return original(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_here_nothing_is_missing() -> None:
    """Where the tests run the suite is installed; each row has its three keys and one line."""
    rows = doctor.examine()
    assert not [entry for entry in rows if entry["state"] == "missing"]
    for entry in rows:
        assert list(entry) == ["what", "state", "detail"]
        assert entry["state"] in ("ok", "note")
        assert entry["detail"]
        assert "\n" not in entry["detail"]
    whats = [entry["what"] for entry in rows]
    assert len(whats) == len(set(whats))
    assert {"python", "numpy", "torch (run)", "cpu", "threads", "free disk", "code", "mamba-ssm kernel"} <= set(whats)
    assert set(PAPER_DATASETS) <= set(whats)


def test_only_a_required_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow nothing works; without timm planning and reporting do, so that is a note."""
    pretend(monkeypatch, pyarrow=None, timm=None)
    assert row("pyarrow")["state"] == "missing"
    assert row("timm (run)") == {
        "what": "timm (run)",
        "state": "note",
        "detail": "not installed; the extra 'run' brings it",
    }


def test_a_version_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed and what is needed."""
    pretend(monkeypatch, numpy="1.20")
    assert row("numpy")["state"] == "missing"
    assert row("numpy")["detail"].startswith("1.20 is installed, >=1.26 is needed")


def test_a_torchvision_of_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """That pair fails at import, and timm with it."""
    assert row("torch and torchvision")["state"] == "ok"
    pretend(monkeypatch, torch="2.1.0+cpu")
    assert row("torch and torchvision")["state"] == "note"
    assert "needs torch==" in row("torch and torchvision")["detail"]


def test_a_light_install_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch there is no device row to fail on."""
    monkeypatch.setitem(sys.modules, "torch", None)
    pretend(monkeypatch, torch=None, torchvision=None)
    assert row("cuda")["detail"] == "torch cannot be imported here"
    assert row("mamba-ssm kernel")["state"] == "note"
    assert "work without them" in row("torch and torchvision")["detail"]


def test_requirements_are_those_of_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout that is not installed reads the same lists from the file."""
    installed = {extra: sorted(item.name for item in group) for extra, group in doctor.requirements().items()}

    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)
    read = {extra: sorted(item.name for item in group) for extra, group in doctor.requirements().items()}
    assert {"", "run", "gpu", "ray", "cam", "dev"} <= set(read)
    assert read[""] == installed[""]
    assert read["run"] == installed["run"]


def test_busy_threads_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a passive policy nor one thread: idle threads would spin."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert row("threads")["state"] == "note"
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert row("threads")["state"] == "ok"


def test_data_sets_are_looked_for_where_runs_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there is shown with its size; an absent one with what to do, which is no failure."""
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path))
    (tmp_path / "breastmnist.npz").write_bytes(b"0" * 2**20)
    assert row("breastmnist")["detail"].startswith("1.0 MiB")
    assert row("bloodmnist")["state"] == "note"
    assert "put the official file there" in row("bloodmnist")["detail"]
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / "nowhere"))
    assert row("data folder")["state"] == "note"
    assert "does not exist" in row("data folder")["detail"]
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / ("x" * 300)))  # the system refuses to look, root's too
    assert "cannot be read" in row("data folder")["detail"]


def test_code_that_differs_from_its_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of it could not be traced; outside a checkout there is no commit at all."""
    for commit, state in (((None, None), "note"), (("a" * 40, True), "note"), (("a" * 40, False), "ok")):
        monkeypatch.setattr(doctor.provenance, "commit", lambda commit=commit: commit)
        assert row("code")["state"] == state
    assert row("code")["detail"] == "commit aaaaaaaaaaaa"

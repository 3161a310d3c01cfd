"""Where a number comes from: the processor's kind, and whether the code is the commit's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.machine import provenance


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512f\n\nmodel name\t: Some CPU\n", "Some CPU, AVX-512"),
        ("model name\t: Some CPU\nflags\t\t: fpu avx2\n", "Some CPU, AVX2"),
        ("model name\t: Some CPU\nflags\t\t: fpu\n", "Some CPU"),
    ],
)
def test_processors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch, cpuinfo: str, expected: str) -> None:
    """Libraries choose other kernels where the vectors are wider, and last bits differ."""
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: cpuinfo)
    provenance.cpu_name.cache_clear()
    try:
        assert provenance.cpu_name() == expected
    finally:
        provenance.cpu_name.cache_clear()


def test_a_users_files_do_not_make_the_code_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of their own and a baseline beside the sources count as little as prose; the code does."""
    for command in (["init", "-q"], ["config", "user.email", "a@example.org"], ["config", "user.name", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "code.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("text\n", encoding="utf-8")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", "commit", "-qm", "all"], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def dirty() -> bool | None:
        provenance.commit.cache_clear()
        return provenance.commit()[1]

    try:
        (tmp_path / "mine").mkdir()
        for name in ("mine/seed0.json", "my_net.py", "README.md"):
            (tmp_path / name).write_text("mine\n", encoding="utf-8")
        assert dirty() is False
        code = provenance.commit()[0]
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
        subprocess.run(["git", "commit", "-qm", "results"], cwd=tmp_path, check=True)
        assert dirty() is False
        assert provenance.commit()[0] == code
        (tmp_path / "bench" / "new.py").write_text("y = 2\n", encoding="utf-8")
        assert dirty() is True
        (tmp_path / "bench" / "new.py").unlink()
        (tmp_path / "bench" / "code.py").write_text("x = 2\n", encoding="utf-8")
        assert dirty() is True
    finally:
        provenance.commit.cache_clear()

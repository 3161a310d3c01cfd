"""pdflatex compiles every table, alone and inside a paper; nothing sticks out of the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.records.names import Run
from bench.report.analysis.analyse import analyse
from bench.report.evidence import gather
from bench.report.formats import Bullets, Heading, Row, Table, Text, latex
from bench.report.tables import ablation, initialisation, table2, table3, table4
from tests.making import make_run

OWN = Path(__file__).parents[2] / "results"
PDFLATEX = shutil.which("pdflatex")
TABLES = {
    "ablation": ablation,
    "initialisation": initialisation,
    "table2": table2,
    "table3": table3,
    "table4": table4,
}

pytestmark = pytest.mark.skipif(
    PDFLATEX is None, reason="pdflatex is not installed (Debian: texlive-latex-recommended)"
)


def compile_tex(name: str, content: bytes, folder: Path) -> str:
    """The log of one run; an error stops it and fails the test."""
    (folder / f"{name}.tex").write_bytes(content)
    command = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    log = (folder / f"{name}.log").read_text(encoding="latin-1")
    errors = re.findall(r"^! .*", log, flags=re.MULTILINE)
    assert (done.returncode, errors) == (0, [])
    assert (folder / f"{name}.pdf").stat().st_size > 1000
    return log


def sticks_out(log: str) -> list[str]:
    return re.findall(r"Overfull \\hbox \((\d+)\.\d+pt too wide\)", log)


def test_the_repositorys_own_tables_compile(tmp_path: Path) -> None:
    """The ablation and Tables 2, 3 and 4 from the committed records, within the margins."""
    shutil.copytree(OWN, tmp_path / "results", ignore=shutil.ignore_patterns(".cache", "checkpoints", "*.lock"))
    evidence = gather(tmp_path / "results")
    analysis = analyse(evidence, synthetic=False)
    for name, module in TABLES.items():
        log = compile_tex(name, module.render(evidence, analysis, synthetic=False)[f"{name}.tex"], tmp_path)
        assert sticks_out(log) == [], name


def test_made_up_records_compile(tmp_path: Path) -> None:
    """Six sets, several seeds, marks, failures whose messages hold every sign that LaTeX reads; stamped."""
    results = tmp_path / "results"
    sets = ("blood", "breast", "derma", "pneumonia", "organc", "organs")
    for model in ("floor/prior", "resnet18_28", "medspectralnet", "timm/resnet26"):
        for dataset in sets[: 6 if model == "resnet18_28" else 3]:
            for seed in range(2 if model == "resnet18_28" else 1):
                make_run(results, Run("smoke", model, f"synthetic-{dataset}mnist", seed))
    failure = {"kind": "oom", "message": r"50 % of \memory{ & #3_x ^~ <$\%> é 中 | `tick` [x]* -- " + "long " * 60}
    broken = Run("smoke", "medspectralnet", "synthetic-organcmnist", 0)
    make_run(results, broken, status="failed", failure=failure, val=None, test=None, test_twin_free=None)
    make_run(results, Run("breast-ablation-sgd-cutmix", "medspectralnet", "synthetic-breastmnist", 0))
    evidence = gather(results)
    analysis = analyse(evidence, synthetic=True)
    for name in ("table2", "table3"):
        files = TABLES[name].render(evidence, analysis, synthetic=True)
        log = compile_tex(f"SYNTHETIC_{name}", files[f"SYNTHETIC_{name}.tex"], tmp_path)
        assert sticks_out(log) == [], name
        assert b"SYNTHETIC" in files[f"SYNTHETIC_{name}.tex"]


def test_names_with_signs_compile_inside_a_paper(tmp_path: Path) -> None:
    """A file can be \\input as it is, twice; no row that begins with a bracket is read as an option."""
    signs = [
        r"a_b & c",
        "50 % #1",
        "[x] y",
        "* z",
        r"\end{document}",
        "{",
        "}",
        "$x^2$",
        "~",
        '"q" `code_x`',
        "±−≈≥×–Δ",
    ]
    rows = [Row([sign, Text(sign, "https://example.org", strong=True)], f"runs: {sign}") for sign in signs]
    table = Table("Names & signs: 100 % _", ["model_name", "a & b"], rows)
    content = latex([Heading("Head_1 & 2", 1), "Text with `a --b_c,d` & 5 %.", Bullets(["x_y & z"]), table], "line")
    compile_tex("alone", content, tmp_path)
    paper = rb"""\documentclass{article}
\usepackage{booktabs,longtable}
\begin{document}
Before. \input{alone} Between. \input{alone} After.
\end{document}
"""
    log = compile_tex("paper", paper, tmp_path)
    assert "LaTeX Warning: There were undefined" not in log

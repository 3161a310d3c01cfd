"""The whole way of a researcher: a model, images and a recipe of one's own, then a pull request through the workflows.

The pull request is made as CONTRIBUTING says, and sent through the workflows' own steps in fresh clones. It holds
records of the researcher's model on a copy of the store; their images and what was measured on them stay on their side.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.check.compare.folders import compare_folders
from bench.machine.provenance import CODE
from bench.records.card import SPLITS
from bench.records.cost_record import CostCell, CostRecord
from bench.records.names import Run, history_path, predictions_path
from bench.records.run_record import read_record, read_records, write_run
from bench.records.sealed import read_sealed, write_sealed
from models.catalog import fingerprint, read_file
from tests.making import make_run
from tests.own_data import make_arrays
from tests.pull_requests import ROOT, Replay, copy_checkout, git, make_run_like, medbench, post, replay, set_up

LITE = ("lite-96", "breastmnist")
STANDING = Run("lite-96", "resnet18", "breastmnist", 0)
NEW = [Run("lite-96", "my_net", "breastmnist", seed) for seed in (0, 1, 2)]
KEPT = ("medspectralnet", "resnet18", "floor--prior")  # of the recorded runs, for tests that end in a minute
CLASSES = ("round", "long", "star")
READS = re.compile(
    r'(parents\[\d\]|parent\.parent|ROOT) / "(results|reports|README.md|docs)"|claim_sources|check\.faults'
)
SET_UP = "Set up without torch, and check the main branch"
TAKEN = "Take the contribution, as data"
CONTRIBUTION = "Is anything changed that stands, or touched that is no evidence?"
SCORED = "Verify, re-score and compare"


one_worker = pytest.mark.xdist_group("pull request")  # which makes `sent` once


@dataclass
class Project:
    """A repository, and a contributor's clone of it on a branch that holds a contribution."""

    repository: Path
    clone: Path

    @property
    def results(self) -> Path:
        return self.clone / "results"

    def send(self) -> None:
        """Commit what the clone changes and adds to its branch, and merge it as the platform does for its checks."""
        git(self.clone, "add", "-u", ".")
        git(self.clone, "add", "results", "reports")
        git(self.clone, "commit", "-q", "--allow-empty", "-m", "results: my_net on BreastMNIST")
        git(self.clone, "push", "-q", "-f", "origin", "HEAD:refs/heads/contributed")
        git(self.repository, "checkout", "-q", "--detach", "main")
        git(self.repository, "merge", "-q", "--no-ff", "-m", "merged", "contributed")
        git(self.repository, "update-ref", "refs/pull/1/merge", "HEAD")
        git(self.repository, "checkout", "-q", "main")


def make_main(repository: Path, *, small: bool) -> None:
    """The project as its main branch would stand: this checkout, its reports what its records give."""
    copy_checkout(repository)
    if small:
        results = repository / "results"
        for folder in ("cams", "timings", "reruns"):
            shutil.rmtree(results / folder, ignore_errors=True)
        for folder in (results / "records").iterdir():
            if folder.name != LITE[0]:
                shutil.rmtree(folder)
        for folder in (*(results / "records" / LITE[0]).iterdir(), *(results / "costs").iterdir()):
            if folder.name not in KEPT:
                shutil.rmtree(folder)
    set_up(repository)
    done = medbench(repository, "report", "--documents")
    assert done.returncode == 0, done.stderr
    git(repository, "add", "-A", ".")
    git(repository, "commit", "-q", "-m", "main")


def clone_of(repository: Path, clone: Path) -> Project:
    """A contributor's clone, with README's example of a model and a folder of small images beside the code."""
    git(repository.parent, "clone", "-q", f"file://{repository}", str(clone))
    set_up(clone)
    readme = (clone / "README.md").read_text(encoding="utf-8")
    (net,) = [code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "register_model" in code]
    (clone / "my_net.py").write_text(net, encoding="utf-8")
    pictures = pytest.importorskip("PIL.Image", reason="comes with the extra run")
    arrays = make_arrays(size=36)
    for split in SPLITS:
        for index, (image, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            path = clone / "photos" / CLASSES[int(label[0])] / f"{split}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pictures.fromarray(image).save(path)
    return Project(repository, clone)


def contribute(project: Project) -> None:
    """Three seeds and the costs of a model that nobody else has, as CONTRIBUTING says."""
    clone = project.clone
    (spec,) = read_file(clone / "my_net.py")
    commit = git(clone, "rev-list", "-1", "HEAD", "--", *CODE).strip()  # as a run in the clone would have it
    for run in NEW:
        make_run_like(project.results, run, STANDING, model_fingerprint=fingerprint(spec), commit=commit, dirty=False)
    cost = read_sealed(CostCell("resnet18", 224, 8).path(project.results), CostRecord)
    cost = cost.model_copy(update={"model": "my_net", "model_fingerprint": fingerprint(spec)})
    write_sealed(CostCell("my_net", 224, 8).path(project.results), cost)
    for command in (["verify", "--scores"], ["report", "--plugin", "my_net.py"]):
        done = medbench(clone, *command)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """An accepted pull request to a project of few records, behind the researcher's own runs."""
    folder = tmp_path_factory.mktemp("project")
    make_main(folder / "repository", small=True)
    project = clone_of(folder / "repository", folder / "clone")
    way = ["bash", str(ROOT / "tests" / "researcher_way.sh")]
    done = subprocess.run(way, cwd=project.clone, capture_output=True, text=True, timeout=600, check=False)
    (project.clone / "mine" / "way.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert git(project.clone, "status", "--porcelain", "--", "results", "reports") == ""
    contribute(project)
    project.send()
    return project


@one_worker
def test_a_model_images_and_a_recipe_of_one_s_own(sent: Project) -> None:
    """The script's commands end with a row in the page of own data, under the recipe's name, and with a refusal."""
    records, problems = read_records(sent.clone / "mine")
    assert problems == []
    assert {(one.model, one.dataset, one.protocol, one.status) for one in records} == {
        ("my_net", "own-photos", "my", "done"),
        ("floor/knn1", "own-photos", "my", "done"),
    }
    printed = (sent.clone / "mine" / "way.txt").read_text(encoding="utf-8")
    for record in records:
        assert record.test is not None
        assert f"done: {record.run_id}: test AUC {record.test['auc']:.3f}, ACC {record.test['acc']:.3f}" in printed
    assert "2 re-scored from their predictions: all whole" in printed
    assert "Not for diagnosis" in printed
    refusal = (sent.clone / "mine" / "refused.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert refusal.startswith("medbench: results holds real records only; give runs on own data another folder")
    assert {path.name for path in (sent.clone / "mine" / "records" / "my").iterdir()} == {"my_net", "floor--knn1"}
    pages = [path for path in (sent.clone / "reports").rglob("*") if path.suffix in (".md", ".csv", ".html")]
    assert [path.name for path in pages if "own-photos" in path.read_text(encoding="utf-8")] == []


@one_worker
def test_a_contribution_as_the_documents_say_is_green(sent: Project, tmp_path: Path) -> None:
    """Every step of leaderboard.yml passes, without the model's file, and comment.yml posts what is new."""
    changed = git(sent.clone, "diff", "--name-only", "origin/main", "HEAD").split()
    assert {name.split("/")[0] for name in changed} == {"results", "reports"}
    done = replay("leaderboard.yml", "verify", sent.repository, tmp_path)
    assert done.failed == "", done.output[-3000:]
    assert {SET_UP, TAKEN, CONTRIBUTION, SCORED, "What changes on the leaderboard"} <= set(done.steps)
    text = (tmp_path / "temporary" / "comparison.txt").read_text(encoding="utf-8")
    assert "contribution: 10 new files: nothing that stands changes" in text
    assert "my_net: 4 files of a model that is not the suite's; ask for its code" in text
    assert "reports and tables are what the records give" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| my_net ") and "re-scored" in line]
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["lite-96", "BreastMNIST", "3"]
    assert any(line.startswith("| my_net ") and "exploratory" in line for line in text.splitlines())
    calls, comment = post(tmp_path / "comment", text.encode())
    assert calls[-1] == "api repos/o/r/issues/7/comments -F body=@body.md"
    assert f"    {row}" in comment.splitlines()


@one_worker
def test_after_the_merge_the_documents_are_written(sent: Project, tmp_path: Path) -> None:
    """The job that may write changes README.md and docs/findings.md and no other file."""
    git(sent.clone, "clone", "-q", str(sent.clone), str(tmp_path / "main"))
    set_up(tmp_path / "main")
    done = medbench(tmp_path / "main", "report", "--documents")
    assert done.returncode == 0, done.stderr
    changed = set(git(tmp_path / "main", "diff", "--name-only").split())
    assert "README.md" in changed
    assert changed <= {"README.md", "docs/findings.md"}
    assert medbench(tmp_path / "main", "report", "--check", "--documents").returncode == 0


@pytest.mark.slow
def test_the_checks_of_code_are_green_too(tmp_path: Path) -> None:
    """ci.yml on the whole store with a contribution: lint, types, the records, and every test that reads them."""
    make_main(tmp_path / "repository", small=False)
    project = clone_of(tmp_path / "repository", tmp_path / "clone")
    contribute(project)
    project.send()
    here = {Path(__file__).name, "pull_requests.py"}
    tests = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if path.name not in here]
    files = [str(path.relative_to(ROOT)) for path in tests if READS.search(path.read_text(encoding="utf-8"))]
    assert len(files) > 10
    options = {"PYTEST_ADDOPTS": " ".join(files)}
    done = replay("ci.yml", "tests", tmp_path / "repository", tmp_path / "job", more=options)
    assert done.failed == "", done.output[-6000:]
    assert " passed" in done.output


def changed_record(project: Project) -> None:
    """A standing record with a better score, sealed anew."""
    record = read_record(STANDING.path(project.results))
    better = record.model_copy(update={"test": {"auc": 0.99, "acc": 0.99}})
    write_sealed(STANDING.path(project.results), better)


def vanished_record(project: Project) -> None:
    shutil.rmtree(STANDING.path(project.results).parent)


def code_touched(project: Project) -> None:
    (project.clone / "bench" / "errors.py").write_text("raise SystemExit(0)\n", encoding="utf-8")


def readme_touched(project: Project) -> None:
    (project.clone / "README.md").write_text("# Mine\n", encoding="utf-8")


def hidden_file(project: Project) -> None:
    (project.results / ".gitattributes").write_text("* -diff\n", encoding="utf-8")


def linked_file(project: Project) -> None:
    (project.results / "data" / "linked.json").symlink_to("/etc/hostname")


def no_evidence(project: Project) -> None:
    (project.results / "records" / "run.py").write_text("print()\n", encoding="utf-8")


def no_schema(project: Project) -> None:
    path = CostCell("my_net", 28, 2).path(project.results)
    path.write_text("{}", encoding="utf-8")


def large_file(project: Project) -> None:
    with (NEW[0].path(project.results).parent / "seed0.large.parquet").open("wb") as stream:
        stream.truncate(9 * 2**20)


def unplanned_seed(project: Project) -> None:
    code = read_record(NEW[0].path(project.results)).model_fingerprint
    make_run_like(project.results, Run(*(LITE[0], "my_net", LITE[1]), 97), STANDING, model_fingerprint=code)


def other_code(project: Project) -> None:
    make_run_like(project.results, Run("lite-96", "my_net", "breastmnist", 2), STANDING, model_fingerprint="0" * 64)


def own_rerun(project: Project) -> None:
    mine = project.clone.parent / "mine"
    shutil.copytree(project.results / "data", mine / "data")
    shutil.copytree(NEW[0].path(project.results).parent, NEW[0].path(mine).parent)
    path = NEW[0].path(mine)
    again = read_record(path).model_copy(update={"device": "cpu: another", "train_seconds": 1.0})
    write_sealed(path, again)
    compare_folders(project.results, mine, record=True)
    shutil.rmtree(mine)


def wrong_score(project: Project) -> None:
    path = NEW[0].path(project.results)
    write_sealed(path, read_record(path).model_copy(update={"test": {"auc": 0.99, "acc": 0.99}}))


def other_labels(project: Project) -> None:
    """Predictions for labels of somebody's own choice."""
    path = NEW[0].path(project.results)
    elsewhere = project.clone.parent / "elsewhere"
    make_run(elsewhere, Run("lite-96", "resnet18", "breastmnist", 0))
    other = predictions_path(STANDING.path(elsewhere)).read_bytes()
    record, history = read_record(path), history_path(path).read_bytes()
    changed = record.model_copy(update={"predictions_sha256": hashlib.sha256(other).hexdigest()})
    write_run(project.results, changed.sealed(), other, history)
    shutil.rmtree(elsewhere)


def synthetic_record(project: Project) -> None:
    elsewhere = project.clone.parent / "elsewhere"
    run = Run("smoke", "resnet18_28", "synthetic-breastmnist", 0)
    make_run(elsewhere, run)
    shutil.copytree(elsewhere, project.results, dirs_exist_ok=True)
    shutil.rmtree(elsewhere)


def own_data(project: Project) -> None:
    """What the researcher's way measured on images that nobody else has."""
    mine = project.clone / "mine"
    shutil.copytree(mine / "records", project.results / "records", dirs_exist_ok=True)
    shutil.copytree(mine / "data", project.results / "data", dirs_exist_ok=True)


def other_folder(project: Project) -> None:
    (project.results / "notes.json").write_text("{}", encoding="utf-8")


def left_by_a_writer(project: Project) -> None:
    path = NEW[0].path(project.results)
    shutil.copy2(predictions_path(path), path.with_name("seed3.predictions.parquet"))


def report_left_out(project: Project) -> None:
    """The reports of main, beside new records."""
    git(project.clone, "checkout", "-q", "origin/main", "--", "reports", "results/tables")


def page_edited(project: Project) -> None:
    page = project.clone / "reports" / "table3.md"
    page.write_text(page.read_text(encoding="utf-8").replace("0.", "0.9"), encoding="utf-8")


def page_slipped_in(project: Project) -> None:
    (project.clone / "reports" / "notes.html").write_text("<script>", encoding="utf-8")


RULES: dict[Callable[[Project], None], tuple[str, str]] = {
    changed_record: (CONTRIBUTION, "seed0.json: changed; what stands stays"),
    vanished_record: (CONTRIBUTION, "seed0.json: vanished; what stands stays"),
    code_touched: (CONTRIBUTION, "bench/errors.py: a contribution of results touches only results/ and reports/"),
    readme_touched: (CONTRIBUTION, "README.md: a contribution of results touches only results/ and reports/"),
    hidden_file: (CONTRIBUTION, "results/.gitattributes: caches, checkpoints, logs and hidden files are no evidence"),
    linked_file: (TAKEN, "symbolic links and submodules are refused"),
    no_evidence: (CONTRIBUTION, "records/run.py: is no evidence; remove it"),
    no_schema: (CONTRIBUTION, "costs/my_net/28-2.json: "),
    large_file: (CONTRIBUTION, "seed0.large.parquet: has 9,437,184 bytes"),
    unplanned_seed: (CONTRIBUTION, "seed97.json: seed 97 is not planned; the studies plan 0, 1, 2"),
    other_code: (CONTRIBUTION, "my_net stands for 2 versions of its code"),
    own_rerun: (CONTRIBUTION, "a record and its re-run come apart"),
    wrong_score: (SCORED, "test auc is 0.99 in the record"),
    other_labels: (SCORED, "cannot be scored"),
    synthetic_record: (CONTRIBUTION, "a synthetic record in a store of real ones"),
    own_data: (CONTRIBUTION, "my_net/own-photos/seed0.json: an own data record in a store of real ones"),
    other_folder: (CONTRIBUTION, "notes.json: new evidence stands below records, data,"),
    left_by_a_writer: (CONTRIBUTION, "seed3.predictions.parquet: left by a killed writer; remove it"),
    report_left_out: (SCORED, "table3.md: is not what the records give"),
    page_edited: (SCORED, "table3.md: is not what the records give"),
    page_slipped_in: (SCORED, "notes.html: no record gives this file"),
}


def refused(project: Project, folder: Path) -> Replay:
    """The workflow from a fresh clone, without the check of main that the accepted one passed."""
    project.send()
    return replay("leaderboard.yml", "verify", project.repository, folder, skip=(SET_UP,))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_contribution_that_breaks_a_rule_is_red(
    sent: Project, tmp_path: Path, rule: Callable[[Project], None]
) -> None:
    """It fails at the step that looks at it, with one line that says why, and that line is in the comment's text."""
    shutil.copytree(sent.repository, tmp_path / "repository", symlinks=True)
    shutil.copytree(sent.clone, tmp_path / "clone", symlinks=True)
    project = Project(tmp_path / "repository", tmp_path / "clone")
    git(project.clone, "remote", "set-url", "origin", f"file://{project.repository}")
    rule(project)
    done = refused(project, tmp_path / "job")
    step, line = RULES[rule]
    assert done.failed == step, done.output[-3000:]
    assert line in done.output
    if step != TAKEN:
        assert line in (tmp_path / "job" / "temporary" / "comparison.txt").read_text(encoding="utf-8")
    assert done.steps[-1] == "actions/upload-artifact"
